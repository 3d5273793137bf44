// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Instructions that a processor has or lacks, a bit each: those that compilers use unasked where -march allows them,
/// and those that kernels here are written for.
enum class CpuFeature : std::uint32_t {
  sse3,
  ssse3,
  sse4_1,
  sse4_2,
  popcnt,
  movbe,
  avx,
  f16c,
  fma,
  bmi,
  bmi2,
  lzcnt,
  avx2,
  avx512f,
  avx512cd,
  avx512bw,
  avx512dq,
  avx512vl,
  avx512ifma,
  avx512vbmi,
  avx512vbmi2,
  avx512vnni,
  avx512bitalg,
  avx512vpopcntdq,
  avx512bf16,
  avx512fp16,
  avxvnni,
  gfni,
  lse,  // from here on Arm's
  dotprod,
  i8mm,
  bf16,
  sve,
  rdm,
  fp16,
  fcma,
  rcpc,
};

/// A set of CpuFeature: bit i is feature i.
using CpuFeatures = std::uint64_t;

constexpr CpuFeatures features_of() noexcept { return 0; }
template <class... Rest>
constexpr CpuFeatures features_of(CpuFeature first, Rest... rest) noexcept {
  return CpuFeatures{1} << static_cast<std::uint32_t>(first) | features_of(rest...);
}

/// What this translation unit is compiled for: it runs where cpu_features() has all of these.
constexpr CpuFeatures compiled_features() noexcept {
  using enum CpuFeature;
  CpuFeatures set = 0;
#ifdef __SSE3__
  set |= features_of(sse3);
#endif
#ifdef __SSSE3__
  set |= features_of(ssse3);
#endif
#ifdef __SSE4_1__
  set |= features_of(sse4_1);
#endif
#ifdef __SSE4_2__
  set |= features_of(sse4_2);
#endif
#ifdef __POPCNT__
  set |= features_of(popcnt);
#endif
#ifdef __MOVBE__
  set |= features_of(movbe);
#endif
#ifdef __AVX__
  set |= features_of(avx);
#endif
#ifdef __F16C__
  set |= features_of(f16c);
#endif
#ifdef __FMA__
  set |= features_of(fma);
#endif
#ifdef __BMI__
  set |= features_of(bmi);
#endif
#ifdef __BMI2__
  set |= features_of(bmi2);
#endif
#ifdef __LZCNT__
  set |= features_of(lzcnt);
#endif
#ifdef __AVX2__
  set |= features_of(avx2);
#endif
#ifdef __AVX512F__
  set |= features_of(avx512f);
#endif
#ifdef __AVX512CD__
  set |= features_of(avx512cd);
#endif
#ifdef __AVX512BW__
  set |= features_of(avx512bw);
#endif
#ifdef __AVX512DQ__
  set |= features_of(avx512dq);
#endif
#ifdef __AVX512VL__
  set |= features_of(avx512vl);
#endif
#ifdef __AVX512IFMA__
  set |= features_of(avx512ifma);
#endif
#ifdef __AVX512VBMI__
  set |= features_of(avx512vbmi);
#endif
#ifdef __AVX512VBMI2__
  set |= features_of(avx512vbmi2);
#endif
#ifdef __AVX512VNNI__
  set |= features_of(avx512vnni);
#endif
#ifdef __AVX512BITALG__
  set |= features_of(avx512bitalg);
#endif
#ifdef __AVX512VPOPCNTDQ__
  set |= features_of(avx512vpopcntdq);
#endif
#ifdef __AVX512BF16__
  set |= features_of(avx512bf16);
#endif
#ifdef __AVX512FP16__
  set |= features_of(avx512fp16);
#endif
#ifdef __AVXVNNI__
  set |= features_of(avxvnni);
#endif
#ifdef __GFNI__
  set |= features_of(gfni);
#endif
#ifdef __ARM_FEATURE_ATOMICS
  set |= features_of(lse);
#endif
#if defined(__ARM_FEATURE_DOTPROD) || defined(__ARM_FEATURE_MATMUL_INT8)  // clang 14 doesn't name it where i8mm is
  set |= features_of(dotprod);
#endif
#ifdef __ARM_FEATURE_MATMUL_INT8
  set |= features_of(i8mm);
#endif
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
  set |= features_of(bf16);
#endif
#ifdef __ARM_FEATURE_SVE
  set |= features_of(sve);
#endif
#ifdef __ARM_FEATURE_QRDMX
  set |= features_of(rdm);
#endif
#ifdef __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
  set |= features_of(fp16);
#endif
#ifdef __ARM_FEATURE_COMPLEX
  set |= features_of(fcma);
#endif
#if defined(__ARM_FEATURE_RCPC) || defined(__ARM_FEATURE_COMPLEX)  // both of Armv8.3; older compilers name one
  set |= features_of(rcpc);
#endif
  return set;
}

