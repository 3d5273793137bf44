// SPDX-License-Identifier: Apache-2.0
#pragma once

// Stands in for the compiler's <immintrin.h> where AVX-512 is tested on a processor that has none. The build says
// -mavx2 and defines __AVX512F__ and its sisters itself, so that the library and xsimd take their AVX-512 paths; here
// each AVX-512 intrinsic becomes SIMDe's portable version of it, and what SIMDe lacks, or rounds otherwise, is written
// from the pseudocode of Intel's Intrinsics Guide. Anything that is missing doesn't compile.

#pragma push_macro("__AVX512F__")
#pragma push_macro("__AVX512BW__")
#pragma push_macro("__AVX512CD__")
#pragma push_macro("__AVX512DQ__")
#pragma push_macro("__AVX512VL__")
#pragma push_macro("__AVX512VNNI__")
#pragma push_macro("__AVX512BF16__")
#undef __AVX512F__
#undef __AVX512BW__
#undef __AVX512CD__
#undef __AVX512DQ__
#undef __AVX512VL__
#undef __AVX512VNNI__
#undef __AVX512BF16__

#define SIMDE_ENABLE_NATIVE_ALIASES
#include_next <immintrin.h>

#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#pragma pop_macro("__AVX512F__")
#pragma pop_macro("__AVX512BW__")
#pragma pop_macro("__AVX512CD__")
#pragma pop_macro("__AVX512DQ__")
#pragma pop_macro("__AVX512VL__")
#pragma pop_macro("__AVX512VNNI__")
#pragma pop_macro("__AVX512BF16__")

namespace mistral_test_avx512 {

inline __m512 cvtepi32_ps(__m512i a) {
  const simde__m512i_private in = simde__m512i_to_private(a);
  simde__m512_private out;
  for (int i = 0; i < 2; ++i) out.m256[i] = _mm256_cvtepi32_ps(in.m256i[i]);
  return simde__m512_from_private(out);
}

inline __m512i cvttps_epi32(__m512 a) {
  const simde__m512_private in = simde__m512_to_private(a);
  simde__m512i_private out;
  for (int i = 0; i < 2; ++i) out.m256i[i] = _mm256_cvttps_epi32(in.m256[i]);
  return simde__m512i_from_private(out);
}

inline __m512 cvtph_ps(__m256i a) {
  simde__m512_private out;
  out.m256[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(a));
  out.m256[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1));
  return simde__m512_from_private(out);
}

inline __m512i cvtepi8_epi32(__m128i a) {
  simde__m512i_private out;
  out.m256i[0] = _mm256_cvtepi8_epi32(a);
  out.m256i[1] = _mm256_cvtepi8_epi32(_mm_srli_si128(a, 8));
  return simde__m512i_from_private(out);
}

inline __m512i cvtepu16_epi32(__m256i a) {
  simde__m512i_private out;
  out.m256i[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(a));
  out.m256i[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1));
  return simde__m512i_from_private(out);
}

inline __m512i srai_epi32(__m512i a, unsigned count) {
  simde__m512i_private out = simde__m512i_to_private(a);
  for (int i = 0; i < 2; ++i) out.m256i[i] = _mm256_srai_epi32(out.m256i[i], static_cast<int>(count));
  return simde__m512i_from_private(out);
}

/// Subnormal numbers become zeros of their sign.
inline __m256 flush(__m256 x) {
  const __m256i exponent = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7f800000));
  const __m256 small = _mm256_castsi256_ps(_mm256_cmpeq_epi32(exponent, _mm256_setzero_si256()));
  return _mm256_blendv_ps(x, _mm256_and_ps(x, _mm256_set1_ps(-0.0f)), small);
}

/// VDPBF16PS: the odd elements' products, then the even ones', each added with one rounding to nearest; subnormal
/// inputs and sums are flushed. (SIMDe rounds the products apart, takes the even ones first, and flushes nothing.)
inline __m512 dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
  simde__m512_private out = simde__m512_to_private(sum);
  __m256i w[2], x[2];
  __builtin_memcpy(w, &a, sizeof w);
  __builtin_memcpy(x, &b, sizeof x);
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  const auto odd = [&](__m256i pairs) { return flush(_mm256_castsi256_ps(_mm256_and_si256(pairs, upper))); };
  const auto even = [](__m256i pairs) { return flush(_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16))); };
  for (int i = 0; i < 2; ++i) {
    out.m256[i] = flush(_mm256_fmadd_ps(odd(w[i]), odd(x[i]), flush(out.m256[i])));
    out.m256[i] = flush(_mm256_fmadd_ps(even(w[i]), even(x[i]), out.m256[i]));
  }
  return simde__m512_from_private(out);
}

}  // namespace mistral_test_avx512

#undef _mm512_cvtepi32_ps
#undef _mm512_cvttps_epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepu16_epi32
#undef _mm512_srai_epi32
#undef _mm512_dpbf16_ps
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)  // SIMDe's macro of this name takes a mask
#define _mm512_cvtepi32_ps(a) mistral_test_avx512::cvtepi32_ps(a)
#define _mm512_cvttps_epi32(a) mistral_test_avx512::cvttps_epi32(a)
#define _mm512_cvtph_ps(a) mistral_test_avx512::cvtph_ps(a)
#define _mm512_cvtepi8_epi32(a) mistral_test_avx512::cvtepi8_epi32(a)
#define _mm512_cvtepu16_epi32(a) mistral_test_avx512::cvtepu16_epi32(a)
#define _mm512_srai_epi32(a, count) mistral_test_avx512::srai_epi32(a, count)
#define _mm512_dpbf16_ps(sum, a, b) mistral_test_avx512::dpbf16_ps(sum, a, b)
