// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/format/encode.hpp>
#include <mistral/format/integer_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Six bits a weight, 6.56 bits in all: ggml's Q6_K. A block of 256 inputs of a row has a half-precision scale, and
/// each group of 16 a signed byte: weight = scale x byte x (code - 32).
///
/// A step is half of a block. A byte of a lane holds the lower four bits of an input of the first 64 and, above them,
/// of one of the second 64; a byte of the eight quads after that the upper two bits of an input of each 32.
struct Q6_K {
  /// As WeightFormat, IntegerFormat and FileFormat have them. A block is `code_bytes` of codes, `group_bytes`, and the
  /// scales.
  ///@{
  static constexpr std::string_view name = "Q6_K";
  static constexpr std::size_t block_inputs = 256;
  static constexpr std::size_t group_inputs = 16;
  static constexpr std::size_t groups = block_inputs / group_inputs;
  static constexpr std::size_t step_inputs = 128;
  static constexpr std::size_t third_bytes = 32 * panel_rows;
  static constexpr std::size_t step_bytes = 3 * third_bytes;
  static constexpr std::size_t code_bytes = 2 * step_bytes;
  static constexpr std::size_t group_bytes = groups * panel_rows;
  static constexpr std::size_t block_bytes = code_bytes + group_bytes + panel_rows * sizeof(f16);
  static constexpr int zero = 32;
  static constexpr unsigned max_code = 63;
  static constexpr std::uint32_t file_type = 14;
  static constexpr std::size_t file_block_bytes = 210;  // 128 bytes of lower bits, 64 of upper, 16 of groups, the scale

