// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/nn/tape.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A guess at how a text goes on: as it did after the last place that reads like its end. Of two places the one counts
/// that agrees with more of the end, up to max_match tokens; none that agrees with fewer than min_match.
class LookupDraft {
 public:
  static constexpr std::size_t min_match = 2;  ///< tokens that must repeat for a draft
  static constexpr std::size_t max_match = 8;  ///< tokens that are looked for

  /// The text so far, prompt included.
  explicit LookupDraft(std::span<const TokenId> text) : text_(text.begin(), text.end()) {}

  /// Appends a token to the text.
  void push(TokenId token) { text_.push_back(token); }

  /// The next tokens, at most `most`. Valid until the next call of push.
  std::span<const TokenId> next(std::size_t most) const noexcept {
    const std::size_t size = text_.size();
    std::size_t longest = min_match - 1;
    std::size_t begin = size;  // of what follows the best place
    // A walk through all of the text: of 32768 tokens it takes some 10 us, of which a decoded token takes thousands.
    for (std::size_t end = size; end-- > min_match && longest < max_match;) {
      if (text_[end - 1] != text_[size - 1]) continue;
      std::size_t length = 1;
      while (length < max_match && length < end && text_[end - 1 - length] == text_[size - 1 - length]) ++length;
      if (length > longest) {
        longest = length;
        begin = end;
      }
    }
    return std::span(text_).subspan(begin, (std::min)(most, size - begin));
  }

 private:
  std::vector<TokenId> text_;
};

/// Counts of drafts and of what came of them.
struct LookupCounts {
  std::size_t forwards = 0;  ///< of the model, each of a chosen token and its draft
  std::size_t drafted = 0;   ///< tokens that went through the model before they were chosen
  std::size_t accepted = 0;  ///< of them, those that were chosen then
};

namespace detail {

/// The config of what a session runs: a constant of its type, or what it says where its type is known at run time only.
template <class Session>
constexpr ModelConfig config_of(const Session& session) noexcept {
  if constexpr (requires { session.config(); }) {
    return session.config();
  } else {
    return Session::config;
  }
}

}  // namespace detail

/// Gives a session the tokens that are chosen one by one, and lets several go through the model at once: what is likely
/// to follow is taken along in the same forward, and taken back where another token is chosen. This is speculative
/// decoding (arXiv 2211.17192) with drafts from the text itself (prompt lookup). Where weights are read from memory for
/// each forward, rows more cost little.
///
/// The logits are those of Session::decode, bit by bit: a row has the same bits alone and beside others. So whoever
/// chooses from them chooses the same tokens, greedily or by the same random numbers, and the distribution of a sample
/// is the sampler's own. (For a draft that is certain, accepting by chance with p(token) and else drawing from what is
/// left of p comes to the same as to draw from p and to see whether it is the draft.)
///
/// Where a draft is taken, the next is longer, up to `most`; where it isn't, shorter: a text that doesn't repeat itself
/// costs few rows in vain. A tape sees the rows of drafts as well, also of those that are taken back.
///
/// The session must neither move nor end before the decoder, which takes drafts back when it ends.
template <class Session>
class LookupDecoder {
 public:
  ///   most  tokens of a draft at most; 0: there are none, and each token goes through the model by itself
  ///   text  what the session has taken, or of it what drafts may be taken from
  /// Throws Error where the session cannot be rolled back by `most` tokens at any time.
  LookupDecoder(Session& session, std::size_t most, std::span<const TokenId> text)
      : session_(session),
        config_(detail::config_of(session)),
        most_(most),
        length_((std::min)(most, first_length)),
        drafts_(text) {
    if (most > session.max_rollback()) {
      throw Error(
          "lookup", "a draft",
          "at most as many tokens as the session can be rolled back by, " + std::to_string(session.max_rollback()),
          std::to_string(most));
    }
    rows_.reserve(most + 1);
  }
  LookupDecoder(const LookupDecoder&) = delete;
  LookupDecoder& operator=(const LookupDecoder&) = delete;
  ~LookupDecoder() {
    if (ahead() <= session_.revertible()) session_.rollback(ahead());
  }

  /// Takes the token that was chosen. Returns the logits after it: (vocab_size), until the next call.
  ///   choices  how many tokens are yet to be chosen, at least 1: no draft goes further
  template <class Tape = NoTape>
  std::span<const float> next(TokenId token, std::size_t choices, Tape&& tape = {}) {
    if (most_ > 0) drafts_.push(token);
    if (ahead() > 0 && rows_[row_ + 1] == token) {
      ++counts_.accepted;
      return logits_.row(++row_);
    }
    settle();
    ++counts_.forwards;
    const std::size_t wanted = (std::min)({length_, choices - 1, room()});
    const std::span<const TokenId> draft = wanted > 0 ? drafts_.next(wanted) : std::span<const TokenId>{};
    if (draft.empty()) return session_.decode(token, tape);
    std::vector<TokenId>& rows = rows_;
    rows.assign(1, token);
    rows.insert(rows.end(), draft.begin(), draft.end());
    try {
      logits_ = session_.forward(rows, tape);
    } catch (...) {
      rows.clear();  // the session has been cleared, or has taken nothing
      throw;
    }
    counts_.drafted += draft.size();
    return logits_.row(0);
  }

  /// Takes back what was drafted and hasn't been chosen: the session has then taken the chosen tokens and no others.
  void settle() {
    if (rows_.empty()) return;
    session_.rollback(ahead());
    length_ = ahead() == 0 ? (std::min)(most_, 2 * length_ + 1) : std::clamp<std::size_t>(row_, 1, length_);
    rows_.clear();
    row_ = 0;
  }

  /// Number of tokens that the session has taken, but for drafts: where it would be without them.
  std::int64_t position() const noexcept { return session_.position() - ahead(); }

  /// Returns what was drafted and taken so far.
  const LookupCounts& counts() const noexcept { return counts_; }

 private:
  static constexpr std::size_t first_length = 3;

  // rows of the last forward that haven't been chosen
  std::int64_t ahead() const noexcept {
    return rows_.empty() ? 0 : std::ssize(rows_) - 1 - static_cast<std::int64_t>(row_);
  }

  // tokens of a draft that the context of a model without a window has room for
  std::size_t room() const noexcept {
    if (config_.window_size != 0) return most_;
    const auto taken = static_cast<std::size_t>(session_.position()) + 1;
    return taken < config_.context_len ? config_.context_len - taken : 0;
  }

  Session& session_;
  ModelConfig config_;
  std::size_t most_;
  std::size_t length_;  // of the next draft, at most
  LookupDraft drafts_;
  std::vector<TokenId> rows_;  // of the last forward: a chosen token and its draft; empty where there was none
  std::size_t row_ = 0;        // of the last chosen one
  Rows<const float> logits_{nullptr, 0, 0};
  LookupCounts counts_;
};

}}  // namespace mistral
