// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>

#include <mistral/simd/sets/avx.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// AVX2: eight lanes a register, bytes by vpmaddubsw.
struct Avx2 : Avx {
  using Plainer = Avx;
  using Floats = __m256;
  using Ints = __m256i;
  using Bytes = __m256i;
  using FloatGroup = Floats[2];
  using IntGroup = Ints[2];
  using ByteGroup = Bytes[2];

  static constexpr std::size_t transposed_words = 4;

  static void widen(const bf16* p, FloatGroup& out) noexcept {
    for (std::size_t i = 0; i < 2; ++i) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8 * i));
      out[i] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
  }
  static void widen(const f16* p, FloatGroup& out) noexcept {  // F16C, which has an instruction for it, is apart
    float wide[lanes];
    Scalar::widen(p, wide);
    for (std::size_t i = 0; i < 2; ++i) out[i] = _mm256_loadu_ps(wide + 8 * i);
  }
  static void widen(const std::int8_t* p, FloatGroup& out) noexcept {
    for (std::size_t i = 0; i < 2; ++i) {
      const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * i));
      out[i] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
    }
  }

  /// gcc takes sums of integers apart and puts them together as trees, whose leaves it spills, and reads weights from
  /// memory again for each row: the order that is written is the one that fits the registers.
  template <class Register>
  static Register pinned(Register x) noexcept {
    asm("" : "+x"(x));
    return x;
  }

  static float quantize(const float* x, std::int8_t* codes, std::int32_t& sum) noexcept {
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
    const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;
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
    return finite ? magnitude / 127.0f : std::numeric_limits<float>::quiet_NaN();
  }

  static Ints broadcast(std::int32_t n) noexcept { return _mm256_set1_epi32(n); }
  static Ints add_ints(Ints a, Ints b) noexcept { return _mm256_add_epi32(a, b); }
  static Floats to_floats(Ints x) noexcept { return _mm256_cvtepi32_ps(x); }

  static void load_bytes(const std::byte* p, ByteGroup& out) noexcept {
    for (std::size_t i = 0; i < 2; ++i) out[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * i));
  }
  static Bytes masked(Bytes x, std::uint8_t mask) noexcept {
    return _mm256_and_si256(x, _mm256_set1_epi8(static_cast<char>(mask)));
  }
  static Bytes high_nibbles(Bytes x) noexcept { return masked(_mm256_srli_epi16(x, 4), 15); }
  static Bytes of_upper_bits(Bytes a, Bytes b, Bytes c) noexcept {
    return _mm256_or_si256(_mm256_or_si256(masked(_mm256_srli_epi16(a, 6), 3), masked(_mm256_srli_epi16(b, 4), 12)),
                           masked(_mm256_srli_epi16(c, 2), 48));
  }
  static Bytes look_up(const std::uint8_t (&table)[16], Bytes x) noexcept {
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), x);
  }

  static void look_up_floats(const std::uint8_t (&table)[4][16], const std::byte* codes, int shift,
                             FloatGroup (&out)[quad]) noexcept {
    for (std::size_t half = 0; half < 2; ++half) {
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * half));
      const __m256i nibbles = masked(_mm256_srli_epi16(both, shift), 15);
      const __m256i b[4] = {look_up(table[0], nibbles), look_up(table[1], nibbles), look_up(table[2], nibbles),
                            look_up(table[3], nibbles)};
      for (std::size_t pair = 0; pair < 2; ++pair) {
        const __m256i low = pair == 0 ? _mm256_unpacklo_epi8(b[0], b[1]) : _mm256_unpackhi_epi8(b[0], b[1]);
        const __m256i high = pair == 0 ? _mm256_unpacklo_epi8(b[2], b[3]) : _mm256_unpackhi_epi8(b[2], b[3]);
        out[2 * pair][half] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(low, high));
        out[2 * pair + 1][half] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(low, high));
      }
    }
  }

  template <std::size_t N>
  static void count_not_above(std::byte* bytes, const std::uint8_t (&thresholds)[N]) noexcept {
    for (std::size_t i = 0; i < lanes * quad; i += 32) {
      auto* const at = reinterpret_cast<__m256i*>(bytes + i);
      // bytes are compared as signed ones: lowered by 128
      const __m256i value = _mm256_xor_si256(_mm256_loadu_si256(at), _mm256_set1_epi8(-128));
      __m256i count = _mm256_set1_epi8(static_cast<char>(N));
      for (const std::uint8_t threshold : thresholds) {
        const __m256i limit = _mm256_set1_epi8(static_cast<char>(threshold ^ 128));
        count = _mm256_add_epi8(count, _mm256_cmpgt_epi8(limit, value));  // -1 for each that is above
      }
      _mm256_storeu_si256(at, count);
    }
  }

  static __m256i product_of_halves(__m256i x) noexcept { return _mm256_mul_epu32(x, _mm256_srli_epi64(x, 32)); }

  /// Eight rows at a time: the lower halves of the registers hold rows 0 to 3, the upper ones 4 to 7.
  template <class Row>
  static void transpose(const Row& row, std::size_t w, std::byte* panel) noexcept {
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

  /// The operations of Dot and ScaledDot that AVX-512 has in its own width.
  ///@{
  static Bytes zeros() noexcept { return _mm256_setzero_si256(); }
  /// The four bytes at p in every lane: as a float, since gcc would load an integer to a general register first.
  static Bytes broadcast_quad(const std::byte* p) noexcept {
    return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
  }
  static Ints pair_products(Bytes w, Bytes x) noexcept { return _mm256_maddubs_epi16(w, x); }
  static Ints word_products(Bytes w, Bytes x) noexcept { return _mm256_madd_epi16(w, x); }
  // In the register that the sum is in: gcc would leave it in that of x and copy it back, a fifth of a loop's
  // instructions. On a copy: of a sum whose address an asm takes, gcc keeps an array in memory throughout a loop.
  static void add_words(Ints& sum, Ints x) noexcept {
    Ints s = sum;
    asm("vpaddw {%1, %0, %0|%0, %0, %1}" : "+x"(s) : "x"(x));
    sum = s;
  }
  static void add_sums(Ints& sum, Ints x) noexcept {
    Ints s = sum;
    asm("vpaddd {%1, %0, %0|%0, %0, %1}" : "+x"(s) : "x"(x));
    sum = s;
  }
  static Bytes even_bytes(Bytes w) noexcept { return _mm256_and_si256(w, _mm256_set1_epi32(0x00ff00ff)); }
  static Bytes odd_bytes(Bytes w) noexcept { return _mm256_srli_epi16(w, 8); }
  static Bytes ones() noexcept { return _mm256_set1_epi16(1); }
  /// Bytes of each quarter of a register, picked by their numbers, as the upper bytes of signed 16-bit words.
  static Bytes signed_words(Bytes bytes, __m128i picks) noexcept {
    return _mm256_srai_epi16(_mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(picks)), 8);
  }
  ///@}

  /// vpmaddubsw sums two products in 16 bits. Weights of four bits leave room for eight quads there (8 x 2 x 15 x 127 =
  /// 30480), so that one vpmaddwd widens a whole block. Larger weights would saturate: they are multiplied as 16-bit
  /// numbers, even and odd inputs apart, which costs an `and` and a shift of the weights and no shuffle.
  template <class Set, unsigned MaxCode>
  struct Dot {
    static constexpr bool narrow = MaxCode <= 15;
    static constexpr std::size_t steps = narrow ? 1 : 2;
    static constexpr std::size_t input_bytes = quad * steps;
    using Step = BasicQuads<Set>;
    using Input = const std::byte*;
    typename Set::IntGroup sum;

    static Dot zero() noexcept {
      Dot out;
      for (auto& s : out.sum) s = Set::zeros();
      return out;
    }
    static void split(const BasicQuads<Set>& w, Step (&out)[steps]) noexcept {
      if constexpr (narrow) {
        out[0] = w;
      } else {
        for (std::size_t i = 0; i < std::size(w.part); ++i) {
          out[0].part[i] = Set::even_bytes(w.part[i]);
          out[1].part[i] = Set::odd_bytes(w.part[i]);
        }
      }
    }
    static Input input(const std::byte* p) noexcept { return p; }
    static void put(const std::int8_t* x, std::byte* out) noexcept {
      if constexpr (narrow) {
        std::memcpy(out, x, quad);
      } else {
        const std::int16_t words[quad] = {x[0], x[2], x[1], x[3]};
        std::memcpy(out, words, sizeof words);
      }
    }
    void add(const Step& w, Input input) noexcept {
      for (std::size_t i = 0; i < std::size(sum); ++i) {
        const auto x = Set::broadcast_quad(input);
        if constexpr (narrow) {
          Set::add_words(sum[i], Set::pair_products(w.part[i], x));
        } else {
          Set::add_sums(sum[i], Set::word_products(w.part[i], x));
        }
      }
    }
    BasicSums<Set> sums() const noexcept {
      BasicSums<Set> out;
      for (std::size_t i = 0; i < std::size(sum); ++i) {
        out.part[i] = narrow ? Set::word_products(sum[i], Set::ones()) : sum[i];
      }
      return out;
    }
  };

  /// Sums of two products (at most 2 x 63 x 127) are added in 16 bits. A 16-bit word meets 8 inputs; starting it at
  /// -Zero x (their sum) makes it end within 8 x 32 x 127 = 32512, wherever it wraps in between. Then one vpmaddwd
  /// multiplies with the scale, which lies in both words of a lane, and adds the two.
  template <class Set, int Zero>
  struct ScaledDot {
    static_assert(Zero == 32);
    static constexpr std::size_t inputs = 16;
    static constexpr std::size_t steps = 1;
    static constexpr std::size_t input_bytes = quad;
    using Step = BasicQuads<Set>;
    using Input = const std::byte*;
    typename Set::IntGroup sum;

    static std::int32_t start(const std::int8_t* x) noexcept {
      std::int32_t even = 0;
      std::int32_t odd = 0;
      for (std::size_t i = 0; i < inputs; i += 4) {
        even += x[i] + x[i + 1];
        odd += x[i + 2] + x[i + 3];
      }
      return static_cast<std::int32_t>((static_cast<std::uint32_t>(-Zero * odd) << 16) |
                                       (static_cast<std::uint32_t>(-Zero * even) & 0xffffu));
    }
    static ScaledDot from(std::int32_t start) noexcept {
      ScaledDot out;
      for (auto& s : out.sum) s = Set::broadcast(start);
      return out;
    }
    static void split(const BasicQuads<Set>& w, Step (&out)[1]) noexcept { out[0] = w; }
    static Input input(const std::byte* p) noexcept { return p; }
    static void put(const std::int8_t* x, std::byte* out) noexcept { std::memcpy(out, x, quad); }
    void add(const Step& w, Input input) noexcept {
      for (std::size_t i = 0; i < std::size(sum); ++i) {
        Set::add_words(sum[i], Set::pair_products(w.part[i], Set::broadcast_quad(input)));
      }
    }

    static BasicQuads<Set> scales(const BasicQuads<Set>& bytes, std::size_t k) noexcept {
      // to the upper byte of both words, the lower ones being zeros (0x80); the shift gives it its sign
      const auto pick = static_cast<std::int32_t>(0x00800080u | (static_cast<std::uint32_t>(k) * 0x01000100u));
      const __m128i picks = _mm_add_epi32(_mm_set1_epi32(pick), _mm_setr_epi32(0, 0x04000400, 0x08000800, 0x0c000c00));
      BasicQuads<Set> out;
      for (std::size_t i = 0; i < std::size(out.part); ++i) out.part[i] = Set::signed_words(bytes.part[i], picks);
      return out;
    }
    BasicSums<Set> sums(const BasicQuads<Set>& scales) const noexcept {
      BasicSums<Set> out;
      for (std::size_t i = 0; i < std::size(sum); ++i) out.part[i] = Set::word_products(sum[i], scales.part[i]);
      return out;
    }
  };
};

static_assert(InstructionSet<Avx2>);

}}}  // namespace mistral::simd
