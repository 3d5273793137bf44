// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <mistral/core/random.hpp>
#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

namespace detail {

using WideBatch = xsimd::batch<std::uint64_t>;

/// Eight words of 64 bits that belong to eight places.
struct DigestKeys {
  std::uint64_t key[8];

  constexpr DigestKeys() noexcept : key{} {
    std::uint64_t seed = 0;
    for (std::uint64_t& k : key) k = split_mix(seed);
  }
};

}  // namespace detail

/// 64 bits that tell bytes from others, the same on every machine, in less time than it takes to read them from memory:
/// against accidents, not against somebody who looks for others with the same number. Bytes that differ in one word of
/// eight, at a multiple of eight, are always told apart.
///
/// Of each 64 bytes, eight words are added to eight sums, and the products of their halves, after a key that is another
/// one for each 64 bytes has been mixed into them, to eight others (as NH does: Black and others, "UMAC: Fast and
/// secure message authentication", 1999). So nothing waits for a multiplication.
inline std::uint64_t digest(std::span<const std::byte> bytes) noexcept {
  using Batch = detail::WideBatch;
  constexpr std::size_t stripe = 64;
  constexpr std::size_t count = stripe / sizeof(Batch);
  static constexpr detail::DigestKeys keys{};
  const Batch step(0x9fb21c651e98df25u);
  Batch key[count], sums[count], products[count];
  for (std::size_t i = 0; i < count; ++i) {
    key[i] = Batch::load_unaligned(keys.key + i * Batch::size);
    sums[i] = products[i] = Batch(std::uint64_t{0});
  }
  const auto add = [&](const std::byte* p) {
#pragma GCC unroll 4
    for (std::size_t i = 0; i < count; ++i) {
      const Batch words = Batch::load_unaligned(reinterpret_cast<const std::uint64_t*>(p + i * sizeof(Batch)));
      sums[i] = sums[i] + words;
      products[i] = products[i] + Batch(Instructions::product_of_halves(words ^ key[i]));
      key[i] = key[i] + step;
    }
  };
  std::size_t at = 0;
  for (; at + stripe <= bytes.size(); at += stripe) add(bytes.data() + at);
  if (at < bytes.size()) {
    std::byte rest[stripe] = {};
    std::memcpy(rest, bytes.data() + at, bytes.size() - at);
    add(rest);
  }
  std::uint64_t words[2][stripe / 8];
  for (std::size_t i = 0; i < count; ++i) {
    sums[i].store_unaligned(words[0] + i * Batch::size);
    products[i].store_unaligned(words[1] + i * Batch::size);
  }
  std::uint64_t state = bytes.size();
  for (const auto& eight : words) {
    for (const std::uint64_t word : eight) {
      state ^= word;
      state = split_mix(state);
    }
  }
  return state;
}

}}}  // namespace mistral::simd
