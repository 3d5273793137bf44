// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>

#include <mistral/format/weight_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Weights as floats.
struct F32 {
  /// As WeightFormat has them.
  ///@{
  static constexpr std::string_view name = "F32";
  static constexpr std::size_t block_inputs = 1;
  static constexpr std::size_t block_bytes = panel_rows * sizeof(float);

  static void pack(const float (&in)[1][panel_rows], std::byte* block) noexcept { std::memcpy(block, in, block_bytes); }

  static void unpack(const std::byte* block, simd::Lanes (&w)[1]) noexcept {
    w[0] = simd::Lanes::load(reinterpret_cast<const float*>(block));
  }
  ///@}
};

static_assert(WeightFormat<F32>);

}}  // namespace mistral
