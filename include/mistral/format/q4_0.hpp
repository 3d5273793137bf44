// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/format/encode.hpp>
#include <mistral/format/integer_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Four bits a weight and a half-precision scale for each 32 inputs of a row, 4.5 bits in all: ggml's Q4_0. The weight
/// of largest magnitude gets the code 0, which stands for -8: the scale has the opposite sign of that weight, and any
/// other weight is off by at most 1/2 scale, or 1 where it would need the code 16.
///
/// A byte of a lane holds one input of the first 16 in its lower half and its neighbour of the second 16 in the upper.
struct Q4_0 {
  /// As WeightFormat, IntegerFormat and FileFormat have them; after `code_bytes` of codes a block has its scales.
  ///@{
  static constexpr std::string_view name = "Q4_0";
  static constexpr std::size_t block_inputs = 32;
  static constexpr std::size_t code_bytes = 16 * panel_rows;
  static constexpr std::size_t step_inputs = block_inputs;
  static constexpr std::size_t step_bytes = code_bytes;
  static constexpr std::size_t block_bytes = code_bytes + panel_rows * sizeof(f16);
  static constexpr int zero = 8;
  static constexpr unsigned max_code = 15;
  static constexpr std::uint32_t file_type = 2;
  static constexpr std::size_t file_block_bytes = 18;  // the scale, 16 bytes of codes, halves as in the panel

  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
    const simd::Lanes scale = largest_weights(in) / simd::Lanes::broadcast(-8.0f);
    put_halves(scale, block + code_bytes);
    const simd::Lanes inverse = inverse_or_zero(scale);
    for (std::size_t i = 0; i < block_inputs / 2; i += simd::quad) {
      simd::Words words = simd::Words::zero();
      for (std::size_t k = 0; k < simd::quad; ++k) {
        for (std::size_t half = 0; half < 2; ++half) {
          const simd::Lanes raised =
              simd::product_plus(simd::Lanes::load(in[16 * half + i + k]), inverse, simd::Lanes::broadcast(8.5f));
          words.put(simd::Words::truncate(raised, 0.0f, 15.0f), static_cast<int>(8 * k + 4 * half));
        }
      }
      words.store(block + i / simd::quad * simd::Quads::bytes);
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

  static simd::Quads quads(const std::byte* block, std::size_t i) noexcept {
    const simd::Quads both = simd::Quads::load(block + i % 4 * simd::Quads::bytes);
    return i < 4 ? both.low_nibbles() : both.high_nibbles();
  }
  using Terms = Scales;
  static void terms(const std::byte* block, Scales (&out)[1]) noexcept {
    out[0].scale = simd::Lanes::load(reinterpret_cast<const f16*>(block + code_bytes));
  }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept {
    unpack_integers<Q4_0>(block, w);
  }
  ///@}
};

static_assert(IntegerFormat<Q4_0> && FileFormat<Q4_0>);

}}  // namespace mistral
