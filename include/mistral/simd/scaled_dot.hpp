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
template <int Zero>
struct ScaledDot {
  /// Inputs of a sum.
  static constexpr std::size_t inputs = 16;

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
  // Sums of two products (at most 2 x 63 x 127) are added in 16 bits. A 16-bit word meets 8 inputs; starting it at
  // -Zero x (their sum) makes it end within 8 x 32 x 127 = 32512, wherever it wraps in between. Then one vpmaddwd
  // multiplies with the scale, which lies in both words of a lane, and adds the two.
  static_assert(Zero == 32);
  using Words = Dot<15>;
  using Step = Quads;
  using Input = Words::Input;
  using Register = typename Words::Register;
  static constexpr std::size_t steps = 1;
  Register sum[Words::parts];

  /// What the sum of these inputs starts at.
  static std::int32_t start(const std::int8_t* x) noexcept {
    std::int32_t even = 0;
    std::int32_t odd = 0;
    for (std::size_t i = 0; i < inputs; i += 4) {
      even += x[i] + x[i + 1];
      odd += x[i + 2] + x[i + 3];
    }
    return static_cast<std::int32_t>((static_cast<std::uint32_t>(-Zero * odd) << 16) |
                                     (static_cast<std::uint32_t>(-Zero * even) & 0xffffu));
  }
  static ScaledDot from(std::int32_t start) noexcept {
    ScaledDot out;
    for (auto& s : out.sum) s = Words::all(start);
    return out;
  }
  static void split(const Quads& w, Step (&out)[1]) noexcept { out[0] = w; }
  static Input input(const std::byte* p) noexcept { return Words::input(p); }
  void add(const Step& w, Input input) noexcept {
    for (std::size_t i = 0; i < Words::parts; ++i) {
      Words::add_words(sum[i], Words::pair_products(w.part[i], Words::broadcast(input)));
    }
  }

  /// Byte k of each lane, signed, as `sums` takes it.
  static Quads scales(const Quads& bytes, std::size_t k) noexcept {
    // to the upper byte of both words, the lower ones being zeros (0x80); the shift gives it its sign
    const auto pick = static_cast<std::int32_t>(0x00800080u | (static_cast<std::uint32_t>(k) * 0x01000100u));
    const __m128i lanes4 = _mm_add_epi32(_mm_set1_epi32(pick), _mm_setr_epi32(0, 0x04000400, 0x08000800, 0x0c000c00));
    Quads out;
#if defined(__AVX512F__)
    out.part[0] = _mm512_srai_epi16(_mm512_shuffle_epi8(bytes.part[0], _mm512_broadcast_i32x4(lanes4)), 8);
#else
    for (std::size_t i = 0; i < 2; ++i) {
      out.part[i] = _mm256_srai_epi16(_mm256_shuffle_epi8(bytes.part[i], _mm256_broadcastsi128_si256(lanes4)), 8);
    }
#endif
    return out;
  }
  Sums sums(const Quads& scales) const noexcept {
    Sums out;
    for (std::size_t i = 0; i < Words::parts; ++i) out.part[i] = Words::word_products(sum[i], scales.part[i]);
    return out;
  }

#else
  using Products = Dot<63>;
  using Step = typename Products::Step;
  using Input = typename Products::Input;
  static constexpr std::size_t steps = Products::steps;
  Products products;
  std::int32_t first;  // what the sum still lacks

  static std::int32_t start(const std::int8_t* x) noexcept {
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < inputs; ++i) sum += x[i];
    return -Zero * sum;
  }
  static ScaledDot from(std::int32_t start) noexcept {
#if defined(__AVX512F__)
    return {Products::from(start), 0};
#else
    return {Products::zero(), start};
#endif
  }
  static void split(const Quads& w, Step (&out)[steps]) noexcept { Products::split(w, out); }
  static Input input(const std::byte* p) noexcept { return Products::input(p); }
  void add(const Step& w, const Input& x) noexcept { products.add(w, x); }

  static Quads scales(const Quads& bytes, std::size_t k) noexcept {
    const auto up = static_cast<std::int32_t>(24 - 8 * k);
#if defined(__AVX512F__)
    return {{_mm512_srai_epi32(_mm512_sllv_epi32(bytes.part[0], _mm512_set1_epi32(up)), 24)}};
#elif defined(__aarch64__)
    Quads out;
    for (std::size_t i = 0; i < 4; ++i) {
      const int32x4_t raised = vshlq_s32(vreinterpretq_s32_u8(bytes.part[i]), vdupq_n_s32(up));
      out.part[i] = vreinterpretq_u8_s32(vshrq_n_s32(raised, 24));
    }
    return out;
#else
    std::int32_t words[lanes];
    bytes.store(reinterpret_cast<std::byte*>(words));
    for (auto& word : words) word = static_cast<std::int32_t>(static_cast<std::uint32_t>(word) << up) >> 24;
    return Quads::load(reinterpret_cast<const std::byte*>(words));
#endif
  }
  Sums sums(const Quads& scales) const noexcept {
    Sums out = products.sums();
#if defined(__AVX512F__)
    out.part[0] = _mm512_mullo_epi32(_mm512_add_epi32(out.part[0], _mm512_set1_epi32(first)), scales.part[0]);
#elif defined(__aarch64__)
    for (std::size_t i = 0; i < 4; ++i) {
      const int32x4_t sum = vaddq_s32(out.part[i], vdupq_n_s32(first));
      out.part[i] = vmulq_s32(sum, vreinterpretq_s32_u8(scales.part[i]));
    }
#else
    std::int32_t factors[lanes];
    scales.store(reinterpret_cast<std::byte*>(factors));
    for (std::size_t i = 0; i < lanes; ++i) out.part[i] = (out.part[i] + first) * factors[i];
#endif
    return out;
  }
#endif

  /// The scales of `scales` as floats.
  static Lanes to_lanes(const Quads& scales) noexcept {
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

  static constexpr std::size_t input_bytes = 4 * steps;
  static void put(const std::int8_t* x, std::byte* out) noexcept { Dot<steps == 1 ? 15 : 63>::put(x, out); }
};

}}}  // namespace mistral::simd
