// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/simd/sets/sse2.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// AVX without AVX2: floats by xsimd, eight lanes a register, and no integers in them.
struct Avx : Sse2 {
  using Plainer = Sse2;
  using Scalar::product_of_halves;

  // 6 x 1 accumulators of 2 registers + 2 weights + 1 broadcast = 15 of 16
  static constexpr std::size_t tile_rows = 6;
  // 4 x 1 (8 registers) + 2 weights + 1 broadcast + 1 product = 12 of 16
  static constexpr std::size_t integer_tile_rows = 4;
};

static_assert(InstructionSet<Avx>);

}}}  // namespace mistral::simd
