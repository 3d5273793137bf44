// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/sets/neon.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// 64-bit Arm with FEAT_DotProd: bytes by sdot.
struct NeonDot : Neon {
  using Plainer = Neon;

  // 5 x 1 (25 registers) + 4 weights + 1 broadcast + 1 constant = 31 of 32
  static constexpr std::size_t integer_tile_rows = 5;

  /// Four products and the sum in one instruction, which takes signed weights.
  template <class Set, unsigned MaxCode>
  struct Dot {
    static constexpr std::size_t steps = 1;
    static constexpr std::size_t input_bytes = quad;
    static constexpr bool lowered = MaxCode > 127;
    using Step = BasicQuads<Set>;
    using Input = const std::byte*;
    int32x4_t sum[4];
    int32x4_t inputs_by_64;

    static Dot zero() noexcept {
      const int32x4_t z = vdupq_n_s32(0);
      return {{z, z, z, z}, z};
    }
    static void split(const BasicQuads<Set>& w, Step (&out)[1]) noexcept { split_signed<lowered>(w, out); }
    static Input input(const std::byte* p) noexcept { return p; }
    static void put(const std::int8_t* x, std::byte* out) noexcept { std::memcpy(out, x, quad); }
    void add(const Step& w, Input input) noexcept {
      const int8x16_t x = broadcast_quad(input);
      for (std::size_t i = 0; i < 4; ++i) sum[i] = pinned(vdotq_s32(sum[i], vreinterpretq_s8_u8(w.part[i]), x));
      if constexpr (lowered) inputs_by_64 = pinned(vdotq_s32(inputs_by_64, x, vdupq_n_s8(64)));
    }
    BasicSums<Set> sums() const noexcept {
      BasicSums<Set> out;
      for (std::size_t i = 0; i < 4; ++i) {
        out.part[i] = lowered ? vaddq_s32(sum[i], vshlq_n_s32(inputs_by_64, 1)) : sum[i];
      }
      return out;
    }
  };
};

static_assert(WholeInstructionSet<NeonDot>);

}}}  // namespace mistral::simd
