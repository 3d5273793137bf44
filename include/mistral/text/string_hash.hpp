// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The two halves of a 64 by 64 bit product, folded: every bit of the result depends on every bit of both factors.
inline std::uint64_t fold_product(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

inline constexpr std::uint64_t hash_key_1 = 0x9e3779b97f4a7c15;  // the golden ratio's and the square root of 2's digits
inline constexpr std::uint64_t hash_key_2 = 0x6a09e667f3bcc909;

inline std::uint64_t hash_word(std::uint64_t value) noexcept { return fold_product(value ^ hash_key_1, hash_key_2); }

template <class Word>
Word load_word(const char* p) noexcept {
  Word word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

inline std::uint64_t hash_string(std::string_view text) noexcept {
  const char* p = text.data();
  std::size_t left = text.size();
  std::uint64_t hash = hash_key_1 ^ left;
  for (; left > 16; p += 8, left -= 8) hash = fold_product(hash ^ load_word<std::uint64_t>(p), hash_key_2);
  std::uint64_t first = 0, last = 0;  // overlapping reads take in every byte that is left
  if (left >= 8) {
    first = load_word<std::uint64_t>(p);
    last = load_word<std::uint64_t>(p + left - 8);
  } else if (left >= 4) {
    first = load_word<std::uint32_t>(p);
    last = load_word<std::uint32_t>(p + left - 4);
  } else if (left > 0) {
    const auto byte = [p](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(p[i])}; };
    first = byte(0) | byte(left / 2) << 8 | byte(left - 1) << 16;
  }
  return fold_product(first ^ hash_key_2, hash ^ last);
}

/// The longest run of occupied slots that a table accepts. Tables are at most half full, where runs of more than a
/// hundred are as good as impossible: a longer one means keys that were made to collide.
inline constexpr std::size_t max_probes = 1024;

/// The number of slots, a power of two, of a table for `count` keys.
inline std::size_t table_slots(std::size_t count) noexcept { return std::bit_ceil(2 * count + 2); }

}}}  // namespace mistral::detail
