// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>

#include <mistral/format/weight_format.hpp>
#include <mistral/simd/codes.hpp>
#include <mistral/simd/product.hpp>

/// \file
/// For encoders of weights: how a row's scale is found, 16 rows side by side. They multiply as
/// simd/product.hpp says.

namespace mistral { inline namespace MISTRAL_ABI {

/// Of each row, the weight of a block that is largest in magnitude.
template <std::size_t Inputs>
inline simd::Lanes largest_weights(const float (&in)[Inputs][panel_rows]) noexcept {
  simd::Lanes largest = simd::Lanes::broadcast(0.0f);
  for (const auto& weights : in) largest = simd::larger_magnitude(largest, simd::Lanes::load(weights));
  return largest;
}

/// 1 / x, and 0 for 0.
inline simd::Lanes inverse_or_zero(const simd::Lanes& x) noexcept {
  const simd::Lanes zero = simd::Lanes::broadcast(0.0f);
  return simd::where_greater(simd::abs(x), zero, simd::Lanes::broadcast(1.0f) / x, zero);
}

/// Stores numbers as halves, and gives what the halves stand for.
inline simd::Lanes put_halves(const simd::Lanes& numbers, std::byte* out) noexcept {
  float floats[panel_rows];
  f16 halves[panel_rows];
  numbers.store(floats);
  for (std::size_t lane = 0; lane < panel_rows; ++lane) halves[lane] = from_float<f16>(floats[lane]);
  std::memcpy(out, halves, sizeof halves);
  return simd::Lanes::load(halves);
}

/// How much an error of each weight counts, in the sum of squares that a scale is chosen by: x^2 + the mean of x^2.
///
/// An output is off by the sum of error x input, so an error's square counts as the mean square of its input, which an
/// encoder doesn't see. But a gradient is proportional to its input: training makes weights of strong inputs large, so
/// a weight's square speaks of its input. It is one sample; its expectation given the sample, with the block's mean as
/// what is known of it before, and both trusted alike, is half of this sum.
template <std::size_t Inputs>
class Importance {
 public:
  explicit Importance(const float (&in)[Inputs][panel_rows]) noexcept {
    simd::Lanes sum = simd::Lanes::broadcast(0.0f);
    for (std::size_t i = 0; i < Inputs; ++i) {
      const simd::Lanes x = simd::Lanes::load(in[i]);
      of_[i] = simd::product(x, x);
      sum = sum + of_[i];
    }
    const simd::Lanes mean = simd::product(sum, simd::Lanes::broadcast(1.0f / static_cast<float>(Inputs)));
    for (simd::Lanes& square : of_) square = square + mean;
  }
  /// Of the weights of an input.
  const simd::Lanes& operator[](std::size_t input) const noexcept { return of_[input]; }

 private:
  simd::Lanes of_[Inputs];
};

/// Of the weights of a block.
template <std::size_t Inputs>
Importance(const float (&)[Inputs][panel_rows]) -> Importance<Inputs>;

/// The best of several candidates of scale for weights = scale x code. Given codes, the sum of w (x - scale code)^2 is
/// least at scale = sum(w x code) / sum(w code^2), and then less than sum(w x^2) by the square of the first over the
/// second: the candidate whose codes make that largest wins. Where nothing can be said (overflows, NaN), the first
/// scale stays.
class BestScale {
 public:
  explicit BestScale(const simd::Lanes& first) noexcept : scale_(first) {}

  void consider(const simd::Lanes& products, const simd::Lanes& squares) noexcept {
    const simd::Lanes scale = products / squares;
    const simd::Lanes gain = simd::product(scale, products);
    scale_ = simd::where_greater(gain, gain_, scale, scale_);
    gain_ = simd::where_greater(gain, gain_, gain, gain_);
  }
  const simd::Lanes& scale() const noexcept { return scale_; }

 private:
  simd::Lanes scale_;
  simd::Lanes gain_ = simd::Lanes::broadcast(0.0f);
};

}}  // namespace mistral
