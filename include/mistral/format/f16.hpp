// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>

#include <mistral/format/weight_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Weights as halves, multiplied as the floats they stand for: three bits more of fraction than BF16 has, for weights
/// of ordinary size (2^-14 to 65504 in magnitude; below, the fraction runs out, and above is infinity).
struct F16 {
  /// As WeightFormat and ElementFormat have them.
  ///@{
  static constexpr std::string_view name = "F16";
  static constexpr std::size_t block_inputs = 1;
  static constexpr std::size_t block_bytes = panel_rows * sizeof(f16);
  static constexpr std::uint32_t file_type = 1;
  using Element = f16;

  static void pack(const float (&in)[1][panel_rows], std::byte* block) noexcept {
    f16 halves[panel_rows];
    for (std::size_t lane = 0; lane < panel_rows; ++lane) halves[lane] = from_float<f16>(in[0][lane]);
    std::memcpy(block, halves, sizeof halves);
  }

  static void unpack(const std::byte* block, simd::Lanes (&w)[1]) noexcept {
    w[0] = simd::Lanes::load(reinterpret_cast<const f16*>(block));
  }
  ///@}
};

static_assert(ElementFormat<F16>);

}}  // namespace mistral
