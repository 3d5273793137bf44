// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/panel_walk.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/kernels/tile_weights.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// An integer format whose blocks are 32 inputs in whole lines of memory, each with the codes of as many quads: those
/// of line i are best i, i + lines ...
template <class F>
concept LinedFormat = IntegerFormat<F> &&(F::block_inputs == input_block) && (BlockProduct<F>::parts == 1) &&
                      (F::step_bytes % simd::Quads::bytes == 0) &&
                      (block_quads % (F::step_bytes / simd::Quads::bytes) == 0);

/// One row times P panels, straight from the packed weights: panels first_panel + p * apart.
///   next  where the panel begins that is read after the first
///
/// The panels are met line by line, each line of all of them, with the lines asked for that come later: a panel's whole
/// block at a time asks for its lines in bursts, which keeps memory less busy. It is long, and in one piece: its sums
/// are arrays, which stay in registers as long as every loop over them is unrolled here, and a part would take them
/// all.
template <std::size_t P, LinedFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, std::size_t apart, const std::byte* next,
                         const Inputs<F>& x, float* y) noexcept {
  using Product = BlockProduct<F>;
  using Dot = typename Product::Dot;
  constexpr std::size_t line = simd::Quads::bytes;
  constexpr std::size_t lines = F::step_bytes / line;
  constexpr std::size_t line_quads = block_quads / lines;
  // With AVX-512 a quad of each line has a sum of its own, or each product would wait for the one before; with fewer or
  // narrower registers those of the other panels are enough, and all that there is room for.
  constexpr std::size_t sums_each = simd::registers == 1 ? line_quads : 1;
  constexpr int read_once = 0;  // a prefetch's hint: the line needn't stay in a cache
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::size_t stride = apart * w.panel_bytes();
  walk_blocks(w, first_panel, next, [&](const std::byte* block, std::size_t b, std::ptrdiff_t ahead) {
    const std::byte* const inputs = x.codes + b * Inputs<F>::block_bytes;
    Dot dots[P][sums_each];
#pragma GCC unroll 4
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 2
      for (std::size_t k = 0; k < sums_each; ++k) dots[p][k] = k == 0 ? Product::begin(x.offsets[b], 0) : Dot::zero();
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < lines; ++i) {
      asm volatile("" : : : "memory");  // or gcc reads one panel's lines first
      typename Dot::Input input[line_quads][Dot::steps];
#pragma GCC unroll 2
      for (std::size_t k = 0; k < line_quads; ++k) {
#pragma GCC unroll 2
        for (std::size_t step = 0; step < Dot::steps; ++step) {
          input[k][step] = Dot::input(inputs + (i + k * lines) * Dot::input_bytes + step * simd::quad);
        }
      }
#pragma GCC unroll 4
      for (std::size_t p = 0; p < P; ++p) {
        const std::byte* const codes = block + p * stride;
        __builtin_prefetch(codes + static_cast<std::ptrdiff_t>(i * line) + ahead, 0, read_once);
#pragma GCC unroll 2
        for (std::size_t k = 0; k < line_quads; ++k) {
          typename Dot::Step weights[Dot::steps];
          Dot::split(F::quads(codes, i + k * lines), weights);
#pragma GCC unroll 2
          for (std::size_t step = 0; step < Dot::steps; ++step) {
            dots[p][k % sums_each].add(weights[step], input[k][step]);
          }
        }
      }
    }
#pragma GCC unroll 4
    for (std::size_t p = 0; p < P; ++p) {
      const std::byte* const codes = block + p * stride;
      __builtin_prefetch(codes + static_cast<std::ptrdiff_t>(lines * line) + ahead, 0, read_once);
      typename F::Terms terms[1];
      F::terms(codes, terms);
      simd::Sums sums = Product::sums(dots[p][0], terms[0], 0);
#pragma GCC unroll 2
      for (std::size_t k = 1; k < sums_each; ++k) sums = sums + Product::sums(dots[p][k], terms[0], 0);
      acc[p] = Product::add(terms[0], sums, x.offsets[b], x.scales[b], acc[p]);
    }
  });
  store_row(acc, first_panel, apart, w.rows, y);
}

