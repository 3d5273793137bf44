#pragma once

/// \file
/// The inline namespace that every name of the library lives in. It spells the version and the instruction set that
/// this translation unit is compiled for, so that two units built with different flags, or two libraries that embed
/// different versions of us, never share a symbol: to the linker `mistral::Session` of one is another name than
/// `mistral::Session` of the other.

#define MISTRAL_VERSION_MAJOR 0
#define MISTRAL_VERSION_MINOR 1
#define MISTRAL_VERSION_PATCH 0

// the same for all instruction sets: of what is handed from a unit of one to a unit of another (generate/instances.hpp)
#define MISTRAL_VERSION_NAME v0_1

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#if defined(__AVX512BF16__)
#define MISTRAL_ABI v0_1_avx512bf16
#elif defined(__AVX512VNNI__)
#define MISTRAL_ABI v0_1_avx512vnni
#else
#define MISTRAL_ABI v0_1_avx512
#endif
#elif defined(__AVX2__) && defined(__FMA__)
#define MISTRAL_ABI v0_1_avx2
#elif defined(__aarch64__) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define MISTRAL_ABI v0_1_neon_i8mm_bf16
#elif defined(__ARM_FEATURE_DOTPROD)
#define MISTRAL_ABI v0_1_neon_dotprod_bf16
#else
#define MISTRAL_ABI v0_1_neon_bf16
#endif
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8)
#define MISTRAL_ABI v0_1_neon_i8mm
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define MISTRAL_ABI v0_1_neon_dotprod
#elif defined(__aarch64__)
#define MISTRAL_ABI v0_1_neon
#else
#define MISTRAL_ABI v0_1_base
#endif
