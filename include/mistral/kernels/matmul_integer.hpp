#pragma once

#include <algorithm>
#include <cstddef>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/panel_walk.hpp>
#include <mistral/kernels/tile.hpp>

namespace mistral::inline MISTRAL_ABI::kernels {

/// Quads of a block of inputs.
inline constexpr std::size_t block_quads = input_block / simd::quad;

/// One row times P panels, straight from the packed weights.
///   next  where the panels begin that are read after these
template <std::size_t P, IntegerFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, const std::byte* next, const Inputs<F>& x,
                         float* y) noexcept {
  using Product = BlockProduct<F>;
  using Dot = typename Product::Dot;
  constexpr std::size_t blocks = F::block_inputs / input_block;
  constexpr std::size_t step_blocks = F::step_inputs / input_block;
  constexpr std::size_t part_quads = block_quads / Product::parts;
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::size_t panel_bytes = w.panel_bytes();
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
        if constexpr (blocks > 1) asm volatile("" : : : "memory");
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
    const auto multiply_panel = [&](std::size_t p) {
      multiply_block(block + p * panel_bytes, b * blocks, ahead, acc[p]);
    };
    if constexpr (blocks == 1) {
#pragma GCC unroll 4
      for (std::size_t p = 0; p < P; ++p) multiply_panel(p);
    } else {
      for (std::size_t p = 0; p < P; ++p) multiply_panel(p);
    }
  });
  for (std::size_t p = 0; p < P; ++p) {
    const std::size_t output = (first_panel + p) * panel_rows;
    acc[p].store_some(y + output, w.rows - output);
  }
}

/// Rows whose sums are taken side by side: 22 tiles, of 4 panels 66 KiB with AVX-512, which stay in L2 from one depth
/// of the weights to the next, whereas rows of the outputs are too far apart for it. Many, since the weights are
/// unpacked once for all of them.
inline constexpr std::size_t integer_rows_together = 22 * integer_tile_rows;

/// Some blocks of the inputs of a group of panels, their codes unpacked for any number of tiles.
template <IntegerFormat F>
class UnpackedBlocks {
  using Dot = typename Inputs<F>::Dot;
  static constexpr std::size_t format_blocks = F::block_inputs / input_block;

 public:
  using Step = typename Dot::Step;
  static constexpr std::size_t block_steps = block_quads * Dot::steps;
  /// Blocks at a time: 16 KiB of weights a group, half of an L1.
  static constexpr std::size_t depth = std::max(format_blocks, 8 / Dot::steps);

  /// Blocks [first, first + blocks) of `panels` panels.
  void set(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, std::size_t first,
           std::size_t blocks) noexcept {
    constexpr std::size_t step_quads = F::step_inputs / simd::quad;
    for (std::size_t p = 0; p < panels; ++p) {
      const std::byte* block = w.panel(first_panel + p) + first / format_blocks * F::block_bytes;
      for (std::size_t b = 0; b < blocks; b += format_blocks, block += F::block_bytes) {
        F::terms(block, reinterpret_cast<typename F::Terms(&)[format_blocks]>(terms_[p][b]));
        for (std::size_t i = 0; i < format_blocks * block_quads; ++i) {
          Dot::split(F::quads(block + i / step_quads * F::step_bytes, i % step_quads),
                     reinterpret_cast<Step(&)[Dot::steps]>(steps_[p][b * block_steps + i * Dot::steps]));
        }
      }
    }
  }

  /// Step i of block b of panel p.
  Step step(std::size_t p, std::size_t b, std::size_t i) const noexcept { return steps_[p][b * block_steps + i]; }
  const typename F::Terms& terms(std::size_t p, std::size_t b) const noexcept { return terms_[p][b]; }

 private:
  Step steps_[group_panels][depth * block_steps]{};  // zeros for panels that a tile has and the matrix hasn't
  typename F::Terms terms_[group_panels][depth]{};
};

/// What a tile asks memory for, block by block, while it multiplies: its part of the weights that come next. Asked for
/// all at once, they would keep the core waiting; not asked for, few rows would be done before memory answers.
struct WeightsAhead {
  const std::byte* at;      ///< in the group's first panel
  std::size_t panel_bytes;  ///< from one panel to the next
  std::size_t block_bytes;  ///< for each block that is multiplied; 0: nothing
};

