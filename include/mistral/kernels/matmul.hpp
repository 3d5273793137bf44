// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <span>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/matmul_integer.hpp>
#include <mistral/kernels/matmul_pairs.hpp>
#include <mistral/kernels/panel_walk.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Inputs that are unpacked at a time: a panel of 256 x 16 floats is 16 KiB, which stays in a 32 KiB L1 beside a tile
/// of inputs (6 KiB); a group of 4 panels is 64 KiB, well inside L2.
inline constexpr std::size_t depth_block = 256;

/// Panels that a task walks together at most where there are many rows: the rows, which don't stay in L2 all together,
/// are then copied for 256 outputs at a time and not for 64, and 256 KiB of unpacked weights still do.
inline constexpr std::size_t most_group_panels = 16;

/// One row times P panels, straight from the packed weights: panels first_panel + p * apart. This reads each weight
/// once and is bound by memory.
///   next  where the panel begins that is read after the first
template <std::size_t P, WeightFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, std::size_t apart, const std::byte* next,
                         const Inputs<F>& all, float* y) noexcept {
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::size_t stride = apart * w.panel_bytes();
  walk_blocks(w, first_panel, next, [&](const std::byte* block, std::size_t b, std::ptrdiff_t ahead) {
    const float* const x = all.x.data() + b * F::block_inputs;
    const std::size_t inputs = (std::min)(F::block_inputs, w.cols - b * F::block_inputs);
    const auto multiply_block = [&](std::size_t count) {
      simd::Lanes input[F::block_inputs];
      for (std::size_t i = 0; i < count; ++i) input[i] = simd::Lanes::broadcast(x[i]);
#pragma GCC unroll 4
      for (std::size_t p = 0; p < P; ++p) {
        simd::Lanes weights[F::block_inputs];
        F::unpack(block + p * stride, weights);
        __builtin_prefetch(block + static_cast<std::ptrdiff_t>(p * stride) + ahead);
        for (std::size_t i = 0; i < count; ++i) acc[p] = simd::fma(weights[i], input[i], acc[p]);
      }
    };
    if (inputs == F::block_inputs) {
      multiply_block(F::block_inputs);
    } else {
      multiply_block(inputs);
    }
  });
  store_row(acc, first_panel, apart, w.rows, y);
}

/// The same for blocks that are decoded in steps, so that their weights stay in registers.
template <std::size_t P, SteppedFormat F>
inline void multiply_row(const PanelsView<F>& w, std::size_t first_panel, std::size_t apart, const std::byte* next,
                         const Inputs<F>& all, float* y) noexcept {
  constexpr std::size_t steps = F::block_inputs / F::step_inputs;
  constexpr std::size_t share = F::block_bytes / steps;  // of the prefetches
  simd::Lanes acc[P];
  for (auto& a : acc) a = simd::Lanes::broadcast(0.0f);
  const std::size_t stride = apart * w.panel_bytes();
  walk_blocks(w, first_panel, next, [&](const std::byte* block, std::size_t b, std::ptrdiff_t ahead) {
    const float* const x = all.x.data() + b * F::block_inputs;
    const std::size_t inputs = (std::min)(F::block_inputs, w.cols - b * F::block_inputs);
    if (inputs < F::block_inputs) {
      for (std::size_t p = 0; p < P; ++p) {
        simd::Lanes weights[F::block_inputs];
        F::unpack(block + p * stride, weights);
        for (std::size_t i = 0; i < inputs; ++i) acc[p] = simd::fma(weights[i], simd::Lanes::broadcast(x[i]), acc[p]);
      }
      return;
    }
    simd::Lanes scales[P];
    for (std::size_t p = 0; p < P; ++p) scales[p] = F::scales(block + p * stride);
#pragma GCC unroll 2
    for (std::size_t step = 0; step < steps; ++step) {
#pragma GCC unroll 4
      for (std::size_t p = 0; p < P; ++p) {
        __builtin_prefetch(block + static_cast<std::ptrdiff_t>(p * stride + step * share) + ahead);
        simd::Lanes weights[F::step_inputs];
        F::unpack_step(block + p * stride, step, scales[p], weights);
        for (std::size_t i = 0; i < F::step_inputs; ++i) {
          acc[p] = simd::fma(weights[i], simd::Lanes::broadcast(x[step * F::step_inputs + i]), acc[p]);
        }
      }
    }
  });
  store_row(acc, first_panel, apart, w.rows, y);
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

/// The number that an output's sum begins with: zero, or what stands in y.
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
    const std::size_t rows = (std::min)(tile_rows, x.rows() - row);
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

/// All rows of x times up to most_group_panels panels: unpacks a depth of weights once, then walks the rows tile by
/// tile.
template <WeightFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const Inputs<F>& all,
                          SumFrom from, Rows<float> y) noexcept {
  alignas(64) float unpacked[most_group_panels * depth_block * panel_rows];
  for (std::size_t k = 0; k < w.cols; k += depth_block) {
    const std::size_t depth = (std::min)(depth_block, w.cols - k);
    for (std::size_t p = 0; p < panels; ++p) {
      unpack_panel(w, first_panel + p, k, depth, unpacked + p * depth_block * panel_rows);
    }
    multiply_depth(unpacked, panels, first_panel * panel_rows, all.x, k, depth, k == 0 ? from : SumFrom::y, y);
  }
}

