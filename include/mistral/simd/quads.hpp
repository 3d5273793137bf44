// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <mistral/simd/lanes.hpp>
#include <mistral/simd/words.hpp>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

/// \file
/// Dot products of bytes, which xsimd lacks: unsigned weights times signed activations, summed in 32-bit lanes. A lane
/// is an output row; a quad is four neighbouring inputs of it, in the lane's four bytes. Sums are exact integers, so
/// each instruction set may take them in its own order.

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Inputs of a lane that one instruction multiplies.
inline constexpr std::size_t quad = 4;

/// The same value, of which the compiler no longer knows where it comes from. gcc takes sums of integers apart and puts
/// them together as trees, whose leaves it spills, and reads weights from memory again for each row: the order that is
/// written here is the one that fits the registers.
template <class Register>
inline Register pinned(Register value) noexcept {
#if defined(MISTRAL_EMULATED)
  // tests of instructions that this processor lacks: there are no such registers
#elif defined(__AVX512F__)
  asm("" : "+v"(value));
#elif defined(__AVX2__)
  asm("" : "+x"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#endif
  return value;
}

}}}  // namespace mistral::simd

#if defined(__aarch64__)
#include <mistral/simd/quads_neon.hpp>
#endif

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

#if !defined(__aarch64__)
/// Sixteen 32-bit sums, one a lane.
struct Sums {
#if defined(__AVX512F__)
  __m512i part[1];
#elif defined(__AVX2__)
  __m256i part[2];
#else
  std::int32_t part[lanes];
#endif

  /// value + offset, as floats.
  Lanes plus(std::int32_t offset) const noexcept {
    alignas(64) float out[lanes];
#if defined(__AVX512F__)
    _mm512_store_ps(out, _mm512_cvtepi32_ps(_mm512_add_epi32(part[0], _mm512_set1_epi32(offset))));
#elif defined(__AVX2__)
    for (std::size_t i = 0; i < 2; ++i) {
      _mm256_store_ps(out + 8 * i, _mm256_cvtepi32_ps(_mm256_add_epi32(part[i], _mm256_set1_epi32(offset))));
    }
#else
    for (std::size_t i = 0; i < lanes; ++i) out[i] = static_cast<float>(part[i] + offset);
#endif
    return Lanes::load(out);
  }

  friend Sums operator+(const Sums& a, const Sums& b) noexcept {
    Sums out;
#if defined(__AVX512F__)
    out.part[0] = _mm512_add_epi32(a.part[0], b.part[0]);
#elif defined(__AVX2__)
    for (std::size_t i = 0; i < 2; ++i) out.part[i] = _mm256_add_epi32(a.part[i], b.part[i]);
#else
    for (std::size_t i = 0; i < lanes; ++i) out.part[i] = a.part[i] + b.part[i];
#endif
    return out;
  }
};

/// Sixteen quads of unsigned bytes: the weights of four inputs for 16 rows, or the same packed in nibbles.
struct Quads {
  static constexpr std::size_t bytes = lanes * quad;
#if defined(__AVX512F__)
  __m512i part[1];
#elif defined(__AVX2__)
  __m256i part[2];
#else
  std::uint8_t part[bytes];
#endif

