#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstring>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/matmul_integer.hpp>
#include <mistral/kernels/matmul_pairs.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral::inline MISTRAL_ABI::kernels {

/// Inputs that are unpacked at a time: a panel of 256 x 16 floats is 16 KiB, which stays in a 32 KiB L1 beside a tile
/// of inputs (6 KiB); a group of 4 panels is 64 KiB, well inside L2.
inline constexpr std::size_t depth_block = 256;

/// One row times P panels, straight from the packed weights: this reads each weight once and is bound by memory.
template <std::size_t P, WeightFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, const Inputs<F>& all, float* y) noexcept {
  constexpr std::size_t prefetch_bytes = 1536;  // ahead of each stream: more than the latency of memory covers
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const float* x = all.x.data();
  const std::byte* block = w.panel(first_panel);
  const std::size_t panel_bytes = w.panel_bytes();
  const auto multiply_block = [&](std::size_t k, std::size_t inputs) {
    simd::Lanes input[F::block_inputs];
    for (std::size_t i = 0; i < inputs; ++i) input[i] = simd::Lanes::broadcast(x[k + i]);
#pragma GCC unroll 4
    for (std::size_t p = 0; p < P; ++p) {
      simd::Lanes weights[F::block_inputs];
      F::unpack(block + p * panel_bytes, weights);
      __builtin_prefetch(block + p * panel_bytes + prefetch_bytes);
      for (std::size_t i = 0; i < inputs; ++i) acc[p] = simd::fma(weights[i], input[i], acc[p]);
    }
    block += F::block_bytes;
  };
  const std::size_t whole = w.cols / F::block_inputs * F::block_inputs;
  for (std::size_t k = 0; k < whole; k += F::block_inputs) multiply_block(k, F::block_inputs);
  if (whole < w.cols) multiply_block(whole, w.cols - whole);
  for (std::size_t p = 0; p < P; ++p) {
    const std::size_t output = (first_panel + p) * panel_rows;
    acc[p].store_some(y + output, w.rows - output);
  }
}

/// The same for blocks that are decoded in steps, so that their weights stay in registers.
template <std::size_t P, SteppedFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, const Inputs<F>& all, float* y) noexcept {
  constexpr std::size_t prefetch_bytes = 2048;
  constexpr std::size_t steps = F::block_inputs / F::step_inputs;
  constexpr std::size_t share = F::block_bytes / steps;  // of the prefetches
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::byte* block = w.panel(first_panel);
  const std::size_t panel_bytes = w.panel_bytes();
  const std::size_t whole = w.cols / F::block_inputs * F::block_inputs;
  for (std::size_t k = 0; k < whole; k += F::block_inputs) {
    const float* const x = all.x.data() + k;
    simd::Lanes scales[P];
    for (std::size_t p = 0; p < P; ++p) scales[p] = F::scales(block + p * panel_bytes);
#pragma GCC unroll 2
    for (std::size_t step = 0; step < steps; ++step) {
#pragma GCC unroll 4
      for (std::size_t p = 0; p < P; ++p) {
        __builtin_prefetch(block + p * panel_bytes + prefetch_bytes + step * share);
        simd::Lanes weights[F::step_inputs];
        F::unpack_step(block + p * panel_bytes, step, scales[p], weights);
        for (std::size_t i = 0; i < F::step_inputs; ++i) {
          acc[p] = simd::fma(weights[i], simd::Lanes::broadcast(x[step * F::step_inputs + i]), acc[p]);
        }
      }
    }
    block += F::block_bytes;
  }
  for (std::size_t p = 0; whole < w.cols && p < P; ++p) {
    simd::Lanes weights[F::block_inputs];
    F::unpack(block + p * panel_bytes, weights);
    for (std::size_t k = whole; k < w.cols; ++k) {
      acc[p] = simd::fma(weights[k - whole], simd::Lanes::broadcast(all.x.data()[k]), acc[p]);
    }
  }
  for (std::size_t p = 0; p < P; ++p) {
    const std::size_t output = (first_panel + p) * panel_rows;
    acc[p].store_some(y + output, w.rows - output);
  }
}

/// Unpacks inputs [k, k + depth) of one panel to floats: out[(i - k) * 16 + lane]. k is a multiple of a block's inputs.
template <WeightFormat F>
inline void unpack_panel(const PanelsView<F>& w, std::size_t panel, std::size_t k, std::size_t depth,
                         float* out) noexcept {
  static_assert(depth_block % F::block_inputs == 0);
  const std::byte* block = w.panel(panel) + k / F::block_inputs * F::block_bytes;
  for (std::size_t i = 0; i < depth; i += F::block_inputs, block += F::block_bytes) {
    simd::Lanes weights[F::block_inputs];
    F::unpack(block, weights);
    for (std::size_t j = 0; j < F::block_inputs; ++j) weights[j].store(out + (i + j) * panel_rows);
  }
}

/// What an output's sum begins with.
enum class SumFrom { zero, y };

