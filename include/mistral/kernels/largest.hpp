// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>

#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Where the largest of some numbers stands, the first of its places; of -inf alone, the first. Nothing where there are
/// none, or where one is NaN or +inf.
inline std::optional<std::size_t> largest(std::span<const float> x) noexcept {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr std::size_t part = 32 * simd::lanes;  // what is gone through once more, for the place in it
  const simd::Lanes infinities = simd::Lanes::broadcast(infinity);
  if (x.empty()) return std::nullopt;
  float most = -infinity;
  std::size_t best = 0;  // the part that holds it
  for (std::size_t begin = 0; begin < x.size(); begin += part) {
    const std::size_t end = (std::min)(x.size(), begin + part);
    simd::Lanes tops = simd::Lanes::broadcast(-infinity);
    bool finite = true;
    for (std::size_t i = begin; i < end; i += simd::lanes) {
      const simd::Lanes values = simd::Lanes::load_some(x.data() + i, end - i, -infinity);
      finite &= simd::all_less(values, infinities);
      tops = (simd::max)(tops, values);
    }
    if (!finite) return std::nullopt;
    const float top = (simd::max)(tops);
    if (top > most) {
      most = top;
      best = begin;
    }
  }
  return static_cast<std::size_t>(std::find(x.data() + best, x.data() + x.size(), most) - x.data());
}

}}}  // namespace mistral::kernels
