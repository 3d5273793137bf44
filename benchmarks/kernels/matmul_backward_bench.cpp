// SPDX-License-Identifier: Apache-2.0
// The gradient of a matrix's inputs, dx = W^T dy, of 512 rows through the 7B's w1 and w2, beside the machine's fp32
// peak measured in the same run: frozen weights of any format are multiplied as the floats they stand for.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/iq4_nl.hpp>
#include <mistral/format/nf4.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/kernels/matmul_backward.hpp>

#include "../limits.hpp"

namespace {

using namespace mistral;

const std::size_t threads = std::max(1u, std::thread::hardware_concurrency());

template <WeightFormat F>
void transposed(benchmark::State& state) {
  const auto rows = static_cast<std::size_t>(state.range(0));
  const auto cols = static_cast<std::size_t>(state.range(1));
  const auto tokens = static_cast<std::size_t>(state.range(2));
  const parallel::ThreadLimit limit(threads);
  Panels<F> panels(rows, cols);
  Random random(1);
  std::vector<float> values(panel_rows * cols);
  double sum = 0.0, magnitude = 0.0;  // of the last token's input 5
  std::vector<float> dy(tokens * rows);
  for (float& v : dy) v = random.normal();
  for (std::size_t i = 0; i < panels.view().panel_count(); ++i) {
    for (float& v : values) v = 2.0f * random.uniform() - 1.0f;
    const float* pointers[panel_rows];
    for (std::size_t r = 0; r < panel_rows; ++r) pointers[r] = values.data() + r * cols;
    panels.pack(i, pointers);
  }
  std::vector<float> w(cols);
  for (std::size_t o = 0; o < rows; ++o) {
    panels.unpack_row(o, w);
    const double product = static_cast<double>(w[5]) * static_cast<double>(dy[(tokens - 1) * rows + o]);
    sum += product;
    magnitude += std::abs(product);
  }
  std::vector<float> dx(tokens * cols);
  std::vector<double> fractions;
  const double operations = 2.0 * static_cast<double>(rows * cols * tokens);
  double achieved = 0.0;
  for (auto _ : state) {
    const double machine = bench::fp32_peak(threads);
    const double begin = bench::seconds();
    kernels::matmul_transposed(panels.view(), Rows<const float>(dy.data(), tokens, rows),
                               Rows<float>(dx.data(), tokens, cols));
    const double seconds = bench::seconds() - begin;
    state.SetIterationTime(seconds);
    achieved = operations / seconds;
    fractions.push_back(achieved / machine);
  }
  const double off = std::abs(static_cast<double>(dx[(tokens - 1) * cols + 5]) - sum);
  if (!(off <= static_cast<double>(rows + 2) * 0x1p-24 * magnitude)) state.SkipWithError("wrong result");
  std::sort(fractions.begin(), fractions.end());
  state.counters["GFLOP/s"] = achieved / 1e9;
  state.counters["of_limit"] = fractions[fractions.size() / 2];
  state.counters["of_limit_min"] = fractions.front();
  state.counters["of_limit_max"] = fractions.back();
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "cols", "tokens"})->UseManualTime()->Iterations(5)->Unit(benchmark::kMillisecond);
  b->Args({14336, 4096, 512});
  b->Args({4096, 14336, 512});
}

BENCHMARK_TEMPLATE(transposed, F32)->Apply(shapes);
BENCHMARK_TEMPLATE(transposed, BF16)->Apply(shapes);
BENCHMARK_TEMPLATE(transposed, Q4_0)->Apply(shapes);
BENCHMARK_TEMPLATE(transposed, IQ4_NL)->Apply(shapes);
BENCHMARK_TEMPLATE(transposed, NF4)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
