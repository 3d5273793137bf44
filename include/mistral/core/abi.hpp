// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The inline namespace that every name of the library lives in. It spells the version and the instructions that this
/// translation unit is compiled for, so that two units built with different flags, or two libraries that embed
/// different versions of us, never share a symbol: to the linker `mistral::Session` of one is another name than
/// `mistral::Session` of the other.
///
/// What a level of x86-64 has together is one word (`v0_1_0_avx2` is x86-64-v3, `v0_1_0_avx512` x86-64-v4), and what a
/// unit has beside is appended: `v0_1_0_avx512_vnni_bf16`. The features are those of simd/cpu.hpp.

#include <mistral/core/supported.hpp>

#define MISTRAL_VERSION_MAJOR 0
#define MISTRAL_VERSION_MINOR 1
#define MISTRAL_VERSION_PATCH 0

#define MISTRAL_JOIN_TOKENS(a, b, c, d, e, f, g, h, i, j) a##b##c##d##e##f##g##h##i##j
#define MISTRAL_JOIN(a, b, c, d, e, f, g, h, i, j) MISTRAL_JOIN_TOKENS(a, b, c, d, e, f, g, h, i, j)

// MISTRAL_IF(macro, word) is the word where the compiler defines that macro, as 1, and nothing where it doesn't: of
// what is joined there, MISTRAL_COMMA_AFTER_1 alone becomes a comma, and makes the word the second argument.
#define MISTRAL_COMMA_AFTER_1 ,
#define MISTRAL_SECOND(first, second, ...) second
#define MISTRAL_SECOND_OF(...) MISTRAL_SECOND(__VA_ARGS__)
#define MISTRAL_IF_JOINED(value, word) MISTRAL_SECOND_OF(MISTRAL_COMMA_AFTER_##value word, , )
#define MISTRAL_IF(macro, word) MISTRAL_IF_JOINED(macro, word)

// the same for all instruction sets: of what is handed from a unit of one to a unit of another (generate/instances.hpp)
#define MISTRAL_VERSION_NAME \
  MISTRAL_JOIN(v, MISTRAL_VERSION_MAJOR, _, MISTRAL_VERSION_MINOR, _, MISTRAL_VERSION_PATCH, , , , )

#define MISTRAL_ABI_AVX512                                                                                      \
  MISTRAL_JOIN(MISTRAL_IF(__AVX512F__, _avx512f), MISTRAL_IF(__AVX512CD__, _cd), MISTRAL_IF(__AVX512BW__, _bw), \
               MISTRAL_IF(__AVX512DQ__, _dq), MISTRAL_IF(__AVX512VL__, _vl), , , , , )

#if defined(__aarch64__)
#define MISTRAL_ABI_LEVEL                                                                                         \
  MISTRAL_JOIN(_neon, MISTRAL_IF(__ARM_FEATURE_ATOMICS, _lse), MISTRAL_IF(__ARM_FEATURE_QRDMX, _rdm),             \
               MISTRAL_IF(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC, _fp16), MISTRAL_IF(__ARM_FEATURE_COMPLEX, _fcma), \
               MISTRAL_IF(__ARM_FEATURE_RCPC, _rcpc), MISTRAL_IF(__ARM_FEATURE_DOTPROD, _dotprod),                \
               MISTRAL_IF(__ARM_FEATURE_SVE, _sve), MISTRAL_IF(__ARM_FEATURE_MATMUL_INT8, _i8mm),                 \
               MISTRAL_IF(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC, _bf16))
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI__) && defined(__BMI2__) && \
    defined(__LZCNT__) && defined(__MOVBE__) && defined(__POPCNT__)
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)
#define MISTRAL_ABI_LEVEL _avx512
#else
#define MISTRAL_ABI_LEVEL MISTRAL_JOIN(_avx2, MISTRAL_ABI_AVX512, , , , , , , , )
#endif
#else
#define MISTRAL_ABI_SSE                                                                                         \
  MISTRAL_JOIN(MISTRAL_IF(__SSE3__, _sse3), MISTRAL_IF(__SSSE3__, _ssse3), MISTRAL_IF(__SSE4_1__, _sse4_1),     \
               MISTRAL_IF(__SSE4_2__, _sse4_2), MISTRAL_IF(__POPCNT__, _popcnt), MISTRAL_IF(__MOVBE__, _movbe), \
               MISTRAL_IF(__LZCNT__, _lzcnt), MISTRAL_IF(__BMI__, _bmi), MISTRAL_IF(__BMI2__, _bmi2), )
#define MISTRAL_ABI_LEVEL                                                                      \
  MISTRAL_JOIN(_base, MISTRAL_ABI_SSE, MISTRAL_IF(__AVX__, _avx), MISTRAL_IF(__F16C__, _f16c), \
               MISTRAL_IF(__FMA__, _fma), MISTRAL_IF(__AVX2__, _avx2), MISTRAL_ABI_AVX512, , , )
#endif

#define MISTRAL_ABI_BEYOND                                                                         \
  MISTRAL_JOIN(MISTRAL_IF(__AVX512VNNI__, _vnni), MISTRAL_IF(__AVX512BF16__, _bf16),               \
               MISTRAL_IF(__AVX512FP16__, _fp16), MISTRAL_IF(__AVX512IFMA__, _ifma),               \
               MISTRAL_IF(__AVX512VBMI__, _vbmi), MISTRAL_IF(__AVX512VBMI2__, _vbmi2),             \
               MISTRAL_IF(__AVX512BITALG__, _bitalg), MISTRAL_IF(__AVX512VPOPCNTDQ__, _vpopcntdq), \
               MISTRAL_IF(__GFNI__, _gfni), MISTRAL_IF(__AVXVNNI__, _avxvnni))

#define MISTRAL_ABI MISTRAL_JOIN(MISTRAL_VERSION_NAME, MISTRAL_ABI_LEVEL, MISTRAL_ABI_BEYOND, , , , , , , )
