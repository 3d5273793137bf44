// SPDX-License-Identifier: Apache-2.0
#include <mistral/core/utf8.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

/// The twin: decodes the number and asks whether it is one of Unicode's, written as short as can be.
std::size_t decoded_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (at(0) < 0x80) return 1;
  const std::size_t length = at(0) >= 0xF8 ? 0 : at(0) >= 0xF0 ? 4 : at(0) >= 0xE0 ? 3 : at(0) >= 0xC0 ? 2 : 0;
  if (length == 0 || text.size() < length) return 0;
  std::uint32_t code = at(0) & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if (at(i) < 0x80 || at(i) > 0xBF) return 0;
    code = code << 6 | (at(i) & 0x3Fu);
  }
  const std::uint32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  return code < least || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) ? 0 : length;
}

// bytes on both sides of every limit that Unicode's table 3-7 has
constexpr unsigned char edges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
                                   0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFF};

template <class Visit>
void for_each_sequence(std::size_t length, std::string& text, Visit visit) {
  if (text.size() == length) {
    visit(text);
    return;
  }
  for (const unsigned char byte : edges) {
    text.push_back(static_cast<char>(byte));
    for_each_sequence(length, text, visit);
    text.pop_back();
  }
}

}  // namespace

TEST_CASE("a character is well-formed UTF-8 exactly where its number is one of Unicode's") {
  std::size_t wrong = 0;
  for (std::size_t length = 1; length <= 4; ++length) {
    std::string text;
    for_each_sequence(length, text,
                      [&](const std::string& t) { wrong += mistral::detail::utf8_character(t) != decoded_length(t); });
  }
  CHECK(wrong == 0);
}

TEST_CASE("bytes are an incomplete character exactly where some bytes complete it") {
  std::size_t wrong = 0;
  for (std::size_t length = 1; length <= 3; ++length) {
    std::string text;
    for_each_sequence(length, text, [&](const std::string& t) {
      bool completable = false;
      for (std::size_t whole = length + 1; whole <= 4 && !completable; ++whole) {
        std::string longer = t;
        // any tail byte is as good as another, but for the second
        for (const int second : {0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF}) {
          longer = t;
          while (longer.size() < whole) {
            longer.push_back(static_cast<char>(longer.size() == 1 ? second : 0x80));
          }
          completable = completable || decoded_length(longer) == whole;
        }
      }
      wrong += mistral::detail::utf8_incomplete(t) != completable;
    });
  }
  CHECK(wrong == 0);
}
