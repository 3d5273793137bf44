#pragma once

#include <algorithm>
#include <cstddef>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/tile.hpp>

namespace mistral::inline MISTRAL_ABI::kernels {

/// Quads of a block of inputs.
inline constexpr std::size_t block_quads = input_block / simd::quad;

/// Rows of a tile of integer sums, which keep the registers of a block to themselves:
///   AVX-512  12 sums                      + 1 weights + 1 broadcast + 1 product   = 15 of 32
///   AVX2      4 x 2 sums                  + 2 weights + 1 broadcast + 1 product   = 12 of 16
///   i8mm      6 x 4 sums                  + 4 weights + 1 broadcast               = 29 of 32
///   dotprod   5 x 5 sums                  + 4 weights + 1 broadcast + 1 constant  = 31 of 32
///   NEON      2 x 9 sums                  + 4 weights + 1 broadcast + 2 products  = 25 of 32
#if defined(__aarch64__)
inline constexpr std::size_t integer_tile_rows = 26 / simd::dot_registers;
#else
inline constexpr std::size_t integer_tile_rows = simd::registers == 1 ? 12 : simd::registers == 2 ? 4 : 2;
#endif

/// One row times P panels, straight from the packed weights.
template <std::size_t P, IntegerFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, const Inputs<F>& x, float* y) noexcept {
  using Product = BlockProduct<F>;
  using Dot = typename Product::Dot;
  constexpr std::size_t blocks = F::block_inputs / input_block;
  constexpr std::size_t step_blocks = F::step_inputs / input_block;
  constexpr std::size_t part_quads = block_quads / Product::parts;
  constexpr std::size_t prefetch_bytes = F::block_bytes < 2048 ? 2048 : F::block_bytes;
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::byte* block = w.panel(first_panel);
  const std::size_t panel_bytes = w.panel_bytes();
  std::size_t b = 0;  // blocks of inputs that are done
  const auto multiply_panel = [&](std::size_t p) {
    const std::byte* panel = block + p * panel_bytes;
    typename F::Terms terms[blocks];
    F::terms(panel, terms);
    simd::Lanes sum = acc[p];
    for (std::size_t step = 0; step < blocks; step += step_blocks) {
      const std::byte* step_codes = panel + step / step_blocks * F::step_bytes;
#pragma GCC unroll 4
      for (std::size_t i = 0; i < step_blocks; ++i) {
        // Without this, gcc asks for the lines of a whole step at once, more than the core can wait for, and spills
        // codes that the step's last 32 inputs meet again.
        if constexpr (blocks > 1) asm volatile("" : : : "memory");
        constexpr std::size_t share = F::block_bytes / blocks;
        for (std::size_t line = 0; line < share; line += 64) {
          __builtin_prefetch(panel + prefetch_bytes + (step + i) * share + line);
        }
        const std::size_t at = b + step + i;
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
              dot.add(weights[k], inputs + quad * Dot::input_bytes + k * simd::quad);
            }
          }
          const simd::Sums more = Product::sums(dot, terms[step + i], part);
          sums = part == 0 ? more : sums + more;
        }
        sum = Product::add(terms[step + i], sums, x.offsets[at], x.scales[at], sum);
      }
    }
    acc[p] = sum;
  };
  for (; b < x.blocks(); b += blocks, block += F::block_bytes) {
    if constexpr (blocks == 1) {
#pragma GCC unroll 4
      for (std::size_t p = 0; p < P; ++p) multiply_panel(p);
    } else {
      for (std::size_t p = 0; p < P; ++p) multiply_panel(p);
    }
  }
  for (std::size_t p = 0; p < P; ++p) {
    const std::size_t output = (first_panel + p) * panel_rows;
    acc[p].store_some(y + output, w.rows - output);
  }
}

