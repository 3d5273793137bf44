// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include <mistral/simd/sets/basic_quads.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// The operations in plain C++, and floats by xsimd: for what has nothing better.
struct Scalar {
  using Plainer = void;
  using Floats = float;
  using Ints = std::int32_t;
  using Bytes = std::uint8_t;
  using Pairs = BitsBatch;
  using FloatGroup = Floats[lanes];
  using IntGroup = Ints[lanes];
  using ByteGroup = Bytes[lanes * quad];
  using PairGroup = Pairs[registers];

  // 3 x 1 accumulators of 4 registers + 1 broadcast, weights from memory = 13 of 16
  static constexpr std::size_t tile_rows = 3;
  static constexpr std::size_t tile_panels = 1;
  static constexpr std::size_t integer_tile_rows = 2;
  static constexpr std::size_t integer_tile_panels = 1;
  static constexpr std::size_t transposed_words = 1;
  static constexpr bool multiplies_pairs = false;

  template <class Element>
  static void widen(const Element* p, float (&out)[lanes]) noexcept {
    for (std::size_t i = 0; i < lanes; ++i) out[i] = to_float(p[i]);
  }

  template <class Batch>
  static Batch fma(const Batch& a, const Batch& b, const Batch& c) noexcept {
    return xsimd::fma(a, b, c);
  }
  template <class Batch>
  static Batch divide(const Batch& a, const Batch& b) noexcept {
    return a / b;
  }
  template <class Batch>
  static Batch square_root(const Batch& a) noexcept {
    return xsimd::sqrt(a);
  }
  template <class Batch>
  static Batch shifted_left(const Batch& x, int n) noexcept {
    return x << n;
  }
  template <class Batch>
  static Batch shifted_right(const Batch& x, int n) noexcept {
    return x >> n;
  }

  template <class Register>
  static Register rounded(Register x) noexcept {
    __asm__("" : "+m"(x));
    return x;
  }
  template <class Register>
  static Register pinned(Register x) noexcept {
    return x;
  }

  static void load_pairs(const std::byte* p, PairGroup& out) noexcept {
    for (std::size_t i = 0; i < registers; ++i) {
      out[i] = Pairs::load_unaligned(reinterpret_cast<const std::uint32_t*>(p) + i * Pairs::size);
    }
  }
  static void broadcast_pair(const std::byte* p, PairGroup& out) noexcept {
    std::uint32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    for (std::size_t i = 0; i < registers; ++i) out[i] = Pairs(pair);
  }
  /// The odd input's product is added, then the even one's.
  static FloatBatch add_products(const Pairs& w, const Pairs& x, const FloatBatch& acc) noexcept {
    const auto odd = [](const Pairs& pairs) { return std::bit_cast<FloatBatch>(pairs & Pairs(0xffff0000u)); };
    const auto even = [](const Pairs& pairs) { return std::bit_cast<FloatBatch>(pairs << 16); };
    return xsimd::fma(even(w), even(x), xsimd::fma(odd(w), odd(x), acc));
  }

  static float quantize(const float* x, std::int8_t* codes, std::int32_t& sum) noexcept {
    float magnitude = 0.0f;
    bool finite = true;
    for (std::size_t i = 0; i < quantize_inputs; ++i) {
      finite &= std::isfinite(x[i]);
      magnitude = (std::max)(magnitude, std::abs(x[i]));
    }
    if (!finite) magnitude = 0.0f;
    const float inverse = magnitude > 1e-36f ? 127.0f / magnitude : 0.0f;  // below, the quotient would overflow
    sum = 0;
    for (std::size_t i = 0; i < quantize_inputs; ++i) {
      const auto code = finite ? static_cast<std::int32_t>(std::nearbyint(x[i] * inverse)) : 0;
      codes[i] = static_cast<std::int8_t>(code);
      sum += code;
    }
    return finite ? magnitude / 127.0f : std::numeric_limits<float>::quiet_NaN();
  }

  static Ints broadcast(std::int32_t n) noexcept { return n; }
  static Ints add_ints(Ints a, Ints b) noexcept { return a + b; }
  static Floats to_floats(Ints x) noexcept { return static_cast<float>(x); }

  static void load_bytes(const std::byte* p, ByteGroup& out) noexcept { std::memcpy(out, p, sizeof out); }
  static Bytes masked(Bytes x, std::uint8_t mask) noexcept { return static_cast<Bytes>(x & mask); }
  static Bytes high_nibbles(Bytes x) noexcept { return static_cast<Bytes>(x >> 4); }
  static Bytes of_upper_bits(Bytes a, Bytes b, Bytes c) noexcept {
    return static_cast<Bytes>((a >> 6) | ((b >> 6) * 4u) | ((c >> 6) * 16u));
  }
  static Bytes look_up(const std::uint8_t (&table)[16], Bytes x) noexcept { return table[x]; }

  static void look_up_floats(const std::uint8_t (&table)[4][16], const std::byte* codes, int shift,
                             FloatGroup (&out)[quad]) noexcept {
    for (std::size_t input = 0; input < quad; ++input) {
      for (std::size_t row = 0; row < lanes; ++row) {
        const std::size_t at = row / 4 * 16 + input * 4 + row % 4;  // FloatTable::code_at
        const std::size_t code = (std::to_integer<std::size_t>(codes[at]) >> shift) & 15u;
        std::uint32_t bits = 0;
        for (std::size_t b = 0; b < 4; ++b) bits |= static_cast<std::uint32_t>(table[b][code]) << (8 * b);
        out[input][row] = std::bit_cast<float>(bits);
      }
    }
  }

