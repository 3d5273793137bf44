// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <mistral/core/buffer.hpp>
#include <mistral/core/rounded.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/lanes.hpp>
#include <mistral/simd/product.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How a gradient changes its parameter.
enum class Optimizer : std::uint8_t {
  adamw,  ///< Adam with decoupled weight decay and bias correction (arXiv 1711.05101, algorithm 2)
  sgd,    ///< v = momentum v + g, p -= rate v, with the same decoupled decay
};

/// How the learning rate goes over the steps, after the warm-up.
enum class Schedule : std::uint8_t {
  constant,
  linear,  ///< down to min_learning_rate at total_steps
  cosine,  ///< the same along half a wave
};

/// The learning rate of a step: rises to `rate` over the warm-up, whose last step has all of it, then follows the
/// schedule to `min_rate` at step total_steps, and stays there.
///   step  0 for the first
inline double scheduled_rate(Schedule schedule, double rate, double min_rate, std::uint64_t warmup_steps,
                             std::uint64_t total_steps, std::uint64_t step) noexcept {
  if (step < warmup_steps) return rate * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  if (schedule == Schedule::constant) return rate;
  if (step >= total_steps || total_steps <= warmup_steps) return min_rate;
  const double done = static_cast<double>(step - warmup_steps) / static_cast<double>(total_steps - warmup_steps);
  constexpr double pi = 3.14159265358979323846;
  const double left = schedule == Schedule::linear ? 1.0 - done : 0.5 * (1.0 + std::cos(pi * done));
  return std::fma(rate - min_rate, left, min_rate);  // one rounding with every compiler
}

/// Numbers of a parameter that one task takes; a piece's sum of squares is a float, and the pieces' sums are added in
/// double, in order.
inline constexpr std::size_t update_piece = 4096;

/// The sum of squares of numbers, the same bits on any number of threads.
inline double sum_of_squares(std::span<const float> x) {
  std::vector<double> pieces((x.size() + update_piece - 1) / update_piece);
  parallel::for_ranges(pieces.size(), 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t piece = begin; piece < end; ++piece) {
      const auto part = x.subspan(piece * update_piece, (std::min)(update_piece, x.size() - piece * update_piece));
      simd::Lanes squares = simd::Lanes::broadcast(0.0f);
      for (std::size_t i = 0; i < part.size(); i += simd::lanes) {
        const simd::Lanes v = simd::Lanes::load_some(part.data() + i, part.size() - i);
        squares = simd::product_plus(v, v, squares);
      }
      pieces[piece] = static_cast<double>(simd::sum(squares));
    }
  });
  double sum = 0.0;
  for (const double piece : pieces) sum += piece;
  return sum;
}

/// One step of an optimizer, the same for every parameter.
struct UpdateStep {
  float rate;            ///< of this step
  float decay;           ///< weight decay, decoupled: p *= 1 - rate decay
  float gradient_scale;  ///< what gradients are multiplied with first: the mean over targets, and clipping
  float beta1;           ///< AdamW: of the mean of gradients; SGD: the momentum
  float beta2;           ///< AdamW: of the mean of squared gradients
  float epsilon;         ///< AdamW: what is added to the root of the second moment
  std::uint64_t number;  ///< 1 for the first
};

namespace detail {

template <class F>
void for_lanes(std::size_t size, const F& f) {
  parallel::for_ranges((size + update_piece - 1) / update_piece, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin * update_piece; i < (std::min)(size, end * update_piece); i += simd::lanes) {
      f(i, size - i);
    }
  });
}

/// base^n, by the same multiplications everywhere.
inline double power(double base, std::uint64_t n) noexcept {
  double result = 1.0;
  for (; n > 0; n /= 2, base *= base) {
    if (n % 2 != 0) result *= base;
  }
  return rounded(result);
}

}  // namespace detail

/// p = p (1 - rate decay) - rate m' / (sqrt(v') + epsilon), with m and v the running means of the gradient and of its
/// square, and m', v' corrected for their start at zero. All of one length.
inline void adamw_update(const UpdateStep& step, std::span<float> p, std::span<const float> gradient,
                         std::span<float> m, std::span<float> v) {
  assert(gradient.size() == p.size() && m.size() == p.size() && v.size() == p.size());
  const auto all = [](double x) { return simd::Lanes::broadcast(static_cast<float>(x)); };
  const double rate = static_cast<double>(step.rate);
  const double beta1 = static_cast<double>(step.beta1);
  const double beta2 = static_cast<double>(step.beta2);
  const simd::Lanes keep = all(1.0 - rate * static_cast<double>(step.decay));
  const simd::Lanes minus_rate = all(-rate / (1.0 - detail::power(beta1, step.number)));
  const simd::Lanes inverse_root = all(1.0 / std::sqrt(1.0 - detail::power(beta2, step.number)));
  const simd::Lanes b1 = all(beta1);
  const simd::Lanes b2 = all(beta2);
  const simd::Lanes rest1 = all(1.0 - beta1);
  const simd::Lanes rest2 = all(1.0 - beta2);
  const simd::Lanes scale = all(static_cast<double>(step.gradient_scale));
  const simd::Lanes epsilon = all(static_cast<double>(step.epsilon));
  detail::for_lanes(p.size(), [&](std::size_t i, std::size_t n) {
    const auto load = [&](const float* x) { return simd::Lanes::load_some(x + i, n); };
    const simd::Lanes g = simd::product(load(gradient.data()), scale);
    const simd::Lanes mean = simd::product_plus(rest1, g, simd::product(load(m.data()), b1));
    const simd::Lanes square = simd::product_plus(simd::product(rest2, g), g, simd::product(load(v.data()), b2));
    mean.store_some(m.data() + i, n);
    square.store_some(v.data() + i, n);
    const simd::Lanes move = mean / simd::product_plus(simd::sqrt(square), inverse_root, epsilon);
    simd::product_plus(move, minus_rate, simd::product(load(p.data()), keep)).store_some(p.data() + i, n);
  });
}

/// v = momentum v + g; p = p (1 - rate decay) - rate v.
inline void sgd_update(const UpdateStep& step, std::span<float> p, std::span<const float> gradient,
                       std::span<float> v) {
  assert(gradient.size() == p.size() && v.size() == p.size());
  const double kept = 1.0 - static_cast<double>(step.rate) * static_cast<double>(step.decay);  // an exact product
  const simd::Lanes keep = simd::Lanes::broadcast(static_cast<float>(kept));
  const simd::Lanes minus_rate = simd::Lanes::broadcast(-step.rate);
  const simd::Lanes momentum = simd::Lanes::broadcast(step.beta1);
  const simd::Lanes scale = simd::Lanes::broadcast(step.gradient_scale);
  detail::for_lanes(p.size(), [&](std::size_t i, std::size_t n) {
    const auto load = [&](const float* x) { return simd::Lanes::load_some(x + i, n); };
    const simd::Lanes velocity =
        simd::product_plus(load(v.data()), momentum, simd::product(load(gradient.data()), scale));
    velocity.store_some(v.data() + i, n);
    simd::product_plus(velocity, minus_rate, simd::product(load(p.data()), keep)).store_some(p.data() + i, n);
  });
}

}}  // namespace mistral