/// The same of other blocks, mostly larger: panel by panel, 32 inputs at a time.
template <std::size_t P, IntegerFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, std::size_t apart, const std::byte* next,
                         const Inputs<F>& x, float* y) noexcept {
  using Product = BlockProduct<F>;
  using Dot = typename Product::Dot;
  constexpr std::size_t blocks = F::block_inputs / input_block;
  constexpr std::size_t step_blocks = F::step_inputs / input_block;
  constexpr std::size_t part_quads = block_quads / Product::parts;
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::size_t stride = apart * w.panel_bytes();
  const auto multiply_block = [&](const std::byte* panel, std::size_t first, std::ptrdiff_t ahead, simd::Lanes& acc_p) {
    typename F::Terms terms[blocks];
    F::terms(panel, terms);
    simd::Lanes sum = acc_p;
    for (std::size_t step = 0; step < blocks; step += step_blocks) {
      const std::byte* step_codes = panel + step / step_blocks * F::step_bytes;
#pragma GCC unroll 4
      for (std::size_t i = 0; i < step_blocks; ++i) {
        // Without this, gcc asks for the lines of a whole step at once, more than the core can wait for, and spills
        // codes that the step's last 32 inputs meet again.
        asm volatile("" : : : "memory");
        constexpr std::size_t share = F::block_bytes / blocks;
        for (std::size_t line = 0; line < share; line += 64) {
          __builtin_prefetch(panel + static_cast<std::ptrdiff_t>((step + i) * share + line) + ahead);
        }
        const std::size_t at = first + step + i;
        const std::byte* inputs = x.codes + at * Inputs<F>::block_bytes;
        simd::Sums sums{};
#pragma GCC unroll 2
        for (std::size_t part = 0; part < Product::parts; ++part) {
          Dot dot = Product::begin(x.offsets[at], part);
#pragma GCC unroll 8
          for (std::size_t j = 0; j < part_quads; ++j) {
            const std::size_t quad = part * part_quads + j;
            typename Dot::Step weights[Dot::steps];
            Dot::split(F::quads(step_codes, i * block_quads + quad), weights);
#pragma GCC unroll 2
            for (std::size_t k = 0; k < Dot::steps; ++k) {
              dot.add(weights[k], Dot::input(inputs + quad * Dot::input_bytes + k * simd::quad));
            }
          }
          const simd::Sums more = Product::sums(dot, terms[step + i], part);
          sums = part == 0 ? more : sums + more;
        }
        sum = Product::add(terms[step + i], sums, x.offsets[at], x.scales[at], sum);
      }
    }
    acc_p = sum;
  };
  walk_blocks(w, first_panel, next, [&](const std::byte* block, std::size_t b, std::ptrdiff_t ahead) {
    for (std::size_t p = 0; p < P; ++p) multiply_block(block + p * stride, b * blocks, ahead, acc[p]);
  });
  store_row(acc, first_panel, apart, w.rows, y);
}

/// Rows whose sums are taken side by side: with AVX-512 33 KiB, which stay in L2 from one depth of the weights to the
/// next, whereas rows of the outputs are too far apart for it. Many, since the weights are unpacked once for all of
/// them.
inline constexpr std::size_t integer_rows_together = 264 / integer_tile_rows * integer_tile_rows;

/// The weights that a tile asks memory for, block by block, while it multiplies: its part of the weights that come
/// later. Asked for all at once, they would keep the core waiting; not asked for, few rows would be done before memory
/// answers. The activations' codes come from L2 by themselves, in time: to ask for them as well costs more than it
/// spares.
struct TileAhead {
  const std::byte* weights;  ///< in the first panel
  std::size_t panel_bytes;   ///< from one panel to the next
  std::size_t block_bytes;   ///< of each panel, for each block that is multiplied; 0: nothing
};

/// R rows times the P panels of w: adds `blocks` blocks to acc, one after the other.
///   w                        PackedBlocks or UnpackedBlocks
///   codes, scales, offsets   of the tile's rows, as Inputs holds them
///   acc                      (rows, panels, 16)
template <std::size_t R, std::size_t P, IntegerFormat F, class Blocks>
inline void multiply_integer_tile(const Blocks& w, std::size_t blocks, const std::byte* codes, const float* scales,
                                  const typename Inputs<F>::Offset* offsets, float* acc,
                                  const TileAhead& ahead) noexcept {
  using Product = BlockProduct<F>;
  using Dot = typename Product::Dot;
  constexpr std::size_t part_steps = Blocks::block_steps / Product::parts;
  constexpr bool floats_in_registers = simd::registers == 1 && Product::parts == 1;
  simd::Lanes floats[R][P];
  const auto for_each = [](const auto& f) {
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) f(r, p);
    }
  };
  const auto load = [&](std::size_t r, std::size_t p) {
    floats[r][p] = simd::Lanes::load(acc + (r * P + p) * panel_rows);
  };
  const auto store = [&](std::size_t r, std::size_t p) { floats[r][p].store(acc + (r * P + p) * panel_rows); };
  if constexpr (floats_in_registers) for_each(load);
  std::size_t asked = 0;
  for (std::size_t b = 0; b < blocks; ++b, scales += R, offsets += R) {
    for (; asked < (b + 1) * ahead.block_bytes; asked += 64) {
      for (std::size_t p = 0; p < P; ++p) __builtin_prefetch(ahead.weights + p * ahead.panel_bytes + asked);
    }
    simd::Sums sums[R][P];
#pragma GCC unroll 2
    for (std::size_t part = 0; part < Product::parts; ++part) {
      Dot dots[R][P];
      for_each([&](std::size_t r, std::size_t p) { dots[r][p] = Product::begin(offsets[r], part); });
#pragma GCC unroll 8
      for (std::size_t j = 0; j < part_steps; ++j) {
        typename Dot::Step step[P];
#pragma GCC unroll 2
        for (std::size_t p = 0; p < P; ++p) step[p] = w.step(p, b, part * part_steps + j).pinned();
#pragma GCC unroll 12
        for (std::size_t r = 0; r < R; ++r, codes += simd::quad) {
          const typename Dot::Input input = Dot::input(codes);
#pragma GCC unroll 2
          for (std::size_t p = 0; p < P; ++p) dots[r][p].add(step[p], input);
        }
      }
      for_each([&](std::size_t r, std::size_t p) {
        const simd::Sums more = Product::sums(dots[r][p], w.terms(p, b), part);
        sums[r][p] = part == 0 ? more : sums[r][p] + more;
      });
    }
    // Without this, gcc keeps floats that rest in memory in registers from one block to the next, and spills the
    // integers from one quad to the next.
    if constexpr (!floats_in_registers) asm volatile("" : : : "memory");
    for_each([&](std::size_t r, std::size_t p) {
      if constexpr (!floats_in_registers) load(r, p);
      floats[r][p] = Product::add(w.terms(p, b), sums[r][p], offsets[r], scales[r], floats[r][p]);
      if constexpr (!floats_in_registers) store(r, p);
    });
  }
  if constexpr (floats_in_registers) for_each(store);
}

