// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/characters.hpp>
#include <mistral/text/jinja/operators.hpp>
#include <mistral/text/jinja/value.hpp>

/// \file
/// The operations of Python's strings: each byte of a result has the mark of the byte that it comes from.

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// Where characters are taken away.
struct Ends {
  bool begin = true, end = true;
};

/// Without the white space at its ends, or the characters of `characters` where there are any.
inline Text strip(Budget& budget, const Text& text, const Text* characters = nullptr, Ends ends = {}) {
  budget.look(text.size());
  const std::string_view bytes = text.bytes();
  const auto goes = [&](std::size_t at) {
    if (characters == nullptr) return is_space(character_at(bytes, at));
    budget.look(characters->size());
    return characters->bytes().find(bytes.substr(at, character_length(bytes, at))) != std::string::npos;
  };
  std::size_t begin = 0, end = bytes.size();
  while (ends.begin && begin < end && goes(begin)) begin += character_length(bytes, begin);
  while (ends.end && end > begin) {
    const std::size_t last = character_before(bytes, end);
    if (!goes(last)) break;
    end = last;
  }
  return text.slice(begin, end);
}

/// A text of which each character is put through map(character, out), which appends to a string.
template <class Map>
Text map_characters(Budget& budget, const Text& text, Map&& map) {
  budget.take_text(2 * text.size());
  Text out;
  std::size_t begin = 0;
  for (const Text::Run& run : text.runs()) {
    std::string part;
    // a character belongs to the run of its first byte
    for (std::size_t at = begin; at < run.end; at += character_length(text.bytes(), at)) {
      map(character_at(text.bytes(), at), part);
    }
    out.append(part, run.mark);
    begin = run.end;
  }
  return out;
}

inline Text lower_text(Budget& budget, const Text& text) {
  return map_characters(budget, text, [](char32_t c, std::string& out) { append_utf8(out, lower(c)); });
}

inline Text upper_text(Budget& budget, const Text& text) {
  return map_characters(budget, text, [](char32_t c, std::string& out) { append_upper(out, c); });
}

/// The first character large, all others small.
inline Text capitalize(Budget& budget, const Text& text) {
  bool first = true;
  return map_characters(budget, text, [&](char32_t c, std::string& out) {
    first ? append_title(out, c) : append_utf8(out, lower(c));
    first = false;
  });
}

/// The first letter behind each character that is no letter large, all others small: Python's str.title().
inline Text title_of_letters(Budget& budget, const Text& text) {
  bool in_word = false;
  return map_characters(budget, text, [&](char32_t c, std::string& out) {
    in_word ? append_utf8(out, lower(c)) : append_title(out, c);
    in_word = is_cased(c);
  });
}

/// The first character of each word large, all others small, where a word begins behind white space or one of
/// `-({[<`: the filter `title`.
inline Text title_of_words(Budget& budget, const Text& text) {
  bool in_word = false;
  return map_characters(budget, text, [&](char32_t c, std::string& out) {
    in_word ? append_utf8(out, lower(c)) : append_upper(out, c);
    in_word = !(is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<');
  });
}

/// With `from` replaced by `to`, at most so many times; negative: everywhere.
inline Text replace(Budget& budget, const Text& text, const Text& from, const Text& to, std::int64_t most = -1) {
  const std::string& bytes = text.bytes();
  Text out;
  std::size_t at = 0;
  const auto put = [&](std::size_t begin, std::size_t end) {
    budget.take(end - begin + to.size() + 1);
    out.append(text, begin, end);
    if (out.size() > budget.limits().output) budget.take_text(out.size());
  };
  if (from.empty()) {  // before each character, and at the end
    for (std::size_t i = 0; most != 0; --most) {
      put(at, i);
      out.append(to);
      at = i;
      if (i >= bytes.size()) break;
      i += character_length(bytes, i);
    }
  } else {
    for (; most != 0; --most) {
      const std::size_t found = find_in(budget, bytes, from.bytes(), at);
      if (found == std::string::npos) break;
      put(at, found);
      out.append(to);
      at = found + from.size();
    }
  }
  put(at, bytes.size());
  return out;
}

/// The parts between separators, at most `most` of which are used, from the left or from the right; negative: all.
/// Throws Fault for a separator of no text.
inline std::vector<Value> split(Budget& budget, const Text& text, const Text& separator, std::int64_t most,
                                bool from_right) {
  if (separator.empty()) throw Fault("empty separator");
  const std::string& bytes = text.bytes();
  std::vector<std::size_t> cuts;
  if (from_right) {
    for (std::size_t end = bytes.size(); most != 0 && end >= separator.size(); --most) {
      budget.step(1 + end / 64 * separator.size());
      const std::size_t found = bytes.rfind(separator.bytes(), end - separator.size());
      if (found == std::string::npos) break;
      cuts.push_back(end = found);
    }
    std::reverse(cuts.begin(), cuts.end());
  } else {
    for (std::size_t at = 0; most != 0; --most) {
      const std::size_t found = find_in(budget, bytes, separator.bytes(), at);
      if (found == std::string::npos) break;
      cuts.push_back(found);
      at = found + separator.size();
    }
  }
  std::vector<Value> parts;
  std::size_t begin = 0;
  for (const std::size_t cut : cuts) {
    parts.push_back(make_text(budget, text.slice(begin, cut)));
    begin = cut + separator.size();
  }
  parts.push_back(make_text(budget, text.slice(begin, bytes.size())));
  return parts;
}

/// The words between runs of white space; behind `most` cuts, from the left or from the right, the rest is one.
inline std::vector<Value> split_words(Budget& budget, const Text& text, std::int64_t most, bool from_right) {
  budget.look(text.size());
  struct Word {
    std::size_t begin, end;
  };
  std::vector<Word> words;
  const std::string_view bytes = text.bytes();
  bool in_word = false;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t next = at + character_length(bytes, at);
    const bool space = is_space(character_at(bytes, at));
    if (!space && !in_word) words.push_back({at, next});
    if (!space) words.back().end = next;
    in_word = !space;
    at = next;
  }
  const auto cuts = static_cast<std::uint64_t>(most);
  if (most >= 0 && words.size() > cuts + 1) {
    // the words that aren't cut from each other are one; what the other end has of white space goes all the same
    if (from_right) {
      const std::size_t joined = words.size() - static_cast<std::size_t>(cuts) - 1;
      words[joined].begin = words[0].begin;
      if (joined > 0) words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(joined));
      words[0].begin = 0;
    } else {
      words.resize(static_cast<std::size_t>(cuts) + 1);
      words.back().end = bytes.size();
    }
  }
  std::vector<Value> parts;
  for (const Word& word : words) parts.push_back(make_text(budget, text.slice(word.begin, word.end)));
  return parts;
}

