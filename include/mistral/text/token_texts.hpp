// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/token.hpp>
#include <mistral/text/tokenizer_rules.hpp>
#include <mistral/text/vocabulary.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The text that each token of a tokenizer.json is decoded to, by the steps of its decoder.
class TokenTexts {
 public:
  TokenTexts(const Vocabulary& vocabulary, const TokenizerRules& rules)
      : end_(rules.decoder_end), special_(vocabulary.size(), false) {
    for (const TextStep& step : rules.decoder) {
      if (step.kind == TextStep::Kind::metaspace) first_differs_ = true;
    }
    if (first_differs_) steps_ = rules.decoder;
    begin_.reserve(vocabulary.size() + 1);
    for (std::size_t i = 0; i < vocabulary.size(); ++i) {
      begin_.push_back(text_.size());
      text_ += apply_steps(rules.decoder, vocabulary.text(static_cast<TokenId>(i)));
      bytes_.push_back(
          static_cast<std::int16_t>(rules.decode_bytes ? byte_of(std::string_view(text_).substr(begin_.back())) : -1));
    }
    begin_.push_back(text_.size());
    for (const AddedToken& token : rules.added) special_[static_cast<std::size_t>(token.id)] = token.special;
  }

  /// The text of a token that isn't the first one, or that is the same there.
  std::string_view text(TokenId id) const noexcept {
    const auto i = static_cast<std::size_t>(id);
    return std::string_view(text_).substr(begin_[i], begin_[i + 1] - begin_[i]);
  }

  /// Whether the first token has another text than elsewhere, and what it is.
  ///@{
  bool first_differs() const noexcept { return first_differs_; }
  std::string first_text(std::string_view piece) const { return apply_steps(steps_, piece, true); }
  ///@}

  /// The byte that a token stands for, or -1.
  int byte(TokenId id) const noexcept { return bytes_[static_cast<std::size_t>(id)]; }

  /// Whether a token is left out where special ones are.
  bool special(TokenId id) const noexcept { return special_[static_cast<std::size_t>(id)]; }

  /// The step that takes the beginning of the whole text away: up to `count` times `from`.
  const TextStep& end() const noexcept { return end_; }

 private:
  // unlike in a vocabulary, small letters will do
  static int byte_of(std::string_view text) {
    if (text.size() != 6) return -1;
    std::string capital(text);
    for (std::size_t i = 3; i < 5; ++i) {
      if (capital[i] >= 'a' && capital[i] <= 'f') capital[i] = static_cast<char>(capital[i] - 'a' + 'A');
    }
    return Vocabulary::byte_of(capital);
  }

  std::string text_;                // of all tokens, one after the other
  std::vector<std::size_t> begin_;  // of token i in text_, and the end
  std::vector<std::int16_t> bytes_;
  std::vector<TextStep> steps_;
  TextStep end_;
  std::vector<bool> special_;
  bool first_differs_ = false;
};

}}}  // namespace mistral::detail
