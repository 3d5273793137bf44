// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <xsimd/xsimd.hpp>

#include <mistral/core/element.hpp>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Lanes of a panel: the number of output rows of a weight matrix that are computed side by side on every machine.
inline constexpr std::size_t lanes = 16;

using FloatBatch = xsimd::batch<float>;
using BitsBatch = xsimd::batch<std::uint32_t>;

/// Registers that hold 16 floats: 1 with AVX-512, 2 with AVX, 4 with SSE or NEON.
inline constexpr std::size_t registers = lanes / FloatBatch::size;
static_assert(lanes % FloatBatch::size == 0 && FloatBatch::size <= lanes);

/// Sixteen floats, one a lane. Kernels are written in these, so that each lane meets the same operations in the same
/// order whatever the machine's register width.
struct Lanes {
  FloatBatch part[registers];

  static Lanes broadcast(float x) noexcept {
    Lanes out;
    for (std::size_t i = 0; i < registers; ++i) out.part[i] = FloatBatch(x);
    return out;
  }

  /// From 16 consecutive floats at any address.
  static Lanes load(const float* p) noexcept {
    Lanes out;
    for (std::size_t i = 0; i < registers; ++i) out.part[i] = FloatBatch::load_unaligned(p + i * FloatBatch::size);
    return out;
  }

  /// From the `count` <= 16 floats at p; the other lanes are `fill`.
  static Lanes load_some(const float* p, std::size_t count, float fill = 0.0f) noexcept {
    if (count >= lanes) return load(p);
    float all[lanes];
    for (std::size_t i = 0; i < lanes; ++i) all[i] = fill;
    std::memcpy(all, p, count * sizeof(float));
    return load(all);
  }

  /// From 16 consecutive bfloat16 at any address.
  static Lanes load(const bf16* p) noexcept {
#if defined(__AVX512F__)
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {{_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))}};
#elif defined(__AVX2__)
    const auto eight = [p](std::size_t i) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i));
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    };
    return {{eight(0), eight(8)}};
#elif defined(__aarch64__)
    Lanes out;
    for (std::size_t i = 0; i < registers; ++i) {
      const uint16x4_t four = vld1_u16(reinterpret_cast<const std::uint16_t*>(p) + 4 * i);
      out.part[i] = FloatBatch(vreinterpretq_f32_u32(vshll_n_u16(four, 16)));
    }
    return out;
#else
    return load_each(p, [](bf16 x) { return to_float(x); });
#endif
  }

  /// From 16 consecutive halves at any address.
  static Lanes load(const f16* p) noexcept {
#if defined(__AVX512F__)
    return {{_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}};
#elif defined(__AVX2__) && defined(__F16C__)
    const auto eight = [p](std::size_t i) {
      return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i)));
    };
    return {{eight(0), eight(8)}};
#elif defined(__aarch64__)
    Lanes out;
    for (std::size_t i = 0; i < registers; ++i) {
      const uint16x4_t four = vld1_u16(reinterpret_cast<const std::uint16_t*>(p) + 4 * i);
      out.part[i] = FloatBatch(vcvt_f32_f16(vreinterpret_f16_u16(four)));
    }
    return out;
#else
    return load_each(p, [](f16 x) { return to_float(x); });
#endif
  }

  /// From 16 consecutive signed bytes at any address.
  static Lanes load(const std::int8_t* p) noexcept {
#if defined(__AVX512F__)
    return {{_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))}};
#elif defined(__AVX2__)
    const auto eight = [p](std::size_t i) {
      return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + i))));
    };
    return {{eight(0), eight(8)}};
#elif defined(__aarch64__)
    Lanes out;
    for (std::size_t half = 0; half < 2; ++half) {
      const int16x8_t eight = vmovl_s8(vld1_s8(p + 8 * half));
      out.part[2 * half] = FloatBatch(vcvtq_f32_s32(vmovl_s16(vget_low_s16(eight))));
      out.part[2 * half + 1] = FloatBatch(vcvtq_f32_s32(vmovl_high_s16(eight)));
    }
    return out;
#else
    return load_each(p, [](std::int8_t x) { return static_cast<float>(x); });
#endif
  }

  void store(float* p) const noexcept {
    for (std::size_t i = 0; i < registers; ++i) part[i].store_unaligned(p + i * FloatBatch::size);
  }

  /// Stores the first `count` <= 16 lanes.
  void store_some(float* p, std::size_t count) const noexcept {
    if (count >= lanes) return store(p);
    float all[lanes];
    store(all);
    std::memcpy(p, all, count * sizeof(float));
  }

 private:
  template <class T, class ToFloat>
  static Lanes load_each(const T* p, const ToFloat& to_float) noexcept {
    float wide[lanes];
    for (std::size_t i = 0; i < lanes; ++i) wide[i] = to_float(p[i]);
    return load(wide);
  }
};

