// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include <mistral/format/weight_format.hpp>
#include <mistral/simd/pairs.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Weights as bfloat16. Two neighbouring inputs of a row share a 32-bit lane.
///
/// Where the processor multiplies pairs of bfloat16 (AVX512-BF16, and FEAT_BF16 on Arm; simd::multiplies_pairs says
/// whether this unit is compiled for one) activations are rounded to bfloat16 too, to nearest, as such a machine is
/// used everywhere: an activation is off by at most 2^-8 of itself, so that an output w . x is off by at most 2^-8 sum
/// |w x| <= 2^-8 |w| |x| beside the roundings of the sum. Elsewhere activations stay floats, and widening either weight
/// of a pair costs one instruction. Exact<BF16> takes floats everywhere.
struct BF16 {
  /// As WeightFormat and ElementFormat have them, and whether pairs are multiplied as such.
  ///@{
  static constexpr std::string_view name = "BF16";
  static constexpr std::size_t block_inputs = 2;
  static constexpr std::size_t block_bytes = panel_rows * 2 * sizeof(bf16);
  static constexpr std::uint32_t file_type = 30;
  using Element = bf16;
  static constexpr bool multiplies_pairs = simd::multiplies_pairs;

  static void pack(const float (&in)[2][panel_rows], std::byte* block) noexcept {
    std::uint32_t pairs[panel_rows];
    for (std::size_t lane = 0; lane < panel_rows; ++lane) {
      const std::uint32_t even = from_float<bf16>(in[0][lane]).bits;
      const std::uint32_t odd = from_float<bf16>(in[1][lane]).bits;
      pairs[lane] = even | (odd << 16);
    }
    std::memcpy(block, pairs, block_bytes);
  }

  static void unpack(const std::byte* block, simd::Lanes (&w)[2]) noexcept {
    w[0] = simd::even_of_pairs(block);
    w[1] = simd::odd_of_pairs(block);
  }
  ///@}
};

static_assert(ElementFormat<BF16>);

/// A weight format whose blocks are pairs of bfloat16, as the machine's dot products take them.
template <class F>
concept PairFormat = WeightFormat<F> && requires {
  requires F::multiplies_pairs;
} && F::block_inputs == 2 && F::block_bytes == panel_rows* simd::pair_bytes;

}}  // namespace mistral
