// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/nn/adapter.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Row `row` of a matrix as floats.
using RowSource = std::function<void(std::size_t row, std::span<float> out)>;

/// The first columns of Q, row-major (rows, rank), of a matrix of as many columns: its QR decomposition by
/// Householder's reflections, as LAPACK makes it.
inline std::vector<double> first_columns_of_q(std::vector<double> columns, std::size_t rows, std::size_t rank) {
  std::vector<double> factors(rank);
  const auto at = [&](std::size_t r, std::size_t c) -> double& { return columns[r * rank + c]; };
  for (std::size_t k = 0; k < rank; ++k) {
    double below = 0.0;
    for (std::size_t r = k + 1; r < rows; ++r) below += at(r, k) * at(r, k);
    if (below == 0.0) continue;  // nothing to be turned
    const double diagonal = at(k, k);
    const double beta = -std::copysign(std::sqrt(diagonal * diagonal + below), diagonal);
    factors[k] = (beta - diagonal) / beta;
    for (std::size_t r = k + 1; r < rows; ++r) at(r, k) /= diagonal - beta;
    for (std::size_t c = k + 1; c < rank; ++c) {
      double sum = at(k, c);
      for (std::size_t r = k + 1; r < rows; ++r) sum += at(r, k) * at(r, c);
      sum *= factors[k];
      at(k, c) -= sum;
      for (std::size_t r = k + 1; r < rows; ++r) at(r, c) -= sum * at(r, k);
    }
  }
  std::vector<double> q(rows * rank);
  for (std::size_t k = 0; k < rank; ++k) q[k * rank + k] = 1.0;
  for (std::size_t k = rank; k-- > 0;) {
    if (factors[k] == 0.0) continue;
    for (std::size_t c = k; c < rank; ++c) {
      double sum = q[k * rank + c];
      for (std::size_t r = k + 1; r < rows; ++r) sum += at(r, k) * q[r * rank + c];
      sum *= factors[k];
      q[k * rank + c] -= sum;
      for (std::size_t r = k + 1; r < rows; ++r) q[r * rank + c] -= sum * at(r, k);
    }
  }
  return q;
}

/// Makes of an OLoRA adapter (arXiv 2406.01775) one that stands beside the base as it is. PEFT begins such an adapter
/// with the first columns of Q and rows of R of the base's W = Q R, and takes their product away from W, when it makes
/// the adapter and whenever it loads it: what a layer gives is (W - scale Q_r R_r) x + scale B A x. Here the part that
/// is taken away becomes as many columns and rows more, of B and A: [B, -Q_r] [A; R_r].
///   name    of the matrix, for messages
///   row_of  the base's rows, in the order of B's
/// Throws Error where the rank is larger than the matrix, or doubled too large.
inline LoraMatrices take_out_olora(const LoraMatrices& m, const std::string& name, const RowSource& row_of) {
  const std::size_t rows = m.b.rows();
  const std::size_t cols = m.a.cols();
  const std::size_t rank = m.rank();
  if (rank > (std::min)(rows, cols) || 2 * rank > max_lora_rank) {
    throw Error("adapter", "OLoRA beside " + name + ": the rank",
                "at most " + std::to_string((std::min)({rows, cols, max_lora_rank / 2})), std::to_string(rank));
  }
  std::vector<double> columns(rows * rank);
  std::vector<float> block;  // of the base's rows
  constexpr std::size_t block_rows = 64;
  const auto read = [&](std::size_t begin, std::size_t count) {
    block.resize(count * cols);
    parallel::for_ranges(count, 1, [&](std::size_t first, std::size_t last) {
      for (std::size_t r = first; r < last; ++r) row_of(begin + r, std::span<float>(block).subspan(r * cols, cols));
    });
  };
  for (std::size_t begin = 0; begin < rows; begin += block_rows) {
    const std::size_t count = (std::min)(block_rows, rows - begin);
    read(begin, count);
    for (std::size_t r = 0; r < count; ++r) {
      for (std::size_t k = 0; k < rank; ++k) {
        columns[(begin + r) * rank + k] = static_cast<double>(block[r * cols + k]);
      }
    }
  }
  const std::vector<double> q = first_columns_of_q(std::move(columns), rows, rank);
  std::vector<double> upper(rank * cols);  // R_r = Q_r^T W
  for (std::size_t begin = 0; begin < rows; begin += block_rows) {
    const std::size_t count = (std::min)(block_rows, rows - begin);
    read(begin, count);
    parallel::for_ranges(cols, 64, [&](std::size_t first, std::size_t last) {
      for (std::size_t r = 0; r < count; ++r) {
        for (std::size_t k = 0; k < rank; ++k) {
          const double factor = q[(begin + r) * rank + k];
          for (std::size_t c = first; c < last; ++c) {
            upper[k * cols + c] += factor * static_cast<double>(block[r * cols + c]);
          }
        }
      }
    });
  }

  const float grown = static_cast<float>(2 * rank);
  LoraMatrices out{Panels<F32>(2 * rank, cols),
                   Panels<F32>(rows, 2 * rank),
                   m.scale,
                   m.scale * (m.rslora ? std::sqrt(grown) : grown),
                   m.rslora,
                   m.dropout,
                   m.stream};
  std::vector<float> a(2 * rank * cols);
  for (std::size_t k = 0; k < rank; ++k) m.a.unpack_row(k, std::span<float>(a).subspan(k * cols, cols));
  for (std::size_t i = 0; i < upper.size(); ++i) a[rank * cols + i] = static_cast<float>(upper[i]);
  pack_all(out.a, a);
  std::vector<float> b(rows * 2 * rank);
  for (std::size_t r = 0; r < rows; ++r) {
    m.b.unpack_row(r, std::span<float>(b).subspan(r * 2 * rank, rank));
    for (std::size_t k = 0; k < rank; ++k) b[(r * 2 + 1) * rank + k] = -static_cast<float>(q[r * rank + k]);
  }
  pack_all(out.b, b);
  return out;
}

}}}  // namespace mistral::detail
