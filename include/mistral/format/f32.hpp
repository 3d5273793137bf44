// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>

#include <mistral/format/weight_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Weights as floats.
struct F32 {
  /// As WeightFormat and ElementFormat have them.
  ///@{
  static constexpr std::string_view name = "F32";
  static constexpr std::size_t block_inputs = 1;
  static constexpr std::size_t block_bytes = panel_rows * sizeof(float);
  static constexpr std::uint32_t file_type = 0;
  using Element = float;

  static void pack(const float (&in)[1][panel_rows], std::byte* block) noexcept { std::memcpy(block, in, block_bytes); }

  static void unpack(const std::byte* block, simd::Lanes (&w)[1]) noexcept {
    w[0] = simd::Lanes::load(reinterpret_cast<const float*>(block));
  }
  ///@}
};

static_assert(ElementFormat<F32>);

}}  // namespace mistral
