// SPDX-License-Identifier: Apache-2.0
#include "suggest.hpp"

#include <algorithm>
#include <cstddef>

namespace mistral::tool {

namespace {

// Without dashes in front, in small letters, all that joins words alike.
std::string plain(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  std::string text;
  for (const char c : word) {
    text += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c == '_' || c == '.' || c == ' ' ? '-' : c;
  }
  return text;
}

// Letters to put in, to leave out, to change, or to swap with their neighbour, so that `a` becomes `b`.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> two(b.size() + 1), one(b.size() + 1), now(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) one[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({one[j] + 1, now[j - 1] + 1, one[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], two[j - 2] + 1);
    }
    two.swap(one);
    one.swap(now);
  }
  return one[b.size()];
}

}  // namespace

std::vector<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string wanted = plain(word);
  if (wanted.size() < 2 || wanted.size() > 64) return {};
  // more letters that differ are too many
  const std::size_t most = wanted.size() < 3 ? 0 : wanted.size() < 5 ? 1 : wanted.size() < 9 ? 2 : 3;
  std::size_t least = std::max<std::size_t>(most, 2) + 1;
  std::vector<std::string> best;
  for (const std::string& candidate : candidates) {
    const std::string name = plain(candidate);
    std::size_t differences = distance(wanted, name);
    const bool begins = name.starts_with(wanted);
    const bool ends = wanted.size() > 2 && name.ends_with("-" + wanted);
    if (differences > most && !begins && !ends) continue;
    if (begins) differences = std::min<std::size_t>(differences, 1);
    if (ends) differences = std::min<std::size_t>(differences, 2);
    if (differences > least || differences >= name.size()) continue;
    if (differences < least) best.clear();
    least = differences;
    if (std::find(best.begin(), best.end(), candidate) == best.end()) best.push_back(candidate);
  }
  if (best.size() > 3) best.clear();
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::vector<std::string> names = nearest(word, candidates);
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    text.append(i == 0 ? "; did you mean " : i + 1 < names.size() ? ", " : " or ").append(names[i]);
  }
  return text.empty() ? text : text + "?";
}

}  // namespace mistral::tool