template <WeightFormat F>
inline void multiply_rows(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels, const std::byte*,
                          const Inputs<F>& x, Rows<float> y) noexcept {
  multiply_rows(w, first_panel, panels, x, SumFrom::zero, y);
}

/// A product of a matrix with inputs that others share: y (tokens, w.rows) = w x.
template <WeightFormat F>
struct Product {
  PanelsView<F> w;
  Rows<float> y;
};

/// Panels that a group has, of `panels` in all that meet that many rows: more than group_panels where rows are copied
/// for each group, are many, and leave every thread a few groups. Formats of bytes unpack two panels at a time, and
/// copy no rows.
template <WeightFormat F>
std::size_t panels_together(std::size_t panels, std::size_t rows) noexcept {
  constexpr std::size_t many_rows = 64;
  std::size_t together = group_panels;
  if (IntegerFormat<F> || rows < many_rows) return together;
  while (2 * together <= most_group_panels && panels / (2 * together) >= 4 * parallel::thread_count()) together *= 2;
  return together;
}

/// Calls f(product, first_panel, panels, next) for the groups of panels of some products of matrices of as many inputs
/// with as many rows, each task with enough groups to be worth sharing; of a task's groups of a product up to
/// `most_groups` are given together. `next` is where the panels begin that come after those.
template <WeightFormat F, class Run>
void for_panel_groups(std::span<const Product<F>> products, std::size_t rows, std::size_t most_groups,
                      const Run& f) noexcept {
  std::size_t all_panels = 0;
  for (const Product<F>& product : products) all_panels += product.w.panel_count();
  const std::size_t together = panels_together<F>(all_panels, rows);
  const auto groups_of = [&](const PanelsView<F>& w) { return (w.panel_count() + together - 1) / together; };
  std::size_t all = 0;
  for (const Product<F>& product : products) all += groups_of(product.w);
  constexpr std::size_t worth_sharing = 1 << 17;  // multiply-adds: some 10 microseconds, a few times what sharing costs
  const std::size_t group_work = (std::max<std::size_t>)(1, together * panel_rows * products.front().w.cols * rows);
  const std::size_t least = (std::max<std::size_t>)(1, worth_sharing / group_work);
  parallel::for_ranges(all, least, (std::max)(least, most_groups), [&](std::size_t begin, std::size_t end) {
    std::size_t first = 0;  // group of the product
    for (std::size_t i = 0; i < products.size(); ++i) {
      const Product<F>& product = products[i];
      const std::size_t count = groups_of(product.w);
      const std::size_t until = (std::min)(end, first + count);
      for (std::size_t group = (std::max)(begin, first), groups = 0; group < until; group += groups) {
        groups = (std::min)(until - group, most_groups);
        const std::size_t panel = (group - first) * together;
        const std::size_t panels = (std::min)(groups * together, product.w.panel_count() - panel);
        const bool last = group + groups == first + count && i + 1 < products.size();
        f(product, panel, panels, last ? products[i + 1].w.data : product.w.panel(panel + panels));
      }
      first += count;
    }
  });
}

