// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/utf8.hpp>

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// The number of a well-formed character.
inline char32_t code_point(std::string_view character) noexcept {
  const unsigned char lead = byte_at(character, 0);
  if (lead < 0x80) return lead;
  char32_t code = lead & (0x7Fu >> character.size());
  for (std::size_t i = 1; i < character.size(); ++i) code = code << 6 | (byte_at(character, i) & 0x3Fu);
  return code;
}

/// Whether a character drives a terminal, turns text round or ends a line: the controls of ASCII and of Latin-1 (U+009B
/// is what ESC [ is), Unicode's embeddings, overrides and isolates, and its separators of lines and paragraphs.
constexpr bool controls_text(char32_t c) noexcept {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

/// Whether a character can't be seen, or is no character: what Unicode calls default ignorable, and its noncharacters.
constexpr bool invisible(char32_t c) noexcept {
  struct Range {
    char32_t first, last;
  };
  constexpr Range ranges[] = {
      {0xAD, 0xAD},     {0x34F, 0x34F},   {0x61C, 0x61C},     {0x115F, 0x1160},   {0x17B4, 0x17B5},   {0x180B, 0x180F},
      {0x200B, 0x200F}, {0x2060, 0x206F}, {0x3164, 0x3164},   {0xFDD0, 0xFDEF},   {0xFE00, 0xFE0F},   {0xFEFF, 0xFEFF},
      {0xFFA0, 0xFFA0}, {0xFFF0, 0xFFFB}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF},
  };
  for (const Range& range : ranges) {
    if (c >= range.first && c <= range.last) return true;
  }
  return (c & 0xFFFE) == 0xFFFE;
}

/// How a character, or a byte that belongs to none, is shown.
struct Shown {
  char text[10];
  std::size_t size = 0;   ///< of the text
  std::size_t taken = 0;  ///< bytes that it stands for
};

/// The first character of `text`, which isn't empty, as it is, or as an escape where `hide` says so: `\x1b` for ASCII
/// and for stray bytes, `\u202e`, `\U000e0001`. Takes no memory: a handler of a signal may ask.
template <class Hide>
Shown shown(std::string_view text, Hide&& hide) noexcept {
  constexpr char hex[] = "0123456789abcdef";
  Shown out;
  const auto escape = [&](char letter, char32_t number, std::size_t digits) {
    out.text[out.size++] = '\\';
    out.text[out.size++] = letter;
    while (digits-- > 0) out.text[out.size++] = hex[number >> (4 * digits) & 0xF];
  };
  const std::size_t length = utf8_character(text);
  out.taken = length > 0 ? length : 1;
  if (length == 0) {
    escape('x', byte_at(text, 0), 2);
    return out;
  }
  const char32_t code = code_point(text.substr(0, length));
  if (hide(code)) {
    escape(code < 0x80 ? 'x' : code < 0x10000 ? 'u' : 'U', code, code < 0x80 ? 2 : code < 0x10000 ? 4 : 8);
    return out;
  }
  while (out.size < length) {
    out.text[out.size] = text[out.size];
    ++out.size;
  }
  return out;
}

/// How a character is shown in a line of a message.
inline Shown shown_in_line(std::string_view text) noexcept {
  return shown(text, [](char32_t c) { return controls_text(c) || invisible(c); });
}

}  // namespace detail

/// `text` made fit for a one-line message, whatever a file holds: characters that drive a terminal, turn text round,
/// end a line or can't be seen, and bytes that belong to no character, become escapes (`\x1b`, `\u202e`), and what is
/// longer than `limit` bytes is cut and ends in `...`.
inline std::string printable(std::string_view text, std::size_t limit = 200) {
  std::string line;
  std::size_t at = 0;
  while (at < text.size()) {
    const detail::Shown next = detail::shown_in_line(text.substr(at));
    if (at + next.taken > limit) return line + "...";
    line.append(next.text, next.size);
    at += next.taken;
  }
  return line;
}

/// `text` of several lines made fit for a terminal: newlines and tabs stay, other characters that drive it or turn text
/// round become escapes, as do bytes that belong to no character.
inline std::string printable_lines(std::string_view text) {
  std::string lines;
  while (!text.empty()) {
    const detail::Shown next =
        detail::shown(text, [](char32_t c) { return detail::controls_text(c) && c != '\n' && c != '\t'; });
    lines.append(next.text, next.size);
    text.remove_prefix(next.taken);
  }
  return lines;
}

}}  // namespace mistral
