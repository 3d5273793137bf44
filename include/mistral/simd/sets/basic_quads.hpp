// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>

#include <mistral/simd/sets/instruction_set.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

struct Lanes;

/// Sixteen 32-bit sums, one a lane, in the registers of an instruction set.
template <class Set>
struct BasicSums {
  typename Set::IntGroup part;

  /// value + offset, as floats.
  Lanes plus(std::int32_t offset) const noexcept;

  friend BasicSums operator+(const BasicSums& a, const BasicSums& b) noexcept {
    BasicSums out;
    for (std::size_t i = 0; i < std::size(out.part); ++i) out.part[i] = Set::add_ints(a.part[i], b.part[i]);
    return out;
  }
};

/// Sixteen quads of unsigned bytes, in the registers of an instruction set: the weights of four inputs for 16 rows, or
/// the same packed in nibbles.
template <class Set>
struct BasicQuads {
  static constexpr std::size_t bytes = lanes * quad;
  typename Set::ByteGroup part;

  static BasicQuads load(const std::byte* p) noexcept {
    BasicQuads out;
    Set::load_bytes(p, out.part);
    return out;
  }

  void store(std::byte* p) const noexcept { std::memcpy(p, part, bytes); }

  /// Returns the values, held in registers from here on.
  BasicQuads pinned() const noexcept {
    BasicQuads out;
    for (std::size_t i = 0; i < std::size(part); ++i) out.part[i] = Set::pinned(part[i]);
    return out;
  }

  /// The lower four bits of each byte.
  BasicQuads low_nibbles() const noexcept { return masked(15); }

  /// The upper four bits of each byte.
  BasicQuads high_nibbles() const noexcept {
    BasicQuads out;
    for (std::size_t i = 0; i < std::size(part); ++i) out.part[i] = Set::high_nibbles(part[i]);
    return out;
  }

  /// The lower six bits of each byte.
  BasicQuads low_6_bits() const noexcept { return masked(63); }

  /// Bytes of six bits, put together of the upper two bits of three: the lowest two first.
  static BasicQuads of_upper_bits(const BasicQuads& a, const BasicQuads& b, const BasicQuads& c) noexcept {
    BasicQuads out;
    for (std::size_t i = 0; i < std::size(out.part); ++i) {
      out.part[i] = Set::of_upper_bits(a.part[i], b.part[i], c.part[i]);
    }
    return out;
  }

  /// table[b] for each byte b, which is at most 15.
  BasicQuads look_up(const std::uint8_t (&table)[16]) const noexcept {
    BasicQuads out;
    for (std::size_t i = 0; i < std::size(part); ++i) out.part[i] = Set::look_up(table, part[i]);
    return out;
  }

 private:
  BasicQuads masked(std::uint8_t mask) const noexcept {
    BasicQuads out;
    for (std::size_t i = 0; i < std::size(part); ++i) out.part[i] = Set::masked(part[i], mask);
    return out;
  }
};

}}}  // namespace mistral::simd
