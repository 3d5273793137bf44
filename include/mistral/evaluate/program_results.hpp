// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/evaluate/estimators.hpp>
#include <mistral/io/json/lines.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How many programs that a model wrote for a problem passed its tests. They were run elsewhere: nothing here runs code
/// that a model wrote.
struct ProgramResult {
  std::size_t line = 0;
  std::size_t samples = 0;
  std::size_t passed = 0;
};

/// Reads results, a JSON object a line for each problem: `{"samples": 20, "passed": 3}`; other fields are passed over.
/// Throws Error `[results] file:line: ...` for a line that is none, and `[results] file: ...` for a file without any,
/// or that can't be read.
inline std::vector<ProgramResult> read_program_results(const std::string& path) {
  std::vector<ProgramResult> all;
  for_each_json_line(path, "results", [&](const JsonObject& json, std::size_t line) {
    constexpr std::int64_t most = (std::numeric_limits<std::int32_t>::max)();
    const std::int64_t samples = json.integer("samples", 1, most);
    const std::int64_t passed = json.integer("passed", 0, samples);
    all.push_back({line, static_cast<std::size_t>(samples), static_cast<std::size_t>(passed)});
  });
  if (all.empty()) throw Error("results", printable(path, 1000), "at least one problem", "none");
  return all;
}

/// pass@k over problems: the mean of each problem's estimate (see pass_at_k), whose standard error is that of a mean
/// over problems. Throws Error where a problem has fewer than k samples.
inline Mean mean_pass_at(std::span<const ProgramResult> results, std::size_t k) {
  Mean mean;
  for (const ProgramResult& result : results) {
    if (k > result.samples) {
      throw Error("results", "line " + std::to_string(result.line), "at least " + std::to_string(k) + " samples",
                  std::to_string(result.samples));
    }
    mean.add(pass_at_k(result.samples, result.passed, k));
  }
  return mean;
}

}}  // namespace mistral
