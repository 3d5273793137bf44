// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/charsmap.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/text/tokenizer.hpp>

#include "../support/rounds.hpp"
#include "../support/scratch.hpp"
#include "model_builder.hpp"

namespace {

using mistral::detail::Charsmap;
using mistral::test::error_of;

std::string little_endian(std::uint32_t value) {
  std::string out;
  for (unsigned i = 0; i < 4; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

std::string blob_of(const std::vector<std::uint32_t>& units, std::string_view replacements) {
  std::string out = little_endian(static_cast<std::uint32_t>(4 * units.size()));
  for (const std::uint32_t unit : units) out += little_endian(unit);
  return out + std::string(replacements);
}

/// A double array by hand, for the rules A -> "x", AB -> "yz" and C -> "": the root's children are at offset 256.
std::vector<std::uint32_t> small_trie() {
  std::vector<std::uint32_t> units(1024, 0x80000000u);  // a free unit matches no label
  const auto offset = [](std::uint32_t value) { return value << 10; };
  units[0] = offset(256);
  units[256 ^ 'A'] = offset((256 ^ 'A') ^ 512) | 1u << 8 | 'A';  // its children are at 512, and a word ends here
  units[512] = 0x80000000u | 0;                                  // "x"
  units[512 ^ 'B'] = offset((512 ^ 'B') ^ 768) | 1u << 8 | 'B';
  units[768] = 0x80000000u | 2;  // "yz"
  units[256 ^ 'C'] = offset((256 ^ 'C') ^ 800) | 1u << 8 | 'C';
  units[800] = 0x80000000u | 5;  // ""
  return units;
}

const std::string replacements("x\0yz\0\0", 6);

}  // namespace

TEST_CASE("the longest rule that matches replaces the text") {
  const Charsmap map(blob_of(small_trie(), replacements), "m");
  CHECK(map.match("ABC") == std::pair<std::size_t, std::string_view>(2, "yz"));
  CHECK(map.match("AA") == std::pair<std::size_t, std::string_view>(1, "x"));
  CHECK(map.match("C") == std::pair<std::size_t, std::string_view>(1, ""));
  CHECK(map.match("B").first == 0);
  CHECK(map.match("").first == 0);
  CHECK(map.starts_with('A'));
  CHECK(!map.starts_with('B'));
  CHECK(!Charsmap().starts_with('A'));
}

TEST_CASE("a tokenizer applies its model's rules before it looks for pieces") {
  auto model = mistral::test::small_model({"x", "y", "z", "xyz", "A"});
  model.add_dummy_prefix = false;
  model.precompiled_charsmap = blob_of(small_trie(), replacements);
  const mistral::Tokenizer tokenizer(model, "m");
  CHECK(tokenizer.encode("AACAB") == std::vector<mistral::TokenId>{3, 3, 4, 5});
  CHECK(tokenizer.encode("CCC").empty());
  model.pieces.push_back({"AC", 0.0f, mistral::PieceType::user_defined});
  CHECK(mistral::Tokenizer(model, "m").encode("AACAB") == std::vector<mistral::TokenId>{3, 8, 4, 5});
}

TEST_CASE("a blob whose sizes don't fit is an error") {
  for (const std::string& blob : {std::string("abc"), little_endian(0) + "x", little_endian(8) + "1234",
                                  little_endian(3) + "1234", little_endian(0xffffffffu) + "1234"}) {
    CHECK(error_of([&] { Charsmap(blob, "m"); }).find("[tokenizer] m: precompiled_charsmap: expected") == 0);
  }
}

TEST_CASE("a trie that points outside, or in circles, does no harm") {
  std::vector<std::uint32_t> outside = small_trie();
  outside[256 ^ 'A'] = 0x1fffffu << 10 | 1u << 9 | 1u << 8 | 'A';
  CHECK(Charsmap(blob_of(outside, replacements), "m").match("ABC").first == 0);

  std::vector<std::uint32_t> value = small_trie();
  value[512] = 0xffffffffu;
  CHECK(error_of([&] { Charsmap(blob_of(value, replacements), "m").match("A"); }).find("inside the blob") !=
        std::string::npos);
  CHECK(error_of([&] {
          Charsmap(blob_of(small_trie(), std::string(2000, 'x')), "m").match("A");
        }).find("at most 1024 bytes") != std::string::npos);

  std::mt19937 random(4);
  for (int round = 0; round < mistral::test::rounds(200); ++round) {
    std::vector<std::uint32_t> units(1 + random() % 600);
    for (std::uint32_t& unit : units)
      unit = static_cast<std::uint32_t>((random() % 600) << 10 | (random() % 4) << 8 | (random() % 4));
    const Charsmap map(blob_of(units, replacements), "m");
    for (int i = 0; i < 20; ++i) {
      std::string text;
      for (int n = 0; n < 50; ++n) text += static_cast<char>(random() % 4);
      std::size_t length = 0;
      try {
        length = map.match(text).first;
      } catch (const mistral::Error&) {
      }
      CHECK(length <= text.size());
    }
  }
}
