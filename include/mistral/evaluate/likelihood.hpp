// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/finite.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/evaluate/perplexity.hpp>
#include <mistral/generate/finite_logits.hpp>
#include <mistral/text/chat_format.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

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
    if (tokenizer.adds_bos()) ids.insert(ids.begin(), tokenizer.bos_id());
    return ids;
  };
  const std::string begin(prompt);
  Continuations out{encode(begin), {}};
  std::size_t common = out.prompt.size();
  for (const std::string& end : ends) {
    out.ends.push_back(encode(begin + end));
    const std::vector<TokenId>& whole = out.ends.back();
    const auto differs = std::mismatch(whole.begin(), whole.end(), out.prompt.begin(), out.prompt.end()).first;
    common = (std::min)({common, static_cast<std::size_t>(differs - whole.begin()), whole.size() - 1});
  }
  if (common == 0) throw Error("likelihood", "the prompt", "a token that all ends have before them", "none");
  out.prompt.resize(common);
  for (auto& end : out.ends) end.erase(end.begin(), end.begin() + static_cast<std::ptrdiff_t>(common));
  return out;
}

/// A conversation, in which users and the assistant take turns and a user comes last, and answers to it, as a template
/// has them: the ids of encode_chat, and behind them of each answer those that no EOS follows. Throws what encode_chat
/// throws, and Error where a Jinja template writes the prompt otherwise once an answer follows.
inline Continuations encode_answers(const Tokenizer& tokenizer, const ChatFormat& format,
                                    std::vector<Message> conversation, std::span<const std::string> answers) {
  Continuations out{encode_chat(tokenizer, format, conversation), {}};
  for (const std::string& answer : answers) {
    conversation.push_back({"assistant", answer});
    std::vector<TokenId> whole = encode_chat(tokenizer, format, conversation, {true});
    conversation.pop_back();
    const bool begins =
        whole.size() > out.prompt.size() && std::equal(out.prompt.begin(), out.prompt.end(), whole.begin());
    if (!begins) {
      throw Error("likelihood", "the chat template", "an answer behind the ids of the prompt", "other ids before it");
    }
    whole.erase(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(out.prompt.size()));
    out.ends.push_back(std::move(whole));
  }
  return out;
}

/// How probable ends are behind prompts, one prompt after the other: the sum of the logarithms of an end's tokens'
/// probabilities. A prompt goes through the model once, and what it begins with as the one before it did not even that,
/// where the session can be rolled back to there (with a window that is full, one that was made for it). The figures
/// are to the bit those of each text by itself.
///
/// Nothing else may use the session while this lives, nor may it move or end. Whatever score() throws, the next score
/// is right.
template <class Session>
class ContinuationScorer {
 public:
  explicit ContinuationScorer(Session& session) : session_(session) { session_.clear(); }
  ContinuationScorer(const ContinuationScorer&) = delete;
  ContinuationScorer& operator=(const ContinuationScorer&) = delete;
  ~ContinuationScorer() { session_.clear(); }

  /// Throws Error for a prompt or an end of no tokens, where logits are no finite numbers (check_finite), and what
  /// Session::forward throws.
  std::vector<TextScore> score(std::span<const TokenId> prompt, std::span<const std::vector<TokenId>> ends) {
    for (const auto& end : ends) {
      if (end.empty()) throw Error("likelihood", "an end", "at least one token", "none");
    }
    const std::span<const float> after_prompt = session_.prefill(go_back(prompt));
    check_finite(session_, after_prompt, prompt);
    std::vector<TextScore> scores(ends.size());
    for (std::size_t i = 0; i < ends.size(); ++i) scores[i].add(after_prompt, ends[i][0]);
    std::size_t longest = 0;
    for (const auto& end : ends) longest = (std::max)(longest, end.size() - 1);
    std::optional<decltype(session_.fork())> after;  // where the session can't take ends back: what it was before them
    if (longest > session_.max_rollback()) after.emplace(session_.fork());
    for (std::size_t i = 0; i < ends.size(); ++i) {
      const std::vector<TokenId>& end = ends[i];
      if (end.size() == 1) continue;
      const auto logits = session_.forward(std::span(end).first(end.size() - 1));
      check(prompt, end, logits);
      for (std::size_t t = 1; t < end.size(); ++t) scores[i].add(logits.row(t - 1), end[t]);
      if (after) {
        session_.assign(*after);
      } else {
        session_.rollback(static_cast<std::int64_t>(end.size()) - 1);
      }
    }
    taken_.assign(prompt.begin(), prompt.end());
    return scores;
  }

  /// Tokens of prompts that didn't go through the model, since the prompt before began with them.
  std::size_t shared_tokens() const noexcept { return shared_; }

 private:
  // the logits behind all of an end's tokens but the last
  void check(std::span<const TokenId> prompt, std::span<const TokenId> end, Rows<const float> logits) const {
    for (std::size_t r = 0; r < logits.rows(); ++r) {
      if (all_finite(logits.row(r))) continue;
      std::vector<TokenId> taken(prompt.begin(), prompt.end());
      taken.insert(taken.end(), end.begin(), end.end() - 1);
      check_finite(session_, logits, taken);
    }
  }

  // Takes back what the next prompt doesn't begin with. Returns the rest of it: at least a token, whose logits are
  // needed.
  std::span<const TokenId> go_back(std::span<const TokenId> prompt) {
    const std::vector<TokenId> taken = std::exchange(taken_, {});  // should anything throw, nothing is known
    const std::size_t most = (std::min)(taken.size(), (std::max<std::size_t>)(prompt.size(), 1) - 1);
    const auto differs =
        std::mismatch(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(most), taken.begin());
    const std::ptrdiff_t same = differs.first - prompt.begin();
    const std::int64_t back = session_.position() - same;
    if (back > session_.revertible()) {
      session_.clear();
      return prompt;
    }
    session_.rollback(back);
    shared_ += static_cast<std::size_t>(same);
    return prompt.subspan(static_cast<std::size_t>(same));
  }

  Session& session_;
  std::vector<TokenId> taken_;  // by the session: the prompt before
  std::size_t shared_ = 0;
};

/// The same for one prompt. The session is cleared before and afterwards.
template <class Session>
std::vector<TextScore> score_continuations(Session& session, std::span<const TokenId> prompt,
                                           std::span<const std::vector<TokenId>> ends) {
  return ContinuationScorer<Session>(session).score(prompt, ends);
}

}}  // namespace mistral
