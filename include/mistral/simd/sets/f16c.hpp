// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>

#include <mistral/simd/sets/instruction_set.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// AVX2 with F16C: halves are widened by an instruction.
template <class Set>
struct F16c : Set {
  using Plainer = Set;
  using Set::widen;

  static void widen(const f16* p, typename Set::FloatGroup& out) noexcept {
    for (std::size_t i = 0; i < 2; ++i) {
      out[i] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8 * i)));
    }
  }
};

}}}  // namespace mistral::simd
