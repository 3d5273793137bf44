// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include <mistral/format/encode.hpp>
#include <mistral/format/weight_format.hpp>
#include <mistral/simd/lookup.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The 256 numbers of -1 to 1 that a byte of a double-quantised scale stands for, in ascending order: 8 bits as QLoRA's
/// authors code them, a "dynamic tree" (arXiv 1511.04561; bitsandbytes' create_dynamic_map). For each power of ten from
/// 10^-6 to 1 and for either sign, a number is 10^e times the middle of one of 2^(6 + e) equal parts of 0.1 ... 1: the
/// larger the number, the more digits it has. Beside these 254 there are 0 and 1.
struct DynamicMap {
  float value[256];    ///< what each code stands for
  float between[255];  ///< halfway from each to the next

  constexpr DynamicMap() noexcept : value{}, between{} {
    std::size_t positive = 128;  // 127 negatives and 0 stand before
    double power = 1e-6;
    for (std::size_t parts = 1; parts <= 64; parts *= 2, power *= 10.0) {
      for (std::size_t i = 0; i < parts; ++i, ++positive) {
        const double middle = 0.1 + 0.9 * (static_cast<double>(2 * i + 1) / static_cast<double>(2 * parts));
        value[positive] = static_cast<float>(power * middle);
        value[254 - positive] = -value[positive];
      }
    }
    value[255] = 1.0f;
    for (std::size_t i = 0; i < 255; ++i) between[i] = 0.5f * (value[i] + value[i + 1]);
  }

  /// The code of the nearest number, of the lower one where two are as near.
  constexpr std::uint8_t nearest(float x) const noexcept {
    std::size_t code = 0;  // the numbers that x has halfway points to below it
    for (std::size_t step = 128; step > 0; step /= 2) {
      if (x > between[code + step - 1]) code += step;
    }
    return static_cast<std::uint8_t>(code);
  }
};

/// Four bits a weight, as QLoRA holds a frozen base (NormalFloat with double quantisation, arXiv 2305.14314, sections 3
/// and E): each 64 inputs of a row have a scale, the largest magnitude among them, and a code stands for one of 16
/// levels between -1 and 1 that as many of a normal distribution's weights are nearest to. The scales, less their mean,
/// are rounded to 8 bits (DynamicMap), 256 of them by the largest magnitude among those.
///
/// weight = level x fma(byte's number, group's scale, group's mean): floats, so the inputs are multiplied as floats.
///
/// The paper counts blocks along the flattened matrix; here the 256 scales of a group are those of 16 neighbouring
/// rows, 16 blocks of each, a block ends where its row does, and each group takes its own mean rather than the
/// matrix's. The last group of a panel has the blocks that are left. A group's two floats stand in each of its blocks:
/// 4.19 bits a weight in all, where once for each would make it 4.13.
///
/// A weight that isn't finite makes the weights of its group NaN.
struct NF4 {
  /// As WeightFormat, SteppedFormat and GroupedFormat have them; the rest is what they are made of.
  ///@{
  static constexpr std::string_view name = "NF4";
  static constexpr std::size_t block_inputs = 64;
  static constexpr std::size_t group_blocks = 16;  // x 16 rows: 256 scales
  static constexpr std::size_t step_inputs = simd::FloatTable::inputs;
  static constexpr std::size_t code_bytes = block_inputs / 2 * panel_rows;
  static constexpr std::size_t block_bytes = code_bytes + panel_rows + 2 * sizeof(float);

  /// Appendix E of the paper.
  static constexpr float levels[16] = {-1.0f,
                                       -0.6961928009986877f,
                                       -0.5250730514526367f,
                                       -0.39491748809814453f,
                                       -0.28444138169288635f,
                                       -0.18477343022823334f,
                                       -0.09105003625154495f,
                                       0.0f,
                                       0.07958029955625534f,
                                       0.16093020141124725f,
                                       0.24611230194568634f,
                                       0.33791524171829224f,
                                       0.44070982933044434f,
                                       0.5626170039176941f,
                                       0.7229568362236023f,
                                       1.0f};
  static constexpr simd::FloatTable table{levels};
  static constexpr DynamicMap scale_map{};

  /// Encodes the blocks of a panel in order, and their scales when a group is complete.
  class Packer {
   public:
    /// For a panel of which the first `rows` rows are a matrix's: the others count in no group.
    explicit Packer(std::size_t rows) noexcept : rows_(rows) {}

    /// Encodes the next block of the panel; it is complete when its group is.
    void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
      simd::Lanes largest = simd::Lanes::broadcast(0.0f);
      simd::Lanes probe = simd::Lanes::broadcast(0.0f);  // x - x: 0, or NaN for what isn't finite
      for (const auto& weights : in) {
        const simd::Lanes x = simd::Lanes::load(weights);
        largest = simd::larger_magnitude(largest, x);
        probe = probe + (x - x);
      }
      largest = simd::abs(largest);
      put_codes(in, largest, block);
      (largest + probe).store(scales_[count_]);
      blocks_[count_] = block;
      if (++count_ == group_blocks) finish();
    }

