// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>

#include <mistral/format/panels.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/tile.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Quads of a block of inputs.
inline constexpr std::size_t block_quads = input_block / simd::quad;

/// Some blocks of the inputs of a tile's panels, unpacked once for any number of tiles.
template <IntegerFormat F>
class UnpackedBlocks {
  using Dot = typename Inputs<F>::Dot;
  static constexpr std::size_t format_blocks = F::block_inputs / input_block;

 public:
  using Step = typename Dot::Step;
  static constexpr std::size_t block_steps = block_quads * Dot::steps;
  /// Blocks at a time: 16 KiB of weights, a third to a half of an L1.
  static constexpr std::size_t depth =
      (std::max)(format_blocks, 16 * 1024 / (integer_tile_panels * block_steps * sizeof(Step)));
  /// Depths from what is multiplied to what memory is asked for.
  static constexpr std::size_t depths_ahead = 1;

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
  Step steps_[integer_tile_panels][depth * block_steps]{};  // zeros for panels that a tile has and the matrix hasn't
  typename F::Terms terms_[integer_tile_panels][depth]{};
};

/// The same for a few tiles, each of which unpacks the codes for itself, straight to the registers.
template <IntegerFormat F>
class PackedBlocks {
  using Dot = typename Inputs<F>::Dot;
  static constexpr std::size_t format_blocks = F::block_inputs / input_block;
  static constexpr std::size_t step_quads = F::step_inputs / simd::quad;

 public:
  using Step = typename Dot::Step;
  static constexpr std::size_t block_steps = block_quads * Dot::steps;
  static constexpr std::size_t depth = (std::max<std::size_t>)(format_blocks, 16);
  static constexpr std::size_t depths_ahead = 2;
  /// Up to how many tiles. With AVX-512 storing what is unpacked would take both pipes that multiply for a cycle, and
  /// unpacking takes others. With fewer and narrower registers it competes with the products: only a tile that is alone
  /// spares something, and steps that are split again lose.
  static constexpr std::size_t most_tiles = Dot::steps > 1 ? 0 : simd::registers == 1 ? 4 : 1;

  void set(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, std::size_t first,
           std::size_t blocks) noexcept {
    for (std::size_t p = 0; p < integer_tile_panels; ++p) {
      // for a panel that a tile has and the matrix hasn't, another one: nobody reads its products
      const std::byte* block =
          w.panel(first_panel + (std::min)(p, panels - 1)) + first / format_blocks * F::block_bytes;
      codes_[p] = block;
      for (std::size_t b = 0; b < blocks; b += format_blocks, block += F::block_bytes) {
        F::terms(block, reinterpret_cast<typename F::Terms(&)[format_blocks]>(terms_[p][b]));
      }
    }
  }

  Step step(std::size_t p, std::size_t b, std::size_t i) const noexcept {
    const std::size_t quad = b % format_blocks * block_quads + i / Dot::steps;
    const std::byte* const block = codes_[p] + b / format_blocks * F::block_bytes;
    Step steps[Dot::steps];
    Dot::split(F::quads(block + quad / step_quads * F::step_bytes, quad % step_quads), steps);
    return steps[i % Dot::steps];
  }
  const typename F::Terms& terms(std::size_t p, std::size_t b) const noexcept { return terms_[p][b]; }

 private:
  const std::byte* codes_[integer_tile_panels];
  typename F::Terms terms_[integer_tile_panels][depth];
};

}}}  // namespace mistral::kernels
