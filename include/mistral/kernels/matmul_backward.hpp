// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <span>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/matmul.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/transpose.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Inputs that are turned at a time: as many as a group of panels has outputs, and whole blocks of the format.
template <WeightFormat F>
inline constexpr std::size_t turned_inputs = (std::max)(group_panels* panel_rows, F::block_inputs);

/// Inputs whose gradients one task sums at most. With a depth of outputs they are 256 KiB of floats, which L2 holds;
/// the more there are, the less often the rows of dy, which it doesn't hold, are read again.
inline constexpr std::size_t most_gradient_inputs = 256;

/// The same for a matrix of `cols` inputs: fewer where the threads would have too few tasks to share.
template <WeightFormat F>
inline std::size_t gradient_inputs(std::size_t cols) noexcept {
  constexpr std::size_t unit = turned_inputs<F>;
  static_assert(most_gradient_inputs % unit == 0);
  return std::clamp(cols / (4 * parallel::thread_count()) / unit * unit, unit, most_gradient_inputs);
}

/// Turns inputs [first, first + count) of outputs [o, o + depth) of a packed matrix to panels of 16 inputs, floats: a
/// lane owns an input, and a step is an output.
template <WeightFormat F>
inline void turn_weights(const PanelsView<F>& w, std::size_t first, std::size_t count, std::size_t o, std::size_t depth,
                         float* panels) noexcept {
  constexpr std::size_t most = turned_inputs<F>;
  static_assert(most % F::block_inputs == 0 && most % panel_rows == 0);
  alignas(64) float block[most * panel_rows];
  const std::size_t padded = (count + panel_rows - 1) / panel_rows * panel_rows;
  std::fill(block + count * panel_rows, block + padded * panel_rows, 0.0f);
  for (std::size_t step = 0; step < depth; step += panel_rows) {
    unpack_panel(w, (o + step) / panel_rows, first, count, block);
    for (std::size_t input = 0; input < count; input += panel_rows) {
      const std::byte* rows[panel_rows];
      for (std::size_t lane = 0; lane < panel_rows; ++lane) {
        rows[lane] = reinterpret_cast<const std::byte*>(block + (input + lane) * panel_rows);
      }
      float* const out = panels + input * depth_block + step * panel_rows;
      simd::transpose_words(rows, panel_rows, reinterpret_cast<std::byte*>(out));
    }
  }
}

/// The gradient of the inputs of y = W x: dx[t] = W^T dy[t], or added to dx. dy (tokens, w.rows), dx (tokens, w.cols).
/// A sum goes over the outputs in order, whatever the number of rows or threads. Weights of an integer format are the
/// floats they stand for.
template <WeightFormat F>
void matmul_transposed(const PanelsView<F>& w, Rows<const float> dy, Rows<float> dx,
                       SumFrom from = SumFrom::zero) noexcept {
  assert(dy.cols() == w.rows && dx.cols() == w.cols && dx.rows() == dy.rows());
  static_assert(depth_block % panel_rows == 0);
  const std::size_t inputs = gradient_inputs<F>(w.cols);
  parallel::for_ranges((w.cols + inputs - 1) / inputs, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t task = begin; task < end; ++task) {
      alignas(64) float turned[most_gradient_inputs * depth_block];
      const std::size_t first = task * inputs;
      const std::size_t count = (std::min)(inputs, w.cols - first);
      for (std::size_t o = 0; o < w.rows; o += depth_block) {
        const std::size_t depth = (std::min)(depth_block, w.rows - o);
        for (std::size_t input = 0; input < count; input += turned_inputs<F>) {
          turn_weights(w, first + input, (std::min)(turned_inputs<F>, count - input), o, depth,
                       turned + input * depth_block);
        }
        multiply_depth(turned, (count + panel_rows - 1) / panel_rows, first, dy, o, depth, o == 0 ? from : SumFrom::y,
                       dx);
      }
    }
  });
}

