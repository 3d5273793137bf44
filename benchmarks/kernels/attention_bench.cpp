// Attention alone on the 7B's shape, window of 4096 against full: prefill chunks of 512 and single rows, at the end of
// a long sequence. Nothing outside the window is computed, so a window costs the same at any length.
#include <benchmark/benchmark.h>

#include <cmath>
#include <thread>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/kernels/attention.hpp>

#include "../limits.hpp"

namespace {

using namespace mistral;

const std::size_t threads = std::max(1u, std::thread::hardware_concurrency());
constexpr std::size_t head_dim = 128, n_heads = 32, n_kv_heads = 8;

void attention(benchmark::State& state) {
  const auto window = static_cast<std::size_t>(state.range(0));
  const auto position = static_cast<std::size_t>(state.range(1));
  const auto rows = static_cast<std::size_t>(state.range(2));
  const parallel::ThreadLimit limit(threads);
  const std::size_t length = position + rows;
  Random random(1);
  std::vector<bf16> keys(n_kv_heads * length * head_dim);
  std::vector<bf16> values(keys.size());
  for (bf16& k : keys) k = from_float<bf16>(2.0f * random.uniform() - 1.0f);
  for (bf16& v : values) v = from_float<bf16>(1.0f);  // weights sum to one, so every output is one
  std::vector<float> q(rows * n_heads * head_dim);
  for (float& x : q) x = random.normal();
  std::vector<float> out(q.size());
  const kernels::AttentionShape shape{
      .head_dim = head_dim, .n_heads = n_heads, .n_kv_heads = n_kv_heads, .window = window};
  const auto sequence = [&](std::size_t) {
    return kernels::SequenceSpan{0, rows, static_cast<std::int64_t>(position)};
  };
  const auto context = [&](std::size_t, std::size_t head) {
    const auto entries = [&](const std::vector<bf16>& all) {
      return kernels::HeadEntries<bf16>{
          {std::span<const bf16>(all).subspan(head * length * head_dim, length * head_dim), {}, {}}};
    };
    return kernels::HeadContext<bf16>{entries(keys), entries(values), 0};
  };
  const double seen = static_cast<double>(window == 0 ? position : std::min(window, position));
  double seconds = 0.0;
  for (auto _ : state) {
    const double begin = bench::seconds();
    kernels::attention<bf16>(shape, Rows<const float>(q.data(), rows, n_heads * head_dim),
                             Rows<float>(out.data(), rows, n_heads * head_dim), 1, sequence, context);
    seconds = bench::seconds() - begin;
    state.SetIterationTime(seconds);
  }
  for (const float x : out) {
    if (!(std::abs(x - 1.0f) <= 1e-4f)) return state.SkipWithError("wrong result");
  }
  if (rows == 1) {
    const double bytes = seen * n_kv_heads * head_dim * 2 * sizeof(bf16);
    state.counters["GB/s"] = bytes / seconds / 1e9;
  } else {
    state.counters["GFLOP/s"] = 4.0 * seen * n_heads * head_dim * static_cast<double>(rows) / seconds / 1e9;
    state.counters["fp32_peak"] = bench::fp32_peak(threads) / 1e9;
  }
}

BENCHMARK(attention)
    ->ArgNames({"window", "position", "rows"})
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond)
    ->ArgsProduct({{4096, 0}, {4096, 16384, 32768}, {1, 512}});

}  // namespace

BENCHMARK_MAIN();
