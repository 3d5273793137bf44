// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/charsmap.hpp>
#include <mistral/text/prefix_trie.hpp>
#include <mistral/text/sentencepiece_model.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// What SentencePiece does to a text before it looks for pieces: characters are replaced by the model's rules, bytes
/// that belong to no character by U+FFFD, spaces by U+2581, and one space is put in front (or behind), as the model's
/// flags say. User-defined pieces are left alone.
class Normalizer {
 public:
  /// `user_defined` holds the pieces that no rule may touch, and must outlive the normaliser.
  Normalizer(const SentencePieceModel& model, const PrefixTrie& user_defined, std::string_view name)
      : user_defined_(user_defined),
        charsmap_(model.precompiled_charsmap, name),
        dummy_prefix_(model.add_dummy_prefix && !model.treat_whitespace_as_suffix),
        dummy_suffix_(model.add_dummy_prefix && model.treat_whitespace_as_suffix),
        remove_extra_whitespaces_(model.remove_extra_whitespaces),
        space_(model.escape_whitespaces ? space_symbol : std::string_view(" ")) {
    plain_space_ = !remove_extra_whitespaces_ && !charsmap_.starts_with(' ') && !user_defined_.starts_with(' ');
    for (unsigned i = 0; i < 0x80; ++i) {
      const auto byte = static_cast<unsigned char>(i);
      plain_[i] = byte != ' ' && !charsmap_.starts_with(byte) && !user_defined_.starts_with(byte);
    }
  }

  std::string normalize(std::string_view text) const {
    std::string normalized;
    if (remove_extra_whitespaces_) {
      while (!text.empty()) {
        const auto [replacement, consumed] = next(text);
        if (replacement != " ") break;
        text.remove_prefix(consumed);
      }
    }
    if (text.empty()) return normalized;

    normalized.reserve(text.size() + text.size() / 2 + 16);
    if (dummy_prefix_) normalized += space_;
    bool drop_spaces = remove_extra_whitespaces_;
    while (!text.empty()) {
      const std::size_t plain = plain_run(text);
      if (plain > 0) {
        normalized.append(text.data(), plain);
        text.remove_prefix(plain);
        drop_spaces = false;
        continue;
      }
      if (plain_space_ && text.front() == ' ') {
        normalized += space_;
        text.remove_prefix(1);
        continue;
      }
      auto [replacement, consumed] = next(text);
      text.remove_prefix(consumed);
      if (drop_spaces) replacement.remove_prefix((std::min)(replacement.find_first_not_of(' '), replacement.size()));
      append(normalized, replacement);
      if (remove_extra_whitespaces_ && !replacement.empty()) drop_spaces = replacement.back() == ' ';
    }
    if (remove_extra_whitespaces_) {
      while (normalized.ends_with(space_)) normalized.resize(normalized.size() - space_.size());
    }
    if (dummy_suffix_) normalized += space_;
    return normalized;
  }

 private:
  /// How many of the first bytes of `text` stay as they are, whatever stands around them.
  std::size_t plain_run(std::string_view text) const noexcept {
    std::size_t i = 0;
    while (i < text.size() && plain_[byte_at(text, i)]) ++i;
    return i;
  }

  /// What the first character or sequence of `text` becomes, and its length. `text` must not be empty.
  std::pair<std::string_view, std::size_t> next(std::string_view text) const {
    const unsigned char lead = byte_at(text, 0);
    if (user_defined_.starts_with(lead)) {
      if (const std::size_t length = user_defined_.match(text)) return {text.substr(0, length), length};
    }
    if (charsmap_.starts_with(lead)) {
      const auto [length, replacement] = charsmap_.match(text);
      if (length > 0) return {replacement, length};
    }
    if (const std::size_t length = utf8_character(text)) return {text.substr(0, length), length};
    return {replacement_character, 1};
  }

  void append(std::string& normalized, std::string_view replacement) const {
    while (!replacement.empty()) {
      const std::size_t length = (std::min)(replacement.find(' '), replacement.size());
      normalized.append(replacement.data(), length);
      replacement.remove_prefix(length);
      if (replacement.empty()) break;
      normalized.append(space_);
      replacement.remove_prefix(1);
    }
  }

  const PrefixTrie& user_defined_;
  Charsmap charsmap_;
  bool dummy_prefix_;
  bool dummy_suffix_;
  bool remove_extra_whitespaces_;
  std::string_view space_;         // of static storage
  bool plain_space_ = false;       // no rule and no user-defined piece starts with a space, and none is dropped
  std::array<bool, 256> plain_{};  // ASCII that no rule and no user-defined piece starts with, but no space
};

}}}  // namespace mistral::detail
