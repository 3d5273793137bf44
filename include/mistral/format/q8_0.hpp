// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/format/encode.hpp>
#include <mistral/format/integer_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Eight bits a weight and a half-precision scale for each 32 inputs of a row, 8.5 bits in all: ggml's Q8_0, with the
/// codes raised by 128 to be unsigned. A weight is off by at most 1/2 of its scale, max|w| / 127, and by what rounding
/// the scale adds: 2^-11 of itself.
struct Q8_0 {
  /// As WeightFormat, IntegerFormat and FileFormat have them; after `code_bytes` of codes a block has its scales.
  ///@{
  static constexpr std::string_view name = "Q8_0";
  static constexpr std::size_t block_inputs = 32;
  static constexpr std::size_t code_bytes = 32 * panel_rows;
  static constexpr std::size_t step_inputs = block_inputs;
  static constexpr std::size_t step_bytes = code_bytes;
  static constexpr std::size_t block_bytes = code_bytes + panel_rows * sizeof(f16);
  static constexpr int zero = 128;
  static constexpr unsigned max_code = 255;
  static constexpr std::uint32_t file_type = 8;
  static constexpr std::size_t file_block_bytes = 34;  // the scale, 32 signed codes

  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
    const simd::Lanes largest = simd::abs(largest_weights(in));
    const simd::Lanes scale = largest / simd::Lanes::broadcast(127.0f);
    put_halves(scale, block + code_bytes);
    const simd::Lanes inverse = inverse_or_zero(scale);
    for (std::size_t i = 0; i < block_inputs; i += simd::quad) {
      simd::Words words = simd::Words::zero();
      for (std::size_t k = 0; k < simd::quad; ++k) {
        // Raised by 128 before the cut, so that all are positive and cutting off after adding 1/2 rounds.
        const simd::Lanes raised =
            simd::product_plus(simd::Lanes::load(in[i + k]), inverse, simd::Lanes::broadcast(128.5f));
        words.put(simd::Words::truncate(raised, 1.0f, 255.0f), static_cast<int>(8 * k));
      }
      words.store(block + i / simd::quad * simd::Quads::bytes);
    }
  }

  static void from_file_blocks(const std::byte* const (&rows)[panel_rows], std::byte* block) noexcept {
    halves_from_rows(rows, block + code_bytes);
    simd::transpose_words(RowPointers(rows, sizeof(f16)).at, 8, block);
    raise(block);
  }
  static void to_file_blocks(const std::byte* block, std::byte* const (&rows)[panel_rows]) noexcept {
    std::byte codes[code_bytes];
    std::memcpy(codes, block, code_bytes);
    raise(codes);
    halves_to_rows(block + code_bytes, rows);
    simd::untranspose_words(codes, 8, RowPointers(rows, sizeof(f16)).at);
  }

  static simd::Quads quads(const std::byte* block, std::size_t i) noexcept {
    return simd::Quads::load(block + i * simd::Quads::bytes);
  }
  using Terms = Scales;
  static void terms(const std::byte* block, Scales (&out)[1]) noexcept {
    out[0].scale = simd::Lanes::load(reinterpret_cast<const f16*>(block + code_bytes));
  }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept {
    unpack_integers<Q8_0>(block, w);
  }
  ///@}

 private:
  /// Signed codes to those raised by 128, modulo 256, and back: the highest bit is the other one.
  static void raise(std::byte* codes) noexcept {
    for (std::size_t i = 0; i < code_bytes; ++i) codes[i] ^= std::byte{128};
  }
};

static_assert(IntegerFormat<Q8_0> && FileFormat<Q8_0>);

}}  // namespace mistral
