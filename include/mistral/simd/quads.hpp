// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>

#include <mistral/simd/lanes.hpp>
#include <mistral/simd/words.hpp>

/// \file
/// Dot products of bytes, which xsimd lacks: unsigned weights times signed activations, summed in 32-bit lanes. A lane
/// is an output row; a quad is four neighbouring inputs of it, in the lane's four bytes. Sums are exact integers, so
/// each instruction set may take them in its own order.

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Sixteen 32-bit sums, one a lane.
using Sums = BasicSums<Instructions>;

/// Sixteen quads of unsigned bytes: the weights of four inputs for 16 rows, or the same packed in nibbles.
using Quads = BasicQuads<Instructions>;

/// How sums of a block's products are taken where no weight is above MaxCode. `Dot` itself is the running sum of up to
/// eight quads a lane. `Step` is what one instruction multiplies: `steps` of them are made of a quad, once for any
/// number of rows, and each meets 4 bytes of activations in the form that `put` gives them, `input_bytes` a quad.
/// `Input` is what `add` takes of those: in a register where several panels share it, else their address. `from`, which
/// some have, begins a sum at any number.
template <unsigned MaxCode>
using Dot = Instructions::Dot<Instructions, MaxCode>;

template <class Set>
inline Lanes BasicSums<Set>::plus(std::int32_t offset) const noexcept {
  typename Set::FloatGroup floats;
  for (std::size_t i = 0; i < std::size(part); ++i) {
    floats[i] = Set::to_floats(Set::add_ints(part[i], Set::broadcast(offset)));
  }
  return Lanes::of(floats);
}

}}}  // namespace mistral::simd
