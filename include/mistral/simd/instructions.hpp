// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

/// \file
/// The choice of the instruction set that a unit is compiled for. Nothing else in simd/ asks for it, but for the
/// detection of processors (simd/cpu.hpp).

#if defined(__aarch64__)
#if defined(__ARM_FEATURE_MATMUL_INT8)
#include <mistral/simd/sets/neon_i8mm.hpp>
#define MISTRAL_SET NeonI8mm
#elif defined(__ARM_FEATURE_DOTPROD)
#include <mistral/simd/sets/neon_dot.hpp>
#define MISTRAL_SET NeonDot
#else
#include <mistral/simd/sets/neon.hpp>
#define MISTRAL_SET Neon
#endif
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include <mistral/simd/sets/neon_bf16.hpp>
#define MISTRAL_SET_AND_MORE NeonBf16<MISTRAL_SET>
#endif

#elif defined(__AVX512F__)
#if defined(__AVX512VNNI__)
#include <mistral/simd/sets/avx512_vnni.hpp>
#define MISTRAL_SET Avx512Vnni
#else
#include <mistral/simd/sets/avx512.hpp>
#define MISTRAL_SET Avx512
#endif
#if defined(MISTRAL_EMULATED) && defined(__AVX512BF16__)
#include <mistral/simd/sets/avx512_bf16.hpp>
#include <mistral/simd/sets/emulated.hpp>
#define MISTRAL_SET_AND_MORE Emulated<Avx512Bf16<MISTRAL_SET>>
#elif defined(MISTRAL_EMULATED)
#include <mistral/simd/sets/emulated.hpp>
#define MISTRAL_SET_AND_MORE Emulated<MISTRAL_SET>
#elif defined(__AVX512BF16__)
#include <mistral/simd/sets/avx512_bf16.hpp>
#define MISTRAL_SET_AND_MORE Avx512Bf16<MISTRAL_SET>
#endif

#elif defined(__AVX2__)
#include <mistral/simd/sets/avx2.hpp>
#define MISTRAL_SET Avx2
#if defined(__F16C__)
#include <mistral/simd/sets/f16c.hpp>
#define MISTRAL_SET_AND_MORE F16c<MISTRAL_SET>
#endif

#elif defined(__AVX__)
#include <mistral/simd/sets/avx.hpp>
#define MISTRAL_SET Avx
#elif defined(__SSE2__)
#include <mistral/simd/sets/sse2.hpp>
#define MISTRAL_SET Sse2
#else
#include <mistral/simd/sets/scalar.hpp>
#define MISTRAL_SET Scalar
#endif

#if !defined(MISTRAL_SET_AND_MORE)
#define MISTRAL_SET_AND_MORE MISTRAL_SET
#endif

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// The instruction set that this unit is compiled for.
using Instructions = MISTRAL_SET_AND_MORE;

static_assert(WholeInstructionSet<Instructions>,
              "an instruction set has every operation of simd/sets/instruction_set.hpp");

}}}  // namespace mistral::simd

#undef MISTRAL_SET
#undef MISTRAL_SET_AND_MORE