/// R rows times P panels, from panel `first` of w on: adds `blocks` blocks to acc, one after the other.
///   codes, scales, offsets   of the tile's rows, as Inputs holds them
///   acc                      (rows, panels, 16)
///   ahead                    what it asks memory for
template <std::size_t R, std::size_t P, IntegerFormat F>
inline void multiply_integer_tile(const UnpackedBlocks<F>& w, std::size_t first, std::size_t blocks,
                                  const std::byte* codes, const float* scales,
                                  const typename Inputs<F>::Offset* offsets, float* acc,
                                  const WeightsAhead& ahead) noexcept {
  using Product = BlockProduct<F>;
  using Dot = typename Product::Dot;
  constexpr std::size_t part_steps = UnpackedBlocks<F>::block_steps / Product::parts;
  for (std::size_t b = 0; b < blocks; ++b, scales += R, offsets += R) {
    for (std::size_t p = 0; p < P; ++p) {
      const std::byte* const lines = ahead.at + (first + p) * ahead.panel_bytes + b * ahead.block_bytes;
      for (std::size_t line = 0; line < ahead.block_bytes; line += 64) __builtin_prefetch(lines + line);
    }
    simd::Sums sums[R][P];
#pragma GCC unroll 2
    for (std::size_t part = 0; part < Product::parts; ++part) {
      Dot dots[R][P];
#pragma GCC unroll 12
      for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (std::size_t p = 0; p < P; ++p) dots[r][p] = Product::begin(offsets[r], part);
      }
#pragma GCC unroll 8
      for (std::size_t j = 0; j < part_steps; ++j) {
        typename Dot::Step step[P];
#pragma GCC unroll 2
        for (std::size_t p = 0; p < P; ++p) step[p] = w.step(first + p, b, part * part_steps + j).pinned();
#pragma GCC unroll 12
        for (std::size_t r = 0; r < R; ++r, codes += simd::quad) {
          const typename Dot::Input input = Dot::input(codes);
#pragma GCC unroll 2
          for (std::size_t p = 0; p < P; ++p) dots[r][p].add(step[p], input);
        }
      }
#pragma GCC unroll 12
      for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (std::size_t p = 0; p < P; ++p) {
          const simd::Sums more = Product::sums(dots[r][p], w.terms(first + p, b), part);
          sums[r][p] = part == 0 ? more : sums[r][p] + more;
        }
      }
    }
    // The floats rest in memory while the integers have the registers: without this, gcc keeps acc in them from one
    // block to the next, and spills the integers from one quad to the next.
    asm volatile("" : : : "memory");
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) {
        float* const out = acc + (r * P + p) * panel_rows;
        Product::add(w.terms(first + p, b), sums[r][p], offsets[r], scales[r], simd::Lanes::load(out)).store(out);
      }
    }
  }
}

/// All rows of x times up to group_panels panels: some blocks of the weights at a time, and with each the rows tile by
/// tile.
///   next  where the panels begin that are read after these
template <IntegerFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const std::byte* next,
                          const Inputs<F>& x, Rows<float> y) noexcept {
  constexpr std::size_t P = integer_tile_panels;
  static_assert(group_panels % P == 0);
  using Blocks = UnpackedBlocks<F>;
  Blocks weights;
  alignas(64) float sums[integer_rows_together * group_panels * panel_rows];  // for each tile (panels / P, rows, P, 16)
  const std::size_t group = (panels + P - 1) / P * P;
  for (std::size_t begin = 0, end = 0; begin < x.rows(); begin = end) {
    for (IntegerTile tile = integer_tile_of(begin, x.rows());
         end < x.rows() && tile.first + tile.rows - begin <= integer_rows_together;
         tile = integer_tile_of(std::min(end, x.rows() - 1), x.rows())) {
      end = tile.first + tile.rows;
    }
    std::fill_n(sums, (end - begin) * group * panel_rows, 0.0f);
    // the first two tiles share in asking for the weights of the next depth
    constexpr std::size_t share_bytes = F::block_bytes * input_block / F::block_inputs;
    const std::size_t sharers = end - begin > integer_tile_rows ? 2 : 1;
    for (std::size_t first = 0; first < x.blocks(); first += Blocks::depth) {
      const std::size_t blocks = std::min(Blocks::depth, x.blocks() - first);
      weights.set(w, first_panel, panels, first, blocks);
      const bool last = first + Blocks::depth >= x.blocks();
      const std::byte* const next_depth = last ? next : w.panel(first_panel) + (first + Blocks::depth) * share_bytes;
      for (std::size_t row = begin, tile = 0; row < end; ++tile) {
        const WeightsAhead ahead_of_tile{next_depth + tile * blocks * (share_bytes / sharers), w.panel_bytes(),
                                         tile < sharers ? share_bytes / sharers : 0};
        const std::size_t rows = integer_tile_of(row, x.rows()).rows;
        const std::size_t at = row * x.blocks() + first * rows;
        const std::byte* const codes = x.codes + at * Inputs<F>::block_bytes;
        // where the next tile's codes of these blocks lie, if it has as many rows: this one's end is no way to there
        const std::byte* const ahead = codes + x.blocks() * rows * Inputs<F>::block_bytes;
        const std::size_t share = blocks * rows * Inputs<F>::block_bytes / (group / P);
        with_rows<integer_tile_rows>(rows, [&]<std::size_t R>() {
          for (std::size_t p = 0; p < group; p += P) {
            for (std::size_t line = 0; line < share; line += 64) __builtin_prefetch(ahead + p / P * share + line);
            multiply_integer_tile<R, P, F>(weights, p, blocks, codes, x.scales + at, x.offsets + at,
                                           sums + ((row - begin) * group + p * R) * panel_rows, ahead_of_tile);
          }
        });
        row += rows;
      }
    }
    for (std::size_t row = begin; row < end; ++row) {
      const IntegerTile tile = integer_tile_of(row, x.rows());
      for (std::size_t p = 0; p < panels; ++p) {
        const std::size_t at = (tile.first - begin) * group + p / P * P * tile.rows + (row - tile.first) * P + p % P;
        const std::size_t output = (first_panel + p) * panel_rows;
        simd::Lanes::load(sums + at * panel_rows).store_some(y.row(row).data() + output, w.rows - output);
      }
    }
  }
}

}  // namespace mistral::inline MISTRAL_ABI::kernels
