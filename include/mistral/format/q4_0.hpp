#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <mistral/format/integer_format.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Four bits a weight and a half-precision scale for each 32 inputs of a row, 4.5 bits in all: ggml's Q4_0. The weight
/// of largest magnitude gets the code 0, which stands for -8: the scale has the opposite sign of that weight, and any
/// other weight is off by at most 1/2 scale, or 1 where it would need the code 16.
///
/// A byte of a lane holds one input of the first 16 in its lower half and its neighbour of the second 16 in the upper.
struct Q4_0 {
  static constexpr std::string_view name = "Q4_0";
  static constexpr std::size_t block_inputs = 32;
  static constexpr std::size_t code_bytes = 16 * panel_rows;
  static constexpr std::size_t block_bytes = code_bytes + panel_rows * sizeof(f16);
  static constexpr int zero = 8;
  static constexpr unsigned max_code = 15;

  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
    f16 scales[panel_rows];
    std::memset(block, 0, code_bytes);
    for (std::size_t lane = 0; lane < panel_rows; ++lane) {
      float largest = 0.0f;
      for (std::size_t i = 0; i < block_inputs; ++i) {
        if (std::abs(in[i][lane]) > std::abs(largest)) largest = in[i][lane];
      }
      const float scale = largest / -8.0f;
      const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
      scales[lane] = from_float<f16>(scale);
      for (std::size_t i = 0; i < block_inputs; ++i) {
        const float raised = in[i][lane] * inverse + 8.5f;
        const auto code = static_cast<unsigned>(raised >= 0.0f ? std::min(raised, 15.0f) : 0.0f);
        block[i % 16 / simd::quad * simd::Quads::bytes + lane * simd::quad + i % simd::quad] |=
            static_cast<std::byte>(i < 16 ? code : code << 4);
      }
    }
    std::memcpy(block + code_bytes, scales, sizeof scales);
  }

  static simd::Quads quads(const std::byte* block, std::size_t i) noexcept {
    const simd::Quads both = simd::Quads::load(block + i % 4 * simd::Quads::bytes);
    return i < 4 ? both.low_nibbles() : both.high_nibbles();
  }
  static simd::Lanes scales(const std::byte* block) noexcept {
    return simd::Lanes::load(reinterpret_cast<const f16*>(block + code_bytes));
  }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept {
    unpack_integers<Q4_0>(block, w);
  }
};

static_assert(IntegerFormat<Q4_0>);

}  // namespace mistral::inline MISTRAL_ABI
