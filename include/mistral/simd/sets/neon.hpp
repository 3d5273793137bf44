// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include <mistral/simd/sets/scalar.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Every 64-bit Arm: four lanes a register, and 32 registers; bytes by widening multiplications.
struct Neon : Scalar {
  using Plainer = Scalar;
  using Floats = float32x4_t;
  using Ints = int32x4_t;
  using Bytes = uint8x16_t;
  using FloatGroup = Floats[4];
  using IntGroup = Ints[4];
  using ByteGroup = Bytes[4];

  // 6 x 1 accumulators of 4 registers + 4 weights + 1 broadcast = 29 of 32
  static constexpr std::size_t tile_rows = 6;
  // 2 x 1 (18 registers) + 4 weights + 1 broadcast + 2 products = 25 of 32
  static constexpr std::size_t integer_tile_rows = 2;
  static constexpr std::size_t transposed_words = 4;

  static void widen(const bf16* p, FloatGroup& out) noexcept {
    for (std::size_t i = 0; i < 4; ++i) {
      const uint16x4_t four = vld1_u16(reinterpret_cast<const std::uint16_t*>(p) + 4 * i);
      out[i] = vreinterpretq_f32_u32(vshll_n_u16(four, 16));
    }
  }
  static void widen(const f16* p, FloatGroup& out) noexcept {
    for (std::size_t i = 0; i < 4; ++i) {
      const uint16x4_t four = vld1_u16(reinterpret_cast<const std::uint16_t*>(p) + 4 * i);
      out[i] = vcvt_f32_f16(vreinterpret_f16_u16(four));
    }
  }
  static void widen(const std::int8_t* p, FloatGroup& out) noexcept {
    for (std::size_t half = 0; half < 2; ++half) {
      const int16x8_t eight = vmovl_s8(vld1_s8(p + 8 * half));
      out[2 * half] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(eight)));
      out[2 * half + 1] = vcvtq_f32_s32(vmovl_high_s16(eight));
    }
  }

  // xsimd 8 has approximations for these two
  static Floats divide(Floats a, Floats b) noexcept { return vdivq_f32(a, b); }
  static Floats square_root(Floats a) noexcept { return vsqrtq_f32(a); }

  // xsimd 8 tries one number after another, each in a function of its own that takes x by address. Where gcc 12 calls
  // them, in a loop over parts, it may keep the copy of x where the result stands that the loop fills, which is lost
  // (gcc's bug 90348): vectors as the compiler itself has them need no call.
  template <class Batch>
  static Batch shifted_left(const Batch& x, int n) noexcept {
    return Batch(static_cast<typename Batch::register_type>(x) << n);
  }
  template <class Batch>
  static Batch shifted_right(const Batch& x, int n) noexcept {
    return Batch(static_cast<typename Batch::register_type>(x) >> n);
  }

  template <class Register>
  static Register rounded(Register x) noexcept {
    __asm__("" : "+w"(x));
    return x;
  }
  /// For the reason that Avx2 has.
  template <class Register>
  static Register pinned(Register x) noexcept {
    asm("" : "+w"(x));
    return x;
  }

  static float quantize(const float* x, std::int8_t* codes, std::int32_t& sum) noexcept {
    float32x4_t v[8];
    float32x4_t largest = vdupq_n_f32(0.0f);
    float32x4_t probe = vdupq_n_f32(0.0f);  // x - x: 0, or NaN for what isn't finite
    for (int i = 0; i < 8; ++i) {
      v[i] = vld1q_f32(x + 4 * i);
      largest = vmaxq_f32(largest, vabsq_f32(v[i]));
      probe = vaddq_f32(probe, vsubq_f32(v[i], v[i]));
    }
    const bool finite = vaddvq_f32(probe) == 0.0f;
    const float magnitude = finite ? vmaxvq_f32(largest) : 0.0f;
    const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;
    int16x8_t words[4];
    for (int i = 0; i < 4; ++i) {
      const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i], inverse));
      const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i + 1], inverse));
      words[i] = finite ? vcombine_s16(vmovn_s32(low), vmovn_s32(high)) : vdupq_n_s16(0);
    }
    sum = vaddlvq_s16(vaddq_s16(vaddq_s16(words[0], words[1]), vaddq_s16(words[2], words[3])));
    vst1q_s8(codes, vcombine_s8(vmovn_s16(words[0]), vmovn_s16(words[1])));
    vst1q_s8(codes + 16, vcombine_s8(vmovn_s16(words[2]), vmovn_s16(words[3])));
    return finite ? magnitude / 127.0f : std::numeric_limits<float>::quiet_NaN();
  }

  static Ints broadcast(std::int32_t n) noexcept { return vdupq_n_s32(n); }
  static Ints add_ints(Ints a, Ints b) noexcept { return vaddq_s32(a, b); }
  static Floats to_floats(Ints x) noexcept { return vcvtq_f32_s32(x); }

  static void load_bytes(const std::byte* p, ByteGroup& out) noexcept {
    for (std::size_t i = 0; i < 4; ++i) out[i] = load(p + 16 * i);
  }
  static Bytes masked(Bytes x, std::uint8_t mask) noexcept { return vandq_u8(x, vdupq_n_u8(mask)); }
  static Bytes high_nibbles(Bytes x) noexcept { return vshrq_n_u8(x, 4); }
  static Bytes of_upper_bits(Bytes a, Bytes b, Bytes c) noexcept {
    return vsliq_n_u8(vsliq_n_u8(vshrq_n_u8(a, 6), vshrq_n_u8(b, 6), 2), vshrq_n_u8(c, 6), 4);
  }
  static Bytes look_up(const std::uint8_t (&table)[16], Bytes x) noexcept { return vqtbl1q_u8(vld1q_u8(table), x); }

  static void look_up_floats(const std::uint8_t (&table)[4][16], const std::byte* codes, int shift,
                             FloatGroup (&out)[quad]) noexcept {
    for (std::size_t quarter = 0; quarter < 4; ++quarter) {
      const uint8x16_t both = load(codes + 16 * quarter);
      const uint8x16_t nibbles = masked(vshlq_u8(both, vdupq_n_s8(static_cast<std::int8_t>(-shift))), 15);
      const uint8x16_t b[4] = {look_up(table[0], nibbles), look_up(table[1], nibbles), look_up(table[2], nibbles),
                               look_up(table[3], nibbles)};
      for (std::size_t pair = 0; pair < 2; ++pair) {
        const uint16x8_t low = vreinterpretq_u16_u8(pair == 0 ? vzip1q_u8(b[0], b[1]) : vzip2q_u8(b[0], b[1]));
        const uint16x8_t high = vreinterpretq_u16_u8(pair == 0 ? vzip1q_u8(b[2], b[3]) : vzip2q_u8(b[2], b[3]));
        out[2 * pair][quarter] = vreinterpretq_f32_u16(vzip1q_u16(low, high));
        out[2 * pair + 1][quarter] = vreinterpretq_f32_u16(vzip2q_u16(low, high));
      }
    }
  }

  static uint64x2_t product_of_halves(uint64x2_t x) noexcept { return vmull_u32(vmovn_u64(x), vshrn_n_u64(x, 32)); }

  /// Four rows at a time.
  template <class Row>
  static void transpose(const Row& row, std::size_t w, std::byte* panel) noexcept {
    for (std::size_t quarter = 0; quarter < lanes; quarter += 4) {
      uint32x4_t r[4];
      for (std::size_t i = 0; i < 4; ++i) r[i] = vreinterpretq_u32_u8(load(row(quarter + i, w)));
      const uint64x2_t a = vreinterpretq_u64_u32(vtrn1q_u32(r[0], r[1]));
      const uint64x2_t b = vreinterpretq_u64_u32(vtrn2q_u32(r[0], r[1]));
      const uint64x2_t c = vreinterpretq_u64_u32(vtrn1q_u32(r[2], r[3]));
      const uint64x2_t d = vreinterpretq_u64_u32(vtrn2q_u32(r[2], r[3]));
      const auto store = [&](std::size_t step, uint64x2_t x) {
        auto* const out = reinterpret_cast<std::uint8_t*>(panel + (w + step) * word_bytes) + quarter * 4;
        vst1q_u8(out, vreinterpretq_u8_u64(x));
      };
      store(0, vtrn1q_u64(a, c));
      store(1, vtrn1q_u64(b, d));
      store(2, vtrn2q_u64(a, c));
      store(3, vtrn2q_u64(b, d));
    }
  }

  /// Sixteen bytes at any address.
  static Bytes load(const std::byte* p) noexcept { return vld1q_u8(reinterpret_cast<const std::uint8_t*>(p)); }

  /// A quad of activations in every lane.
  static int8x16_t broadcast_quad(const std::byte* input) noexcept {
    std::int32_t x;
    std::memcpy(&x, input, sizeof x);
    return vreinterpretq_s8_s32(vdupq_n_s32(x));
  }

  /// The form of weights for instructions that take signed ones: codes above 127 are lowered by 128, and 128 times the
  /// sum of the inputs, which all lanes share, is added at the end.
  template <bool Lowered, class Quads>
  static void split_signed(const Quads& w, Quads (&out)[1]) noexcept {
    for (std::size_t i = 0; i < 4; ++i) out[0].part[i] = Lowered ? veorq_u8(w.part[i], vdupq_n_u8(128)) : w.part[i];
  }

  /// A register holds two lanes: their products, of which a block's eight fit in 16 bits where codes have four bits
  /// (8 x 15 x 127 = 15240), or else the sums of two neighbouring products in 32 (one product is at most 128 x 127).
  template <class Set, unsigned MaxCode>
  struct Dot {
    static constexpr std::size_t steps = 1;
    static constexpr std::size_t input_bytes = quad;
    static constexpr bool lowered = MaxCode > 127;
    static constexpr bool narrow = MaxCode <= 15;
    using Step = BasicQuads<Set>;
    using Input = const std::byte*;
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
    static void split(const BasicQuads<Set>& w, Step (&out)[1]) noexcept { split_signed<lowered>(w, out); }
    static Input input(const std::byte* p) noexcept { return p; }
    static void put(const std::int8_t* x, std::byte* out) noexcept { std::memcpy(out, x, quad); }
    void add(const Step& w, Input input) noexcept {
      const int8x16_t x = broadcast_quad(input);
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
    BasicSums<Set> sums() const noexcept {
      BasicSums<Set> out;
      const auto pair_sums = [this](std::size_t i) { return narrow ? vpaddlq_s16(products[i]) : pairs[i]; };
      for (std::size_t i = 0; i < 4; ++i) out.part[i] = vpaddq_s32(pair_sums(2 * i), pair_sums(2 * i + 1));
      if constexpr (lowered) {
        const int32x4_t two = vpaddlq_s16(inputs);
        const int32x4_t all = vshlq_n_s32(vpaddq_s32(two, two), 7);
        for (std::size_t i = 0; i < 4; ++i) out.part[i] = vaddq_s32(out.part[i], all);
      }
      return out;
    }
  };

  static void signed_bytes(const ByteGroup& bytes, int shift, ByteGroup& out) noexcept {
    for (std::size_t i = 0; i < 4; ++i) {
      const int32x4_t raised = vshlq_s32(vreinterpretq_s32_u8(bytes[i]), vdupq_n_s32(shift));
      out[i] = vreinterpretq_u8_s32(vshrq_n_s32(raised, 24));
    }
  }
  static void scale(IntGroup& sums, std::int32_t first, const ByteGroup& factors) noexcept {
    for (std::size_t i = 0; i < 4; ++i) {
      sums[i] = vmulq_s32(vaddq_s32(sums[i], vdupq_n_s32(first)), vreinterpretq_s32_u8(factors[i]));
    }
  }
};

static_assert(WholeInstructionSet<Neon>);

}}}  // namespace mistral::simd