/// Multiplies inputs [k, k + depth) of all rows of x, depth <= depth_block, with panels of
/// floats: panels (depth, 16) each, depth_block * 16 floats apart, for the outputs from first_output on. Between two
/// depths the sums rest in y, which rounds nothing.
inline void multiply_depth(const float* unpacked, std::size_t panels, std::size_t first_output, Rows<const float> x,
                           std::size_t k, std::size_t depth, SumFrom from, Rows<float> y) noexcept {
  constexpr std::size_t panel_stride = depth_block * panel_rows;
  constexpr std::size_t input_stride = depth_block + 16;  // not a power of two: rows would share their cache sets
  alignas(64) float inputs[tile_rows * input_stride];
  for (std::size_t row = 0; row < x.rows(); row += tile_rows) {
    const std::size_t rows = std::min(tile_rows, x.rows() - row);
    for (std::size_t r = 0; r < rows; ++r) {
      std::memcpy(inputs + r * input_stride, x.row(row + r).data() + k, depth * sizeof(float));
    }
    with_rows(rows, [&]<std::size_t R>() {
      const auto multiply = [&]<std::size_t P>(std::size_t p) {
        simd::Lanes acc[R][P];
        for (std::size_t r = 0; r < R; ++r) {
          for (std::size_t q = 0; q < P; ++q) {
            const std::size_t output = first_output + (p + q) * panel_rows;
            acc[r][q] = from == SumFrom::zero
                            ? simd::Lanes::broadcast(0.0f)
                            : simd::Lanes::load_some(y.row(row + r).data() + output, y.cols() - output);
          }
        }
        multiply_tile<R, P>(unpacked + p * panel_stride, panel_stride, inputs, input_stride, depth, acc);
        for (std::size_t r = 0; r < R; ++r) {
          for (std::size_t q = 0; q < P; ++q) {
            const std::size_t output = first_output + (p + q) * panel_rows;
            acc[r][q].store_some(y.row(row + r).data() + output, y.cols() - output);
          }
        }
      };
      std::size_t p = 0;
      for (; p + tile_panels <= panels; p += tile_panels) multiply.template operator()<tile_panels>(p);
      for (; p < panels; ++p) multiply.template operator()<1>(p);
    });
  }
}

/// All rows of x times up to 4 panels: unpacks a depth of weights once, then walks the rows tile by tile.
template <WeightFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const Inputs<F>& all,
                          SumFrom from, Rows<float> y) noexcept {
  alignas(64) float unpacked[group_panels * depth_block * panel_rows];
  for (std::size_t k = 0; k < w.cols; k += depth_block) {
    const std::size_t depth = std::min(depth_block, w.cols - k);
    for (std::size_t p = 0; p < panels; ++p) {
      unpack_panel(w, first_panel + p, k, depth, unpacked + p * depth_block * panel_rows);
    }
    multiply_depth(unpacked, panels, first_panel * panel_rows, all.x, k, depth, k == 0 ? from : SumFrom::y, y);
  }
}

template <WeightFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const Inputs<F>& x,
                          Rows<float> y) noexcept {
  multiply_rows(w, first_panel, panels, x, SumFrom::zero, y);
}

/// Calls f(first_panel, panels) for groups of panels of a matrix of `outputs` x `inputs` that meets `rows` rows, each
/// task with enough groups to be worth sharing.
template <class Run>
void for_panel_groups(std::size_t outputs, std::size_t inputs, std::size_t rows, const Run& f) noexcept {
  const std::size_t all = (outputs + panel_rows - 1) / panel_rows;
  constexpr std::size_t worth_sharing = 1 << 17;  // multiply-adds: some 10 microseconds, a few times what sharing costs
  const std::size_t group_work = std::max<std::size_t>(1, group_panels * panel_rows * inputs * rows);
  const std::size_t grain = std::max<std::size_t>(1, worth_sharing / group_work);
  parallel::for_ranges((all + group_panels - 1) / group_panels, grain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t group = begin; group < end; ++group) {
      f(group * group_panels, std::min(group_panels, all - group * group_panels));
    }
  });
}

/// y[t] = W x[t] for every row t: x (tokens, w.cols) as its format wants it, y (tokens, w.rows).
/// An output is the sum of its products in the order of the inputs (of blocks of them, for integer formats), from zero,
/// whatever the number of rows or threads: the same row gets the same bits in any company. Work is split over outputs,
/// never over the sum.
template <WeightFormat F>
void matmul(const PanelsView<F>& w, const Inputs<F>& x, Rows<float> y) noexcept {
  assert(x.cols() == w.cols && y.cols() == w.rows && x.rows() == y.rows());
  if (x.rows() == 0) return;
  for_panel_groups(w.rows, w.cols, x.rows(), [&](std::size_t panel, std::size_t panels) {
    if (x.rows() > 1) {
      multiply_rows(w, panel, panels, x, y);
    } else if (panels == group_panels) {
      multiply_row<group_panels>(w, panel, x, y.data());
    } else {
      for (std::size_t p = 0; p < panels; ++p) multiply_row<1>(w, panel + p, x, y.data());
    }
  });
}

/// y[t] += W x[t]: the same for weights that are multiplied as floats, each sum going on from what stands in y.
template <WeightFormat F>
void matmul_add(const PanelsView<F>& w, const Inputs<F>& x, Rows<float> y) noexcept {
  assert(x.cols() == w.cols && y.cols() == w.rows && x.rows() == y.rows());
  for_panel_groups(w.rows, w.cols, x.rows(),
                   [&](std::size_t panel, std::size_t panels) { multiply_rows(w, panel, panels, x, SumFrom::y, y); });
}

}  // namespace mistral::inline MISTRAL_ABI::kernels
