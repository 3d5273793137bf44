// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include <mistral/simd/sets/avx2.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// AVX-512 F, BW, DQ and VL: sixteen lanes a register, and 32 registers; bytes as AVX2 multiplies them, in twice the
/// width.
struct Avx512 : Avx2 {
  using Plainer = Avx2;
  using Floats = __m512;
  using Ints = __m512i;
  using Bytes = __m512i;
  using FloatGroup = Floats[1];
  using IntGroup = Ints[1];
  using ByteGroup = Bytes[1];

  // 12 x 2 accumulators + 2 weights + 1 broadcast = 27 of 32
  static constexpr std::size_t tile_rows = 12;
  static constexpr std::size_t tile_panels = 2;
  // 12 x 1 sums + 12 floats + 1 weights + 1 broadcast + 1 product = 27 of 32: the floats that blocks are added to stay
  // in registers beside them, since a store of 64 bytes takes both pipes that multiply for a cycle
  static constexpr std::size_t integer_tile_rows = 12;

  static void widen(const bf16* p, FloatGroup& out) noexcept {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static void widen(const f16* p, FloatGroup& out) noexcept {
    out[0] = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void widen(const std::int8_t* p, FloatGroup& out) noexcept {
    out[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }

  /// xsimd 8 multiplies and adds here. gcc makes one instruction of the two from -O2 on, clang never: bits would depend
  /// on how a unit was compiled, and units that share a kernel may be compiled in two ways.
  static __m512 fma(__m512 a, __m512 b, __m512 c) noexcept { return _mm512_fmadd_ps(a, b, c); }

  template <class Register>
  static Register rounded(Register x) noexcept {
    __asm__("" : "+v"(x));
    return x;
  }
  template <class Register>
  static Register pinned(Register x) noexcept {
    asm("" : "+v"(x));
    return x;
  }

  static Ints broadcast(std::int32_t n) noexcept { return _mm512_set1_epi32(n); }
  static Ints add_ints(Ints a, Ints b) noexcept { return _mm512_add_epi32(a, b); }
  static Floats to_floats(Ints x) noexcept { return _mm512_cvtepi32_ps(x); }

  static void load_bytes(const std::byte* p, ByteGroup& out) noexcept { out[0] = _mm512_loadu_si512(p); }
  static Bytes masked(Bytes x, std::uint8_t mask) noexcept {
    return _mm512_and_si512(x, _mm512_set1_epi8(static_cast<char>(mask)));
  }
  static Bytes high_nibbles(Bytes x) noexcept { return masked(_mm512_srli_epi16(x, 4), 15); }
  static Bytes of_upper_bits(Bytes a, Bytes b, Bytes c) noexcept {
    return _mm512_or_si512(_mm512_or_si512(masked(_mm512_srli_epi16(a, 6), 3), masked(_mm512_srli_epi16(b, 4), 12)),
                           masked(_mm512_srli_epi16(c, 2), 48));
  }
  static Bytes look_up(const std::uint8_t (&table)[16], Bytes x) noexcept {
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), x);
  }

  static void look_up_floats(const std::uint8_t (&table)[4][16], const std::byte* codes, int shift,
                             FloatGroup (&out)[quad]) noexcept {
    const __m512i nibbles = masked(_mm512_srli_epi16(_mm512_loadu_si512(codes), static_cast<unsigned>(shift)), 15);
    const __m512i b[4] = {look_up(table[0], nibbles), look_up(table[1], nibbles), look_up(table[2], nibbles),
                          look_up(table[3], nibbles)};
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const __m512i low = pair == 0 ? _mm512_unpacklo_epi8(b[0], b[1]) : _mm512_unpackhi_epi8(b[0], b[1]);
      const __m512i high = pair == 0 ? _mm512_unpacklo_epi8(b[2], b[3]) : _mm512_unpackhi_epi8(b[2], b[3]);
      out[2 * pair][0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(low, high));
      out[2 * pair + 1][0] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(low, high));
    }
  }

  static __m512i product_of_halves(__m512i x) noexcept { return _mm512_mul_epu32(x, _mm512_srli_epi64(x, 32)); }

  /// Quarter q of register i holds row 4 q + i, so that squares of four are turned where they are. The rows are put
  /// together by loads, which leave the one or two ports that shuffle to the turning.
  template <class Row>
  static void transpose(const Row& row, std::size_t w, std::byte* panel) noexcept {
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

  /// The operations of Avx2's Dot and ScaledDot.
  ///@{
  static Bytes zeros() noexcept { return _mm512_setzero_si512(); }
  static Bytes broadcast_quad(const std::byte* p) noexcept {
    return _mm512_castps_si512(_mm512_broadcastss_ps(_mm_load_ss(reinterpret_cast<const float*>(p))));
  }
  static Ints pair_products(Bytes w, Bytes x) noexcept { return _mm512_maddubs_epi16(w, x); }
  static Ints word_products(Bytes w, Bytes x) noexcept { return _mm512_madd_epi16(w, x); }
  static void add_words(Ints& sum, Ints x) noexcept { sum = pinned(_mm512_add_epi16(sum, x)); }
  static void add_sums(Ints& sum, Ints x) noexcept { sum = pinned(_mm512_add_epi32(sum, x)); }
  static Bytes even_bytes(Bytes w) noexcept { return _mm512_and_si512(w, _mm512_set1_epi32(0x00ff00ff)); }
  static Bytes odd_bytes(Bytes w) noexcept { return _mm512_srli_epi16(w, 8); }
  static Bytes ones() noexcept { return _mm512_set1_epi16(1); }
  static Bytes signed_words(Bytes bytes, __m128i picks) noexcept {
    return _mm512_srai_epi16(_mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(picks)), 8);
  }
  ///@}
};

static_assert(WholeInstructionSet<Avx512>);

}}}  // namespace mistral::simd