/// Groups of panels that a row walks together: as many as make its streams long enough.
template <WeightFormat F>
std::size_t row_groups(std::size_t panel_bytes) noexcept {
  return (std::max<std::size_t>)(1, (stream_bytes<F> + panel_bytes - 1) / panel_bytes);
}

/// One row times some panels, as group_panels streams of panels that follow each other.
///   next  where the panels begin that are read after these
template <WeightFormat F>
inline void multiply_row_group(const PanelsView<F>& w, std::size_t first_panel, std::size_t panels,
                               const std::byte* next, const Inputs<F>& x, float* y) noexcept {
  const std::size_t stream = panels / group_panels;
  const std::size_t end = first_panel + panels;
  for (std::size_t panel = first_panel; panel < first_panel + stream; ++panel) {
    const bool last = panel + 1 == first_panel + stream;
    multiply_row<group_panels>(w, panel, stream, last ? next : w.panel(panel + 1), x, y);
  }
  for (std::size_t panel = first_panel + group_panels * stream; panel < end; ++panel) {
    multiply_row<1>(w, panel, 1, panel + 1 == end ? next : w.panel(panel + 1), x, y);
  }
}

/// y[t] = W x[t] for every row t and each of the products: x (tokens, w.cols) as the format wants it.
/// An output is the sum of its products in the order of the inputs (of blocks of them, for integer formats), from zero,
/// whatever the number of rows or threads: the same row gets the same bits in any company. Work is split over outputs,
/// never over the sum; that of several matrices is shared as if they were one.
template <WeightFormat F>
void matmul(std::span<const Product<F>> products, const Inputs<F>& x) noexcept {
  if (x.rows() == 0) return;
  const std::size_t most_groups = x.rows() == 1 ? row_groups<F>(products.front().w.panel_bytes()) : 1;
  for_panel_groups<F>(products, x.rows(), most_groups,
                      [&](const Product<F>& product, std::size_t panel, std::size_t panels, const std::byte* next) {
                        const auto& [w, y] = product;
                        assert(x.cols() == w.cols && y.cols() == w.rows && x.rows() == y.rows());
                        if (x.rows() > 1) {
                          multiply_rows(w, panel, panels, next, x, y);
                        } else {
                          multiply_row_group(w, panel, panels, next, x, y.data());
                        }
                      });
}

template <WeightFormat F>
void matmul(const PanelsView<F>& w, const Inputs<F>& x, Rows<float> y) noexcept {
  const Product<F> product{w, y};
  matmul<F>({&product, 1}, x);
}

/// y[t] += W x[t]: the same for weights that are multiplied as floats, each sum going on from what stands in y.
template <WeightFormat F>
void matmul_add(const PanelsView<F>& w, const Inputs<F>& x, Rows<float> y) noexcept {
  assert(x.cols() == w.cols && y.cols() == w.rows && x.rows() == y.rows());
  const Product<F> product{w, y};
  for_panel_groups<F>({&product, 1}, x.rows(), 1,
                      [&](const Product<F>&, std::size_t panel, std::size_t panels, const std::byte*) {
                        multiply_rows(w, panel, panels, x, SumFrom::y, y);
                      });
}

}}}  // namespace mistral::kernels
