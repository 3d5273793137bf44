// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>

#include <mistral/simd/lanes.hpp>

/// \file
/// Dot products of pairs of bfloat16, which xsimd lacks: a lane is an output row, and holds two neighbouring inputs of
/// it. The products are exact in a float; each instruction set has its own roundings of the sum:
///   vdpbf16ps  the odd input's product is added to the lane's sum, then the even one's: two roundings to nearest;
///              subnormal numbers are taken as zeros
///   bfdot      the two products are added, then that to the sum: two roundings to odd, each off by less than 2^-23;
///              subnormal numbers are taken as zeros
///   else       as vdpbf16ps, by floats, with their subnormal numbers: no faster than floats, and used by no kernel

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Whether this machine has an instruction that multiplies pairs of bfloat16.
inline constexpr bool multiplies_pairs = Instructions::multiplies_pairs;

/// Bytes of a pair.
inline constexpr std::size_t pair_bytes = 2 * sizeof(bf16);

/// Writes inputs [0, count) as pairs, each rounded to the nearest bfloat16, the last one's partner being zero where
/// count is odd: pair i holds input 2 i in its lower half.
inline void put_pairs(const float* x, std::size_t count, std::byte* pairs) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    const bf16 rounded = from_float<bf16>(x[i]);
    std::memcpy(pairs + i * sizeof(bf16), &rounded, sizeof rounded);
  }
  if (count % 2 != 0) std::memset(pairs + count * sizeof(bf16), 0, sizeof(bf16));
}

/// Sixteen pairs, one a lane.
struct Pairs {
  Instructions::PairGroup part;

  /// From sixteen pairs at any address.
  static Pairs load(const std::byte* p) noexcept {
    Pairs out;
    Instructions::load_pairs(p, out.part);
    return out;
  }

  /// The pair at p in every lane.
  static Pairs broadcast(const std::byte* p) noexcept {
    Pairs out;
    Instructions::broadcast_pair(p, out.part);
    return out;
  }
};

/// acc + w[0] x[0] + w[1] x[1] in each lane.
inline Lanes add_products(const Pairs& w, const Pairs& x, const Lanes& acc) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) {
    out.part[i] = FloatBatch(Instructions::add_products(w.part[i], x.part[i], acc.part[i]));
  }
  return out;
}

}}}  // namespace mistral::simd
