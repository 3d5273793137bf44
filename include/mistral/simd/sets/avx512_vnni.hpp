// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/sets/avx512.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// AVX-512 with VNNI: bytes by vpdpbusd.
struct Avx512Vnni : Avx512 {
  using Plainer = Avx512;

  // 6 x 2 sums + 12 floats + 2 weights + 1 broadcast = 27 of 32
  static constexpr std::size_t integer_tile_rows = 6;
  static constexpr std::size_t integer_tile_panels = 2;

  /// sum + the four products of each lane, where the sum is, on a copy: as Avx2 adds.
  static void add_products_of_bytes(Ints& sum, Bytes w, Bytes x) noexcept {
    Ints s = sum;
    asm("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(s) : "v"(w), "v"(x));
    sum = s;
  }

  /// Four products and the sum in one instruction, whatever the weights.
  template <class Set, unsigned MaxCode>
  struct Dot {
    static constexpr std::size_t steps = 1;
    static constexpr std::size_t input_bytes = quad;
    using Step = BasicQuads<Set>;
    using Input = Bytes;
    Ints sum;

    static Dot zero() noexcept { return from(0); }
    /// A sum that begins at any number, which costs no more than one that begins at 0.
    static Dot from(std::int32_t first) noexcept { return {_mm512_set1_epi32(first)}; }
    static void split(const BasicQuads<Set>& w, Step (&out)[1]) noexcept { out[0] = w; }
    static Input input(const std::byte* p) noexcept {
      std::int32_t x;
      std::memcpy(&x, p, sizeof x);
      return _mm512_set1_epi32(x);
    }
    static void put(const std::int8_t* x, std::byte* out) noexcept { std::memcpy(out, x, quad); }
    void add(const Step& w, const Input& x) noexcept { Set::add_products_of_bytes(sum, w.part[0], x); }
    BasicSums<Set> sums() const noexcept { return {{sum}}; }
  };

  template <class Set, int Zero>
  using ScaledDot = Scalar::ScaledDot<Set, Zero>;

  static void signed_bytes(const ByteGroup& bytes, int shift, ByteGroup& out) noexcept {
    out[0] = _mm512_srai_epi32(_mm512_sllv_epi32(bytes[0], _mm512_set1_epi32(shift)), 24);
  }
  static void scale(IntGroup& sums, std::int32_t first, const ByteGroup& factors) noexcept {
    sums[0] = _mm512_mullo_epi32(_mm512_add_epi32(sums[0], _mm512_set1_epi32(first)), factors[0]);
  }
};

static_assert(WholeInstructionSet<Avx512Vnni>);

}}}  // namespace mistral::simd
