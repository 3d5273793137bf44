// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/simd/lanes.hpp>

#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

/// \file
/// simd/quads.hpp for 64-bit Arm, which includes it: by usdot (FEAT_I8MM), by sdot (FEAT_DotProd), or by widening
/// multiplications.

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Sixteen 32-bit sums, one a lane.
struct Sums {
  int32x4_t part[4];

  /// value + offset, as floats.
  Lanes plus(std::int32_t offset) const noexcept {
    Lanes out;
    for (std::size_t i = 0; i < 4; ++i) {
      out.part[i] = FloatBatch(vcvtq_f32_s32(vaddq_s32(part[i], vdupq_n_s32(offset))));
    }
    return out;
  }

  friend Sums operator+(const Sums& a, const Sums& b) noexcept {
    Sums out;
    for (std::size_t i = 0; i < 4; ++i) out.part[i] = vaddq_s32(a.part[i], b.part[i]);
    return out;
  }
};

/// Sixteen quads of unsigned bytes: the weights of four inputs for 16 rows, or the same packed in nibbles.
struct Quads {
  static constexpr std::size_t bytes = lanes * quad;
  uint8x16_t part[4];

  static Quads load(const std::byte* p) noexcept {
    Quads out;
    for (std::size_t i = 0; i < 4; ++i) out.part[i] = vld1q_u8(reinterpret_cast<const std::uint8_t*>(p) + 16 * i);
    return out;
  }

  void store(std::byte* p) const noexcept { std::memcpy(p, part, bytes); }

  /// The same, held in registers from here on.
  Quads pinned() const noexcept {
    return {{simd::pinned(part[0]), simd::pinned(part[1]), simd::pinned(part[2]), simd::pinned(part[3])}};
  }

  /// The lower four bits of each byte.
  Quads low_nibbles() const noexcept {
    Quads out;
    for (std::size_t i = 0; i < 4; ++i) out.part[i] = vandq_u8(part[i], vdupq_n_u8(15));
    return out;
  }

  /// The upper four bits of each byte.
  Quads high_nibbles() const noexcept {
    Quads out;
    for (std::size_t i = 0; i < 4; ++i) out.part[i] = vshrq_n_u8(part[i], 4);
    return out;
  }

  /// The lower six bits of each byte.
  Quads low_6_bits() const noexcept {
    Quads out;
    for (std::size_t i = 0; i < 4; ++i) out.part[i] = vandq_u8(part[i], vdupq_n_u8(63));
    return out;
  }

  /// Bytes of six bits, put together of the upper two bits of three: the lowest two first.
  static Quads of_upper_bits(const Quads& a, const Quads& b, const Quads& c) noexcept {
    Quads out;
    for (std::size_t i = 0; i < 4; ++i) {
      const uint8x16_t four = vsliq_n_u8(vshrq_n_u8(a.part[i], 6), vshrq_n_u8(b.part[i], 6), 2);
      out.part[i] = vsliq_n_u8(four, vshrq_n_u8(c.part[i], 6), 4);
    }
    return out;
  }

  /// table[b] for each byte b, which is at most 15.
  Quads look_up(const std::uint8_t (&table)[16]) const noexcept {
    Quads out;
    for (std::size_t i = 0; i < 4; ++i) out.part[i] = vqtbl1q_u8(vld1q_u8(table), part[i]);
    return out;
  }
};

/// Registers that the sums of a row take, for codes of any size.
#if defined(__ARM_FEATURE_MATMUL_INT8)
inline constexpr std::size_t dot_registers = 4;
#elif defined(__ARM_FEATURE_DOTPROD)
inline constexpr std::size_t dot_registers = 5;
#else
inline constexpr std::size_t dot_registers = 9;
#endif

/// How sums of a block's products are taken where no weight is above MaxCode. `Dot` itself is the running sum of up to
/// eight quads a lane. `Step`, `steps`, `split` and `Input` are what simd/quads.hpp says; here a step is a quad.
template <unsigned MaxCode>
struct Dot {
  static constexpr std::size_t input_bytes = quad;
  static constexpr std::size_t steps = 1;
  using Step = Quads;
  using Input = const std::byte*;
  static Input input(const std::byte* p) noexcept { return p; }
#if defined(__ARM_FEATURE_MATMUL_INT8)
  static void split(const Quads& w, Step (&out)[1]) noexcept { out[0] = w; }
#else
  // The other instructions take signed weights. Codes above 127 are lowered by 128, and 128 times the sum of the
  // inputs, which all lanes share, is added at the end.
  static constexpr bool lowered = MaxCode > 127;
  static void split(const Quads& w, Step (&out)[1]) noexcept {
    for (std::size_t i = 0; i < 4; ++i) out[0].part[i] = lowered ? veorq_u8(w.part[i], vdupq_n_u8(128)) : w.part[i];
  }
#endif

