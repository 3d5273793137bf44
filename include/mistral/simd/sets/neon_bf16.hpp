// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/sets/neon.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// 64-bit Arm, however it multiplies bytes, with FEAT_BF16: pairs by bfdot.
template <class Set>
struct NeonBf16 : Set {
  using Plainer = Set;
  using Pairs = bfloat16x8_t;
  using PairGroup = Pairs[4];

  static constexpr bool multiplies_pairs = true;

  static void load_pairs(const std::byte* p, PairGroup& out) noexcept {
    for (std::size_t i = 0; i < 4; ++i) out[i] = vreinterpretq_bf16_u8(Neon::load(p + 16 * i));
  }
  static void broadcast_pair(const std::byte* p, PairGroup& out) noexcept {
    std::uint32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    // not in a loop: gcc 12 would take it for too long, and keep a tile's sums in memory
    out[0] = out[1] = out[2] = out[3] = vreinterpretq_bf16_u32(vdupq_n_u32(pair));
  }
  static float32x4_t add_products(Pairs w, Pairs x, float32x4_t acc) noexcept { return vbfdotq_f32(acc, w, x); }
};

}}}  // namespace mistral::simd
