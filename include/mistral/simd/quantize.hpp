// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <mistral/simd/instructions.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Quantises 32 activations: codes[i] = round(x[i] / scale) with scale = max|x| / 127, so that an activation is off by
/// at most half of the scale. Returns the scale: NaN, with codes of 0, where an activation isn't finite, so that the
/// outputs are NaN too.
inline float quantize(const float* x, std::int8_t* codes, std::int32_t& sum) noexcept {
  return Instructions::quantize(x, codes, sum);
}

}}}  // namespace mistral::simd
