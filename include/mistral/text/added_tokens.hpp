// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/token.hpp>
#include <mistral/text/prefix_trie.hpp>
#include <mistral/text/word_characters.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A token of `added_tokens`, which is looked for in a text before anything else.
struct AddedToken {
  TokenId id = -1;           ///< of the vocabulary
  std::string content;       ///< what it is called
  bool special = false;      ///< left out of a text that is decoded with skip_special
  bool lstrip = false;       ///< takes the white space in front of it with it
  bool rstrip = false;       ///< takes the white space behind it with it
  bool single_word = false;  ///< is none inside a word
  bool normalized = false;   ///< is looked for, normalized, in the normalized text
  /// Both are equal.
  friend bool operator==(const AddedToken&, const AddedToken&) = default;
};

namespace detail {

/// Finds added tokens in a text as Hugging Face's tokenizers do: the leftmost first, the longest of those that begin
/// there.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;

  /// A finder of these tokens, each by its pattern, of which none may be empty. Of tokens with one pattern the first
  /// counts.
  explicit AddedTokenFinder(std::vector<std::pair<std::string, AddedToken>> tokens) {
    std::vector<std::string_view> patterns;
    for (auto& [pattern, token] : tokens) by_pattern_.emplace(std::move(pattern), std::move(token));
    for (const auto& [pattern, token] : by_pattern_) patterns.push_back(pattern);
    if (!patterns.empty()) trie_ = PrefixTrie(std::move(patterns));
  }

  bool empty() const noexcept { return by_pattern_.empty(); }

  /// Takes a text, which is well-formed, apart: calls `take_text(part, its place)` and `take_token(id)` in order; no
  /// part is empty. A token counts where `accepts(token, begin, end)` says so of the place of its pattern.
  template <class TakeText, class TakeToken, class Accepts>
  void split(std::string_view text, TakeText&& take_text, TakeToken&& take_token, Accepts&& accepts) const {
    std::size_t done = 0;  // up to here, all is given out
    std::size_t white_begin = 0, white_end = 0;
    for (std::size_t at = 0; at < text.size();) {
      if (!trie_.starts_with(byte_at(text, at))) {
        ++at;
        continue;
      }
      const std::size_t length = trie_.match(text.substr(at));
      if (length == 0) {
        ++at;
        continue;
      }
      const AddedToken& token = by_pattern_.find(text.substr(at, length))->second;
      std::size_t begin = at, end = at + length;
      if (!accepts(token, begin, end)) {
        ++at;
        continue;
      }
      at = end;
      if (token.single_word && (ends_with_word(text.substr(0, begin)) || begins_with_word(text.substr(end)))) {
        continue;
      }
      begin = (std::max)(begin, done);
      if (token.lstrip) begin -= white_space_behind(text.substr(done, begin - done));
      if (token.rstrip) {
        if (end < white_begin || end > white_end) {  // else it is in the white space that was measured last
          white_begin = end;
          white_end = end + white_space_in_front(text.substr(end));
        }
        end = white_end;
      }
      if (done < begin) take_text(text.substr(done, begin - done), done);
      take_token(token.id);
      // A token of white space that the one before took with it is found all the same, and what lies behind it then
      // comes twice: so it is in the library that files are made for.
      done = end;
    }
    if (done < text.size()) take_text(text.substr(done), done);
  }

 private:
  PrefixTrie trie_;
  std::map<std::string, AddedToken, std::less<>> by_pattern_;
};

}  // namespace detail
}}  // namespace mistral
