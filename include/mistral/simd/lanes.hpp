// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/instructions.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

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

  /// From 16 consecutive bfloat16, halves or signed bytes at any address.
  ///@{
  static Lanes load(const bf16* p) noexcept { return widened(p); }
  static Lanes load(const f16* p) noexcept { return widened(p); }
  static Lanes load(const std::int8_t* p) noexcept { return widened(p); }
  ///@}

  /// From what an instruction set holds 16 floats in: registers, or plain floats.
  ///@{
  template <class Register>
  static Lanes of(const Register (&x)[registers]) noexcept {
    Lanes out;
    for (std::size_t i = 0; i < registers; ++i) out.part[i] = FloatBatch(x[i]);
    return out;
  }
  static Lanes of(const float (&x)[lanes]) noexcept { return load(x); }
  ///@}

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
  template <class Element>
  static Lanes widened(const Element* p) noexcept {
    Instructions::FloatGroup floats;
    Instructions::widen(p, floats);
    return of(floats);
  }
};

/// a * b + c, with one rounding where the machine has it and with two where it has not.
inline Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = Instructions::fma(a.part[i], b.part[i], c.part[i]);
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
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = FloatBatch(Instructions::divide(a.part[i], b.part[i]));
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
  for (std::size_t i = 0; i < registers; ++i) out.part[i] = FloatBatch(Instructions::square_root(a.part[i]));
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
    out.part[i] = std::bit_cast<FloatBatch>(Instructions::shifted_left(bits, 16));
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
    out.part[i] = xsimd::to_float(Instructions::shifted_right(Instructions::shifted_left(bits, 24 - 8 * Byte), 24));
  }
  return out;
}

}}}  // namespace mistral::simd
