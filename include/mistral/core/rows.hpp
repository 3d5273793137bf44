// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cstddef>
#include <span>

#include <mistral/core/buffer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A view of `rows` rows of `cols` values each, `stride` values apart: what kernels take.
template <class T>
class Rows {
 public:
  /// Rows that begin `stride` values apart.
  Rows(T* data, std::size_t rows, std::size_t cols, std::size_t stride) noexcept
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  /// Rows that follow each other.
  Rows(T* data, std::size_t rows, std::size_t cols) noexcept : Rows(data, rows, cols, cols) {}

  /// The same rows, to be read.
  operator Rows<const T>() const noexcept { return {data_, rows_, cols_, stride_}; }

  /// Where the first row begins, and the sizes in values.
  ///@{
  T* data() const noexcept { return data_; }
  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  std::size_t stride() const noexcept { return stride_; }
  ///@}

  /// Row `i`: (cols).
  std::span<T> row(std::size_t i) const noexcept {
    assert(i < rows_);
    return {data_ + i * stride_, cols_};
  }

  /// Rows `first` ... `first + count - 1`.
  Rows slice(std::size_t first, std::size_t count) const noexcept {
    assert(first + count <= rows_);
    return {data_ + first * stride_, count, cols_, stride_};
  }

 private:
  T* data_;
  std::size_t rows_;
  std::size_t cols_;
  std::size_t stride_;
};

/// Activations of a number of tokens, N values each: (tokens, N). The width is in the type, so that a layer of another
/// width doesn't take it; the number of tokens changes from call to call, up to the capacity it is made with.
template <std::size_t N, class T = float>
class Batch {
 public:
  static constexpr std::size_t width = N;  ///< values of a token

  Batch() = default;
  /// Room for `capacity` tokens; 0 of them. Nothing is written to it: a large one takes memory from the system as its
  /// tokens are first written.
  explicit Batch(std::size_t capacity) : values_(capacity * N, Uninitialized{}), capacity_(capacity) {}

  /// Tokens: how many there are, and how many there is room for.
  ///@{
  std::size_t rows() const noexcept { return rows_; }
  std::size_t capacity() const noexcept { return capacity_; }
  ///@}
  /// Sets the number of tokens, at most capacity(). New ones have no particular values.
  void resize(std::size_t rows) noexcept {
    assert(rows <= capacity_);
    rows_ = rows;
  }

  /// The values of token `i`: (N).
  ///@{
  std::span<T, N> row(std::size_t i) noexcept {
    assert(i < rows_);
    return std::span<T, N>{values_.data() + i * N, N};
  }
  std::span<const T, N> row(std::size_t i) const noexcept {
    assert(i < rows_);
    return std::span<const T, N>{values_.data() + i * N, N};
  }
  ///@}

  /// All tokens, as kernels take them: (rows, N).
  ///@{
  Rows<T> view() noexcept { return {values_.data(), rows_, N}; }
  Rows<const T> view() const noexcept { return {values_.data(), rows_, N}; }
  ///@}

  /// Bytes that a batch of `capacity` tokens takes.
  static constexpr std::size_t bytes(std::size_t capacity) noexcept { return capacity * N * sizeof(T); }

 private:
  Buffer<T> values_;
  std::size_t capacity_ = 0;
  std::size_t rows_ = 0;
};

}}  // namespace mistral
