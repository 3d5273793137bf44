// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/lanes.hpp>
#include <mistral/simd/quads.hpp>

/// \file
/// What encoders of weights choose codes with, 16 rows side by side.

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// x where a is greater than b, else (and where one of them is a NaN) y.
inline Lanes where_greater(const Lanes& a, const Lanes& b, const Lanes& x, const Lanes& y) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) {
    out.part[i] = xsimd::select(a.part[i] > b.part[i], x.part[i], y.part[i]);
  }
  return out;
}

/// The lesser of x and `most`; of a NaN, either.
inline Lanes at_most(const Lanes& x, float most) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = (xsimd::min)(x.part[i], FloatBatch(most));
  return out;
}

/// The whole number nearest to x, of two the even one, for |x| < 2^22: so large a number is added that no bits are left
/// for a fraction, and taken off again.
inline Lanes nearest(const Lanes& x) noexcept {
  const Lanes large = Lanes::broadcast(0x1.8p23f);
  return x + large - large;
}

/// Four codes a lane, each less than 256, as the bytes of a quad.
inline Quads quads_of(const Words& words) noexcept {
  std::byte bytes[Quads::bytes];
  words.store(bytes);
  return Quads::load(bytes);
}

/// How many of the thresholds are not above it, for each byte.
template <std::size_t N>
inline Quads count_not_above(const Quads& values, const std::uint8_t (&thresholds)[N]) noexcept {
  std::byte bytes[Quads::bytes];
  values.store(bytes);
  Instructions::count_not_above(bytes, thresholds);
  return Quads::load(bytes);
}

/// Bytes with a's lower four bits and, above them, b's.
inline Quads both_nibbles(const Quads& a, const Quads& b) noexcept {
  std::uint8_t low[Quads::bytes];
  std::uint8_t high[Quads::bytes];
  a.store(reinterpret_cast<std::byte*>(low));
  b.store(reinterpret_cast<std::byte*>(high));
  for (std::size_t i = 0; i < Quads::bytes; ++i) low[i] = static_cast<std::uint8_t>((low[i] & 15u) | (high[i] * 16u));
  return Quads::load(reinterpret_cast<const std::byte*>(low));
}

}}}  // namespace mistral::simd
