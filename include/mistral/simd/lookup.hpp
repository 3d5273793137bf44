// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Sixteen floats that codes of four bits stand for.
///
/// They are looked up a byte of all of them at a time, which is what instructions have tables for, and put together
/// from neighbouring bytes. So that the bytes of a row meet in the row's lane, whatever the machine's register width,
/// the codes of 8 inputs x 16 rows lie in 64 bytes like this: see code_at.
class FloatTable {
 public:
  /// Inputs that are looked up together: those of the lower halves of 64 bytes, or those of the upper.
  static constexpr std::size_t inputs = 4;
  static constexpr std::size_t code_bytes = 2 * inputs * lanes / 2;

  /// The byte of 64 that holds the code of a row and an input, 0 <= input < 8: in its lower half for inputs 0 to 3, in
  /// its upper half for inputs 4 to 7.
  static constexpr std::size_t code_at(std::size_t row, std::size_t input) noexcept {
    return row / 4 * 16 + input % inputs * 4 + row % 4;
  }

  constexpr explicit FloatTable(const float (&floats)[16]) noexcept : bytes_{} {
    for (std::size_t i = 0; i < 16; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(floats[i]);
      for (std::size_t b = 0; b < 4; ++b) bytes_[b][i] = static_cast<std::uint8_t>(bits >> (8 * b));
    }
  }

  /// The floats of four inputs, out[i] those of input i, one row a lane: of inputs 0 to 3 with shift 0, of inputs 4 to
  /// 7 with shift 4.
  void look_up(const std::byte* codes, int shift, Lanes (&out)[inputs]) const noexcept {
    Instructions::FloatGroup floats[inputs];
    Instructions::look_up_floats(bytes_, codes, shift, floats);
    for (std::size_t input = 0; input < inputs; ++input) out[input] = Lanes::of(floats[input]);
  }

 private:
  alignas(16) std::uint8_t bytes_[4][16];  // byte b, the lowest first, of all floats
};

}}}  // namespace mistral::simd
