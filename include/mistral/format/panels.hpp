// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <mistral/core/buffer.hpp>
#include <mistral/format/weight_format.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/digest.hpp>
#include <mistral/simd/transpose.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Encodes a panel's blocks one after the other.
template <WeightFormat F>
struct BlockPacker {
  /// For a panel of which the first so many rows are the matrix's.
  explicit BlockPacker(std::size_t) noexcept {}
  /// Encodes the next block.
  void pack(const float (&in)[F::block_inputs][panel_rows], std::byte* block) noexcept { F::pack(in, block); }
  /// Completes all blocks.
  void finish() noexcept {}
};

/// The same for a format whose blocks share something.
template <GroupedFormat F>
struct BlockPacker<F> : F::Packer {
  /// For a panel of which the first `rows` rows are the matrix's.
  explicit BlockPacker(std::size_t rows) noexcept : F::Packer(rows) {}
};

/// A view of a packed matrix (rows, cols): what the matmul kernel takes.
template <WeightFormat F>
struct PanelsView {
  const std::byte* data;  ///< the panels one after the other
  std::size_t rows;       ///< outputs
  std::size_t cols;       ///< inputs

  /// Blocks of a panel, panels of a matrix, and bytes of a matrix.
  ///@{
  static constexpr std::size_t blocks(std::size_t cols) noexcept {
    return (cols + F::block_inputs - 1) / F::block_inputs;
  }
  static constexpr std::size_t panel_count(std::size_t rows) noexcept { return (rows + panel_rows - 1) / panel_rows; }
  static constexpr std::size_t bytes(std::size_t rows, std::size_t cols) noexcept {
    return panel_count(rows) * blocks(cols) * F::block_bytes;
  }
  ///@}

  /// The same of this matrix; panel `i` < panel_count() is that of rows 16 i ... 16 i + 15.
  ///@{
  std::size_t panel_count() const noexcept { return panel_count(rows); }
  std::size_t panel_bytes() const noexcept { return blocks(cols) * F::block_bytes; }
  const std::byte* panel(std::size_t i) const noexcept { return data + i * panel_bytes(); }
  ///@}
};

/// A weight matrix (rows, cols) in the format F, packed in panels: in memory of its own, or where somebody else holds
/// them, such as a mapped file. Its weights have no particular value until every panel is packed: a matrix of a 7B
/// isn't worth being written twice.
template <WeightFormat F>
class Panels {
 public:
  /// Takes the memory of a matrix (rows, cols) from `memory`.
  Panels(std::size_t rows, std::size_t cols, MemoryResource* memory = std::pmr::get_default_resource())
      : bytes_(PanelsView<F>::bytes(rows, cols), Uninitialized{}, memory),
        digests_(PanelsView<F>::panel_count(rows), memory == nullptr ? nullptr : std::pmr::get_default_resource()),
        rows_(rows),
        cols_(cols) {}

  /// Outputs and inputs.
  ///@{
  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  ///@}

  /// Where its memory was taken from; the standard's default resource where the weights stand elsewhere.
  MemoryResource* memory() const noexcept {
    return bytes_.memory() != nullptr ? bytes_.memory() : std::pmr::get_default_resource();
  }

  /// The matrix as kernels take it.
  PanelsView<F> view() const noexcept { return {owner_ ? adopted_ : bytes_.data(), rows_, cols_}; }

  /// The packed bytes, one panel after the other.
  std::span<const std::byte> bytes() const noexcept { return {view().data, PanelsView<F>::bytes(rows_, cols_)}; }

