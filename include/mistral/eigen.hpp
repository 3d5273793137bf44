// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Activations, caches, weights and adapters as matrices of Eigen. `as_eigen` maps: no number is copied, what is
/// written to the map is written to the model, and a const object gives a map that can't be written to. `to_eigen`
/// copies, where numbers are packed in a way that Eigen has no stride for. A map is good for as long as what it maps.
///
/// The library itself doesn't need Eigen: whoever includes this header links Eigen3::Eigen (3.4 or newer).

#include <algorithm>
#include <array>
#include <cassert>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>

#include <Eigen/Core>

#include <mistral/core/error.hpp>
#include <mistral/core/kv_entry.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A matrix as the library's rows are: one row after the other.
using EigenMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace detail {

template <class T, class Matrix>
using ConstLike = std::conditional_t<std::is_const_v<T>, const Matrix, Matrix>;

inline Eigen::Index eigen_index(std::size_t i) noexcept { return static_cast<Eigen::Index>(i); }

}  // namespace detail

/// Activations of some tokens, such as all logits of Session::forward or what a hook is shown: (rows, cols).
template <class T>
requires std::same_as < std::remove_const_t<T>,
float > Eigen::Map<detail::ConstLike<T, EigenMatrix>, Eigen::Unaligned, Eigen::OuterStride<>> as_eigen(Rows<T> x) {
  return {x.data(), detail::eigen_index(x.rows()), detail::eigen_index(x.cols()),
          Eigen::OuterStride<>(detail::eigen_index(x.stride()))};
}

/// The activations of one token, such as the logits of Session::decode, or the weights of a norm: a column.
template <class T, std::size_t N>
requires std::same_as < std::remove_const_t<T>,
float > Eigen::Map<detail::ConstLike<T, Eigen::VectorXf>> as_eigen(std::span<T, N> x) {
  return {x.data(), detail::eigen_index(x.size())};
}

/// Keys or values of one head in a cache of floats, of which RingBuffer::spans gives two pieces: (entries, HeadDim).
/// To be read: a cache is written to by its rings alone.
template <std::size_t HeadDim>
Eigen::Map<const EigenMatrix> as_eigen(std::span<const KvEntry<float, HeadDim>> entries) {
  static_assert(sizeof(KvEntry<float, HeadDim>) == HeadDim * sizeof(float));
  return {reinterpret_cast<const float*>(entries.data()), detail::eigen_index(entries.size()),
          detail::eigen_index(HeadDim)};
}

/// Some rows of a matrix of floats that is held in panels: rows by the columns of the matrix, with a stride of
/// panel_rows from one column to the next.
template <class T>
using EigenPanel = Eigen::Map<detail::ConstLike<T, Eigen::MatrixXf>, Eigen::Unaligned, Eigen::OuterStride<>>;

/// Rows 16 i ... 16 i + 15 of a matrix of floats, or as many as it has: of A of a LoRA adapter whose rank is at most
/// 16, that is all of it.
inline EigenPanel<const float> as_eigen(const Panels<F32>& matrix, std::size_t i) {
  assert(i < matrix.view().panel_count());
  return {reinterpret_cast<const float*>(matrix.view().panel(i)),
          detail::eigen_index((std::min)(panel_rows, matrix.rows() - i * panel_rows)),
          detail::eigen_index(matrix.cols()), Eigen::OuterStride<>(detail::eigen_index(panel_rows))};
}

/// The same to be written to. Throws Error where the weights stand in a mapped file, which is read only.
inline EigenPanel<float> as_eigen(Panels<F32>& matrix, std::size_t i) {
  assert(i < matrix.view().panel_count());
  const std::span<std::byte> own = matrix.own_bytes();
  if (own.empty()) throw Error("eigen", "weights to write to", "memory of the model's own", "a mapped file");
  return {reinterpret_cast<float*>(own.data() + i * matrix.view().panel_bytes()),
          detail::eigen_index((std::min)(panel_rows, matrix.rows() - i * panel_rows)),
          detail::eigen_index(matrix.cols()), Eigen::OuterStride<>(detail::eigen_index(panel_rows))};
}

/// A copy of a weight matrix in any format, as the floats that it stands for: (rows, cols).
template <WeightFormat F>
EigenMatrix to_eigen(const Panels<F>& matrix) {
  EigenMatrix out(detail::eigen_index(matrix.rows()), detail::eigen_index(matrix.cols()));
  parallel::for_ranges(matrix.rows(), panel_rows, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      matrix.unpack_row(r, {out.data() + r * matrix.cols(), matrix.cols()});
    }
  });
  return out;
}

/// Writes a weight matrix: `values` (rows, cols), rounded to the format F. Throws Error for another shape, and where
/// the weights stand in a mapped file.
template <WeightFormat F, class Derived>
void from_eigen(const Eigen::MatrixBase<Derived>& values, Panels<F>& matrix) {
  if (static_cast<std::size_t>(values.rows()) != matrix.rows() ||
      static_cast<std::size_t>(values.cols()) != matrix.cols()) {
    const auto shape = [](auto rows, auto cols) {
      return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
    };
    throw Error("eigen", "weights", shape(matrix.rows(), matrix.cols()), shape(values.rows(), values.cols()));
  }
  if (matrix.adopted()) {
    throw Error("eigen", "weights to write to", "memory of the model's own", "a mapped file");
  }
  const EigenMatrix rows = values;
  for (std::size_t i = 0; i < matrix.view().panel_count(); ++i) {
    std::array<const float*, panel_rows> row;
    const std::size_t count = (std::min)(panel_rows, matrix.rows() - i * panel_rows);
    for (std::size_t r = 0; r < count; ++r) row[r] = rows.data() + (i * panel_rows + r) * matrix.cols();
    matrix.pack(i, std::span<const float* const>(row.data(), count));
  }
}

/// Returns what an adapter adds to one matrix, scale B A, as one matrix of its own: (outputs, inputs).
inline EigenMatrix to_eigen(const LoraMatrices& adapter) {
  return adapter.scale * to_eigen(adapter.b) * to_eigen(adapter.a);
}

}}  // namespace mistral
