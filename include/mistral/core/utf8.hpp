// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// U+FFFD, what stands for a byte that belongs to no character.
inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

/// U+2581, what stands for a space inside pieces.
inline constexpr std::string_view space_symbol = "\xE2\x96\x81";

inline unsigned char byte_at(std::string_view text, std::size_t i) noexcept {
  return static_cast<unsigned char>(text[i]);
}

/// How many bytes a character has that starts with `lead`; 1 for a byte that cannot start one.
constexpr std::size_t utf8_length(unsigned char lead) noexcept {
  return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/// How many of the first bytes of `text` can be the beginning of a character (Unicode, table 3-7: no overlong forms, no
/// surrogates, nothing above U+10FFFF). `text` must not be empty.
inline std::size_t utf8_well_formed(std::string_view text) noexcept {
  const unsigned char lead = byte_at(text, 0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  if (text.size() < 2) return 1;
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte_at(text, 1) < low || byte_at(text, 1) > high) return 1;
  const std::size_t length = utf8_length(lead);
  std::size_t i = 2;
  while (i < length && i < text.size() && (byte_at(text, i) & 0xC0) == 0x80) ++i;
  return i;
}

/// The length of the well-formed character that `text` starts with, or 0. `text` must not be empty.
inline std::size_t utf8_character(std::string_view text) noexcept {
  const std::size_t length = utf8_length(byte_at(text, 0));
  return utf8_well_formed(text) == length ? length : 0;
}

/// Whether `text`, not empty, is cut off in the middle of a character that more bytes could complete.
inline bool utf8_incomplete(std::string_view text) noexcept {
  return text.size() < utf8_length(byte_at(text, 0)) && utf8_well_formed(text) == text.size();
}

}}}  // namespace mistral::detail
