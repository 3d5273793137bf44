// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Sixteen floats that codes of four bits stand for.
///
/// They are looked up a byte of all of them at a time, which is what instructions have tables for, and put together
/// from neighbouring bytes. So that the bytes of a row meet in the row's lane, whatever the machine's register width,
/// the codes of 8 inputs x 16 rows lie in 64 bytes like this: see code_at.
class FloatTable {
 public:
  /// Inputs that are looked up together: those of the lower halves of 64 bytes, or those of the upper.
  static constexpr std::size_t inputs = 4;
  static constexpr std::size_t code_bytes = 2 * inputs * lanes / 2;

  /// The byte of 64 that holds the code of a row and an input, 0 <= input < 8: in its lower half for inputs 0 to 3, in
  /// its upper half for inputs 4 to 7.
  static constexpr std::size_t code_at(std::size_t row, std::size_t input) noexcept {
    return row / 4 * 16 + input % inputs * 4 + row % 4;
  }

  constexpr explicit FloatTable(const float (&floats)[16]) noexcept : bytes_{} {
    for (std::size_t i = 0; i < 16; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(floats[i]);
      for (std::size_t b = 0; b < 4; ++b) bytes_[b][i] = static_cast<std::uint8_t>(bits >> (8 * b));
    }
  }

  /// The floats of four inputs, out[i] those of input i, one row a lane: of inputs 0 to 3 with shift 0, of inputs 4 to
  /// 7 with shift 4.
  void look_up(const std::byte* codes, int shift, Lanes (&out)[inputs]) const noexcept {
#if defined(__AVX512F__)
    const __m512i nibbles = _mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(codes), static_cast<unsigned>(shift)),
                                             _mm512_set1_epi8(15));
    const auto bytes = [&](std::size_t b) {
      const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(bytes_[b]));
      return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), nibbles);
    };
    const __m512i b[4] = {bytes(0), bytes(1), bytes(2), bytes(3)};
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const __m512i low = pair == 0 ? _mm512_unpacklo_epi8(b[0], b[1]) : _mm512_unpackhi_epi8(b[0], b[1]);
      const __m512i high = pair == 0 ? _mm512_unpacklo_epi8(b[2], b[3]) : _mm512_unpackhi_epi8(b[2], b[3]);
      out[2 * pair].part[0] = FloatBatch(_mm512_castsi512_ps(_mm512_unpacklo_epi16(low, high)));
      out[2 * pair + 1].part[0] = FloatBatch(_mm512_castsi512_ps(_mm512_unpackhi_epi16(low, high)));
    }
#elif defined(__AVX2__)
    for (std::size_t half = 0; half < 2; ++half) {
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * half));
      const __m256i nibbles = _mm256_and_si256(_mm256_srli_epi16(both, shift), _mm256_set1_epi8(15));
      const auto bytes = [&](std::size_t b) {
        const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(bytes_[b]));
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
      };
      const __m256i b[4] = {bytes(0), bytes(1), bytes(2), bytes(3)};
      for (std::size_t pair = 0; pair < 2; ++pair) {
        const __m256i low = pair == 0 ? _mm256_unpacklo_epi8(b[0], b[1]) : _mm256_unpackhi_epi8(b[0], b[1]);
        const __m256i high = pair == 0 ? _mm256_unpacklo_epi8(b[2], b[3]) : _mm256_unpackhi_epi8(b[2], b[3]);
        out[2 * pair].part[half] = FloatBatch(_mm256_castsi256_ps(_mm256_unpacklo_epi16(low, high)));
        out[2 * pair + 1].part[half] = FloatBatch(_mm256_castsi256_ps(_mm256_unpackhi_epi16(low, high)));
      }
    }
#elif defined(__aarch64__)
    for (std::size_t quarter = 0; quarter < 4; ++quarter) {
      const uint8x16_t both = vld1q_u8(reinterpret_cast<const std::uint8_t*>(codes) + 16 * quarter);
      const uint8x16_t nibbles = vandq_u8(vshlq_u8(both, vdupq_n_s8(static_cast<std::int8_t>(-shift))), vdupq_n_u8(15));
      const auto bytes = [&](std::size_t b) { return vqtbl1q_u8(vld1q_u8(bytes_[b]), nibbles); };
      const uint8x16_t b[4] = {bytes(0), bytes(1), bytes(2), bytes(3)};
      for (std::size_t pair = 0; pair < 2; ++pair) {
        const uint16x8_t low = vreinterpretq_u16_u8(pair == 0 ? vzip1q_u8(b[0], b[1]) : vzip2q_u8(b[0], b[1]));
        const uint16x8_t high = vreinterpretq_u16_u8(pair == 0 ? vzip1q_u8(b[2], b[3]) : vzip2q_u8(b[2], b[3]));
        out[2 * pair].part[quarter] = FloatBatch(vreinterpretq_f32_u16(vzip1q_u16(low, high)));
        out[2 * pair + 1].part[quarter] = FloatBatch(vreinterpretq_f32_u16(vzip2q_u16(low, high)));
      }
    }
#else
    for (std::size_t input = 0; input < inputs; ++input) {
      float rows[lanes];
      for (std::size_t row = 0; row < lanes; ++row) {
        const std::size_t code = (std::to_integer<std::size_t>(codes[code_at(row, input)]) >> shift) & 15u;
        std::uint32_t bits = 0;
        for (std::size_t b = 0; b < 4; ++b) bits |= static_cast<std::uint32_t>(bytes_[b][code]) << (8 * b);
        rows[row] = std::bit_cast<float>(bits);
      }
      out[input] = Lanes::load(rows);
    }
#endif
  }

 private:
  alignas(16) std::uint8_t bytes_[4][16];  // byte b, the lowest first, of all floats
};

}}}  // namespace mistral::simd