  /// A quad of activations in every lane.
  static int8x16_t broadcast(const std::byte* input) noexcept {
    std::int32_t x;
    std::memcpy(&x, input, sizeof x);
    return vreinterpretq_s8_s32(vdupq_n_s32(x));
  }

#if defined(__ARM_FEATURE_MATMUL_INT8)
  // usdot: four products and the sum in one instruction, whatever the weights.
  int32x4_t sum[4];

  static Dot zero() noexcept {
    const int32x4_t z = vdupq_n_s32(0);
    return {{z, z, z, z}};
  }
  void add(const Quads& w, Input input) noexcept {
    const int8x16_t x = broadcast(input);
    for (std::size_t i = 0; i < 4; ++i) sum[i] = pinned(vusdotq_s32(sum[i], w.part[i], x));
  }
  Sums sums() const noexcept { return {{sum[0], sum[1], sum[2], sum[3]}}; }

#else
#if defined(__ARM_FEATURE_DOTPROD)
  // sdot: four products and the sum in one instruction.
  int32x4_t sum[4];
  int32x4_t inputs_by_64;

  static Dot zero() noexcept {
    const int32x4_t z = vdupq_n_s32(0);
    return {{z, z, z, z}, z};
  }
  void add(const Quads& w, Input input) noexcept {
    const int8x16_t x = broadcast(input);
    for (std::size_t i = 0; i < 4; ++i) sum[i] = pinned(vdotq_s32(sum[i], vreinterpretq_s8_u8(w.part[i]), x));
    if constexpr (lowered) inputs_by_64 = pinned(vdotq_s32(inputs_by_64, x, vdupq_n_s8(64)));
  }
  Sums sums() const noexcept {
    Sums out;
    for (std::size_t i = 0; i < 4; ++i)
      out.part[i] = lowered ? vaddq_s32(sum[i], vshlq_n_s32(inputs_by_64, 1)) : sum[i];
    return out;
  }

#else
  // A register holds two lanes: their products, of which a block's eight fit in 16 bits where codes have four bits
  // (8 x 15 x 127 = 15240), or else the sums of two neighbouring products in 32 (one product is at most 128 x 127).
  static constexpr bool narrow = MaxCode <= 15;
  int16x8_t products[8];
  int32x4_t pairs[8];
  int16x8_t inputs;

  static Dot zero() noexcept {
    Dot out;
    for (std::size_t i = 0; i < 8; ++i) {
      if constexpr (narrow) {
        out.products[i] = vdupq_n_s16(0);
      } else {
        out.pairs[i] = vdupq_n_s32(0);
      }
    }
    out.inputs = vdupq_n_s16(0);
    return out;
  }
  void add(const Quads& w, Input input) noexcept {
    const int8x16_t x = broadcast(input);
    for (std::size_t i = 0; i < 4; ++i) {
      const int8x16_t codes = vreinterpretq_s8_u8(w.part[i]);
      if constexpr (narrow) {
        products[2 * i] = pinned(vmlal_s8(products[2 * i], vget_low_s8(codes), vget_low_s8(x)));
        products[2 * i + 1] = pinned(vmlal_high_s8(products[2 * i + 1], codes, x));
      } else {
        pairs[2 * i] = pinned(vpadalq_s16(pairs[2 * i], vmull_s8(vget_low_s8(codes), vget_low_s8(x))));
        pairs[2 * i + 1] = pinned(vpadalq_s16(pairs[2 * i + 1], vmull_high_s8(codes, x)));
      }
    }
    if constexpr (lowered) inputs = vaddw_s8(inputs, vget_low_s8(x));
  }
  Sums sums() const noexcept {
    Sums out;
    const auto pair_sums = [this](std::size_t i) { return narrow ? vpaddlq_s16(products[i]) : pairs[i]; };
    for (std::size_t i = 0; i < 4; ++i) out.part[i] = vpaddq_s32(pair_sums(2 * i), pair_sums(2 * i + 1));
    if constexpr (lowered) {
      const int32x4_t two = vpaddlq_s16(inputs);
      const int32x4_t all = vshlq_n_s32(vpaddq_s32(two, two), 7);
      for (std::size_t i = 0; i < 4; ++i) out.part[i] = vaddq_s32(out.part[i], all);
    }
    return out;
  }
#endif
#endif

  /// Writes a quad of activations, x (4), in the form that `add` reads.
  static void put(const std::int8_t* x, std::byte* out) noexcept { std::memcpy(out, x, quad); }
};

}}}  // namespace mistral::simd

#endif
