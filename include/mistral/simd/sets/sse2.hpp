// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <emmintrin.h>

#include <mistral/simd/sets/scalar.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Every x86-64: floats by xsimd, four lanes a register.
struct Sse2 : Scalar {
  using Plainer = Scalar;

  template <class Register>
  static Register rounded(Register x) noexcept {
    __asm__("" : "+x"(x));
    return x;
  }

  static __m128i product_of_halves(__m128i x) noexcept { return _mm_mul_epu32(x, _mm_srli_epi64(x, 32)); }
};

static_assert(InstructionSet<Sse2>);

}}}  // namespace mistral::simd
