// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/format/encode.hpp>
#include <mistral/format/integer_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Four bits a weight and a half-precision scale for each 32 inputs of a row, 4.5 bits in all, as Q4_0; but a code
/// stands for one of 16 levels that lie denser around zero, as weights do: ggml's IQ4_NL.
///
/// A byte of a lane holds one input of the first 16 in its lower half and its neighbour of the second 16 in the upper.
struct IQ4_NL {
  /// As WeightFormat, IntegerFormat and FileFormat have them; after `code_bytes` of codes a block has its scales.
  ///@{
  static constexpr std::string_view name = "IQ4_NL";
  static constexpr std::size_t block_inputs = 32;
  static constexpr std::size_t code_bytes = 16 * panel_rows;
  static constexpr std::size_t step_inputs = block_inputs;
  static constexpr std::size_t step_bytes = code_bytes;
  static constexpr std::size_t block_bytes = code_bytes + panel_rows * sizeof(f16);
  static constexpr int zero = 128;
  static constexpr unsigned max_code = 255;
  static constexpr std::uint32_t file_type = 20;
  static constexpr std::size_t file_block_bytes = 18;  // the scale, 16 bytes of codes, halves as in the panel

  /// -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89 and 113, raised by 128.
  static constexpr std::uint8_t levels[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

  /// The largest weight gets the lowest level or the highest, in one of four ways: each may cut it a little or leave
  /// room, and the scale that is best for the codes that come of it is the candidate.
  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
    const simd::Lanes largest = largest_weights(in);
    const simd::Lanes inverse = inverse_or_zero(largest);
    const Importance importance(in);
    BestScale best(largest / simd::Lanes::broadcast(-127.0f));
    for (const float level : {-127.0f, 113.0f, -140.0f, -115.0f}) {
      const simd::Lanes factor = simd::product(inverse, simd::Lanes::broadcast(level));
      simd::Lanes products = simd::Lanes::broadcast(0.0f);
      simd::Lanes squares = simd::Lanes::broadcast(0.0f);
      for (std::size_t i = 0; i < block_inputs; i += simd::quad) {
        std::byte codes[simd::Quads::bytes];
        nearest(in + i, factor).look_up(signed_levels).store(codes);
        const auto add = [&](std::size_t k, const simd::Lanes& code) {
          const simd::Lanes weighted = simd::product(importance[i + k], code);
          products = simd::product_plus(weighted, simd::Lanes::load(in[i + k]), products);
          squares = simd::product_plus(weighted, code, squares);
        };
        add(0, simd::byte_of_words<0>(codes));
        add(1, simd::byte_of_words<1>(codes));
        add(2, simd::byte_of_words<2>(codes));
        add(3, simd::byte_of_words<3>(codes));
      }
      best.consider(products, squares);
    }
    const simd::Lanes factor = inverse_or_zero(put_halves(best.scale(), block + code_bytes));
    for (std::size_t i = 0; i < block_inputs / 2; i += simd::quad) {
      simd::both_nibbles(nearest(in + i, factor), nearest(in + i + 16, factor))
          .store(block + i / simd::quad * simd::Quads::bytes);
    }
  }

  static void from_file_blocks(const std::byte* const (&rows)[panel_rows], std::byte* block) noexcept {
    halves_from_rows(rows, block + code_bytes);
    simd::transpose_words(RowPointers(rows, sizeof(f16)).at, 4, block);
  }
  static void to_file_blocks(const std::byte* block, std::byte* const (&rows)[panel_rows]) noexcept {
    halves_to_rows(block + code_bytes, rows);
    simd::untranspose_words(block, 4, RowPointers(rows, sizeof(f16)).at);
  }

  static simd::Quads quads(const std::byte* codes, std::size_t i) noexcept {
    const simd::Quads both = simd::Quads::load(codes + i % 4 * simd::Quads::bytes);
    return (i < 4 ? both.low_nibbles() : both.high_nibbles()).look_up(levels);
  }
  using Terms = Scales;
  static void terms(const std::byte* block, Scales (&out)[1]) noexcept {
    out[0].scale = simd::Lanes::load(reinterpret_cast<const f16*>(block + code_bytes));
  }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept {
    unpack_integers<IQ4_NL>(block, w);
  }
  ///@}

 private:
  /// The levels as they are, in two's complement.
  static constexpr std::uint8_t signed_levels[16] = {129, 152, 173, 191, 207, 221, 234, 246,
                                                     1,   13,  25,  38,  53,  69,  89,  113};

  /// The codes of the levels that are nearest to four inputs x factor (which are rounded to whole numbers first).
  static simd::Quads nearest(const float (*in)[panel_rows], const simd::Lanes& factor) noexcept {
    static constexpr std::uint8_t thresholds[15] = {13,  35,  54,  71,  86,  100, 112, 124,
                                                    135, 147, 160, 174, 189, 207, 229};
    simd::Words words = simd::Words::zero();
    for (std::size_t k = 0; k < simd::quad; ++k) {
      const simd::Lanes raised = simd::product_plus(simd::Lanes::load(in[k]), factor, simd::Lanes::broadcast(128.5f));
      words.put(simd::Words::truncate(raised, 0.0f, 255.0f), static_cast<int>(8 * k));
    }
    return simd::count_not_above(simd::quads_of(words), thresholds);
  }
};

static_assert(IntegerFormat<IQ4_NL> && FileFormat<IQ4_NL>);

}}  // namespace mistral
