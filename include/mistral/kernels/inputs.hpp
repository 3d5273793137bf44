// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/core/buffer.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/format/integer_format.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/block_product.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/kernels/tile.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/quantize.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Inputs that share a scale.
inline constexpr std::size_t input_block = scale_inputs;
static_assert(input_block == simd::quantize_inputs);

/// Activations (tokens, cols) as weights of the format F are multiplied with them: floats as they are.
template <WeightFormat F>
struct Inputs {
  Rows<const float> x;

  std::size_t rows() const noexcept { return x.rows(); }
  std::size_t cols() const noexcept { return x.cols(); }
};

/// For integer formats: bytes with a scale and an offset of the sum for each block of 32. Rows are filled up with zeros
/// to whole blocks of the weights. They lie as tiles of rows meet them (IntegerTiles): tile after tile, in it block
/// after block, in it the instructions' steps one after the other, 4 bytes of each row side by side. So a tile is read
/// from its beginning to its end, from one address, and no two of its rows compete for the same sets of a cache.
template <IntegerFormat F>
struct Inputs<F> {
  using Product = BlockProduct<F>;
  using Dot = typename Product::Dot;
  using Offset = typename Product::Offset;
  static constexpr std::size_t block_bytes = input_block / simd::quad * Dot::input_bytes;

  const std::byte* codes;  ///< for each tile (blocks, steps, rows of the tile, 4)
  const float* scales;     ///< for each tile (blocks, rows of the tile)
  const Offset* offsets;   ///< for each tile (blocks, rows of the tile)
  std::size_t tokens;
  std::size_t inputs;

  std::size_t rows() const noexcept { return tokens; }
  std::size_t cols() const noexcept { return inputs; }
  std::size_t blocks() const noexcept { return blocks(inputs); }
  static constexpr std::size_t blocks(std::size_t inputs) noexcept {
    return PanelsView<F>::blocks(inputs) * (F::block_inputs / input_block);
  }
};

/// For pairs of bfloat16: activations rounded to them, row after row.
template <PairFormat F>
struct Inputs<F> {
  const std::byte* data;  ///< (tokens, pairs) pairs
  std::size_t tokens;
  std::size_t inputs;

  std::size_t rows() const noexcept { return tokens; }
  std::size_t cols() const noexcept { return inputs; }
  std::size_t pairs() const noexcept { return (inputs + 1) / 2; }
  const std::byte* row(std::size_t t) const noexcept { return data + t * pairs() * simd::pair_bytes; }
};

/// Memory for what `prepare` makes of activations: none for formats that take floats.
template <WeightFormat F>
class InputBuffer {
 public:
  InputBuffer(std::size_t, std::size_t) noexcept {}
  static constexpr std::size_t bytes(std::size_t, std::size_t) noexcept { return 0; }

  /// Activations (tokens, cols), ready to be multiplied with any number of matrices of the format.
  Inputs<F> prepare(Rows<const float> x) noexcept { return {x}; }
};

template <IntegerFormat F>
class InputBuffer<F> {
  using Dot = typename Inputs<F>::Dot;
  using Offset = typename Inputs<F>::Offset;

 public:
  /// For up to `tokens` rows of up to `cols` inputs.
  InputBuffer(std::size_t tokens, std::size_t cols)
      : codes_(tokens * blocks(cols) * Inputs<F>::block_bytes, Uninitialized{}),
        scales_(tokens * blocks(cols), Uninitialized{}),
        offsets_(tokens * blocks(cols), Uninitialized{}) {}

  static constexpr std::size_t bytes(std::size_t tokens, std::size_t cols) noexcept {
    return tokens * blocks(cols) * (Inputs<F>::block_bytes + sizeof(float) + sizeof(Offset));
  }

  /// Quantises activations (tokens, cols), each row by itself. Valid until the next call.
  Inputs<F> prepare(Rows<const float> x) noexcept {
    const std::size_t count = blocks(x.cols());
    assert(x.rows() * count <= scales_.size());
    parallel::for_ranges(x.rows(), rows_per_task(x.cols()), [&](std::size_t begin, std::size_t end) {
      for (std::size_t t = begin; t < end; ++t) {
        const IntegerTile tile = integer_tile_of(t, x.rows());
        for (std::size_t b = 0; b < count; ++b) {
          put(x.row(t).subspan((std::min)(b * input_block, x.cols())), tile.first * count + b * tile.rows,
              t - tile.first, tile.rows);
        }
      }
    });
    return {codes_.data(), scales_.data(), offsets_.data(), x.rows(), x.cols()};
  }

 private:
  static constexpr std::size_t blocks(std::size_t cols) noexcept { return Inputs<F>::blocks(cols); }

  /// Row `row` of the `rows` of a tile, of a block whose scales begin at `block`.
  void put(std::span<const float> x, std::size_t block, std::size_t row, std::size_t rows) noexcept {
    float padded[input_block] = {};
    const float* values = x.data();
    if (x.size() < input_block) {  // the end of a row: inputs that aren't there are zeros
      std::copy(x.begin(), x.end(), padded);
      values = padded;
    }
    std::int8_t codes[input_block];
    std::int32_t sum = 0;
    const float scale = simd::quantize(values, codes, sum);
    scales_.data()[block + row] = scale;
    offsets_.data()[block + row] = Inputs<F>::Product::offset(codes, sum, scale);
    std::byte* out = codes_.data() + block * Inputs<F>::block_bytes + row * simd::quad;
    for (std::size_t i = 0; i < input_block; i += simd::quad) {
      std::byte steps[Dot::input_bytes];
      Dot::put(codes + i, steps);
      for (std::size_t k = 0; k < Dot::input_bytes; k += simd::quad, out += rows * simd::quad) {
        std::memcpy(out, steps + k, simd::quad);
      }
    }
  }

  Buffer<std::byte> codes_;
  Buffer<float> scales_;
  Buffer<Offset> offsets_;
};

template <PairFormat F>
class InputBuffer<F> {
 public:
  /// For up to `tokens` rows of up to `cols` inputs.
  InputBuffer(std::size_t tokens, std::size_t cols) : pairs_(bytes(tokens, cols), Uninitialized{}) {}

  static constexpr std::size_t bytes(std::size_t tokens, std::size_t cols) noexcept {
    return tokens * ((cols + 1) / 2) * simd::pair_bytes;
  }

  /// Rounds activations (tokens, cols) to bfloat16. Valid until the next call.
  Inputs<F> prepare(Rows<const float> x) noexcept {
    assert(bytes(x.rows(), x.cols()) <= pairs_.size());
    parallel::for_ranges(x.rows(), rows_per_task(x.cols()), [&](std::size_t begin, std::size_t end) {
      for (std::size_t t = begin; t < end; ++t) {
        simd::put_pairs(x.row(t).data(), x.cols(), pairs_.data() + t * bytes(1, x.cols()));
      }
    });
    return {pairs_.data(), x.rows(), x.cols()};
  }

 private:
  Buffer<std::byte> pairs_;
};

}}}  // namespace mistral::kernels
