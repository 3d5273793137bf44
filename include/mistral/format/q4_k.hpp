// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/format/encode.hpp>
#include <mistral/format/integer_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Four bits a weight, 4.5 bits in all: ggml's Q4_K. A block of 256 inputs of a row has two half-precision scales; each
/// group of 32 has a scale of 6 bits, in units of the first, and a minimum of 6 bits, in units of the second: weight =
/// scale x code - minimum. So a group whose weights don't lie around zero loses less than with Q4_0.
///
/// A step is two groups: a byte of a lane holds an input of the first in its lower half and one of the second in the
/// upper. After the codes, 12 bytes a row hold the groups' scales and minima as a file does, as three words of a lane.
struct Q4_K {
  /// As WeightFormat, IntegerFormat and FileFormat have them. A block is `code_bytes` of codes, `group_bytes`, and both
  /// scales.
  ///@{
  static constexpr std::string_view name = "Q4_K";
  static constexpr std::size_t block_inputs = 256;
  static constexpr std::size_t groups = block_inputs / scale_inputs;
  static constexpr std::size_t step_inputs = 2 * scale_inputs;
  static constexpr std::size_t step_bytes = 32 * panel_rows;
  static constexpr std::size_t code_bytes = 128 * panel_rows;
  static constexpr std::size_t group_bytes = 12 * panel_rows;
  static constexpr std::size_t block_bytes = code_bytes + group_bytes + 2 * panel_rows * sizeof(f16);
  static constexpr int zero = 0;
  static constexpr unsigned max_code = 15;
  static constexpr std::uint32_t file_type = 12;
  static constexpr std::size_t file_block_bytes = 144;  // both scales, 12 bytes of groups, 128 bytes of codes

