#pragma once

#include <algorithm>
#include <cstddef>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/tile.hpp>

namespace mistral::inline MISTRAL_ABI::kernels {

/// Quads of a block.
inline constexpr std::size_t block_quads = input_block / simd::quad;

/// Rows of a tile of integer sums, which keep the registers of a block to themselves:
///   AVX-512  12 sums                      + 1 weights + 2 broadcasts              = 15 of 32
///   AVX2      4 x 2 sums of narrow codes  + 2 weights + 1 broadcast               = 11 of 16
///             3 x 2 sums of wide codes    + 2 x 2 weights + 2 broadcasts + 1 mask = 13 of 16
template <IntegerFormat F>
inline constexpr std::size_t integer_tile_rows = simd::registers == 1   ? 12
                                                 : simd::registers == 2 ? (F::max_code <= 15 ? 4 : 3)
                                                                        : 2;

/// One block's part of a row's sum: acc + (integer sum) x (scale of the weights x scale of the inputs). The integer sum
/// is exact, so these two roundings are the same whichever kernel took it.
inline simd::Lanes add_block(const simd::Sums& sums, std::int32_t offset, const simd::Lanes& scales, float input_scale,
                             const simd::Lanes& acc) noexcept {
  return simd::fma(sums.plus(offset), scales * simd::Lanes::broadcast(input_scale), acc);
}

/// One row times P panels, straight from the packed weights.
template <std::size_t P, IntegerFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, const Inputs<F>& x, float* y) noexcept {
  constexpr std::size_t prefetch_bytes = 2048;
  using Dot = typename Inputs<F>::Dot;
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::byte* block = w.panel(first_panel);
  const std::byte* codes = x.codes;
  const std::size_t panel_bytes = w.panel_bytes();
  for (std::size_t b = 0; b < x.blocks(); ++b, block += F::block_bytes, codes += Inputs<F>::block_bytes) {
#pragma GCC unroll 4
    for (std::size_t p = 0; p < P; ++p) {
      const std::byte* panel = block + p * panel_bytes;
      for (std::size_t line = 0; line < F::block_bytes; line += 64) {
        __builtin_prefetch(panel + prefetch_bytes + line);
      }
      Dot dot = Dot::zero();
#pragma GCC unroll 8
      for (std::size_t i = 0; i < block_quads; ++i) dot.add(F::quads(panel, i), codes + i * Dot::input_bytes);
      acc[p] = add_block(dot.sums(), x.offsets[b], F::scales(panel), x.scales[b], acc[p]);
    }
  }
  for (std::size_t p = 0; p < P; ++p) {
    const std::size_t output = (first_panel + p) * panel_rows;
    acc[p].store_some(y + output, w.rows - output);
  }
}

/// R rows times one panel over some blocks, whose codes lie unpacked, a byte each: adds to acc, block after block.
template <std::size_t R, IntegerFormat F>
inline void multiply_integer_tile(const std::byte* codes, const float* scales, const Inputs<F>& x, std::size_t row,
                                  std::size_t first_block, std::size_t blocks, float* acc) noexcept {
  using Dot = typename Inputs<F>::Dot;
  const std::size_t row_blocks = x.blocks();
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t at = row * row_blocks + first_block + b;
    const std::byte* inputs = x.codes + at * Inputs<F>::block_bytes;
    Dot dots[R];
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) dots[r] = Dot::zero();
    for (std::size_t i = 0; i < block_quads; ++i) {
      const simd::Quads weights = simd::Quads::load(codes + (b * block_quads + i) * simd::Quads::bytes);
#pragma GCC unroll 12
      for (std::size_t r = 0; r < R; ++r) {
        dots[r].add(weights, inputs + r * row_blocks * Inputs<F>::block_bytes + i * Dot::input_bytes);
      }
    }
    // The floats rest in memory while the integers have the registers: without this, gcc keeps acc in them from one
    // block to the next, and spills the integers from one quad to the next.
    asm volatile("" : : : "memory");
    const simd::Lanes weight_scales = simd::Lanes::load(scales + b * panel_rows);
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) {
      const std::size_t block = at + r * row_blocks;
      add_block(dots[r].sums(), x.offsets[block], weight_scales, x.scales[block],
                simd::Lanes::load(acc + r * panel_rows))
          .store(acc + r * panel_rows);
    }
  }
}

/// All rows of x times up to group_panels panels: unpacks the codes of a depth once, then walks the rows tile by tile.
template <IntegerFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const Inputs<F>& x,
                          Rows<float> y) noexcept {
  constexpr std::size_t depth = 8;  // blocks: 4 KiB of codes a panel, 16 KiB a group, half of an L1
  constexpr std::size_t codes_bytes = block_quads * simd::Quads::bytes;
  alignas(64) std::byte codes[group_panels * depth * codes_bytes];
  alignas(64) float scales[group_panels * depth * panel_rows];
  alignas(64) float acc[integer_tile_rows<F> * panel_rows];
  for (std::size_t first = 0; first < x.blocks(); first += depth) {
    const std::size_t blocks = std::min(depth, x.blocks() - first);
    for (std::size_t p = 0; p < panels; ++p) {
      const std::byte* block = w.panel(first_panel + p) + first * F::block_bytes;
      for (std::size_t b = 0; b < blocks; ++b, block += F::block_bytes) {
        for (std::size_t i = 0; i < block_quads; ++i) {
          F::quads(block, i).store(codes + ((p * depth + b) * block_quads + i) * simd::Quads::bytes);
        }
        F::scales(block).store(scales + (p * depth + b) * panel_rows);
      }
    }
    for (std::size_t row = 0; row < x.rows(); row += integer_tile_rows<F>) {
      with_rows<integer_tile_rows<F>>(x.rows() - row, [&]<std::size_t R>() {
        for (std::size_t p = 0; p < panels; ++p) {
          const std::size_t output = (first_panel + p) * panel_rows;
          for (std::size_t r = 0; r < R; ++r) {
            (first == 0 ? simd::Lanes::broadcast(0.0f)
                        : simd::Lanes::load_some(y.row(row + r).data() + output, w.rows - output))
                .store(acc + r * panel_rows);
          }
          multiply_integer_tile<R, F>(codes + p * depth * codes_bytes, scales + p * depth * panel_rows, x, row, first,
                                      blocks, acc);
          for (std::size_t r = 0; r < R; ++r) {
            simd::Lanes::load(acc + r * panel_rows).store_some(y.row(row + r).data() + output, w.rows - output);
          }
        }
      });
    }
  }
}

}  // namespace mistral::inline MISTRAL_ABI::kernels
