// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/quads.hpp>

/// \file
/// Dot products of 16 inputs whose integer sum is multiplied with an integer scale of each lane, still as an integer:
/// formats whose scales are bytes add several such sums before they leave the integers.

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Codes of up to 6 bits, less Zero: the running sum of four quads a lane. As `Dot` in what `Step`, `split`, `Input`
/// and `put` are.
///
///   inputs             inputs of a sum
///   start(x), from(s)  what the sum of these inputs starts at, and a sum that starts at it
///   scales(bytes, k)   byte k of each lane, signed, as `sums` takes it
///   sums(scales)       the sum times the scale, in each lane
template <int Zero>
using ScaledDot = Instructions::ScaledDot<Instructions, Zero>;

/// The scales of ScaledDot's `scales` as floats.
inline Lanes scales_as_lanes(const Quads& scales) noexcept {
  std::byte words[Quads::bytes];
  scales.store(words);
  float numbers[lanes];
  for (std::size_t i = 0; i < lanes; ++i) {
    std::int16_t low;  // the whole number, or its lower half, which holds it: on big-endian machines neither
    std::memcpy(&low, words + i * quad, sizeof low);
    numbers[i] = low;
  }
  return Lanes::load(numbers);
}

}}}  // namespace mistral::simd
