#pragma once

#include <cstddef>

#include <mistral/simd/lanes.hpp>

namespace mistral::inline MISTRAL_ABI::simd {

/// Widens an element row to floats and turns it: out[k * 16 + lane] = rows[lane][k] for k < cols, for up to 16 rows of
/// elements T. Lanes past the last row are zero. This is how keys become a panel: each key an output row.
template <class T>
inline void transpose_to_panel(const T* const* rows, std::size_t count, std::size_t cols, float* out) noexcept {
  std::size_t col = 0;
#if defined(__AVX2__)
  // Eight rows by eight columns at a time, in registers.
  const auto load8 = [](const T* p) {
    if constexpr (std::is_same_v<T, float>) {
      return _mm256_loadu_ps(p);
    } else {
      static_assert(std::is_same_v<T, bf16>);
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
  };
  for (; col + 8 <= cols; col += 8) {
    for (std::size_t half = 0; half < lanes; half += 8) {
      __m256 r[8];
      for (std::size_t i = 0; i < 8; ++i) {
        r[i] = half + i < count ? load8(rows[half + i] + col) : _mm256_setzero_ps();
      }
      __m256 t[8];
      for (std::size_t i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
      }
      for (std::size_t i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
      }
      for (std::size_t i = 0; i < 4; ++i) {
        _mm256_storeu_ps(out + (col + i) * lanes + half, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(out + (col + i + 4) * lanes + half, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
      }
    }
  }
#endif
  for (; col < cols; ++col) {
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      out[col * lanes + lane] = lane < count ? to_float(rows[lane][col]) : 0.0f;
    }
  }
}

}  // namespace mistral::inline MISTRAL_ABI::simd
