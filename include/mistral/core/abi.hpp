// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The inline namespace that every name of the library lives in. It spells the version and the instructions that this
/// translation unit is compiled for, so that two units built with different flags, or two libraries that embed
/// different versions of us, never share a symbol: to the linker `mistral::Session` of one is another name than
/// `mistral::Session` of the other. The name stands in every line of a compiler's error, so it has 24 characters at
/// most: `v0_1_0_glqi_g` is version 0.1.0 for a processor with AVX2 and what usually comes with it, and GFNI.
///
/// The letters, of which those that stand in one row are alternatives, the last one that applies:
///
///   a, b SSE3, c SSSE3, d SSE4.1, e SSE4.2, f AVX, g AVX2, h AVX-512F   each brings those before it; a is plain x86-64
///   m LZCNT, o BMI, p BMI2; l all three
///   r F16C, s FMA; q both
///   j POPCNT, k MOVBE; i both
///   t AVX-512CD
///   v AVX-512BW, w AVX-512DQ, x AVX-512VL; u all three
///   n NEON, then l LSE, r RDM, h FP16, c FCMA, p RCPC, d DOTPROD, s SVE, i I8MM, b BF16   on 64-bit Arm
///
/// and behind a second underscore what goes beyond the levels of x86-64:
///
///   v AVX-512 VNNI
///   b AVX-512 BF16
///   h AVX-512 FP16
///   i AVX-512 IFMA, m AVX-512 VBMI; c both
///   p AVX-512 VBMI2, t AVX-512 BITALG, q AVX-512 VPOPCNTDQ; n all three
///   g GFNI
///   a AVX-VNNI
///
/// The features are those of simd/cpu.hpp.

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

// the same for all instruction sets
#define MISTRAL_VERSION_NAME \
  MISTRAL_JOIN(v, MISTRAL_VERSION_MAJOR, _, MISTRAL_VERSION_MINOR, _, MISTRAL_VERSION_PATCH, , , , )

#if defined(__aarch64__)
#define MISTRAL_ABI_LETTERS                                                                               \
  MISTRAL_JOIN(n, MISTRAL_IF(__ARM_FEATURE_ATOMICS, l), MISTRAL_IF(__ARM_FEATURE_QRDMX, r),               \
               MISTRAL_IF(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC, h), MISTRAL_IF(__ARM_FEATURE_COMPLEX, c), \
               MISTRAL_IF(__ARM_FEATURE_RCPC, p), MISTRAL_IF(__ARM_FEATURE_DOTPROD, d),                   \
               MISTRAL_IF(__ARM_FEATURE_SVE, s), MISTRAL_IF(__ARM_FEATURE_MATMUL_INT8, i),                \
               MISTRAL_IF(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC, b))
#else

#if defined(__AVX512F__)
#define MISTRAL_ABI_VECTORS h
#elif defined(__AVX2__)
#define MISTRAL_ABI_VECTORS g
#elif defined(__AVX__)
#define MISTRAL_ABI_VECTORS f
#elif defined(__SSE4_2__)
#define MISTRAL_ABI_VECTORS e
#elif defined(__SSE4_1__)
#define MISTRAL_ABI_VECTORS d
#elif defined(__SSSE3__)
#define MISTRAL_ABI_VECTORS c
#elif defined(__SSE3__)
#define MISTRAL_ABI_VECTORS b
#else
#define MISTRAL_ABI_VECTORS a
#endif

#if defined(__LZCNT__) && defined(__BMI__) && defined(__BMI2__)
#define MISTRAL_ABI_BITS l
#else
#define MISTRAL_ABI_BITS \
  MISTRAL_JOIN(MISTRAL_IF(__LZCNT__, m), MISTRAL_IF(__BMI__, o), MISTRAL_IF(__BMI2__, p), , , , , , , )
#endif

#if defined(__F16C__) && defined(__FMA__)
#define MISTRAL_ABI_FLOATS q
#else
#define MISTRAL_ABI_FLOATS MISTRAL_JOIN(MISTRAL_IF(__F16C__, r), MISTRAL_IF(__FMA__, s), , , , , , , , )
#endif

#if defined(__POPCNT__) && defined(__MOVBE__)
#define MISTRAL_ABI_WORDS i
#else
#define MISTRAL_ABI_WORDS MISTRAL_JOIN(MISTRAL_IF(__POPCNT__, j), MISTRAL_IF(__MOVBE__, k), , , , , , , , )
#endif

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define MISTRAL_ABI_AVX512 u
#else
#define MISTRAL_ABI_AVX512 \
  MISTRAL_JOIN(MISTRAL_IF(__AVX512BW__, v), MISTRAL_IF(__AVX512DQ__, w), MISTRAL_IF(__AVX512VL__, x), , , , , , , )
#endif

#if defined(__AVX512IFMA__) && defined(__AVX512VBMI__)
#define MISTRAL_ABI_CANNON_LAKE c
#else
#define MISTRAL_ABI_CANNON_LAKE \
  MISTRAL_JOIN(MISTRAL_IF(__AVX512IFMA__, i), MISTRAL_IF(__AVX512VBMI__, m), , , , , , , , )
#endif

#if defined(__AVX512VBMI2__) && defined(__AVX512BITALG__) && defined(__AVX512VPOPCNTDQ__)
#define MISTRAL_ABI_ICE_LAKE n
#else
#define MISTRAL_ABI_ICE_LAKE                                                                                          \
  MISTRAL_JOIN(MISTRAL_IF(__AVX512VBMI2__, p), MISTRAL_IF(__AVX512BITALG__, t), MISTRAL_IF(__AVX512VPOPCNTDQ__, q), , \
               , , , , , )
#endif

#define MISTRAL_ABI_LETTERS                                                                  \
  MISTRAL_JOIN(MISTRAL_ABI_VECTORS, MISTRAL_ABI_BITS, MISTRAL_ABI_FLOATS, MISTRAL_ABI_WORDS, \
               MISTRAL_IF(__AVX512CD__, t), MISTRAL_ABI_AVX512, MISTRAL_ABI_BEYOND, , , )
#define MISTRAL_ABI_BEYOND                                                                                     \
  MISTRAL_JOIN(_, MISTRAL_IF(__AVX512VNNI__, v), MISTRAL_IF(__AVX512BF16__, b), MISTRAL_IF(__AVX512FP16__, h), \
               MISTRAL_ABI_CANNON_LAKE, MISTRAL_ABI_ICE_LAKE, MISTRAL_IF(__GFNI__, g), MISTRAL_IF(__AVXVNNI__, a), , )
#endif

// A build that keeps its units' symbols apart by other means may give the name itself, so that units of different
// instruction sets share their types: run/compiled_model.hpp, run/instances.hpp.
#ifndef MISTRAL_ABI
#define MISTRAL_ABI MISTRAL_JOIN(MISTRAL_VERSION_NAME, _, MISTRAL_ABI_LETTERS, , , , , , , )
#endif
