// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <mistral/core/abi.hpp>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Inputs that `quantize` takes.
inline constexpr std::size_t quantize_inputs = 32;

/// Quantises 32 activations: codes[i] = round(x[i] / scale) with scale = max|x| / 127, so that an activation is off by
/// at most half of the scale. Returns the scale: NaN, with codes of 0, where an activation isn't finite, so that the
/// outputs are NaN too.
inline float quantize(const float* x, std::int8_t* codes, std::int32_t& sum) noexcept {
#if defined(__AVX2__)
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 v[4];
  __m256 largest = _mm256_setzero_ps();
  __m256 probe = _mm256_setzero_ps();  // x - x: 0, or NaN for what isn't finite
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, v[i]));
    probe = _mm256_or_ps(probe, _mm256_sub_ps(v[i], v[i]));
  }
  const bool finite = _mm256_movemask_ps(_mm256_cmp_ps(probe, probe, _CMP_UNORD_Q)) == 0;
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  half = _mm_max_ss(half, _mm_movehdup_ps(half));
  const float magnitude = finite ? _mm_cvtss_f32(half) : 0.0f;
  const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;  // below, the quotient would overflow
  const __m256 factor = _mm256_set1_ps(inverse);
  __m256i n[4];
  for (int i = 0; i < 4; ++i) {
    n[i] = finite ? _mm256_cvtps_epi32(_mm256_mul_ps(v[i], factor)) : _mm256_setzero_si256();
  }
  const __m256i sums = _mm256_add_epi32(_mm256_add_epi32(n[0], n[1]), _mm256_add_epi32(n[2], n[3]));
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  sum = _mm_cvtsi128_si32(s);
  // Packing works within halves of registers: the permutation puts the fours of bytes back in order.
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes),
                      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
#elif defined(__aarch64__)
  float32x4_t v[8];
  float32x4_t largest = vdupq_n_f32(0.0f);
  float32x4_t probe = vdupq_n_f32(0.0f);  // x - x: 0, or NaN for what isn't finite
  for (int i = 0; i < 8; ++i) {
    v[i] = vld1q_f32(x + 4 * i);
    largest = vmaxq_f32(largest, vabsq_f32(v[i]));
    probe = vaddq_f32(probe, vsubq_f32(v[i], v[i]));
  }
  const bool finite = vaddvq_f32(probe) == 0.0f;
  const float magnitude = finite ? vmaxvq_f32(largest) : 0.0f;
  const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;
  int16x8_t words[4];
  for (int i = 0; i < 4; ++i) {
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i], inverse));
    const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i + 1], inverse));
    words[i] = finite ? vcombine_s16(vmovn_s32(low), vmovn_s32(high)) : vdupq_n_s16(0);
  }
  sum = vaddlvq_s16(vaddq_s16(vaddq_s16(words[0], words[1]), vaddq_s16(words[2], words[3])));
  vst1q_s8(codes, vcombine_s8(vmovn_s16(words[0]), vmovn_s16(words[1])));
  vst1q_s8(codes + 16, vcombine_s8(vmovn_s16(words[2]), vmovn_s16(words[3])));
#else
  float magnitude = 0.0f;
  bool finite = true;
  for (std::size_t i = 0; i < quantize_inputs; ++i) {
    finite &= std::isfinite(x[i]);
    magnitude = (std::max)(magnitude, std::abs(x[i]));
  }
  if (!finite) magnitude = 0.0f;
  const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;
  sum = 0;
  for (std::size_t i = 0; i < quantize_inputs; ++i) {
    const auto code = finite ? static_cast<std::int32_t>(std::nearbyint(x[i] * inverse)) : 0;
    codes[i] = static_cast<std::int8_t>(code);
    sum += code;
  }
#endif
  return finite ? magnitude / 127.0f : std::numeric_limits<float>::quiet_NaN();
}

}}}  // namespace mistral::simd
