// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/lanes.hpp>

/// \file
/// What encoders of integer formats need of lanes: whole numbers, and magnitudes.

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Sixteen 32-bit words, one a lane, in which quads of codes are put together.
struct Words {
  xsimd::batch<std::int32_t> part[registers];

  static Words zero() noexcept {
    Words out;
    for (auto& p : out.part) p = xsimd::batch<std::int32_t>(0);
    return out;
  }

  /// x, cut off to a whole number, of what is in [low, high]; a NaN becomes low.
  static Words truncate(const Lanes& x, float low, float high) noexcept {
    Words out;
    for (std::size_t i = 0; i < registers; ++i) {
      // A NaN compares as false: the select, and not a max, makes it `low` on every machine.
      const FloatBatch number = xsimd::select(x.part[i] >= FloatBatch(low), x.part[i], FloatBatch(low));
      out.part[i] = xsimd::to_int((xsimd::min)(number, FloatBatch(high)));
    }
    return out;
  }

  static Words load(const std::byte* p) noexcept {
    Words out;
    for (std::size_t i = 0; i < registers; ++i) {
      out.part[i] = xsimd::batch<std::int32_t>::load_unaligned(reinterpret_cast<const std::int32_t*>(p) +
                                                               i * xsimd::batch<std::int32_t>::size);
    }
    return out;
  }

  /// Bits [shift, shift + count) of each word, as a number.
  Words bits(int shift, int count) const noexcept {
    Words out;
    const xsimd::batch<std::int32_t> mask((1 << count) - 1);
    for (std::size_t i = 0; i < registers; ++i) out.part[i] = Instructions::shifted_right(part[i], shift) & mask;
    return out;
  }

  Words masked(std::uint32_t mask) const noexcept {
    Words out;
    const xsimd::batch<std::int32_t> bits(static_cast<std::int32_t>(mask));
    for (std::size_t i = 0; i < registers; ++i) out.part[i] = part[i] & bits;
    return out;
  }

  Words flipped(std::uint32_t mask) const noexcept {
    Words out;
    const xsimd::batch<std::int32_t> bits(static_cast<std::int32_t>(mask));
    for (std::size_t i = 0; i < registers; ++i) out.part[i] = part[i] ^ bits;
    return out;
  }

  Lanes to_lanes() const noexcept {
    Lanes out;
    for (std::size_t i = 0; i < registers; ++i) out.part[i] = xsimd::to_float(part[i]);
    return out;
  }

  /// Sets bits from `shift` on to the codes, which are small enough and fit there.
  void put(const Words& codes, int shift) noexcept {
    for (std::size_t i = 0; i < registers; ++i) part[i] = part[i] | Instructions::shifted_left(codes.part[i], shift);
  }

  void store(std::byte* p) const noexcept { std::memcpy(p, part, sizeof part); }
};

inline Lanes abs(const Lanes& a) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = xsimd::abs(a.part[i]);
  return out;
}

/// In each lane, whichever of the two is larger in magnitude; the first where they are alike or x is a NaN.
inline Lanes larger_magnitude(const Lanes& largest, const Lanes& x) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) {
    out.part[i] = xsimd::select(xsimd::abs(x.part[i]) > xsimd::abs(largest.part[i]), x.part[i], largest.part[i]);
  }
  return out;
}

}}}  // namespace mistral::simd
