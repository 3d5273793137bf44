#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <mistral/format/integer_format.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Eight bits a weight and a half-precision scale for each 32 inputs of a row, 8.5 bits in all: ggml's Q8_0, with the
/// codes raised by 128 to be unsigned. A weight is off by at most 1/2 of its scale, max|w| / 127, and by what rounding
/// the scale adds: 2^-11 of itself.
struct Q8_0 {
  static constexpr std::string_view name = "Q8_0";
  static constexpr std::size_t block_inputs = 32;
  static constexpr std::size_t code_bytes = 32 * panel_rows;
  static constexpr std::size_t block_bytes = code_bytes + panel_rows * sizeof(f16);
  static constexpr int zero = 128;
  static constexpr unsigned max_code = 255;

  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept {
    f16 scales[panel_rows];
    for (std::size_t lane = 0; lane < panel_rows; ++lane) {
      float largest = 0.0f;
      for (std::size_t i = 0; i < block_inputs; ++i) largest = std::max(largest, std::abs(in[i][lane]));
      const float scale = largest / 127.0f;
      const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
      scales[lane] = from_float<f16>(scale);
      for (std::size_t i = 0; i < block_inputs; ++i) {
        const float code = std::clamp(std::round(in[i][lane] * inverse), -127.0f, 127.0f);
        const std::size_t at = i / simd::quad * simd::Quads::bytes + lane * simd::quad + i % simd::quad;
        block[at] = static_cast<std::byte>(static_cast<int>(code == code ? code : 0.0f) + zero);
      }
    }
    std::memcpy(block + code_bytes, scales, sizeof scales);
  }

  static simd::Quads quads(const std::byte* block, std::size_t i) noexcept {
    return simd::Quads::load(block + i * simd::Quads::bytes);
  }
  static simd::Lanes scales(const std::byte* block) noexcept {
    return simd::Lanes::load(reinterpret_cast<const f16*>(block + code_bytes));
  }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept {
    unpack_integers<Q8_0>(block, w);
  }
};

static_assert(IntegerFormat<Q8_0>);

}  // namespace mistral::inline MISTRAL_ABI