/// The lines, without what ends them unless `keep` says so.
inline std::vector<Text> split_lines(Budget& budget, const Text& text, bool keep = false) {
  budget.look(text.size());
  const std::string_view bytes = text.bytes();
  std::vector<Text> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    std::size_t next = at + character_length(bytes, at);
    if (ends_line(character_at(bytes, at))) {
      if (bytes.substr(at, 2) == "\r\n") ++next;
      budget.take_text(next - begin);
      lines.push_back(text.slice(begin, keep ? next : at));
      begin = next;
    }
    at = next;
  }
  if (begin < bytes.size()) lines.push_back(text.slice(begin, bytes.size()));
  return lines;
}

/// The filter `indent`: all lines but the first, and empty ones, behind `indention`.
inline Text indent(Budget& budget, const Text& text, const Text& indention, bool first, bool blank) {
  Text with_end = text;
  with_end.append("\n", {});  // a line's end at the end begins another line
  const std::vector<Text> lines = split_lines(budget, with_end);
  Text out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n", {});
    budget.take(indention.size() + lines[i].size());
    if (i == 0 ? first : blank || !lines[i].empty()) out.append(indention);
    out.append(lines[i]);
    if (out.size() > budget.limits().output) budget.take_text(out.size());
  }
  return out;
}

/// The filter `escape`: the characters that HTML has for itself as its entities.
inline Text escape_html(Budget& budget, const Text& text) {
  budget.take_text(5 * text.size());
  return map_characters(budget, text, [](char32_t c, std::string& out) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&#34;";
    } else if (c == '\'') {
      out += "&#39;";
    } else {
      append_utf8(out, c);
    }
  });
}

/// The text with so many characters at most, and `end` behind what was cut at a word: the filter `truncate`.
inline Text truncate(Budget& budget, const Text& text, std::int64_t length, bool in_words, const Text& end,
                     std::int64_t leeway) {
  const auto whole = static_cast<std::int64_t>(character_count(text.bytes()));
  const auto behind = static_cast<std::int64_t>(character_count(end.bytes()));
  budget.look(text.size());
  if (length < behind)
    throw Fault("truncate: expected length >= " + std::to_string(behind) + ", got " + std::to_string(length));
  if (leeway < 0) throw Fault("truncate: expected leeway >= 0, got " + std::to_string(leeway));
  if (whole <= length || whole - length <= leeway) return text;
  Text cut = text.slice(0, byte_of_character(budget, text.bytes(), length - behind));
  if (const std::size_t space = cut.bytes().rfind(' '); !in_words && space != std::string::npos)
    cut = cut.slice(0, space);
  cut.append(end);
  return cut;
}

}}}  // namespace mistral::jinja
