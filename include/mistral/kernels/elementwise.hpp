// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cstddef>

#include <mistral/core/rows.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// gate = silu(gate) * up, where silu(a) = a / (1 + exp(-a)) (SwiGLU, arXiv 2002.05202): both (tokens, hidden).
inline void swiglu(Rows<float> gate, Rows<const float> up) noexcept {
  assert(gate.rows() == up.rows() && gate.cols() == up.cols());
  const std::size_t n = gate.cols();
  parallel::for_ranges(gate.rows(), rows_per_task(n), [&](std::size_t begin, std::size_t end) {
    const simd::Lanes zero = simd::Lanes::broadcast(0.0f);
    const simd::Lanes one = simd::Lanes::broadcast(1.0f);
    for (std::size_t t = begin; t < end; ++t) {
      float* a = gate.row(t).data();
      const float* b = up.row(t).data();
      for (std::size_t i = 0; i < n; i += simd::lanes) {
        const simd::Lanes x = simd::Lanes::load_some(a + i, n - i);
        const simd::Lanes silu = x / (one + simd::exp(zero - x));
        (silu * simd::Lanes::load_some(b + i, n - i)).store_some(a + i, n - i);
      }
    }
  });
}

/// x += y: the residual connection, both (tokens, dim).
inline void add(Rows<float> x, Rows<const float> y) noexcept {
  assert(x.rows() == y.rows() && x.cols() == y.cols());
  const std::size_t n = x.cols();
  parallel::for_ranges(x.rows(), rows_per_task(n), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      float* a = x.row(t).data();
      const float* b = y.row(t).data();
      for (std::size_t i = 0; i < n; i += simd::lanes) {
        (simd::Lanes::load_some(a + i, n - i) + simd::Lanes::load_some(b + i, n - i)).store_some(a + i, n - i);
      }
    }
  });
}

}}}  // namespace mistral::kernels
