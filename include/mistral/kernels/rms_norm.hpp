// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cmath>
#include <cstddef>

#include <mistral/core/rows.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Rows of element-wise work that one task takes: a few tens of thousands of values.
inline std::size_t rows_per_task(std::size_t cols) noexcept { return 1 + 16384 / cols; }

/// One row of rms_norm: x, weight and y are (n).
inline void rms_norm_row(const float* x, const float* weight, float eps, std::size_t n, float* y) noexcept {
  simd::Lanes squares = simd::Lanes::broadcast(0.0f);
  for (std::size_t i = 0; i < n; i += simd::lanes) {
    const simd::Lanes v = simd::Lanes::load_some(x + i, n - i);
    squares = simd::fma(v, v, squares);
  }
  const float scale = 1.0f / std::sqrt(simd::sum(squares) / static_cast<float>(n) + eps);
  const simd::Lanes scales = simd::Lanes::broadcast(scale);
  for (std::size_t i = 0; i < n; i += simd::lanes) {
    const simd::Lanes v = simd::Lanes::load_some(x + i, n - i) * scales;
    (v * simd::Lanes::load_some(weight + i, n - i)).store_some(y + i, n - i);
  }
}

/// y = x / sqrt(mean(x^2) + eps) * weight, row by row (RMSNorm, arXiv 1910.07467): x and y (tokens, n), weight (n).
inline void rms_norm(Rows<const float> x, std::span<const float> weight, float eps, Rows<float> y) noexcept {
  assert(x.cols() == weight.size() && y.cols() == x.cols() && y.rows() == x.rows());
  parallel::for_ranges(x.rows(), rows_per_task(x.cols()), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      rms_norm_row(x.row(t).data(), weight.data(), eps, x.cols(), y.row(t).data());
    }
  });
}

}}}  // namespace mistral::kernels