  /// Each group's scale is fitted as if it weren't to be rounded, from four candidates; then the largest becomes -128
  /// units, and the codes are those nearest to what the rounded scales stand for.
  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
    simd::Lanes scales[groups];
    simd::Lanes largest = simd::Lanes::broadcast(0.0f);
    for (std::size_t g = 0; g < groups; ++g) {
      scales[g] = fit(reinterpret_cast<const float(&)[group_inputs][panel_rows]>(in[g * group_inputs]));
      largest = simd::larger_magnitude(largest, scales[g]);
    }
    std::byte* const packed = block + code_bytes;
    const simd::Lanes unit =
        put_halves(simd::product(largest, simd::Lanes::broadcast(-1.0f / 128.0f)), packed + group_bytes);
    const simd::Lanes factor = inverse_or_zero(unit);
    simd::Lanes inverse[groups];
    for (std::size_t g = 0; g < groups; g += simd::quad) {
      simd::Words words = simd::Words::zero();
      for (std::size_t k = 0; k < simd::quad; ++k) {
        const simd::Lanes raised = simd::product_plus(scales[g + k], factor, simd::Lanes::broadcast(128.5f));
        const simd::Words byte = simd::Words::truncate(raised, 0.0f, 255.0f);
        inverse[g + k] = inverse_or_zero(simd::product(unit, byte.to_lanes() - simd::Lanes::broadcast(128.0f)));
        words.put(byte, static_cast<int>(8 * k));
      }
      words.flipped(0x80808080u).store(packed + g / simd::quad * simd::Quads::bytes);  // lowered by 128: signed
    }
    for (std::size_t step = 0; step < 2; ++step, block += step_bytes) {
      for (std::size_t i = 0; i < scale_inputs; i += simd::quad) {  // and the same of the other three 32
        simd::Words codes[4];
        for (std::size_t quarter = 0; quarter < 4; ++quarter) {
          codes[quarter] = simd::Words::zero();
          for (std::size_t k = 0; k < simd::quad; ++k) {
            const std::size_t input = step * step_inputs + quarter * scale_inputs + i + k;
            const simd::Lanes raised = simd::product_plus(simd::Lanes::load(in[input]), inverse[input / group_inputs],
                                                          simd::Lanes::broadcast(32.5f));
            codes[quarter].put(simd::Words::truncate(raised, 0.0f, 63.0f), static_cast<int>(8 * k));
          }
        }
        put(codes, block + i / simd::quad * simd::Quads::bytes);
      }
    }
  }

  // A file's block is 2 x 64 bytes of lower four bits, in each the first and second 32 in the lower halves and the
  // third and fourth in the upper, then 2 x 32 bytes of the upper two bits of four codes.
  static void from_file_blocks(const std::byte* const (&rows)[panel_rows], std::byte* block) noexcept {
    for (std::size_t step = 0; step < 2; ++step, block += step_bytes) {
      std::byte low[2 * third_bytes];
      std::byte high[third_bytes];
      simd::transpose_words(RowPointers(rows, step * 64).at, 16, low);
      simd::transpose_words(RowPointers(rows, 128 + step * 32).at, 8, high);
      for (std::size_t at = 0; at < third_bytes; at += simd::Quads::bytes) {
        const simd::Words upper = simd::Words::load(high + at);
        simd::Words codes[4];
        for (std::size_t quarter = 0; quarter < 4; ++quarter) {
          const simd::Words lower = simd::Words::load(low + quarter % 2 * third_bytes + at);
          codes[quarter] = lower.bits(static_cast<int>(quarter / 2 * 4), 28).masked(0x0f0f0f0fu);
          codes[quarter].put(upper.bits(static_cast<int>(2 * quarter), 26).masked(0x03030303u), 4);
        }
        put(codes, block + at);
      }
    }
    simd::transpose_words(RowPointers(rows, 192).at, 4, block);
    halves_from_rows(RowPointers(rows, 208).at, block + group_bytes);
  }
  static void to_file_blocks(const std::byte* block, std::byte* const (&rows)[panel_rows]) noexcept {
    for (std::size_t step = 0; step < 2; ++step, block += step_bytes) {
      std::byte low[2 * third_bytes];
      std::byte high[third_bytes];
      for (std::size_t i = 0; i < 8; ++i) {
        simd::Words upper = simd::Words::zero();
        for (std::size_t quarter = 0; quarter < 4; ++quarter) {
          std::byte code[simd::Quads::bytes];
          quads(block, 8 * quarter + i).store(code);
          upper.put(simd::Words::load(code).masked(0x30303030u).bits(4, 26), static_cast<int>(2 * quarter));
        }
        upper.store(high + i * simd::Quads::bytes);
        for (std::size_t half = 0; half < 2; ++half) {
          simd::both_nibbles(quads(block, 8 * half + i), quads(block, 8 * half + 16 + i))
              .store(low + half * third_bytes + i * simd::Quads::bytes);
        }
      }
      simd::untranspose_words(low, 16, RowPointers(rows, step * 64).at);
      simd::untranspose_words(high, 8, RowPointers(rows, 128 + step * 32).at);
    }
    simd::untranspose_words(block, 4, RowPointers(rows, 192).at);
    halves_to_rows(block + group_bytes, RowPointers(rows, 208).at);
  }

  static simd::Quads quads(const std::byte* step, std::size_t i) noexcept {
    const std::byte* const at = step + i % 8 * simd::Quads::bytes;
    if (i < 24) return simd::Quads::load(at + i / 8 * third_bytes).low_6_bits();
    return simd::Quads::of_upper_bits(simd::Quads::load(at), simd::Quads::load(at + third_bytes),
                                      simd::Quads::load(at + 2 * third_bytes));
  }
  using Terms = ScalesOfHalves<zero>;
  static void terms(const std::byte* block, Terms (&out)[block_inputs / scale_inputs]) noexcept {
    const std::byte* const packed = block + code_bytes;
    const simd::Lanes scale = simd::Lanes::load(reinterpret_cast<const f16*>(packed + group_bytes));
    for (std::size_t g = 0; g < groups; g += simd::quad) {
      const simd::Quads bytes = simd::Quads::load(packed + g / simd::quad * simd::Quads::bytes);
      for (std::size_t k = 0; k < simd::quad; k += 2) {
        Terms& terms = out[(g + k) / 2];
        for (std::size_t r = 0; r < simd::registers; ++r) terms.scale.part[r] = scale.part[r];
        terms.halves[0] = simd::ScaledDot<zero>::scales(bytes, k);
        terms.halves[1] = simd::ScaledDot<zero>::scales(bytes, k + 1);
      }
    }
  }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept {
    unpack_integers<Q6_K>(block, w);
  }
  ///@}

 private:
  /// Stores the codes of four inputs of each 32 of a step.
  static void put(const simd::Words (&codes)[4], std::byte* out) noexcept {
    for (std::size_t third = 0; third < 3; ++third) {
      simd::Words words = codes[third];
      words.put(codes[3].bits(static_cast<int>(2 * third), 30 - static_cast<int>(2 * third)).masked(0x03030303u), 6);
      words.store(out + third * third_bytes);
    }
  }

  /// The largest weight gets the code -32, or less, so that the one of the other sign isn't cut.
  static simd::Lanes fit(const float (&in)[group_inputs][panel_rows]) noexcept {
    const simd::Lanes largest = largest_weights(in);
    const simd::Lanes inverse = inverse_or_zero(largest);
    const Importance importance(in);
    BestScale best(simd::product(largest, simd::Lanes::broadcast(-1.0f / 32.0f)));
    for (const float level : {-32.0f, -31.0f, -30.0f, -29.0f}) {
      const simd::Lanes factor = simd::product(inverse, simd::Lanes::broadcast(level));
      simd::Lanes products = simd::Lanes::broadcast(0.0f);
      simd::Lanes squares = simd::Lanes::broadcast(0.0f);
      for (std::size_t i = 0; i < group_inputs; ++i) {
        const simd::Lanes x = simd::Lanes::load(in[i]);
        const simd::Lanes code = simd::nearest(simd::at_most(simd::product(x, factor), 31.0f));
        const simd::Lanes weighted = simd::product(importance[i], code);
        products = simd::product_plus(weighted, x, products);
        squares = simd::product_plus(weighted, code, squares);
      }
      best.consider(products, squares);
    }
    return best.scale();
  }
};

static_assert(IntegerFormat<Q6_K> && FileFormat<Q6_K>);

}}  // namespace mistral
