// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>

namespace mistral::test {

/// A matrix of normal random numbers that owns its memory.
struct Matrix {
  std::vector<float> values;
  std::size_t rows;
  std::size_t cols;

  Matrix(std::size_t r, std::size_t c) : values(r * c), rows(r), cols(c) {}
  Matrix(std::size_t r, std::size_t c, Random& random) : Matrix(r, c) {
    for (float& v : values) v = random.normal();
  }
  Rows<float> view() { return {values.data(), rows, cols}; }
  Rows<const float> view() const { return {values.data(), rows, cols}; }
};

inline std::size_t uniform(Random& random, std::size_t low, std::size_t high) {
  return low + static_cast<std::size_t>(random.next() % (high - low + 1));
}

/// The matrix in the format F. Writes back to `weights` what the format made of them.
template <WeightFormat F>
Panels<F> packed(Matrix& weights) {
  Panels<F> panels(weights.rows, weights.cols);
  for (std::size_t i = 0; i < PanelsView<F>::panel_count(weights.rows); ++i) {
    std::vector<const float*> rows;
    for (std::size_t r = i * panel_rows; r < std::min(weights.rows, (i + 1) * panel_rows); ++r) {
      rows.push_back(weights.view().row(r).data());
    }
    panels.pack(i, rows);
  }
  for (std::size_t r = 0; r < weights.rows; ++r) panels.unpack_row(r, weights.view().row(r));
  return panels;
}

}  // namespace mistral::test
