// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/lanes.hpp>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include <arm_neon.h>
#endif

/// \file
/// Dot products of pairs of bfloat16, which xsimd lacks: a lane is an output row, and holds two neighbouring inputs of
/// it. The products are exact in a float; each instruction set has its own roundings of the sum, and all of them take
/// subnormal numbers as zeros:
///   vdpbf16ps  the odd input's product is added to the lane's sum, then the even one's: two roundings to nearest
///   bfdot      the two products are added, then that to the sum: two roundings to odd, each off by less than 2^-23

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Whether this machine multiplies pairs of bfloat16.
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
inline constexpr bool multiplies_pairs = true;
#else
inline constexpr bool multiplies_pairs = false;
#endif

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

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
/// Sixteen pairs, one a lane.
struct Pairs {
#if defined(__AVX512BF16__)
  __m512i part[1];
#else
  bfloat16x8_t part[4];
#endif

  /// From sixteen pairs at any address.
  static Pairs load(const std::byte* p) noexcept {
#if defined(__AVX512BF16__)
    return {{_mm512_loadu_si512(p)}};
#else
    Pairs out;
    for (std::size_t i = 0; i < 4; ++i) {
      out.part[i] = vreinterpretq_bf16_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(p) + 16 * i));
    }
    return out;
#endif
  }

  /// The pair at p in every lane.
  static Pairs broadcast(const std::byte* p) noexcept {
#if defined(__AVX512BF16__)
    std::int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return {{_mm512_set1_epi32(pair)}};
#else
    std::uint32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    const bfloat16x8_t all = vreinterpretq_bf16_u32(vdupq_n_u32(pair));
    return {{all, all, all, all}};
#endif
  }
};

/// acc + w[0] x[0] + w[1] x[1] in each lane.
inline Lanes add_products(const Pairs& w, const Pairs& x, const Lanes& acc) noexcept {
#if defined(__AVX512BF16__)
  __m512bh a;
  __m512bh b;
  static_assert(sizeof a == sizeof w && sizeof b == sizeof x);
  std::memcpy(&a, &w, sizeof a);  // the types' conversions are spelled otherwise by each compiler
  std::memcpy(&b, &x, sizeof b);
  return {{FloatBatch(_mm512_dpbf16_ps(acc.part[0], a, b))}};
#else
  Lanes out;
  for (std::size_t i = 0; i < 4; ++i) out.part[i] = FloatBatch(vbfdotq_f32(acc.part[i], w.part[i], x.part[i]));
  return out;
#endif
}
#endif

}}}  // namespace mistral::simd
