// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Bytes of a panel of 32-bit words, for each word of its rows.
inline constexpr std::size_t word_bytes = lanes * sizeof(std::uint32_t);

/// Rows that lie the same distance apart. Sixteen addresses would fill all registers: from four of them and two
/// distances the processor makes the others as it loads.
class StridedRows {
 public:
  StridedRows(const std::byte* first, std::size_t stride) noexcept
      : quarters_{first, first + 4 * stride, first + 8 * stride, first + 12 * stride},
        stride_(stride),
        thrice_(3 * stride) {}

  const std::byte* operator[](std::size_t i) const noexcept {
    const std::byte* const quarter = quarters_[i / 4];
    return i % 4 == 3 ? quarter + thrice_ : quarter + i % 4 * stride_;
  }

 private:
  const std::byte* quarters_[4];
  std::size_t stride_;
  std::size_t thrice_;
};

/// Turns 16 rows of `words` 32-bit words at any address to a panel: word w of row i goes to lane i of step w. This is
/// how keys become a panel, each key an output row; what a word holds (a float, two bfloat16, four bytes) is taken
/// apart in registers, when the step is met.
///   rows  rows[i] is the address of row i
template <class RowAddresses>
inline void transpose_words(const RowAddresses& rows, std::size_t words, std::byte* panel) noexcept {
  const auto row = [&](std::size_t i, std::size_t w) { return rows[i] + w * sizeof(std::uint32_t); };
  std::size_t w = 0;
#if defined(__AVX512F__)
  // Sixteen rows by four words at a time: quarter q of register i holds row 4 q + i, so that squares of four are turned
  // where they are. The rows are put together by loads, which leave the one or two ports that shuffle to the turning.
  for (; w < words / 4 * 4; w += 4) {
    const auto load = [&](std::size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row(i, w))); };
    __m512i r[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
      r[i] = _mm512_castsi128_si512(load(i));
      r[i] = _mm512_inserti32x4(r[i], load(4 + i), 1);
      r[i] = _mm512_inserti32x4(r[i], load(8 + i), 2);
      r[i] = _mm512_inserti32x4(r[i], load(12 + i), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(r[0], r[1]);
    const __m512i b = _mm512_unpackhi_epi32(r[0], r[1]);
    const __m512i c = _mm512_unpacklo_epi32(r[2], r[3]);
    const __m512i d = _mm512_unpackhi_epi32(r[2], r[3]);
    const auto store = [&](std::size_t step, __m512i x) { _mm512_storeu_si512(panel + (w + step) * word_bytes, x); };
    store(0, _mm512_unpacklo_epi64(a, c));
    store(1, _mm512_unpackhi_epi64(a, c));
    store(2, _mm512_unpacklo_epi64(b, d));
    store(3, _mm512_unpackhi_epi64(b, d));
  }
#elif defined(__AVX2__)
  // Eight rows by four words at a time: the lower halves of the registers hold rows 0 to 3, the upper ones 4 to 7.
  for (; w < words / 4 * 4; w += 4) {
    for (std::size_t half = 0; half < lanes; half += 8) {
      __m256 r[4];
#pragma GCC unroll 4
      for (std::size_t i = 0; i < 4; ++i) {
        const auto load = [&](std::size_t j) { return _mm_loadu_ps(reinterpret_cast<const float*>(row(half + j, w))); };
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(load(i)), load(i + 4), 1);
      }
      const __m256 a = _mm256_unpacklo_ps(r[0], r[1]);
      const __m256 b = _mm256_unpackhi_ps(r[0], r[1]);
      const __m256 c = _mm256_unpacklo_ps(r[2], r[3]);
      const __m256 d = _mm256_unpackhi_ps(r[2], r[3]);
      const auto store = [&](std::size_t step, __m256 x) {
        _mm256_storeu_ps(reinterpret_cast<float*>(panel + (w + step) * word_bytes) + half, x);
      };
      store(0, _mm256_shuffle_ps(a, c, 0x44));
      store(1, _mm256_shuffle_ps(a, c, 0xee));
      store(2, _mm256_shuffle_ps(b, d, 0x44));
      store(3, _mm256_shuffle_ps(b, d, 0xee));
    }
  }
#elif defined(__aarch64__)
  // Four rows by four words at a time.
  for (; w < words / 4 * 4; w += 4) {
    for (std::size_t quarter = 0; quarter < lanes; quarter += 4) {
      uint32x4_t r[4];
      for (std::size_t i = 0; i < 4; ++i) {
        r[i] = vreinterpretq_u32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(row(quarter + i, w))));
      }
      const uint64x2_t a = vreinterpretq_u64_u32(vtrn1q_u32(r[0], r[1]));
      const uint64x2_t b = vreinterpretq_u64_u32(vtrn2q_u32(r[0], r[1]));
      const uint64x2_t c = vreinterpretq_u64_u32(vtrn1q_u32(r[2], r[3]));
      const uint64x2_t d = vreinterpretq_u64_u32(vtrn2q_u32(r[2], r[3]));
      const auto store = [&](std::size_t step, uint64x2_t x) {
        auto* const out = reinterpret_cast<std::uint8_t*>(panel + (w + step) * word_bytes) + quarter * 4;
        vst1q_u8(out, vreinterpretq_u8_u64(x));
      };
      store(0, vtrn1q_u64(a, c));
      store(1, vtrn1q_u64(b, d));
      store(2, vtrn2q_u64(a, c));
      store(3, vtrn2q_u64(b, d));
    }
  }
#endif
  for (; w < words; ++w) {
    for (std::size_t i = 0; i < lanes; ++i) {
      std::memcpy(panel + w * word_bytes + i * sizeof(std::uint32_t), row(i, w), sizeof(std::uint32_t));
    }
  }
}

/// And back: word w of lane i, of step w, goes to row i, at any address.
inline void untranspose_words(const std::byte* panel, std::size_t words, std::byte* const* rows) noexcept {
  for (std::size_t w = 0; w < words; ++w) {
    for (std::size_t i = 0; i < lanes; ++i) {
      std::memcpy(rows[i] + w * sizeof(std::uint32_t), panel + w * word_bytes + i * sizeof(std::uint32_t),
                  sizeof(std::uint32_t));
    }
  }
}

}}}  // namespace mistral::simd