  /// A number of the packed bytes, the same on every machine and for any number of threads: other bytes have another.
  /// Mostly it costs nothing, since each panel's part is kept as it is packed. Where it isn't known (who asked for
  /// own_bytes() may have written to them; panels elsewhere may have come without it) all bytes are read.
  std::uint64_t digest() const {
    if (digest_) return *digest_;
    if (digests_.data() != nullptr) return simd::digest(std::as_bytes(digests_.span()));
    std::vector<std::uint64_t> digests(view().panel_count());
    parallel::for_ranges(digests.size(), 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) digests[i] = simd::digest({view().panel(i), view().panel_bytes()});
    });
    return simd::digest(std::as_bytes(std::span(digests)));
  }

  /// Gives up its own memory for panels that stand elsewhere: as many bytes as bytes() has, in this format's layout, at
  /// the start of a cache line. They are read only, and `owner` keeps them alive. `digest` is theirs, where it is
  /// known.
  void adopt(const std::byte* panels, std::shared_ptr<const void> owner,
             std::optional<std::uint64_t> digest = {}) noexcept {
    assert(owner && reinterpret_cast<std::uintptr_t>(panels) % Buffer<std::byte>::alignment == 0);
    bytes_ = Buffer<std::byte>();  // of {} clang 14 forgets the destructor
    digests_ = Buffer<std::uint64_t>();
    adopted_ = panels;
    owner_ = std::move(owner);
    digest_ = digest;
  }

  /// Encodes panel `i` from its rows: `rows[r]` holds the (cols) weights of output 16 i + r. Threads may pack different
  /// panels at the same time.
  void pack(std::size_t i, std::span<const float* const> rows) noexcept {
    assert(!owner_ && rows.size() == (std::min)(panel_rows, rows_ - i * panel_rows));
    // Several small blocks are turned at once: turning works on squares of 8.
    constexpr std::size_t turned = (std::max<std::size_t>)(32, F::block_inputs);
    static_assert(turned % F::block_inputs == 0);
    static constexpr float no_weights[turned] = {};  // of rows past the last
    std::byte* block = bytes_.data() + i * view().panel_bytes();
    BlockPacker<F> packer(rows.size());
    for (std::size_t col = 0; col < cols_; col += turned) {
      alignas(64) float in[turned / F::block_inputs][F::block_inputs][panel_rows] = {};
      const std::byte* inputs[panel_rows];
      for (std::size_t lane = 0; lane < panel_rows; ++lane) {
        inputs[lane] = reinterpret_cast<const std::byte*>(lane < rows.size() ? rows[lane] + col : no_weights);
      }
      const std::size_t count = (std::min)(turned, cols_ - col);
      simd::transpose_words(inputs, count, reinterpret_cast<std::byte*>(in));
      for (std::size_t j = 0; j * F::block_inputs < count; ++j, block += F::block_bytes) packer.pack(in[j], block);
    }
    packer.finish();
    keep_digest(i);
  }

  /// Takes panel `i` as it stands in a file: `rows[r]` is row 16 i + r in the file's blocks, `file_row_bytes()` at any
  /// address. Threads may pack different panels at the same time.
  void pack_file(std::size_t i, std::span<const std::byte* const> rows) noexcept requires FileFormat<F> {
    assert(rows.size() == (std::min)(panel_rows, rows_ - i * panel_rows));
    static constexpr std::byte no_weights[F::file_block_bytes] = {};  // of rows past the last: a scale of 0
    std::byte* block = bytes_.data() + i * view().panel_bytes();
    for (std::size_t b = 0; b < view().blocks(cols_); ++b, block += F::block_bytes) {
      const std::byte* blocks[panel_rows];
      for (std::size_t r = 0; r < panel_rows; ++r) {
        blocks[r] = r < rows.size() ? rows[r] + b * F::file_block_bytes : no_weights;
      }
      F::from_file_blocks(blocks, block);
    }
    keep_digest(i);
  }

  /// Writes panel `i` as files hold it: row 16 i + r to `rows[r]`, `file_row_bytes()` at any address. Where the matrix
  /// came from `pack_file`, these are the same bytes.
  void unpack_file(std::size_t i, std::span<std::byte* const> rows) const noexcept requires FileFormat<F> {
    assert(rows.size() == (std::min)(panel_rows, rows_ - i * panel_rows));
    std::byte no_row[F::file_block_bytes];
    const std::byte* block = view().panel(i);
    for (std::size_t b = 0; b < view().blocks(cols_); ++b, block += F::block_bytes) {
      std::byte* blocks[panel_rows];
      for (std::size_t r = 0; r < panel_rows; ++r) {
        blocks[r] = r < rows.size() ? rows[r] + b * F::file_block_bytes : no_row;
      }
      F::to_file_blocks(block, blocks);
    }
  }

  /// Bytes of a row in a file: whole blocks, so that files hold no rows whose length isn't a multiple of a block's.
  std::size_t file_row_bytes() const noexcept requires FileFormat<F> {
    return PanelsView<F>::blocks(cols_) * F::file_block_bytes;
  }

  /// Decodes row `r` into `out`: (cols).
  void unpack_row(std::size_t r, std::span<float> out) const noexcept {
    assert(r < rows_ && out.size() == cols_);
    const std::byte* block = view().panel(r / panel_rows);
    for (std::size_t col = 0; col < cols_; col += F::block_inputs, block += F::block_bytes) {
      simd::Lanes w[F::block_inputs];
      F::unpack(block, w);
      for (std::size_t k = 0; k < (std::min)(F::block_inputs, cols_ - col); ++k) {
        float lanes[panel_rows];
        w[k].store(lanes);
        out[col + k] = lanes[r % panel_rows];
      }
    }
  }

  /// Whether the weights stand elsewhere, where they are read only.
  bool adopted() const noexcept { return owner_ != nullptr; }

  /// Its own memory, to be written to by whoever trains the weights: the panels one after the other. From now on nobody
  /// knows when they are written to, so that digest() reads them each time.
  std::span<std::byte> own_bytes() noexcept {
    digests_ = Buffer<std::uint64_t>();
    return bytes_.span();
  }

 private:
  void keep_digest(std::size_t i) noexcept {
    if (digests_.data() != nullptr) digests_.data()[i] = simd::digest({view().panel(i), view().panel_bytes()});
  }

  Buffer<std::byte> bytes_;
  Buffer<std::uint64_t> digests_;  // of each panel as it was packed; none where the bytes may have become others
  const std::byte* adopted_ = nullptr;
  std::shared_ptr<const void> owner_;    // of adopted_; null where the memory is its own
  std::optional<std::uint64_t> digest_;  // of what was adopted
  std::size_t rows_;
  std::size_t cols_;
};

}}  // namespace mistral