/// a * b + c, with one rounding where the machine has it and with two where it has not.
inline Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) noexcept {
  Lanes out;
#if defined(__AVX512F__) && !defined(MISTRAL_EMULATED)
  // xsimd 8 multiplies and adds here. gcc makes one instruction of the two from -O2 on, clang never: bits would depend
  // on how a unit was compiled, and units that share a kernel may be compiled in two ways.
  out.part[0] = _mm512_fmadd_ps(a.part[0], b.part[0], c.part[0]);
#else
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = xsimd::fma(a.part[i], b.part[i], c.part[i]);
#endif
  return out;
}

inline Lanes operator+(const Lanes& a, const Lanes& b) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = a.part[i] + b.part[i];
  return out;
}

inline Lanes operator-(const Lanes& a, const Lanes& b) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = a.part[i] - b.part[i];
  return out;
}

inline Lanes operator*(const Lanes& a, const Lanes& b) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = a.part[i] * b.part[i];
  return out;
}

inline Lanes operator/(const Lanes& a, const Lanes& b) noexcept {
  Lanes out;
#if defined(__aarch64__)  // xsimd 8 has an approximation for it
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = FloatBatch(vdivq_f32(a.part[i], b.part[i]));
#else
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = a.part[i] / b.part[i];
#endif
  return out;
}

/// The larger of each pair; b's where one of them is a NaN (on x86).
inline Lanes(max)(const Lanes& a, const Lanes& b) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = (xsimd::max)(a.part[i], b.part[i]);
  return out;
}

/// Whether a lane of a is greater than b's.
inline bool any_greater(const Lanes& a, const Lanes& b) noexcept {
  auto greater = a.part[0] > b.part[0];
  for (std::size_t i = 1; i < registers; ++i) greater = greater | (a.part[i] > b.part[i]);
  return xsimd::any(greater);
}

/// Whether each lane of a is less than b's: not where one of them is a NaN.
inline bool all_less(const Lanes& a, const Lanes& b) noexcept {
  auto less = a.part[0] < b.part[0];
  for (std::size_t i = 1; i < registers; ++i) less = less & (a.part[i] < b.part[i]);
  return xsimd::all(less);
}

inline Lanes sqrt(const Lanes& a) noexcept {
  Lanes out;
#if defined(__aarch64__)  // xsimd 8 has an approximation for it
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = FloatBatch(vsqrtq_f32(a.part[i]));
#else
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = xsimd::sqrt(a.part[i]);
#endif
  return out;
}

inline Lanes exp(const Lanes& a) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = xsimd::exp(a.part[i]);
  return out;
}

/// The sum of the 16 lanes, halves added to halves: one order on every machine.
inline float sum(const Lanes& a) noexcept {
  float x[lanes];
  a.store(x);
  for (std::size_t half = lanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) x[i] += x[i + half];
  }
  return x[0];
}

/// The largest of the 16 lanes.
inline float(max)(const Lanes& a) noexcept {
  float x[lanes];
  a.store(x);
  for (std::size_t half = lanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) x[i] = x[i] < x[i + half] ? x[i + half] : x[i];
  }
  return x[0];
}

/// Integers shifted by n bits, to the right with their sign if they have one: 0 <= n < 32.
///@{
template <class Batch>
inline Batch shifted_left(const Batch& x, int n) noexcept {
#if defined(__aarch64__)
  // xsimd 8 tries one number after another, each in a function of its own that takes x by address. Where gcc 12 calls
  // them, in a loop over parts, it may keep the copy of x where the result stands that the loop fills, which is lost
  // (gcc's bug 90348): vectors as the compiler itself has them need no call.
  return Batch(static_cast<typename Batch::register_type>(x) << n);
#else
  return x << n;
#endif
}
template <class Batch>
inline Batch shifted_right(const Batch& x, int n) noexcept {
#if defined(__aarch64__)
  return Batch(static_cast<typename Batch::register_type>(x) >> n);
#else
  return x >> n;
#endif
}
///@}

/// The floats whose upper halves are the odd bfloat16 of 16 neighbouring pairs, and those of the even ones: a pair is
/// a 32-bit lane, the layout that the bfloat16 dot-product instructions take.
inline Lanes odd_of_pairs(const std::byte* pairs) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) {
    const auto bits = BitsBatch::load_unaligned(reinterpret_cast<const std::uint32_t*>(pairs) + i * BitsBatch::size);
    out.part[i] = std::bit_cast<FloatBatch>(bits & BitsBatch(0xffff0000u));
  }
  return out;
}

inline Lanes even_of_pairs(const std::byte* pairs) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) {
    const auto bits = BitsBatch::load_unaligned(reinterpret_cast<const std::uint32_t*>(pairs) + i * BitsBatch::size);
    out.part[i] = std::bit_cast<FloatBatch>(shifted_left(bits, 16));
  }
  return out;
}

/// Byte `Byte` (0: the lowest) of each of 16 words, as a signed number.
template <int Byte>
inline Lanes byte_of_words(const std::byte* words) noexcept {
  using Batch = xsimd::batch<std::int32_t>;
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) {
    const auto bits = Batch::load_unaligned(reinterpret_cast<const std::int32_t*>(words) + i * Batch::size);
    out.part[i] = xsimd::to_float(shifted_right(shifted_left(bits, 24 - 8 * Byte), 24));
  }
  return out;
}

}}}  // namespace mistral::simd