  /// Each group's scale and minimum are fitted as if they weren't to be rounded, from four candidates of a scale; then
  /// the largest of each kind become the units, and the codes are those nearest to what the rounded ones stand for.
  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
    const simd::Lanes zeros = simd::Lanes::broadcast(0.0f);
    simd::Lanes scales[groups];
    simd::Lanes minima[groups];
    simd::Lanes largest_scale = zeros;
    simd::Lanes largest_minimum = zeros;
    for (std::size_t g = 0; g < groups; ++g) {
      fit(reinterpret_cast<const float(&)[scale_inputs][panel_rows]>(in[g * scale_inputs]), scales[g], minima[g]);
      largest_scale = simd::where_greater(scales[g], largest_scale, scales[g], largest_scale);
      largest_minimum = simd::where_greater(minima[g], largest_minimum, minima[g], largest_minimum);
    }
    const simd::Lanes per_unit = simd::Lanes::broadcast(1.0f / 63.0f);
    std::byte* const halves = block + code_bytes + group_bytes;
    const simd::Lanes scale_unit = put_halves(simd::product(largest_scale, per_unit), halves);
    const simd::Lanes minimum_unit =
        put_halves(simd::product(largest_minimum, per_unit), halves + panel_rows * sizeof(f16));
    const simd::Lanes scale_factor = inverse_or_zero(scale_unit);
    const simd::Lanes minimum_factor = inverse_or_zero(minimum_unit);
    simd::Words words[3] = {simd::Words::zero(), simd::Words::zero(), simd::Words::zero()};
    for (std::size_t g = 0; g < groups; ++g) {
      const simd::Lanes half = simd::Lanes::broadcast(0.5f);
      const simd::Words scale = simd::Words::truncate(simd::product_plus(scales[g], scale_factor, half), 0.0f, 63.0f);
      const simd::Words minimum =
          simd::Words::truncate(simd::product_plus(minima[g], minimum_factor, half), 0.0f, 63.0f);
      const int shift = static_cast<int>(g % 4 * 8);
      if (g < 4) {
        words[0].put(scale, shift);
        words[1].put(minimum, shift);
      } else {  // lower four bits together, upper two above those of the first groups
        words[2].put(scale.bits(0, 4), shift);
        words[2].put(minimum.bits(0, 4), shift + 4);
        words[0].put(scale.bits(4, 2), shift + 6);
        words[1].put(minimum.bits(4, 2), shift + 6);
      }
    }
    for (std::size_t i = 0; i < 3; ++i) words[i].store(block + code_bytes + i * simd::Quads::bytes);
    Terms rounded[groups];
    terms(block, rounded);
    for (std::size_t i = 0; i < block_inputs; i += step_inputs) {
      const Terms* const pair = rounded + i / scale_inputs;
      for (std::size_t j = 0; j < scale_inputs; j += simd::quad) {
        simd::both_nibbles(codes(in + i + j, pair[0]), codes(in + i + scale_inputs + j, pair[1]))
            .store(block + i / step_inputs * step_bytes + j / simd::quad * simd::Quads::bytes);
      }
    }
  }

  static void from_file_blocks(const std::byte* const (&rows)[panel_rows], std::byte* block) noexcept {
    std::byte* const halves = block + code_bytes + group_bytes;
    halves_from_rows(rows, halves);
    halves_from_rows(RowPointers(rows, 2).at, halves + panel_rows * sizeof(f16));
    simd::transpose_words(RowPointers(rows, 4).at, 3, block + code_bytes);
    simd::transpose_words(RowPointers(rows, 16).at, 32, block);
  }
  static void to_file_blocks(const std::byte* block, std::byte* const (&rows)[panel_rows]) noexcept {
    const std::byte* const halves = block + code_bytes + group_bytes;
    halves_to_rows(halves, rows);
    halves_to_rows(halves + panel_rows * sizeof(f16), RowPointers(rows, 2).at);
    simd::untranspose_words(block + code_bytes, 3, RowPointers(rows, 4).at);
    simd::untranspose_words(block, 32, RowPointers(rows, 16).at);
  }

  static simd::Quads quads(const std::byte* step, std::size_t i) noexcept {
    const simd::Quads both = simd::Quads::load(step + i % 8 * simd::Quads::bytes);
    return i < 8 ? both.low_nibbles() : both.high_nibbles();
  }
  using Terms = ScalesAndOffsets;
  static void terms(const std::byte* block, Terms (&out)[groups]) noexcept {
    const std::byte* const packed = block + code_bytes;
    const auto* const halves = reinterpret_cast<const f16*>(packed + group_bytes);
    const simd::Lanes scale = simd::Lanes::load(halves);
    const simd::Lanes minimum = simd::Lanes::broadcast(0.0f) - simd::Lanes::load(halves + panel_rows);
    simd::Words words[3];
    for (std::size_t i = 0; i < 3; ++i) words[i] = simd::Words::load(packed + i * simd::Quads::bytes);
    for (std::size_t g = 0; g < 4; ++g) {
      const int shift = static_cast<int>(g * 8);
      out[g].scale = scale * words[0].bits(shift, 6).to_lanes();
      out[g].offset = minimum * words[1].bits(shift, 6).to_lanes();
      simd::Words upper_scale = words[2].bits(shift, 4);
      upper_scale.put(words[0].bits(shift + 6, 2), 4);
      simd::Words upper_minimum = words[2].bits(shift + 4, 4);
      upper_minimum.put(words[1].bits(shift + 6, 2), 4);
      out[g + 4].scale = scale * upper_scale.to_lanes();
      out[g + 4].offset = minimum * upper_minimum.to_lanes();
    }
  }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept {
    unpack_integers<Q4_K>(block, w);
  }
  ///@}

 private:
  /// The scale and the minimum, which isn't negative, of the group's weights: of four ways to cut the range into codes,
  /// the one whose codes leave the least sum of w (scale code - minimum - x)^2 with the scale and the minimum that are
  /// best for them, which solve two linear equations.
  static void fit(const float (&in)[scale_inputs][panel_rows], simd::Lanes& scale, simd::Lanes& minimum) noexcept {
    const simd::Lanes zeros = simd::Lanes::broadcast(0.0f);
    simd::Lanes low = zeros;
    simd::Lanes high = zeros;
    for (const auto& weights : in) {
      const simd::Lanes x = simd::Lanes::load(weights);
      low = simd::where_greater(low, x, x, low);
      high = simd::where_greater(x, high, x, high);
    }
    const Importance importance(in);
    simd::Lanes w1 = zeros, wx = zeros;
    for (std::size_t i = 0; i < scale_inputs; ++i) {
      w1 = w1 + importance[i];
      wx = simd::product_plus(importance[i], simd::Lanes::load(in[i]), wx);
    }
    const simd::Lanes inverse = inverse_or_zero(high - low);
    scale = simd::product(high - low, simd::Lanes::broadcast(1.0f / 15.0f));
    minimum = zeros - low;
    simd::Lanes best_gain = zeros;
    for (const float steps : {15.0f, 14.5f, 15.5f, 14.0f}) {
      const simd::Lanes factor = simd::product(inverse, simd::Lanes::broadcast(steps));
      simd::Lanes wc = zeros, wcc = zeros, wxc = zeros;
      for (std::size_t i = 0; i < scale_inputs; ++i) {
        const simd::Lanes x = simd::Lanes::load(in[i]);
        const simd::Lanes code = simd::nearest(simd::at_most(simd::product(x - low, factor), 15.0f));
        const simd::Lanes weighted = simd::product(importance[i], code);
        wc = wc + weighted;
        wcc = simd::product_plus(weighted, code, wcc);
        wxc = simd::product_plus(weighted, x, wxc);
      }
      const simd::Lanes determinant = simd::product(w1, wcc) - simd::product(wc, wc);
      const simd::Lanes alone = wxc / wcc;  // the best scale without a minimum
      simd::Lanes s = (simd::product(w1, wxc) - simd::product(wx, wc)) / determinant;
      simd::Lanes m = (simd::product(wxc, wc) - simd::product(wcc, wx)) / determinant;
      s = simd::where_greater(zeros, m, alone, s);
      m = simd::where_greater(zeros, m, zeros, m);
      // what the sum of w x^2 falls by
      const simd::Lanes by_scale = wxc + wxc - simd::product(s, wcc) + simd::product(m + m, wc);
      const simd::Lanes by_minimum = wx + wx + simd::product(m, w1);
      const simd::Lanes gain = simd::product(s, by_scale) - simd::product(m, by_minimum);
      scale = simd::where_greater(gain, best_gain, s, scale);
      minimum = simd::where_greater(gain, best_gain, m, minimum);
      best_gain = simd::where_greater(gain, best_gain, gain, best_gain);
    }
  }

  /// The codes of four inputs.
  static simd::Quads codes(const float (*in)[panel_rows], const Terms& terms) noexcept {
    const simd::Lanes factor = inverse_or_zero(terms.scale);
    simd::Words words = simd::Words::zero();
    for (std::size_t k = 0; k < simd::quad; ++k) {
      const simd::Lanes above = simd::Lanes::load(in[k]) - terms.offset;
      const simd::Lanes code = simd::product_plus(above, factor, simd::Lanes::broadcast(0.5f));
      words.put(simd::Words::truncate(code, 0.0f, 15.0f), static_cast<int>(8 * k));
    }
    return simd::quads_of(words);
  }
};

static_assert(IntegerFormat<Q4_K> && FileFormat<Q4_K>);

}}  // namespace mistral
