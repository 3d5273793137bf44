// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/sets/neon.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// 64-bit Arm with FEAT_I8MM: bytes by usdot.
struct NeonI8mm : Neon {
  using Plainer = Neon;

  // 6 x 1 (24 registers) + 4 weights + 1 broadcast = 29 of 32
  static constexpr std::size_t integer_tile_rows = 6;

  /// Four products and the sum in one instruction, whatever the weights.
  template <class Set, unsigned MaxCode>
  struct Dot {
    static constexpr std::size_t steps = 1;
    static constexpr std::size_t input_bytes = quad;
    using Step = BasicQuads<Set>;
    using Input = const std::byte*;
    int32x4_t sum[4];

    static Dot zero() noexcept {
      const int32x4_t z = vdupq_n_s32(0);
      return {{z, z, z, z}};
    }
    static void split(const BasicQuads<Set>& w, Step (&out)[1]) noexcept { out[0] = w; }
    static Input input(const std::byte* p) noexcept { return p; }
    static void put(const std::int8_t* x, std::byte* out) noexcept { std::memcpy(out, x, quad); }
    void add(const Step& w, Input input) noexcept {
      const int8x16_t x = broadcast_quad(input);
      for (std::size_t i = 0; i < 4; ++i) sum[i] = pinned(vusdotq_s32(sum[i], w.part[i], x));
    }
    BasicSums<Set> sums() const noexcept { return {{sum[0], sum[1], sum[2], sum[3]}}; }
  };
};

static_assert(WholeInstructionSet<NeonI8mm>);

}}}  // namespace mistral::simd
