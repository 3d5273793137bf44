// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The largest magnitude among some floats, as a float. A NaN counts as larger than an infinity, and an infinity as
/// larger than every number: what the result is, one of them is. 0 for none.
inline float largest_magnitude(std::span<const float> x) noexcept {
  std::uint32_t largest = 0;  // without its sign, a float's bits are in the order of magnitudes
  for (const float value : x) largest = (std::max)(largest, std::bit_cast<std::uint32_t>(value) & 0x7fffffffu);
  return std::bit_cast<float>(largest);
}

/// Whether none of them is NaN or infinite.
inline bool all_finite(std::span<const float> x) noexcept {
  constexpr std::uint32_t infinity = 0x7f800000u;
  return std::bit_cast<std::uint32_t>(largest_magnitude(x)) < infinity;
}

}}  // namespace mistral
