// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <mistral/core/finite.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Every format holds weights up to here in magnitude: scales are halves, and at most as large as a block's largest
/// weight.
inline constexpr float always_held = 65504.0f;

/// Whether a format holds some weights: each finite one is finite in it, and each that isn't is none.
///   wanted  the weights before they were encoded
///   decode  decode(std::span<float>) gives what the format made of them; called where the answer isn't certain
template <class Decode>
bool holds(std::span<const float> wanted, const Decode& decode) {
  if (largest_magnitude(wanted) <= always_held) return true;
  std::vector<float> found(wanted.size());
  decode(std::span<float>(found));
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isfinite(wanted[i]) != std::isfinite(found[i])) return false;
  }
  return true;
}

}}  // namespace mistral