/// All rows of x times up to P panels: some blocks of the weights at a time, and with each the rows tile by tile.
///   next  where the panels begin that are read after these
template <class Blocks, IntegerFormat F>
inline void multiply_tiles(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const std::byte* next,
                           const Inputs<F>& x, Rows<float> y) noexcept {
  constexpr std::size_t P = integer_tile_panels;
  Blocks weights;
  alignas(64) float sums[integer_rows_together * P * panel_rows];  // for each tile (rows, P, 16)
  for (std::size_t begin = 0, end = 0; begin < x.rows(); begin = end) {
    for (IntegerTile tile = integer_tile_of(begin, x.rows());
         end < x.rows() && tile.first + tile.rows - begin <= integer_rows_together;
         tile = integer_tile_of((std::min)(end, x.rows() - 1), x.rows())) {
      end = tile.first + tile.rows;
    }
    std::fill_n(sums, (end - begin) * P * panel_rows, 0.0f);
    // the first tiles share in asking for the weights that come some depths later
    constexpr std::size_t share_bytes = F::block_bytes * input_block / F::block_inputs;
    const std::size_t sharers = (std::min<std::size_t>)((end - begin + integer_tile_rows - 1) / integer_tile_rows, 4);
    for (std::size_t first = 0; first < x.blocks(); first += Blocks::depth) {
      const std::size_t blocks = (std::min)(Blocks::depth, x.blocks() - first);
      weights.set(w, first_panel, panels, first, blocks);
      const std::size_t later = first + Blocks::depths_ahead * Blocks::depth;
      const std::byte* const ahead_of_all =
          later >= x.blocks() ? next + (later - x.blocks()) * share_bytes : w.panel(first_panel) + later * share_bytes;
      for (std::size_t row = begin, tile = 0; row < end; ++tile) {
        const std::size_t rows = integer_tile_of(row, x.rows()).rows;
        const std::size_t at = row * x.blocks() + first * rows;
        const std::size_t tile_bytes = tile < sharers ? share_bytes / sharers : 0;
        const TileAhead ahead{ahead_of_all + tile * blocks * tile_bytes, w.panel_bytes(), tile_bytes};
        with_rows<integer_tile_rows>(rows, [&]<std::size_t R>() {
          multiply_integer_tile<R, P, F>(weights, blocks, x.codes + at * Inputs<F>::block_bytes, x.scales + at,
                                         x.offsets + at, sums + (row - begin) * P * panel_rows, ahead);
        });
        row += rows;
      }
    }
    for (std::size_t row = begin; row < end; ++row) {
      for (std::size_t p = 0; p < panels; ++p) {
        const std::size_t output = (first_panel + p) * panel_rows;
        simd::Lanes::load(sums + ((row - begin) * P + p) * panel_rows)
            .store_some(y.row(row).data() + output, w.rows - output);
      }
    }
  }
}

/// All rows of x times up to group_panels panels.
///   next  where the panels begin that are read after these
template <IntegerFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const std::byte* next,
                          const Inputs<F>& x, Rows<float> y) noexcept {
  constexpr std::size_t P = integer_tile_panels;
  for (std::size_t p = 0; p < panels; p += P) {
    const std::byte* const then = p + P < panels ? w.panel(first_panel + p + P) : next;
    if (x.rows() <= PackedBlocks<F>::most_tiles * integer_tile_rows) {
      multiply_tiles<PackedBlocks<F>>(w, first_panel + p, (std::min)(P, panels - p), then, x, y);
    } else {
      multiply_tiles<UnpackedBlocks<F>>(w, first_panel + p, (std::min)(P, panels - p), then, x, y);
    }
  }
}

}}}  // namespace mistral::kernels