/// R rows times one panel over some blocks of inputs, whose weights lie unpacked: adds to acc, block after block.
template <std::size_t R, IntegerFormat F>
inline void multiply_integer_tile(const typename Inputs<F>::Dot::Step* weights, const typename F::Terms* terms,
                                  const Inputs<F>& x, std::size_t row, std::size_t first_block, std::size_t blocks,
                                  float* acc) noexcept {
  using Product = BlockProduct<F>;
  using Dot = typename Product::Dot;
  constexpr std::size_t part_steps = block_quads * Dot::steps / Product::parts;
  const std::size_t row_blocks = x.blocks();
  for (std::size_t b = 0; b < blocks; ++b, weights += block_quads * Dot::steps) {
    const std::size_t at = row * row_blocks + first_block + b;
    const std::byte* inputs = x.codes + at * Inputs<F>::block_bytes;
    simd::Sums sums[R];
#pragma GCC unroll 2
    for (std::size_t part = 0; part < Product::parts; ++part) {
      Dot dots[R];
#pragma GCC unroll 12
      for (std::size_t r = 0; r < R; ++r) dots[r] = Product::begin(x.offsets[at + r * row_blocks], part);
      for (std::size_t j = part * part_steps; j < (part + 1) * part_steps; j += 2) {
#pragma GCC unroll 2
        for (std::size_t k = 0; k < 2; ++k) {  // two at a time: half as much counting
          const typename Dot::Step step = weights[j + k].pinned();
#pragma GCC unroll 12
          for (std::size_t r = 0; r < R; ++r) {
            dots[r].add(step, inputs + r * row_blocks * Inputs<F>::block_bytes + (j + k) * simd::quad);
          }
        }
      }
#pragma GCC unroll 12
      for (std::size_t r = 0; r < R; ++r) {
        const simd::Sums more = Product::sums(dots[r], terms[b], part);
        sums[r] = part == 0 ? more : sums[r] + more;
      }
    }
    // The floats rest in memory while the integers have the registers: without this, gcc keeps acc in them from one
    // block to the next, and spills the integers from one quad to the next.
    asm volatile("" : : : "memory");
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) {
      const std::size_t block = at + r * row_blocks;
      Product::add(terms[b], sums[r], x.offsets[block], x.scales[block], simd::Lanes::load(acc + r * panel_rows))
          .store(acc + r * panel_rows);
    }
  }
}

/// All rows of x times up to group_panels panels: unpacks the weights of a depth once, then walks the rows tile by
/// tile.
template <IntegerFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const Inputs<F>& x,
                          Rows<float> y) noexcept {
  using Dot = typename Inputs<F>::Dot;
  using Step = typename Dot::Step;
  constexpr std::size_t block_steps = block_quads * Dot::steps;
  constexpr std::size_t format_blocks = F::block_inputs / input_block;
  // blocks of inputs: 16 KiB of unpacked weights a group, half of an L1
  constexpr std::size_t depth = std::max(format_blocks, 8 / Dot::steps);
  Step weights[group_panels * depth * block_steps];
  typename F::Terms terms[group_panels * depth];
  alignas(64) float acc[integer_tile_rows * panel_rows];
  for (std::size_t first = 0; first < x.blocks(); first += depth) {
    const std::size_t blocks = std::min(depth, x.blocks() - first);
    for (std::size_t p = 0; p < panels; ++p) {
      const std::byte* block = w.panel(first_panel + p) + first / format_blocks * F::block_bytes;
      for (std::size_t b = 0; b < blocks; b += format_blocks, block += F::block_bytes) {
        const std::size_t at = p * depth + b;
        F::terms(block, reinterpret_cast<typename F::Terms(&)[format_blocks]>(terms[at]));
        constexpr std::size_t step_quads = F::step_inputs / simd::quad;
        for (std::size_t i = 0; i < format_blocks * block_quads; ++i) {
          Dot::split(F::quads(block + i / step_quads * F::step_bytes, i % step_quads),
                     reinterpret_cast<Step(&)[Dot::steps]>(weights[at * block_steps + i * Dot::steps]));
        }
      }
    }
    for (std::size_t row = 0; row < x.rows(); row += integer_tile_rows) {
      with_rows<integer_tile_rows>(x.rows() - row, [&]<std::size_t R>() {
        for (std::size_t p = 0; p < panels; ++p) {
          const std::size_t output = (first_panel + p) * panel_rows;
          for (std::size_t r = 0; r < R; ++r) {
            (first == 0 ? simd::Lanes::broadcast(0.0f)
                        : simd::Lanes::load_some(y.row(row + r).data() + output, w.rows - output))
                .store(acc + r * panel_rows);
          }
          multiply_integer_tile<R, F>(weights + p * depth * block_steps, terms + p * depth, x, row, first, blocks, acc);
          for (std::size_t r = 0; r < R; ++r) {
            simd::Lanes::load(acc + r * panel_rows).store_some(y.row(row + r).data() + output, w.rows - output);
          }
        }
      });
    }
  }
}

}  // namespace mistral::inline MISTRAL_ABI::kernels