  static Quads load(const std::byte* p) noexcept {
    Quads out;
#if defined(__AVX512F__)
    out.part[0] = _mm512_loadu_si512(p);
#elif defined(__AVX2__)
    for (std::size_t i = 0; i < 2; ++i) {
      out.part[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * i));
    }
#else
    std::memcpy(out.part, p, bytes);
#endif
    return out;
  }

  void store(std::byte* p) const noexcept { std::memcpy(p, part, bytes); }

  /// The same, held in registers from here on.
  Quads pinned() const noexcept {
#if defined(__AVX512F__)
    return {{simd::pinned(part[0])}};
#elif defined(__AVX2__)
    return {{simd::pinned(part[0]), simd::pinned(part[1])}};
#else
    return *this;
#endif
  }

  /// The lower four bits of each byte.
  Quads low_nibbles() const noexcept {
    Quads out;
#if defined(__AVX512F__)
    out.part[0] = _mm512_and_si512(part[0], _mm512_set1_epi8(15));
#elif defined(__AVX2__)
    for (std::size_t i = 0; i < 2; ++i) out.part[i] = _mm256_and_si256(part[i], _mm256_set1_epi8(15));
#else
    for (std::size_t i = 0; i < bytes; ++i) out.part[i] = static_cast<std::uint8_t>(part[i] & 15u);
#endif
    return out;
  }

  /// The upper four bits of each byte.
  Quads high_nibbles() const noexcept {
    Quads out;
#if defined(__AVX512F__)
    out.part[0] = _mm512_and_si512(_mm512_srli_epi16(part[0], 4), _mm512_set1_epi8(15));
#elif defined(__AVX2__)
    for (std::size_t i = 0; i < 2; ++i) {
      out.part[i] = _mm256_and_si256(_mm256_srli_epi16(part[i], 4), _mm256_set1_epi8(15));
    }
#else
    for (std::size_t i = 0; i < bytes; ++i) out.part[i] = static_cast<std::uint8_t>(part[i] >> 4);
#endif
    return out;
  }

  /// The lower six bits of each byte.
  Quads low_6_bits() const noexcept {
    Quads out;
#if defined(__AVX512F__)
    out.part[0] = _mm512_and_si512(part[0], _mm512_set1_epi8(63));
#elif defined(__AVX2__)
    for (std::size_t i = 0; i < 2; ++i) out.part[i] = _mm256_and_si256(part[i], _mm256_set1_epi8(63));
#else
    for (std::size_t i = 0; i < bytes; ++i) out.part[i] = static_cast<std::uint8_t>(part[i] & 63u);
#endif
    return out;
  }

  /// Bytes of six bits, put together of the upper two bits of three: the lowest two first.
  static Quads of_upper_bits(const Quads& a, const Quads& b, const Quads& c) noexcept {
    Quads out;
#if defined(__AVX512F__)
    const auto place = [](__m512i x, int shift, char mask) {
      return _mm512_and_si512(_mm512_srli_epi16(x, static_cast<unsigned>(shift)), _mm512_set1_epi8(mask));
    };
    out.part[0] =
        _mm512_or_si512(_mm512_or_si512(place(a.part[0], 6, 3), place(b.part[0], 4, 12)), place(c.part[0], 2, 48));
#elif defined(__AVX2__)
    const auto place = [](__m256i x, int shift, char mask) {
      return _mm256_and_si256(_mm256_srli_epi16(x, shift), _mm256_set1_epi8(mask));
    };
    for (std::size_t i = 0; i < 2; ++i) {
      out.part[i] =
          _mm256_or_si256(_mm256_or_si256(place(a.part[i], 6, 3), place(b.part[i], 4, 12)), place(c.part[i], 2, 48));
    }
#else
    for (std::size_t i = 0; i < bytes; ++i) {
      out.part[i] = static_cast<std::uint8_t>((a.part[i] >> 6) | ((b.part[i] >> 6) * 4u) | ((c.part[i] >> 6) * 16u));
    }
#endif
    return out;
  }

  /// table[b] for each byte b, which is at most 15.
  Quads look_up(const std::uint8_t (&table)[16]) const noexcept {
    Quads out;
#if defined(__AVX512F__)
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    out.part[0] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), part[0]);
#elif defined(__AVX2__)
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    for (std::size_t i = 0; i < 2; ++i) {
      out.part[i] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), part[i]);
    }
#else
    for (std::size_t i = 0; i < bytes; ++i) out.part[i] = table[part[i]];
#endif
    return out;
  }
};

/// How sums of a block's products are taken where no weight is above MaxCode. `Dot` itself is the running sum of up to
/// eight quads a lane. `Step` is what one instruction multiplies: `steps` of them are made of a quad, once for any
/// number of rows, and each meets 4 bytes of activations in the form that `put` gives them. `Input` is what `add` takes
/// of those: in a register where several panels share it, else their address.
template <unsigned MaxCode>
struct Dot {
#if defined(__AVX512VNNI__)
  // vpdpbusd: four products and the sum in one instruction, whatever the weights.
  static constexpr std::size_t steps = 1;
  using Step = Quads;
  __m512i sum;

  using Input = __m512i;

