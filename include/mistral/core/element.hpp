// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A bfloat16: the upper half of a float, 8 bits of exponent and 7 of fraction.
struct bf16 {
  std::uint16_t bits = 0;  ///< sign, exponent, fraction, from the highest bit
  /// Of bits: a NaN is equal to itself, and 0 isn't equal to -0.
  friend constexpr bool operator==(bf16, bf16) = default;
};

/// An IEEE 754 binary16 ("half"): 5 bits of exponent and 10 of fraction.
struct f16 {
  std::uint16_t bits = 0;  ///< sign, exponent, fraction, from the highest bit
  /// Of bits: a NaN is equal to itself, and 0 isn't equal to -0.
  friend constexpr bool operator==(f16, f16) = default;
};

/// The float that an element stands for, without rounding.
///@{
constexpr float to_float(float x) noexcept { return x; }

constexpr float to_float(bf16 x) noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

constexpr float to_float(f16 x) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const std::uint32_t fraction = x.bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // a subnormal, or zero
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}
///@}

/// Converts a float to the element type T, to nearest, ties to even. A NaN stays a (quiet) NaN; what is too large for
/// T becomes an infinity.
///@{
template <class T>
constexpr T from_float(float x) noexcept;

template <>
constexpr float from_float<float>(float x) noexcept {
  return x;
}

template <>
constexpr bf16 from_float<bf16>(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

template <>
constexpr f16 from_float<f16>(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // 65520 rounds to infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the subnormal, rounded, in the low bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u))};
  }
  const std::uint32_t rebiased = magnitude - (112u << 23);
  return {static_cast<std::uint16_t>(sign | ((rebiased + 0xfffu + ((rebiased >> 13) & 1u)) >> 13))};
}
///@}

}}  // namespace mistral
