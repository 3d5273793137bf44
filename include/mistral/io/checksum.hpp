// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// 64 bits that tell bytes from damaged ones, as fast as memory is read: it finds what a disk or a transfer breaks, not
/// what somebody means to hide. Each step is reversible, so that two inputs of one length that differ in one word of
/// eight bytes never have the same sum.
inline std::uint64_t checksum(std::span<const std::byte> bytes) noexcept {
  constexpr std::size_t lanes = 4;                       // chains of multiplications that don't wait for each other
  constexpr std::uint64_t factor = 0x9fb21c651e98df25u;  // odd, its bits half ones
  const auto mix = [](std::uint64_t state, std::uint64_t word) {
    state = (state ^ word) * factor;
    return state ^ state >> 32;
  };
  const auto word_at = [](const std::byte* p, std::size_t count) {
    std::uint64_t word = 0;
    std::memcpy(&word, p, count);
    return word;
  };
  std::uint64_t states[lanes] = {1, 2, 3, 4};
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= lanes * 8; left -= lanes * 8, p += lanes * 8) {
    for (std::size_t i = 0; i < lanes; ++i) states[i] = mix(states[i], word_at(p + 8 * i, 8));
  }
  for (; left >= 8; left -= 8, p += 8) states[0] = mix(states[0], word_at(p, 8));
  if (left > 0) states[0] = mix(states[0], word_at(p, left));
  std::uint64_t sum = mix(0, bytes.size());
  for (const std::uint64_t state : states) sum = mix(sum, state);
  return sum;
}

/// The sum as a file's header holds it: 16 digits of lower case.
inline std::string checksum_text(std::uint64_t sum) {
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; sum >>= 4) text[i] = "0123456789abcdef"[sum & 0xf];
  return text;
}

}}  // namespace mistral
