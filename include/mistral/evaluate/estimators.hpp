// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How many of some trials went well.
struct Proportion {
  std::size_t count = 0;
  std::size_t total = 0;

  void add(bool well) noexcept {
    count += well ? 1 : 0;
    ++total;
  }

  /// NaN for no trials.
  double value() const noexcept { return static_cast<double>(count) / static_cast<double>(total); }

  /// Of the value, as that of a binomial distribution: sqrt(p (1 - p) / n). NaN for no trials.
  double standard_error() const noexcept { return std::sqrt(value() * (1.0 - value()) / static_cast<double>(total)); }
};

/// The mean of some values, without keeping them (Welford, "Note on a method for calculating corrected sums of squares
/// and products", 1962).
class Mean {
 public:
  void add(double x) noexcept {
    ++count_;
    const double distance = x - mean_;
    mean_ += distance / static_cast<double>(count_);
    squares_ += distance * (x - mean_);
  }

  std::size_t count() const noexcept { return count_; }
  double value() const noexcept { return mean_; }

  /// Of the mean, from the spread of the values: sqrt(sum (x - mean)^2 / (n - 1) / n). 0 for fewer than two values.
  double standard_error() const noexcept {
    if (count_ < 2) return 0.0;
    const auto n = static_cast<double>(count_);
    return std::sqrt(squares_ / (n - 1.0) / n);
  }

 private:
  std::size_t count_ = 0;
  double mean_ = 0.0;
  double squares_ = 0.0;
};

/// The probability that at least one of k programs passes, estimated without bias from n of which c passed:
/// 1 - C(n - c, k) / C(n, k), as a product that doesn't overflow (arXiv 2107.03374, section 2.1). Throws Error unless
/// 1 <= k <= n and c <= n.
inline double pass_at_k(std::size_t n, std::size_t c, std::size_t k) {
  if (k < 1 || k > n) throw Error("pass@k", "k", "1 ... " + std::to_string(n) + ", the samples", std::to_string(k));
  if (c > n) throw Error("pass@k", "passed", "at most the " + std::to_string(n) + " samples", std::to_string(c));
  if (n - c < k) return 1.0;
  double all_fail = 1.0;
  for (std::size_t i = n - c + 1; i <= n; ++i) all_fail *= 1.0 - static_cast<double>(k) / static_cast<double>(i);
  return 1.0 - all_fail;
}

/// The answer that most of them are (maj@k); of several, the one that came first. Of none, nothing.
inline std::string majority(std::span<const std::string> answers) {
  std::size_t best = 0, most = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto count = static_cast<std::size_t>(std::count(answers.begin(), answers.end(), answers[i]));
    if (count > most) {
      most = count;
      best = i;
    }
  }
  return most > 0 ? answers[best] : std::string();
}

}}  // namespace mistral
