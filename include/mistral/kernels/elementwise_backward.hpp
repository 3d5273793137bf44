// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// 1 / sqrt(mean(x^2) + eps) of one row, as rms_norm_row takes it.
inline float rms_scale(const float* x, float eps, std::size_t n) noexcept {
  simd::Lanes squares = simd::Lanes::broadcast(0.0f);
  for (std::size_t i = 0; i < n; i += simd::lanes) {
    const simd::Lanes v = simd::Lanes::load_some(x + i, n - i);
    squares = simd::fma(v, v, squares);
  }
  return 1.0f / std::sqrt(simd::sum(squares) / static_cast<float>(n) + eps);
}

/// The gradient of rms_norm's inputs, added: with r = 1 / sqrt(mean(x^2) + eps) and g = weight dy,
/// dx += r g - x r^3 / n sum(x g). x, dy and dx (tokens, n), weight (n).
inline void rms_norm_backward(Rows<const float> x, std::span<const float> weight, float eps, Rows<const float> dy,
                              Rows<float> dx) noexcept {
  assert(x.cols() == weight.size() && x.rows() == dy.rows() && x.rows() == dx.rows());
  const std::size_t n = x.cols();
  parallel::for_ranges(x.rows(), rows_per_task(n), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const float* const in = x.row(t).data();
      const float* const g = dy.row(t).data();
      float* const out = dx.row(t).data();
      const float r = rms_scale(in, eps, n);
      simd::Lanes products = simd::Lanes::broadcast(0.0f);
      for (std::size_t i = 0; i < n; i += simd::lanes) {
        const simd::Lanes scaled =
            simd::Lanes::load_some(weight.data() + i, n - i) * simd::Lanes::load_some(g + i, n - i);
        products = simd::fma(simd::Lanes::load_some(in + i, n - i), scaled, products);
      }
      const simd::Lanes back = simd::Lanes::broadcast(-r * r * r * simd::sum(products) / static_cast<float>(n));
      const simd::Lanes scale = simd::Lanes::broadcast(r);
      for (std::size_t i = 0; i < n; i += simd::lanes) {
        const simd::Lanes scaled =
            simd::Lanes::load_some(weight.data() + i, n - i) * simd::Lanes::load_some(g + i, n - i);
        const simd::Lanes own = simd::fma(simd::Lanes::load_some(in + i, n - i), back, scaled * scale);
        (simd::Lanes::load_some(out + i, n - i) + own).store_some(out + i, n - i);
      }
    }
  });
}

/// The gradient of rms_norm's weight, added: dweight += sum over the rows, in order, of dy x r. (n)
inline void rms_norm_gradient(Rows<const float> x, float eps, Rows<const float> dy, std::span<float> dweight) noexcept {
  const std::size_t n = x.cols();
  for (std::size_t t = 0; t < x.rows(); ++t) {
    const float* const in = x.row(t).data();
    const float* const g = dy.row(t).data();
    const simd::Lanes r = simd::Lanes::broadcast(rms_scale(in, eps, n));
    for (std::size_t i = 0; i < n; i += simd::lanes) {
      const simd::Lanes normed = simd::Lanes::load_some(in + i, n - i) * r;
      simd::fma(normed, simd::Lanes::load_some(g + i, n - i), simd::Lanes::load_some(dweight.data() + i, n - i))
          .store_some(dweight.data() + i, n - i);
    }
  }
}

/// The gradients of h = silu(gate) up, where s = 1 / (1 + exp(-gate)): dup = dh gate s, dgate = dh up s (1 + gate (1 -
/// s)). All (tokens, hidden); dgate is written over dh, and dup over up.
inline void swiglu_backward(Rows<const float> gate, Rows<float> up, Rows<float> dh) noexcept {
  assert(gate.rows() == up.rows() && gate.rows() == dh.rows() && gate.cols() == up.cols() && dh.cols() == up.cols());
  const std::size_t n = gate.cols();
  parallel::for_ranges(gate.rows(), rows_per_task(n), [&](std::size_t begin, std::size_t end) {
    const simd::Lanes zero = simd::Lanes::broadcast(0.0f);
    const simd::Lanes one = simd::Lanes::broadcast(1.0f);
    for (std::size_t t = begin; t < end; ++t) {
      const float* const a = gate.row(t).data();
      float* const b = up.row(t).data();
      float* const d = dh.row(t).data();
      for (std::size_t i = 0; i < n; i += simd::lanes) {
        const simd::Lanes x = simd::Lanes::load_some(a + i, n - i);
        const simd::Lanes y = simd::Lanes::load_some(b + i, n - i);
        const simd::Lanes g = simd::Lanes::load_some(d + i, n - i);
        const simd::Lanes s = one / (one + simd::exp(zero - x));
        (g * x * s).store_some(b + i, n - i);
        (g * y * s * simd::fma(x, one - s, one)).store_some(d + i, n - i);
      }
    }
  });
}