/// What this processor has, and its operating system lets programs use. On processors other than x86-64 and Arm's under
/// Linux: what the unit is compiled for.
inline CpuFeatures cpu_features() noexcept {
#if defined(__x86_64__)
  using enum CpuFeature;
  CpuFeatures set = 0;
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  const auto take = [&](std::uint32_t word, int bit, CpuFeature feature) {
    if ((word >> bit & 1u) != 0) set |= features_of(feature);
  };
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return set;
  take(c, 0, sse3);
  take(c, 9, ssse3);
  take(c, 19, sse4_1);
  take(c, 20, sse4_2);
  take(c, 22, movbe);
  take(c, 23, popcnt);
  std::uint32_t saved = 0;  // the registers that the system keeps for a program: 2 and 4 AVX's, 32, 64, 128 AVX-512's
  if ((c >> 27 & 1u) != 0) {
    std::uint32_t upper;
    __asm__("xgetbv" : "=a"(saved), "=d"(upper) : "c"(0));
  }
  const bool avx_kept = (saved & 0x6u) == 0x6u;
  const bool avx512_kept = (saved & 0xe6u) == 0xe6u;
  if (avx_kept) {
    take(c, 28, avx);
    take(c, 12, fma);
    take(c, 29, f16c);
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
    const std::uint32_t further = a;  // leaves of 7
    take(b, 3, bmi);
    take(b, 8, bmi2);
    take(c, 8, gfni);
    if (avx_kept) take(b, 5, avx2);
    if (avx512_kept) {
      take(b, 16, avx512f);
      take(b, 17, avx512dq);
      take(b, 21, avx512ifma);
      take(b, 28, avx512cd);
      take(b, 30, avx512bw);
      take(b, 31, avx512vl);
      take(c, 1, avx512vbmi);
      take(c, 6, avx512vbmi2);
      take(c, 11, avx512vnni);
      take(c, 12, avx512bitalg);
      take(c, 14, avx512vpopcntdq);
      take(d, 23, avx512fp16);
    }
    if (further >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) {
      if (avx_kept) take(a, 4, avxvnni);
      if (avx512_kept) take(a, 5, avx512bf16);
    }
  }
  if (__get_cpuid(0x80000001u, &a, &b, &c, &d) != 0) take(c, 5, lzcnt);
  return set;
#elif defined(__aarch64__) && defined(__linux__)
  using enum CpuFeature;
  CpuFeatures set = 0;
  const unsigned long first = getauxval(AT_HWCAP);
  const unsigned long second = getauxval(AT_HWCAP2);
  if ((first >> 8 & 1u) != 0) set |= features_of(lse);       // HWCAP_ATOMICS
  if ((first >> 10 & 1u) != 0) set |= features_of(fp16);     // HWCAP_ASIMDHP
  if ((first >> 12 & 1u) != 0) set |= features_of(rdm);      // HWCAP_ASIMDRDM
  if ((first >> 14 & 1u) != 0) set |= features_of(fcma);     // HWCAP_FCMA
  if ((first >> 15 & 1u) != 0) set |= features_of(rcpc);     // HWCAP_LRCPC
  if ((first >> 20 & 1u) != 0) set |= features_of(dotprod);  // HWCAP_ASIMDDP
  if ((first >> 22 & 1u) != 0) set |= features_of(sve);      // HWCAP_SVE
  if ((second >> 13 & 1u) != 0) set |= features_of(i8mm);    // HWCAP2_I8MM
  if ((second >> 14 & 1u) != 0) set |= features_of(bf16);    // HWCAP2_BF16
  return set;
#else
  return compiled_features();
#endif
}

/// What a unit that is compiled for `compiled` leaves unused of a processor that has `present`, of what kernels here
/// are written for: `AVX2, AVX-512`. Empty where that is nothing.
inline std::string unused_instructions(CpuFeatures compiled = compiled_features(),
                                       CpuFeatures present = cpu_features()) {
  using enum CpuFeature;
  const struct {
    const char* name;
    CpuFeatures needs;
  } groups[] = {{"AVX2", features_of(avx2, fma)},
                {"AVX-512", features_of(avx512f, avx512bw, avx512dq, avx512vl)},
                {"VNNI", features_of(avx512f, avx512vnni)},
                {"BF16", features_of(avx512f, avx512bf16)},
                {"dotprod", features_of(dotprod)},
                {"i8mm", features_of(i8mm)},
                {"bf16", features_of(bf16)}};
  std::string unused;
  for (const auto& group : groups) {
    if ((group.needs & present) != group.needs || (group.needs & compiled) == group.needs) continue;
    unused.append(unused.empty() ? "" : ", ").append(group.name);
  }
  return unused;
}

}}}  // namespace mistral::simd
