// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <mistral/simd/sets/avx2.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// AVX-512 whose registers are objects in memory and whose intrinsics are functions of the tests, for a processor that
/// has AVX2: what is written in assembly, or for a compiler's sake, is plain C++.
template <class Set>
struct Emulated : Set {
  using Plainer = Avx2;  // which the processor has itself
  using typename Set::Bytes;
  using typename Set::Ints;

  template <class Batch>
  static Batch fma(const Batch& a, const Batch& b, const Batch& c) noexcept {
    return Scalar::fma(a, b, c);
  }
  template <class Register>
  static Register rounded(Register x) noexcept {
    return Scalar::rounded(x);
  }
  template <class Register>
  static Register pinned(Register x) noexcept {
    return x;
  }
  static void add_words(Ints& sum, Ints x) noexcept { sum = _mm512_add_epi16(sum, x); }
  static void add_sums(Ints& sum, Ints x) noexcept { sum = _mm512_add_epi32(sum, x); }
  static void add_products_of_bytes(Ints& sum, Bytes w, Bytes x) noexcept { sum = _mm512_dpbusd_epi32(sum, w, x); }
};

}}}  // namespace mistral::simd