  static Dot zero() noexcept { return from(0); }
  /// A sum that begins at any number, which costs no more than one that begins at 0.
  static Dot from(std::int32_t first) noexcept { return {_mm512_set1_epi32(first)}; }
  static void split(const Quads& w, Step (&out)[1]) noexcept { out[0] = w; }
  static Input input(const std::byte* p) noexcept {
    std::int32_t x;
    std::memcpy(&x, p, sizeof x);
    return _mm512_set1_epi32(x);
  }
  void add(const Step& w, const Input& x) noexcept {
#if defined(MISTRAL_EMULATED)
    sum = _mm512_dpbusd_epi32(sum, w.part[0], x);
#else
    __m512i s = sum;  // where the sum is, on a copy: as with AVX2 below
    asm("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(s) : "v"(w.part[0]), "v"(x));
    sum = s;
#endif
  }
  Sums sums() const noexcept { return {{sum}}; }

#elif defined(__AVX2__)
  // vpmaddubsw sums two products in 16 bits. Weights of four bits leave room for eight quads there (8 x 2 x 15 x 127 =
  // 30480), so that one vpmaddwd widens a whole block. Larger weights would saturate: they are multiplied as 16-bit
  // numbers, even and odd inputs apart, which costs an `and` and a shift of the weights and no shuffle.
  static constexpr bool narrow = MaxCode <= 15;
  static constexpr std::size_t steps = narrow ? 1 : 2;
#if defined(__AVX512F__)
  static constexpr std::size_t parts = 1;
  using Register = __m512i;
  static Register zeros() noexcept { return _mm512_setzero_si512(); }
  static Register all(std::int32_t x) noexcept { return _mm512_set1_epi32(x); }
  static Register broadcast(const std::byte* p) noexcept {
    return _mm512_castps_si512(_mm512_broadcastss_ps(_mm_load_ss(reinterpret_cast<const float*>(p))));
  }
  static Register pair_products(Register w, Register x) noexcept { return _mm512_maddubs_epi16(w, x); }
  static Register word_products(Register w, Register x) noexcept { return _mm512_madd_epi16(w, x); }
  static void add_words(Register& sum, Register x) noexcept { sum = pinned(_mm512_add_epi16(sum, x)); }
  static void add_sums(Register& sum, Register x) noexcept { sum = pinned(_mm512_add_epi32(sum, x)); }
  static Register even_bytes(Register w) noexcept { return _mm512_and_si512(w, all(0x00ff00ff)); }
  static Register odd_bytes(Register w) noexcept { return _mm512_srli_epi16(w, 8); }
  static Register ones() noexcept { return _mm512_set1_epi16(1); }
#else
  static constexpr std::size_t parts = 2;
  using Register = __m256i;
  static Register zeros() noexcept { return _mm256_setzero_si256(); }
  static Register all(std::int32_t x) noexcept { return _mm256_set1_epi32(x); }
  // as a float, since gcc would load an integer to a general register first
  static Register broadcast(const std::byte* p) noexcept {
    return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
  }
  static Register pair_products(Register w, Register x) noexcept { return _mm256_maddubs_epi16(w, x); }
  static Register word_products(Register w, Register x) noexcept { return _mm256_madd_epi16(w, x); }
  // In the register that the sum is in: gcc would leave it in that of x and copy it back, a fifth of a loop's
  // instructions. On a copy: of a sum whose address an asm takes, gcc keeps an array in memory throughout a loop.
  static void add_words(Register& sum, Register x) noexcept {
    Register s = sum;
    asm("vpaddw {%1, %0, %0|%0, %0, %1}" : "+x"(s) : "x"(x));
    sum = s;
  }
  static void add_sums(Register& sum, Register x) noexcept {
    Register s = sum;
    asm("vpaddd {%1, %0, %0|%0, %0, %1}" : "+x"(s) : "x"(x));
    sum = s;
  }
  static Register even_bytes(Register w) noexcept { return _mm256_and_si256(w, all(0x00ff00ff)); }
  static Register odd_bytes(Register w) noexcept { return _mm256_srli_epi16(w, 8); }
  static Register ones() noexcept { return _mm256_set1_epi16(1); }
#endif
  using Step = Quads;
  using Input = const std::byte*;
  Register sum[parts];

  static Input input(const std::byte* p) noexcept { return p; }

  static Dot zero() noexcept {
    Dot out;
    for (std::size_t i = 0; i < parts; ++i) out.sum[i] = zeros();
    return out;
  }
  static void split(const Quads& w, Step (&out)[steps]) noexcept {
    if constexpr (narrow) {
      out[0] = w;
    } else {
      for (std::size_t i = 0; i < parts; ++i) {
        out[0].part[i] = even_bytes(w.part[i]);
        out[1].part[i] = odd_bytes(w.part[i]);
      }
    }
  }
  void add(const Step& w, Input input) noexcept {
    for (std::size_t i = 0; i < parts; ++i) {
      const Register x = broadcast(input);
      if constexpr (narrow) {
        add_words(sum[i], pair_products(w.part[i], x));
      } else {
        add_sums(sum[i], word_products(w.part[i], x));
      }
    }
  }
  Sums sums() const noexcept {
    Sums out;
    for (std::size_t i = 0; i < parts; ++i) out.part[i] = narrow ? word_products(sum[i], ones()) : sum[i];
    return out;
  }

#else
  static constexpr std::size_t steps = 1;
  using Step = Quads;
  using Input = const std::byte*;
  std::int32_t sum[lanes];

  static Dot zero() noexcept { return {}; }
  static void split(const Quads& w, Step (&out)[1]) noexcept { out[0] = w; }
  static Input input(const std::byte* p) noexcept { return p; }
  void add(const Step& w, Input input) noexcept {
    std::int8_t x[quad];
    std::memcpy(x, input, sizeof x);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      for (std::size_t k = 0; k < quad; ++k) sum[lane] += static_cast<int>(w.part[lane * quad + k]) * x[k];
    }
  }
  Sums sums() const noexcept {
    Sums out;
    std::memcpy(out.part, sum, sizeof sum);
    return out;
  }
#endif

  /// Bytes of a quad of activations.
  static constexpr std::size_t input_bytes = 4 * steps;

  /// Writes a quad of activations, x (4), in the form that `add` reads.
  static void put(const std::int8_t* x, std::byte* out) noexcept {
    if constexpr (steps == 1) {
      std::memcpy(out, x, 4);
    } else {
      const std::int16_t words[quad] = {x[0], x[2], x[1], x[3]};
      std::memcpy(out, words, 8);
    }
  }
};
#endif

}}}  // namespace mistral::simd