  template <std::size_t N>
  static void count_not_above(std::byte* bytes, const std::uint8_t (&thresholds)[N]) noexcept {
    for (std::size_t i = 0; i < lanes * quad; ++i) {
      unsigned count = 0;
      for (const std::uint8_t threshold : thresholds) {
        count += std::to_integer<unsigned>(bytes[i]) >= threshold ? 1u : 0u;
      }
      bytes[i] = static_cast<std::byte>(count);
    }
  }

  template <class Batch>
  static Batch product_of_halves(const Batch& x) noexcept {
    std::uint64_t words[Batch::size];
    x.store_unaligned(words);
    for (std::uint64_t& word : words) word = (word & 0xffffffffu) * (word >> 32);
    return Batch::load_unaligned(words);
  }

  template <class Row>
  static void transpose(const Row& row, std::size_t w, std::byte* panel) noexcept {
    for (std::size_t i = 0; i < lanes; ++i) {
      std::memcpy(panel + w * word_bytes + i * sizeof(std::uint32_t), row(i, w), sizeof(std::uint32_t));
    }
  }

  template <class Set, unsigned MaxCode>
  struct Dot {
    static constexpr std::size_t steps = 1;
    static constexpr std::size_t input_bytes = quad;
    using Step = BasicQuads<Set>;
    using Input = const std::byte*;
    std::int32_t sum[lanes];

    static Dot zero() noexcept { return {}; }
    static void split(const BasicQuads<Set>& w, Step (&out)[1]) noexcept { out[0] = w; }
    static Input input(const std::byte* p) noexcept { return p; }
    static void put(const std::int8_t* x, std::byte* out) noexcept { std::memcpy(out, x, quad); }
    void add(const Step& w, Input input) noexcept {
      std::int8_t x[quad];
      std::memcpy(x, input, sizeof x);
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        for (std::size_t k = 0; k < quad; ++k) sum[lane] += static_cast<int>(w.part[lane * quad + k]) * x[k];
      }
    }
    BasicSums<Set> sums() const noexcept {
      BasicSums<Set> out;
      std::memcpy(out.part, sum, sizeof sum);
      return out;
    }
  };

  /// Sums as Dot takes them, from which the zero is taken once for all lanes before they meet their scales.
  template <class Set, int Zero>
  struct ScaledDot {
    using Products = typename Set::template Dot<Set, 63>;
    using Step = typename Products::Step;
    using Input = typename Products::Input;
    static constexpr std::size_t inputs = 16;
    static constexpr std::size_t steps = Products::steps;
    static constexpr std::size_t input_bytes = Products::input_bytes;
    static constexpr bool begins_at_start = requires { Products::from(std::int32_t{}); };
    Products products;
    std::int32_t first;  // what the sum still lacks

    static std::int32_t start(const std::int8_t* x) noexcept {
      std::int32_t sum = 0;
      for (std::size_t i = 0; i < inputs; ++i) sum += x[i];
      return -Zero * sum;
    }
    static ScaledDot from(std::int32_t start) noexcept {
      if constexpr (begins_at_start) {
        return {Products::from(start), 0};
      } else {
        return {Products::zero(), start};
      }
    }
    static void split(const BasicQuads<Set>& w, Step (&out)[steps]) noexcept { Products::split(w, out); }
    static Input input(const std::byte* p) noexcept { return Products::input(p); }
    static void put(const std::int8_t* x, std::byte* out) noexcept { Products::put(x, out); }
    void add(const Step& w, const Input& x) noexcept { products.add(w, x); }

    static BasicQuads<Set> scales(const BasicQuads<Set>& bytes, std::size_t k) noexcept {
      BasicQuads<Set> out;
      Set::signed_bytes(bytes.part, static_cast<int>(24 - 8 * k), out.part);
      return out;
    }
    BasicSums<Set> sums(const BasicQuads<Set>& scales) const noexcept {
      BasicSums<Set> out = products.sums();
      Set::scale(out.part, first, scales.part);
      return out;
    }
  };

  /// The byte of each lane that is the highest after a shift to the left, as a signed number in the whole lane.
  static void signed_bytes(const ByteGroup& bytes, int shift, ByteGroup& out) noexcept {
    std::int32_t words[lanes];
    std::memcpy(words, bytes, sizeof words);
    for (auto& word : words) word = static_cast<std::int32_t>(static_cast<std::uint32_t>(word) << shift) >> 24;
    std::memcpy(out, words, sizeof words);
  }
  /// (sum + first) * factor in each lane.
  static void scale(IntGroup& sums, std::int32_t first, const ByteGroup& factors) noexcept {
    std::int32_t numbers[lanes];
    std::memcpy(numbers, factors, sizeof numbers);
    for (std::size_t i = 0; i < lanes; ++i) sums[i] = (sums[i] + first) * numbers[i];
  }
};

static_assert(WholeInstructionSet<Scalar>);

}}}  // namespace mistral::simd
