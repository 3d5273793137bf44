// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <mistral/core/token.hpp>

/// The layers of a forward in double, and what a gradient is held against: central differences of them.
namespace mistral::test {

using Numbers = std::vector<double>;

inline Numbers wide(std::span<const float> x) { return {x.begin(), x.end()}; }

/// d f / d x[i] for every i, by (f(x + h) - f(x - h)) / 2 h in double: with h = 1e-5 and functions of size 1, what is
/// cut off is of the order of h^2 = 1e-10, and what is rounded 1e-16 / h = 1e-11.
template <class F>
Numbers finite_differences(Numbers& x, const F& f) {
  constexpr double h = 1e-5;
  Numbers gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + h;
    const double above = f();
    x[i] = at - h;
    const double below = f();
    x[i] = at;
    gradient[i] = (above - below) / (2.0 * h);
  }
  return gradient;
}

/// |a - b| / |b| in the Euclidean norm; NaN where a number is.
inline double relative_error(std::span<const float> a, std::span<const double> b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += b[i] * b[i];
  }
  return difference == 0.0 ? 0.0 : std::sqrt(difference / norm);
}

inline double dot(const Numbers& a, std::span<const float> b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * static_cast<double>(b[i]);
  return sum;
}

/// y (tokens, outputs) = W x: w (outputs, inputs), x (tokens, inputs).
inline Numbers matmul(const Numbers& w, const Numbers& x, std::size_t inputs) {
  const std::size_t tokens = x.size() / inputs;
  const std::size_t outputs = w.size() / inputs;
  Numbers y(tokens * outputs);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t o = 0; o < outputs; ++o) {
      for (std::size_t i = 0; i < inputs; ++i) y[t * outputs + o] += w[o * inputs + i] * x[t * inputs + i];
    }
  }
  return y;
}

inline Numbers rms_norm(const Numbers& x, const Numbers& weight, double eps) {
  const std::size_t n = weight.size();
  Numbers y(x.size());
  for (std::size_t t = 0; t < x.size() / n; ++t) {
    double squares = 0.0;
    for (std::size_t i = 0; i < n; ++i) squares += x[t * n + i] * x[t * n + i];
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + eps);
    for (std::size_t i = 0; i < n; ++i) y[t * n + i] = x[t * n + i] * scale * weight[i];
  }
  return y;
}

inline Numbers swiglu(const Numbers& gate, const Numbers& up) {
  Numbers y(gate.size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
  return y;
}

struct AttentionSizes {
  std::size_t head_dim, n_heads, n_kv_heads, window;
};

/// One sequence from position 0: q (tokens, n_heads * head_dim), k and v (tokens, n_kv_heads * head_dim).
inline Numbers attention(const AttentionSizes& of, const Numbers& q, const Numbers& k, const Numbers& v) {
  const std::size_t d = of.head_dim;
  const std::size_t width = of.n_heads * d;
  const std::size_t kv_width = of.n_kv_heads * d;
  const std::size_t tokens = q.size() / width;
  Numbers out(q.size());
  for (std::size_t i = 0; i < tokens; ++i) {
    for (std::size_t h = 0; h < of.n_heads; ++h) {
      const std::size_t column = h / (of.n_heads / of.n_kv_heads) * d;
      const std::size_t first = of.window == 0 || i + 1 < of.window ? 0 : i + 1 - of.window;
      Numbers weights;
      double total = 0.0;
      for (std::size_t j = first; j <= i; ++j) {
        double score = 0.0;
        for (std::size_t c = 0; c < d; ++c) score += q[i * width + h * d + c] * k[j * kv_width + column + c];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
        total += weights.back();
      }
      for (std::size_t j = first; j <= i; ++j) {
        for (std::size_t c = 0; c < d; ++c) {
          out[i * width + h * d + c] += weights[j - first] / total * v[j * kv_width + column + c];
        }
      }
    }
  }
  return out;
}

/// -log softmax(logits)[target] of one row.
inline double cross_entropy(std::span<const double> logits, TokenId target) {
  double sum = 0.0;
  for (const double x : logits) sum += std::exp(x);
  return std::log(sum) - logits[static_cast<std::size_t>(target)];
}

}  // namespace mistral::test
