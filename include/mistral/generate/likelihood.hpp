#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/perplexity.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral::inline MISTRAL_ABI {

/// A text of which several ends are held against each other, as ids.
struct Continuations {
  std::vector<TokenId> prompt;             ///< what all have in common, BOS first
  std::vector<std::vector<TokenId>> ends;  ///< at least one token each
};

/// A prompt and its ends, each of which is one text with it: the pieces are those of the whole. The prompt's ids go as
/// far as all of them agree with the prompt's own. A piece that reaches across the border belongs to the end; then all
/// ends begin there, so that their likelihoods are of the same text before them. Throws Error where there is nothing to
/// begin with: no BOS, and no text that they have in common.
inline Continuations encode_continuations(const Tokenizer& tokenizer, std::string_view prompt,
                                          std::span<const std::string> ends) {
  const auto encode = [&](const std::string& text) {
    std::vector<TokenId> ids = tokenizer.encode(text);
    if (tokenizer.bos_id() >= 0) ids.insert(ids.begin(), tokenizer.bos_id());
    return ids;
  };
  const std::string begin(prompt);
  Continuations out{encode(begin), {}};
  std::size_t common = out.prompt.size();
  for (const std::string& end : ends) {
    out.ends.push_back(encode(begin + end));
    const std::vector<TokenId>& whole = out.ends.back();
    const auto differs = std::mismatch(whole.begin(), whole.end(), out.prompt.begin(), out.prompt.end()).first;
    common = std::min({common, static_cast<std::size_t>(differs - whole.begin()), whole.size() - 1});
  }
  if (common == 0) throw Error("likelihood", "the prompt", "a token that all ends have before them", "none");
  out.prompt.resize(common);
  for (auto& end : out.ends) end.erase(end.begin(), end.begin() + static_cast<std::ptrdiff_t>(common));
  return out;
}

/// How probable each of some ends is behind a prompt: the sum of the logarithms of its tokens' probabilities. The
/// prompt goes through the model once; the figures are to the bit those of each text by itself. The session is cleared
/// before and afterwards. Throws Error for a prompt or an end of no tokens, and what Session::forward throws.
template <class Session>
std::vector<TextScore> score_continuations(Session& session, std::span<const TokenId> prompt,
                                           std::span<const std::vector<TokenId>> ends) {
  for (const auto& end : ends) {
    if (end.empty()) throw Error("likelihood", "an end", "at least one token", "none");
  }
  session.clear();
  const std::span<const float> after_prompt = session.prefill(prompt);
  std::vector<TextScore> scores(ends.size());
  for (std::size_t i = 0; i < ends.size(); ++i) scores[i].add(after_prompt, ends[i][0]);
  std::size_t longest = 0;
  for (const auto& end : ends) longest = std::max(longest, end.size() - 1);
  std::optional<Session> after;  // where the session can't take the ends back: what it was before them
  if (longest > session.max_rollback()) after.emplace(session.fork());
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const std::vector<TokenId>& end = ends[i];
    if (end.size() == 1) continue;
    const auto logits = session.forward(std::span(end).first(end.size() - 1));
    for (std::size_t t = 1; t < end.size(); ++t) scores[i].add(logits.row(t - 1), end[t]);
    if (after) {
      session.assign(*after);
    } else {
      session.rollback(static_cast<std::int64_t>(end.size()) - 1);
    }
  }
  session.clear();
  return scores;
}

}  // namespace mistral::inline MISTRAL_ABI
