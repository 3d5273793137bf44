#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include <mistral/format/weight_format.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Weights as bfloat16, multiplied as the floats they stand for: activations stay floats. Two neighbouring inputs of a
/// row share a 32-bit lane, so that widening either costs one instruction.
struct BF16 {
  static constexpr std::string_view name = "BF16";
  static constexpr std::size_t block_inputs = 2;
  static constexpr std::size_t block_bytes = panel_rows * 2 * sizeof(bf16);

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
};

static_assert(WeightFormat<BF16>);

}  // namespace mistral::inline MISTRAL_ABI
