// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/token.hpp>

#include <mistral/run/any_model.hpp>
#include "../../benchmarks/limits.hpp"
#include "commands.hpp"
#include "console.hpp"

/// \file
/// What the parts of `mistral bench` share.

namespace mistral::tool {

/// Median, least and greatest of some figures.
struct Spread {
  double median = 0.0;
  double min = 0.0;
  double max = 0.0;
};

inline Spread spread(std::vector<double> figures) {
  if (figures.empty()) return {};
  std::sort(figures.begin(), figures.end());
  const std::size_t n = figures.size();
  return {(figures[(n - 1) / 2] + figures[n / 2]) / 2.0, figures.front(), figures.back()};
}

inline nlohmann::json to_json(const Spread& s) { return {{"median", s.median}, {"min", s.min}, {"max", s.max}}; }
inline nlohmann::json to_json(const std::vector<double>& figures) { return to_json(spread(figures)); }

inline std::size_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

/// The limit of what a model multiplies in: bytes or pairs of bfloat16, where the machine has dot products of them, or
/// floats.
inline double peak_of(const ModelInfo& info, std::size_t threads) {
  const double own = info.multiplies_integers ? bench::int8_peak(threads)
                     : info.multiplies_pairs  ? bench::bf16_peak(threads)
                                              : 0.0;
  return own > 0.0 ? own : bench::fp32_peak(threads);
}

inline const char* peak_name(const ModelInfo& info) {
  return info.multiplies_integers ? "int8" : info.multiplies_pairs ? "bf16" : "fp32";
}

inline std::vector<TokenId> some_tokens(std::size_t count, std::size_t vocab_size) {
  std::vector<TokenId> tokens(count);
  for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<TokenId>((i * 7919 + 1) % vocab_size);
  return tokens;
}

/// A run between two measurements of its limit, which is their mean.
template <class Measure, class Run>
auto between(const Measure& measure, const Run& run) {
  const double before = measure();
  auto made = run();
  return std::pair((before + measure()) / 2.0, std::move(made));
}

/// `mistral bench --finetune`: steps of training with adapters on the model's shape.
void run_bench_finetune(const AnyModelType& type, const BenchArguments& arguments);

/// `mistral bench --lookup`: an answer that repeats its prompt, token by token and with drafts from the prompt. Throws
/// UsageError where a model without a window has no room for it.
void run_bench_lookup(const AnyModelType& type, const BenchArguments& arguments);

}  // namespace mistral::tool