    /// Encodes the scales of a group that has fewer blocks; to be called at a panel's end.
    void finish() noexcept {
      if (count_ == 0) return;
      double sum = 0.0;
      for (std::size_t b = 0; b < count_; ++b) {
        for (std::size_t r = 0; r < rows_; ++r) sum += static_cast<double>(scales_[b][r]);
      }
      auto mean = static_cast<float>(sum / static_cast<double>(count_ * rows_));
      if (std::isnan(mean)) mean = std::numeric_limits<float>::quiet_NaN();  // processors differ in its sign
      float largest = 0.0f;
      for (std::size_t b = 0; b < count_; ++b) {
        for (std::size_t r = 0; r < rows_; ++r) largest = std::fmax(largest, std::abs(scales_[b][r] - mean));
      }
      for (std::size_t b = 0; b < count_; ++b) {
        std::uint8_t codes[panel_rows];
        for (std::size_t r = 0; r < panel_rows; ++r) {
          codes[r] = scale_map.nearest(r < rows_ && largest > 0.0f ? (scales_[b][r] - mean) / largest : 0.0f);
        }
        std::memcpy(blocks_[b] + code_bytes, codes, sizeof codes);
        std::memcpy(blocks_[b] + code_bytes + panel_rows, &largest, sizeof largest);
        std::memcpy(blocks_[b] + code_bytes + panel_rows + sizeof largest, &mean, sizeof mean);
      }
      count_ = 0;
    }

   private:
    static void put_codes(const float (&in)[block_inputs][panel_rows], const simd::Lanes& largest,
                          std::byte* block) noexcept {
      const simd::Lanes zero = simd::Lanes::broadcast(0.0f);
      const simd::Lanes one = simd::Lanes::broadcast(1.0f);
      for (std::size_t i = 0; i < block_inputs; i += 2 * step_inputs, block += simd::FloatTable::code_bytes) {
        std::int32_t codes[2 * step_inputs][panel_rows];
        for (std::size_t k = 0; k < 2 * step_inputs; ++k) {
          // of a block of zeros all are 0, which has a level of its own
          const simd::Lanes x = simd::where_greater(largest, zero, simd::Lanes::load(in[i + k]) / largest, zero);
          simd::Lanes code = zero;
          for (std::size_t level = 0; level < 15; ++level) {
            const simd::Lanes between = simd::Lanes::broadcast(0.5f * (levels[level] + levels[level + 1]));
            code = code + simd::where_greater(x, between, one, zero);
          }
          simd::Words::truncate(code, 0.0f, 15.0f).store(reinterpret_cast<std::byte*>(codes[k]));
        }
        for (std::size_t k = 0; k < step_inputs; ++k) {
          for (std::size_t r = 0; r < panel_rows; ++r) {
            block[simd::FloatTable::code_at(r, k)] =
                static_cast<std::byte>(codes[k][r] | (codes[k + step_inputs][r] << 4));
          }
        }
      }
    }

    std::size_t rows_;
    std::size_t count_ = 0;  // blocks of the group so far
    std::byte* blocks_[group_blocks];
    float scales_[group_blocks][panel_rows];
  };

  /// A block by itself: a group of 16 scales.
  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
    Packer packer(panel_rows);
    packer.pack(in, block);
    packer.finish();
  }

  /// The scale of each row's weights of a block.
  static simd::Lanes scales(const std::byte* block) noexcept {
    float group_scale, group_mean;
    std::memcpy(&group_scale, block + code_bytes + panel_rows, sizeof group_scale);
    std::memcpy(&group_mean, block + code_bytes + panel_rows + sizeof group_scale, sizeof group_mean);
    float out[panel_rows];
    for (std::size_t r = 0; r < panel_rows; ++r) {
      // one rounding, on machines without the instruction too: the same file stands for the same floats everywhere
      out[r] = std::fma(scale_map.value[std::to_integer<std::size_t>(block[code_bytes + r])], group_scale, group_mean);
    }
    return simd::Lanes::load(out);
  }

  /// The weights of inputs 4 step ... 4 step + 3, whose scales are those of the block.
  static void unpack_step(const std::byte* block, std::size_t step, const simd::Lanes& scales,
                          simd::Lanes (&w)[step_inputs]) noexcept {
    table.look_up(block + step / 2 * simd::FloatTable::code_bytes, step % 2 == 0 ? 0 : 4, w);
    for (simd::Lanes& weight : w) weight = weight * scales;
  }

  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept {
    const simd::Lanes all = scales(block);
    for (std::size_t i = 0; i < block_inputs; i += step_inputs) {
      unpack_step(block, i / step_inputs, all, reinterpret_cast<simd::Lanes(&)[step_inputs]>(w[i]));
    }
  }
  ///@}
};

static_assert(SteppedFormat<NF4> && GroupedFormat<NF4>);

}}  // namespace mistral
