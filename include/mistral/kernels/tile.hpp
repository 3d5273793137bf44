// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/simd/lanes.hpp>
#include <mistral/simd/quads.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// A tile is what stays in registers: tile_rows x tile_panels accumulators of 16 lanes, the weights of one input for
/// tile_panels panels, and one broadcast activation. Each instruction set says which it has room for.
///@{
inline constexpr std::size_t tile_rows = simd::Instructions::tile_rows;
inline constexpr std::size_t tile_panels = simd::Instructions::tile_panels;
///@}

/// Panels that are walked together, unless there are many rows (panels_together). With one row they belong to as many
/// streams, read side by side to hide the latency of memory. With many rows of floats they are unpacked together, and a
/// tile of inputs that was copied once meets them all.
inline constexpr std::size_t group_panels = 4;

/// acc[r][p] += sum over k of w[p][k] x[r][k]: R rows of inputs by P panels of 16 outputs. The one loop that every sum
/// of products of more than one row goes through: k ascends, one fused multiply-add after the other, so that an output
/// has the same bits in a tile of any size.
///   w  panels of floats, (depth, 16) each, `panel_stride` floats apart
///   x  R rows of inputs, (depth) each, `row_stride` floats apart
template <std::size_t R, std::size_t P>
inline void multiply_tile(const float* w, std::size_t panel_stride, const float* x, std::size_t row_stride,
                          std::size_t depth, simd::Lanes (&acc)[R][P]) noexcept {
  for (std::size_t k = 0; k < depth; ++k) {
    simd::Lanes weights[P];
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) weights[p] = simd::Lanes::load(w + p * panel_stride + k * simd::lanes);
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) {
      const simd::Lanes input = simd::Lanes::broadcast(x[r * row_stride + k]);
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) acc[r][p] = simd::fma(weights[p], input, acc[r][p]);
    }
  }
}

/// Calls f.template operator()<R>() with R = rows, at most R: the rows left over at an edge have tiles of their own
/// size.
template <std::size_t R = tile_rows, class F>
inline void with_rows(std::size_t rows, const F& f) noexcept {
  if constexpr (R == 1) {
    f.template operator()<1>();
  } else {
    if (rows >= R) return f.template operator()<R>();
    with_rows<R - 1>(rows, f);
  }
}

/// A tile of integer sums, rows x panels. With AVX-512 the floats that blocks are added to stay in registers beside
/// them: a store of 64 bytes takes both pipes that multiply for a cycle. Elsewhere floats rest in memory.
///@{
inline constexpr std::size_t integer_tile_rows = simd::Instructions::integer_tile_rows;
inline constexpr std::size_t integer_tile_panels = simd::Instructions::integer_tile_panels;
///@}

/// Rows that lie together.
struct IntegerTile {
  std::size_t first;
  std::size_t rows;
};

/// The tile of integer sums that a row belongs to: all have integer_tile_rows, but for the last two, which share what
/// is left, since a small tile has too few sums to hide the latency of an addition.
constexpr IntegerTile integer_tile_of(std::size_t row, std::size_t rows) noexcept {
  constexpr std::size_t most = integer_tile_rows;
  const std::size_t first = row / most * most;
  const std::size_t whole = rows < most ? 0 : rows / most * most - most;  // rows of the tiles before the last two
  const std::size_t left = rows - whole;
  if (row < whole) return {first, most};
  if (left <= most) return {whole, left};
  const std::size_t half = (left + 1) / 2;
  return row < whole + half ? IntegerTile{whole, half} : IntegerTile{whole + half, left - half};
}

}}}  // namespace mistral::kernels
