// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/panel_walk.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/simd/pairs.hpp>

/// \file
/// Matrices whose blocks the machine multiplies as they lie: pairs of bfloat16. Tiles are those of kernels/tile.hpp, in
/// pairs where it has floats.

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// One row times P panels, straight from the packed weights: panels first_panel + p * apart.
///   next  where the panel begins that is read after the first
template <std::size_t P, PairFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, std::size_t apart, const std::byte* next,
                         const Inputs<F>& x, float* y) noexcept {
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::size_t stride = apart * w.panel_bytes();
  walk_blocks(w, first_panel, next, [&](const std::byte* block, std::size_t k, std::ptrdiff_t ahead) {
    const simd::Pairs input = simd::Pairs::broadcast(x.row(0) + k * simd::pair_bytes);
#pragma GCC unroll 4
    for (std::size_t p = 0; p < P; ++p) {
      __builtin_prefetch(block + static_cast<std::ptrdiff_t>(p * stride) + ahead);
      acc[p] = simd::add_products(simd::Pairs::load(block + p * stride), input, acc[p]);
    }
  });
  store_row(acc, first_panel, apart, w.rows, y);
}

/// acc[r][p] += sum over pairs k of w[p][k] . x[r][k]: R rows of inputs by P panels, k ascending.
template <std::size_t R, std::size_t P>
inline void multiply_pairs_tile(const std::byte* w, std::size_t panel_stride, const std::byte* x,
                                std::size_t row_stride, std::size_t pairs, simd::Lanes (&acc)[R][P]) noexcept {
  for (std::size_t k = 0; k < pairs; ++k) {
    simd::Pairs weights[P];
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) {
      weights[p] = simd::Pairs::load(w + p * panel_stride + k * panel_rows * simd::pair_bytes);
    }
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) {
      const simd::Pairs input = simd::Pairs::broadcast(x + r * row_stride + k * simd::pair_bytes);
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) acc[r][p] = simd::add_products(weights[p], input, acc[r][p]);
    }
  }
}

/// All rows of x times some panels: a depth of weights is met by all rows while it is in cache. Between
/// two depths the sums rest in y, which rounds nothing.
template <PairFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const std::byte*,
                          const Inputs<F>& x, Rows<float> y) noexcept {
  constexpr std::size_t depth_pairs = 256;               // 16 KiB a panel, as many bytes as the floats' kernel has
  constexpr std::size_t input_pairs = depth_pairs + 16;  // not a power of two: rows would share their cache sets
  constexpr std::size_t input_stride = input_pairs * simd::pair_bytes;
  alignas(64) std::byte inputs[tile_rows * input_stride];
  for (std::size_t k = 0; k < x.pairs(); k += depth_pairs) {
    const std::size_t pairs = (std::min)(depth_pairs, x.pairs() - k);
    for (std::size_t row = 0; row < x.rows(); row += tile_rows) {
      const std::size_t rows = (std::min)(tile_rows, x.rows() - row);
      for (std::size_t r = 0; r < rows; ++r) {
        std::memcpy(inputs + r * input_stride, x.row(row + r) + k * simd::pair_bytes, pairs * simd::pair_bytes);
      }
      with_rows(rows, [&]<std::size_t R>() {
        const auto multiply = [&]<std::size_t P>(std::size_t p) {
          const auto output = [&](std::size_t q) { return (first_panel + p + q) * panel_rows; };
          simd::Lanes acc[R][P];
          for (std::size_t r = 0; r < R; ++r) {
            for (std::size_t q = 0; q < P; ++q) {
              acc[r][q] = k == 0 ? simd::Lanes::broadcast(0.0f)
                                 : simd::Lanes::load_some(y.row(row + r).data() + output(q), w.rows - output(q));
            }
          }
          multiply_pairs_tile<R, P>(w.panel(first_panel + p) + k * F::block_bytes, w.panel_bytes(), inputs,
                                    input_stride, pairs, acc);
          for (std::size_t r = 0; r < R; ++r) {
            for (std::size_t q = 0; q < P; ++q) {
              acc[r][q].store_some(y.row(row + r).data() + output(q), w.rows - output(q));
            }
          }
        };
        std::size_t p = 0;
        for (; p + tile_panels <= panels; p += tile_panels) multiply.template operator()<tile_panels>(p);
        for (; p < panels; ++p) multiply.template operator()<1>(p);
      });
    }
  }
}

}}}  // namespace mistral::kernels