/// The gradient of `rope`, in place: each pair is turned back.
inline void rope_backward(Rows<float> dx, Rows<const float> turns) noexcept {
  assert(dx.rows() == turns.rows() && dx.cols() % turns.cols() == 0);
  const std::size_t head_dim = turns.cols();
  parallel::for_ranges(dx.rows(), rows_per_task(dx.cols()), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const float* const turn = turns.row(t).data();
      for (float* head = dx.row(t).data(); head != dx.row(t).data() + dx.cols(); head += head_dim) {
        for (std::size_t j = 0; j < head_dim; j += 2) {
          const float a = head[j];
          const float b = head[j + 1];
          head[j] = a * turn[j] + b * turn[j + 1];
          head[j + 1] = b * turn[j] - a * turn[j + 1];
        }
      }
    }
  });
}

/// The gradient of the embedding, added: row tokens[t] of dE gets dx[t], in the order of the rows.
///   gradient  as Panels<F32> of (vocab_size, dim) lie: (panels, dim, 16)
inline void embedding_gradient(std::span<const TokenId> tokens, Rows<const float> dx,
                               std::span<float> gradient) noexcept {
  assert(tokens.size() == dx.rows());
  const std::size_t dim = dx.cols();
  parallel::for_ranges(dim, 64, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      const auto id = static_cast<std::size_t>(tokens[t]);
      float* const out = gradient.data() + id / simd::lanes * simd::lanes * dim + id % simd::lanes;
      for (std::size_t i = begin; i < end; ++i) out[i * simd::lanes] += dx.row(t)[i];
    }
  });
}

/// Cross-entropy of one row: returns -log softmax(logits)[target], and writes its gradient, softmax(logits) minus 1 at
/// the target, over the logits. Sums of 1024 terms at a time go into a double: 32000 small ones would lose bits in a
/// float.
inline double cross_entropy_row(std::span<float> logits, std::size_t target) noexcept {
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  const std::size_t n = logits.size();
  float* const x = logits.data();
  simd::Lanes largest = simd::Lanes::broadcast(lowest);
  for (std::size_t i = 0; i < n; i += simd::lanes) {
    largest = (simd::max)(simd::Lanes::load_some(x + i, n - i, lowest), largest);
  }
  const float maximum = (simd::max)(largest);
  const float at_target = x[target];
  double total = 0.0;
  for (std::size_t i = 0; i < n;) {
    simd::Lanes sums = simd::Lanes::broadcast(0.0f);
    for (const std::size_t stop = (std::min)(n, i + 64 * simd::lanes); i < stop; i += simd::lanes) {
      const simd::Lanes e = simd::exp(simd::Lanes::load_some(x + i, n - i, lowest) - simd::Lanes::broadcast(maximum));
      e.store_some(x + i, n - i);
      sums = sums + e;
    }
    total += static_cast<double>(simd::sum(sums));
  }
  const simd::Lanes inverse = simd::Lanes::broadcast(static_cast<float>(1.0 / total));
  for (std::size_t i = 0; i < n; i += simd::lanes) {
    (simd::Lanes::load_some(x + i, n - i) * inverse).store_some(x + i, n - i);
  }
  x[target] -= 1.0f;
  return std::log(total) + static_cast<double>(maximum) - static_cast<double>(at_target);
}

/// The same for rows of logits (rows, vocab_size), each with its target: losses (rows).
inline void cross_entropy(Rows<float> logits, std::span<const TokenId> targets, std::span<double> losses) noexcept {
  assert(logits.rows() == targets.size() && targets.size() == losses.size());
  parallel::for_ranges(logits.rows(), rows_per_task(logits.cols()), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      losses[t] = cross_entropy_row(logits.row(t), static_cast<std::size_t>(targets[t]));
    }
  });
}

}}}  // namespace mistral::kernels
