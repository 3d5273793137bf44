// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/token.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/markup_words.hpp>
#include <mistral/text/prefix_trie.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Finds text that looks like control tokens, which Tokenizer::encode leaves text: the tokenizer's own control pieces,
/// and what the templates of other models mark turns with (`<|im_start|>`, `<<SYS>>`).
class MarkupFinder {
 public:
  /// What is looked for.
  enum class Kind {
    control,  ///< the tokenizer's control pieces
    foreign,  ///< other templates' markup that the tokenizer has no piece for
    any,      ///< both
  };

  /// One for a tokenizer, which needn't outlive it.
  explicit MarkupFinder(const Tokenizer& tokenizer, Kind kind = Kind::any) {
    std::vector<std::string_view> words;
    for (std::size_t i = 0; kind != Kind::foreign && i < tokenizer.vocab_size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      if (tokenizer.is_control(id)) words.push_back(tokenizer.piece(id));
    }
    for (const std::string_view word : detail::markup_words) {
      if (kind != Kind::control && !tokenizer.find(word)) words.push_back(word);
    }
    words_ = detail::PrefixTrie(std::move(words));
  }

  /// Adds what stands in a text.
  void find(std::string_view text, std::set<std::string>& found) const {
    while (!text.empty()) {
      const bool may_be = words_.starts_with(detail::byte_at(text, 0));
      const std::size_t length = may_be ? words_.match(text) : 0;
      if (length > 0) found.emplace(text.substr(0, length));
      text.remove_prefix(length > 0 ? length : 1);
    }
  }

 private:
  detail::PrefixTrie words_;
};

}}  // namespace mistral
