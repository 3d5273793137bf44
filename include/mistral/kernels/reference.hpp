// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <mistral/core/rows.hpp>

/// The naive twins of the kernels: plain loops in double over plain row-major floats, to hold the fast ones against.
namespace mistral { inline namespace MISTRAL_ABI { namespace reference {

/// y[t, o] = sum_k w[o, k] x[t, k]: w (rows, cols), x (tokens, cols), y (tokens, rows).
inline void matmul(Rows<const float> w, Rows<const float> x, Rows<float> y) {
  for (std::size_t t = 0; t < x.rows(); ++t) {
    for (std::size_t o = 0; o < w.rows(); ++o) {
      double sum = 0.0;
      for (std::size_t k = 0; k < w.cols(); ++k) {
        sum += static_cast<double>(w.row(o)[k]) * static_cast<double>(x.row(t)[k]);
      }
      y.row(t)[o] = static_cast<float>(sum);
    }
  }
}

/// y = x / sqrt(mean(x^2) + eps) * weight.
inline void rms_norm(Rows<const float> x, std::span<const float> weight, float eps, Rows<float> y) {
  for (std::size_t t = 0; t < x.rows(); ++t) {
    double squares = 0.0;
    for (const float v : x.row(t)) squares += static_cast<double>(v) * static_cast<double>(v);
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.cols()) + static_cast<double>(eps));
    for (std::size_t i = 0; i < x.cols(); ++i) {
      y.row(t)[i] = static_cast<float>(static_cast<double>(x.row(t)[i]) * scale * static_cast<double>(weight[i]));
    }
  }
}

/// silu(gate) * up.
inline float swiglu(float gate, float up) {
  const auto a = static_cast<double>(gate);
  return static_cast<float>(a / (1.0 + std::exp(-a)) * static_cast<double>(up));
}

/// Turns the pairs (2j, 2j+1) of one head by position * theta^(-2j / head_dim).
inline void rope(std::span<float> head, std::int64_t position, double theta) {
  const auto n = static_cast<double>(head.size());
  for (std::size_t j = 0; j < head.size(); j += 2) {
    const double angle = static_cast<double>(position) * std::pow(theta, -static_cast<double>(j) / n);
    const auto a = static_cast<double>(head[j]);
    const auto b = static_cast<double>(head[j + 1]);
    head[j] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
    head[j + 1] = static_cast<float>(a * std::sin(angle) + b * std::cos(angle));
  }
}

/// Attention of a whole sequence with a dense mask: query i sees keys max(0, i - window + 1) ... i; window 0: 0 ... i.
///   q, out (tokens, n_heads * head_dim), k and v (tokens, n_kv_heads * head_dim)
inline void attention(Rows<const float> q, Rows<const float> k, Rows<const float> v, std::size_t head_dim,
                      std::size_t window, Rows<float> out) {
  const std::size_t heads = q.cols() / head_dim;
  const std::size_t group = heads / (k.cols() / head_dim);
  std::vector<double> weights(k.rows());
  for (std::size_t i = 0; i < q.rows(); ++i) {
    for (std::size_t h = 0; h < heads; ++h) {
      double maximum = -std::numeric_limits<double>::infinity();
      for (std::size_t j = 0; j < k.rows(); ++j) {
        const bool seen = j <= i && (window == 0 || j + window > i);
        double score = 0.0;
        for (std::size_t d = 0; d < head_dim; ++d) {
          score +=
              static_cast<double>(q.row(i)[h * head_dim + d]) * static_cast<double>(k.row(j)[h / group * head_dim + d]);
        }
        weights[j] = seen ? score / std::sqrt(static_cast<double>(head_dim)) : -std::numeric_limits<double>::infinity();
        maximum = (std::max)(maximum, weights[j]);
      }
      double total = 0.0;
      for (double& w : weights) total += w = std::exp(w - maximum);
      for (std::size_t d = 0; d < head_dim; ++d) {
        double sum = 0.0;
        for (std::size_t j = 0; j < k.rows(); ++j) {
          sum += weights[j] * static_cast<double>(v.row(j)[h / group * head_dim + d]);
        }
        out.row(i)[h * head_dim + d] = static_cast<float>(sum / total);
      }
    }
  }
}

}}}  // namespace mistral::reference