/// acc[r][p] += sum over t of dy[t] x[t][r]: R inputs by P panels of 16 outputs, t ascending.
///   dy  P panels (depth, 16), `panel_stride` floats apart
///   x   (depth, R), rows `row_stride` floats apart
template <std::size_t R, std::size_t P>
inline void multiply_gradient_tile(const float* dy, std::size_t panel_stride, const float* x, std::size_t row_stride,
                                   std::size_t depth, simd::Lanes (&acc)[R][P]) noexcept {
  for (std::size_t t = 0; t < depth; ++t) {
    simd::Lanes outputs[P];
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) outputs[p] = simd::Lanes::load(dy + p * panel_stride + t * simd::lanes);
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) {
      const simd::Lanes input = simd::Lanes::broadcast(x[t * row_stride + r]);
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) acc[r][p] = simd::fma(outputs[p], input, acc[r][p]);
    }
  }
}

/// The gradient of the weights of y = W x, added to what stands there: dW[o][i] += sum over t of dy[t][o] x[t][i].
///   dy        (tokens, outputs)
///   x         (tokens, inputs)
///   gradient  as Panels<F32> of (outputs, inputs) lie: (panels, inputs, 16)
/// A sum goes over the rows in order, from what stands in `gradient`: it has the same bits for any number of threads,
/// and whether rows come in one call or in several.
inline void matmul_gradient(Rows<const float> dy, Rows<const float> x, std::span<float> gradient) noexcept {
  assert(dy.rows() == x.rows());
  assert(gradient.size() == (dy.cols() + panel_rows - 1) / panel_rows * panel_rows * x.cols());
  constexpr std::size_t depth_rows = 128;  // a group's dy is 32 KiB then, and the inputs of a task 48 KiB: in L2
  constexpr std::size_t task_inputs = 96;  // whole tiles of 12, 6 or 3
  const std::size_t panel_count = (dy.cols() + panel_rows - 1) / panel_rows;
  const std::size_t input_parts = (x.cols() + task_inputs - 1) / task_inputs;
  const std::size_t groups = (panel_count + group_panels - 1) / group_panels;
  parallel::for_ranges(groups * input_parts, 1, [&](std::size_t begin, std::size_t end) {
    alignas(64) float outputs[group_panels * depth_rows * panel_rows];
    alignas(64) float inputs[depth_rows * task_inputs];
    for (std::size_t task = begin; task < end; ++task) {
      const std::size_t first_panel = task / input_parts * group_panels;
      const std::size_t panels = (std::min)(group_panels, panel_count - first_panel);
      const std::size_t first = task % input_parts * task_inputs;
      const std::size_t count = (std::min)(task_inputs, x.cols() - first);
      for (std::size_t t = 0; t < x.rows(); t += depth_rows) {
        const std::size_t depth = (std::min)(depth_rows, x.rows() - t);
        for (std::size_t i = 0; i < depth; ++i) {
          std::memcpy(inputs + i * task_inputs, x.row(t + i).data() + first, count * sizeof(float));
          for (std::size_t p = 0; p < panels; ++p) {
            const std::size_t output = (first_panel + p) * panel_rows;
            simd::Lanes::load_some(dy.row(t + i).data() + output, dy.cols() - output)
                .store(outputs + (p * depth_rows + i) * panel_rows);
          }
        }
        for (std::size_t input = 0; input < count; input += tile_rows) {
          with_rows((std::min)(tile_rows, count - input), [&]<std::size_t R>() {
            const auto multiply = [&]<std::size_t P>(std::size_t p) {
              simd::Lanes acc[R][P];
              const auto place = [&](std::size_t r, std::size_t q) {
                return gradient.data() + ((first_panel + p + q) * x.cols() + first + input + r) * panel_rows;
              };
              for (std::size_t r = 0; r < R; ++r) {
                for (std::size_t q = 0; q < P; ++q) acc[r][q] = simd::Lanes::load(place(r, q));
              }
              multiply_gradient_tile<R, P>(outputs + p * depth_rows * panel_rows, depth_rows * panel_rows,
                                           inputs + input, task_inputs, depth, acc);
              for (std::size_t r = 0; r < R; ++r) {
                for (std::size_t q = 0; q < P; ++q) acc[r][q].store(place(r, q));
              }
            };
            std::size_t p = 0;
            for (; p + tile_panels <= panels; p += tile_panels) multiply.template operator()<tile_panels>(p);
            for (; p < panels; ++p) multiply.template operator()<1>(p);
          });
        }
      }
    }
  });
}

}}}  // namespace mistral::kernels
