// SPDX-License-Identifier: Apache-2.0
// The matmul of the 7B's and a 1.1B's shapes, at one row (bound by memory) and at many (bound by arithmetic), each
// beside the machine's limit measured in the same run; and how fast weights are encoded.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <thread>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/kernels/matmul.hpp>

#include "../limits.hpp"

namespace {

using namespace mistral;

const std::size_t threads = std::max(1u, std::thread::hardware_concurrency());

template <WeightFormat F>
Panels<F> random_panels(std::size_t rows, std::size_t cols) {
  Panels<F> panels(rows, cols);
  Random random(1);
  std::vector<float> values(panel_rows * cols);
  for (std::size_t i = 0; i < panels.view().panel_count(); ++i) {
    for (float& v : values) v = 2.0f * random.uniform() - 1.0f;
    const float* pointers[panel_rows];
    const std::size_t count = std::min(panel_rows, rows - i * panel_rows);
    for (std::size_t r = 0; r < count; ++r) pointers[r] = values.data() + r * cols;
    panels.pack(i, std::span<const float* const>(pointers, count));
  }
  return panels;
}

// Output 5 of the last row against its sum in double: a benchmark of a wrong kernel is worth nothing.
template <WeightFormat F>
bool right(const Panels<F>& panels, const std::vector<float>& x, const std::vector<float>& y, std::size_t tokens) {
  std::vector<float> w(panels.cols());
  panels.unpack_row(5, w);
  const float* row = x.data() + (tokens - 1) * panels.cols();
  double sum = 0.0, magnitude = 0.0, rounding = 0.0;
  for (std::size_t k = 0; k < w.size(); ++k) {
    sum += static_cast<double>(w[k]) * static_cast<double>(row[k]);
    magnitude += std::abs(static_cast<double>(w[k]) * static_cast<double>(row[k]));
    if constexpr (IntegerFormat<F>) {  // activations are rounded to 1/127 of the largest of 32
      const auto block =
          std::span(row, panels.cols()).subspan(k / 32 * 32, std::min<std::size_t>(32, w.size() - k / 32 * 32));
      double largest = 0.0;
      for (const float v : block) largest = std::max(largest, std::abs(static_cast<double>(v)));
      rounding += std::abs(static_cast<double>(w[k])) * largest / 254.0;
    }
  }
  const double got = static_cast<double>(y[(tokens - 1) * panels.rows() + 5]);
  return std::abs(got - sum) <= static_cast<double>(w.size() + 2) * 0x1p-24 * magnitude + rounding;
}

template <WeightFormat F>
void matmul(benchmark::State& state) {
  const auto rows = static_cast<std::size_t>(state.range(0));
  const auto cols = static_cast<std::size_t>(state.range(1));
  const auto tokens = static_cast<std::size_t>(state.range(2));
  const parallel::ThreadLimit limit(threads);
  const Panels<F> panels = random_panels<F>(rows, cols);
  Random random(2);
  std::vector<float> x(tokens * cols);
  for (float& v : x) v = random.normal();
  std::vector<float> y(tokens * rows);
  kernels::InputBuffer<F> buffer(tokens, cols);
  std::vector<double> fractions;
  static bench::ReadBandwidth bandwidth;
  const double bytes = static_cast<double>(PanelsView<F>::bytes(rows, cols));
  const double operations = 2.0 * static_cast<double>(rows * cols * tokens);
  double achieved = 0.0;
  for (auto _ : state) {
    const double machine = tokens == 1        ? bandwidth.measure()
                           : IntegerFormat<F> ? bench::int8_peak(threads)
                                              : bench::fp32_peak(threads);
    const double begin = bench::seconds();
    kernels::matmul(panels.view(), buffer.prepare(Rows<const float>(x.data(), tokens, cols)),
                    Rows<float>(y.data(), tokens, rows));
    const double seconds = bench::seconds() - begin;
    state.SetIterationTime(seconds);
    achieved = (tokens == 1 ? bytes : operations) / seconds;
    fractions.push_back(achieved / machine);
  }
  if (!right(panels, x, y, tokens)) state.SkipWithError("wrong result");
  std::sort(fractions.begin(), fractions.end());
  state.counters[tokens == 1 ? "GB/s" : "GFLOP/s"] = achieved / 1e9;
  state.counters["of_limit"] = fractions[fractions.size() / 2];
  state.counters["of_limit_min"] = fractions.front();
  state.counters["of_limit_max"] = fractions.back();
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "cols", "tokens"})->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond);
  for (const int tokens : {1, 16, 512}) {
    b->Args({14336, 4096, tokens});  // w1, w3 of the 7B
    b->Args({4096, 14336, tokens});  // w2
    b->Args({5632, 2048, tokens});   // w1, w3 of the 1.1B
  }
  b->Args({32000, 4096, 1});  // the head
}

#define MISTRAL_MATMUL(F) BENCHMARK_TEMPLATE(matmul, F)->Apply(shapes);
MISTRAL_FORMATS(MISTRAL_MATMUL, MISTRAL_NOTHING)

// How fast weights are encoded, on all threads: what loading a checkpoint of another format costs beside reading it.
template <WeightFormat F>
void encode(benchmark::State& state) {
  const parallel::ThreadLimit limit(threads);
  constexpr std::size_t rows = 4096, cols = 4096;
  Panels<F> panels(rows, cols);
  Random random(3);
  std::vector<float> values(rows * cols);
  for (float& v : values) v = random.normal();
  for (auto _ : state) {
    parallel::for_ranges(panels.view().panel_count(), 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const float* pointers[panel_rows];
        for (std::size_t r = 0; r < panel_rows; ++r) pointers[r] = values.data() + (i * panel_rows + r) * cols;
        panels.pack(i, pointers);
      }
    });
  }
  state.counters["weights/s"] =
      benchmark::Counter(static_cast<double>(rows * cols * state.iterations()), benchmark::Counter::kIsRate);
}

void once(benchmark::internal::Benchmark* b) { b->Iterations(10)->Unit(benchmark::kMillisecond)->UseRealTime(); }

#define MISTRAL_ENCODE(F) BENCHMARK_TEMPLATE(encode, F)->Apply(once);
MISTRAL_FORMATS(MISTRAL_ENCODE, MISTRAL_NOTHING)

}  // namespace

BENCHMARK_MAIN();
