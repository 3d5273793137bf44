// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// x, for all that a compiler knows another number: it is rounded to a double before anything is done with it, where
/// `x + rounded(a * b)` could leave out the rounding of the product, and nothing that is made of it is computed while
/// compiling, by another library than the program's own.
inline double rounded(double x) noexcept {
  const volatile double kept = x;
  return kept;
}

}}  // namespace mistral
