// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/utf8.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

inline void append_utf8(std::string& text, char32_t code) {
  const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr unsigned leads[] = {0, 0xc0, 0xe0, 0xf0};
  text += static_cast<char>(leads[more] | static_cast<unsigned>(code) >> (6 * more));
  for (int i = more; i-- > 0;) text += static_cast<char>(0x80 | (static_cast<unsigned>(code) >> (6 * i) & 0x3f));
}

/// The length in bytes of the character at `at` of a well-formed text.
inline std::size_t character_length(std::string_view text, std::size_t at) noexcept {
  return detail::utf8_length(detail::byte_at(text, at));
}

inline char32_t character_at(std::string_view text, std::size_t at) noexcept {
  return detail::code_point(text.substr(at, character_length(text, at)));
}

/// Where the character before `at`, which isn't 0, begins.
inline std::size_t character_before(std::string_view text, std::size_t at) noexcept {
  --at;
  while (at > 0 && (detail::byte_at(text, at) & 0xC0) == 0x80) --at;
  return at;
}

inline std::size_t character_count(std::string_view text) noexcept {
  std::size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

/// Whether Python's str.strip() takes a character for white space.
constexpr bool is_space(char32_t c) noexcept {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/// Whether Python's str.splitlines() ends a line at a character.
constexpr bool ends_line(char32_t c) noexcept {
  return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

/// Capital letters whose small ones stand `offset` behind them, every `step`-th from `first` to `last`.
struct CaseRange {
  char32_t first, last;
  std::uint32_t step;
  std::int32_t offset;
};

/// The alphabets that have two cases, but for the rarest.
inline constexpr CaseRange case_ranges[] = {
    {0x41, 0x5A, 1, 32},       {0xC0, 0xD6, 1, 32},      {0xD8, 0xDE, 1, 32},    {0x100, 0x12E, 2, 1},
    {0x132, 0x136, 2, 1},      {0x139, 0x147, 2, 1},     {0x14A, 0x176, 2, 1},   {0x178, 0x178, 1, -121},
    {0x179, 0x17D, 2, 1},      {0x1CD, 0x1DB, 2, 1},     {0x1DE, 0x1EE, 2, 1},   {0x1F8, 0x21E, 2, 1},
    {0x222, 0x232, 2, 1},      {0x246, 0x24E, 2, 1},     {0x386, 0x386, 1, 38},  {0x388, 0x38A, 1, 37},
    {0x38C, 0x38C, 1, 64},     {0x38E, 0x38F, 1, 63},    {0x391, 0x3A1, 1, 32},  {0x3A3, 0x3AB, 1, 32},
    {0x3D8, 0x3EE, 2, 1},      {0x400, 0x40F, 1, 80},    {0x410, 0x42F, 1, 32},  {0x460, 0x480, 2, 1},
    {0x48A, 0x4BE, 2, 1},      {0x4C1, 0x4CD, 2, 1},     {0x4D0, 0x52E, 2, 1},   {0x531, 0x556, 1, 48},
    {0x10A0, 0x10C5, 1, 7264}, {0x1E00, 0x1E94, 2, 1},   {0x1EA0, 0x1EFE, 2, 1}, {0x2160, 0x216F, 1, 16},
    {0x24B6, 0x24CF, 1, 26},   {0x2C00, 0x2C2F, 1, 48},  {0x2C80, 0x2CE2, 2, 1}, {0xA640, 0xA66C, 2, 1},
    {0xFF21, 0xFF3A, 1, 32},   {0x10400, 0x10427, 1, 40}};

constexpr char32_t lower(char32_t c) noexcept {
  for (const CaseRange& range : case_ranges) {
    if (c >= range.first && c <= range.last && (c - range.first) % range.step == 0) {
      return static_cast<char32_t>(static_cast<std::int32_t>(c) + range.offset);
    }
  }
  return c;
}

/// The capital of a small letter. (That of the German sharp s is two: see append_upper.)
constexpr char32_t upper(char32_t c) noexcept {
  if (c == 0xB5) return 0x39C;
  if (c == 0x131) return 'I';
  if (c == 0x17F) return 'S';
  if (c == 0x3C2) return 0x3A3;
  for (const CaseRange& range : case_ranges) {
    const auto capital = static_cast<char32_t>(static_cast<std::int32_t>(c) - range.offset);
    if (capital >= range.first && capital <= range.last && (capital - range.first) % range.step == 0) return capital;
  }
  return c;
}

inline void append_upper(std::string& text, char32_t c) {
  if (c == 0xDF) {
    text += "SS";
  } else {
    append_utf8(text, upper(c));
  }
}

/// Appends the form of a letter that a word begins with.
inline void append_title(std::string& text, char32_t c) {
  if (c == 0xDF) {
    text += "Ss";
  } else {
    append_utf8(text, upper(c));
  }
}

/// Whether a letter has another case.
constexpr bool is_cased(char32_t c) noexcept { return c == 0xDF || lower(c) != c || upper(c) != c; }

}}}  // namespace mistral::jinja
