// SPDX-License-Identifier: Apache-2.0
// Attention alone on the 7B's shape. Decode: one row of each of several layers, whose keys and values together are far
// more than a cache holds, against the time to read them at the bandwidth measured between the runs. Prefill: chunks of
// 512 against the multiply-add peak. Then the window of 4096 against full attention, a run of one beside a run of the
// other: nothing outside the window is computed. Figures are medians of pairs, with the least and the most.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include <mistral/core/buffer.hpp>
#include <mistral/core/random.hpp>
#include <mistral/kernels/attention.hpp>

#include "../limits.hpp"

namespace {

using namespace mistral;

const std::size_t threads = std::max(1u, std::thread::hardware_concurrency());
constexpr std::size_t head_dim = 128, n_heads = 32, n_kv_heads = 8;
constexpr std::size_t pairs = 7;

/// Keys and values of one layer for `length` positions, each head's adjacent, and one forward's attention over them.
template <KvElement T>
class Layer {
 public:
  static constexpr std::size_t entry_bytes = kv_entry_bytes<T>(head_dim);

  Layer(std::size_t length, Random& random)
      : length_(length), keys_(n_kv_heads * length * entry_bytes), values_(n_kv_heads * length * entry_bytes) {
    // Normal numbers cost more to draw than to attend to: entries are pieces of one long pool.
    std::vector<float> pool(1u << 16);
    for (float& x : pool) x = random.normal();
    for (Buffer<std::byte>* buffer : {&keys_, &values_}) {
      for (std::size_t i = 0; i < n_kv_heads * length; ++i) {
        const std::size_t at = random.next() % (pool.size() - head_dim);
        write_kv_entry<T>(std::span<const float>(pool).subspan(at, head_dim), buffer->data() + i * entry_bytes);
      }
    }
  }

  void attend(std::size_t window, std::size_t position, Rows<const float> q, Rows<float> out) const {
    const kernels::AttentionShape shape{
        .head_dim = head_dim, .n_heads = n_heads, .n_kv_heads = n_kv_heads, .window = window};
    kernels::attention<T>(
        shape, q, out, 1,
        [&](std::size_t) {
          return kernels::SequenceSpan{0, q.rows(), static_cast<std::int64_t>(position)};
        },
        [&](std::size_t, std::size_t head) {
          const auto entries = [&](const Buffer<std::byte>& all) {
            return kernels::HeadEntries{
                {all.span().subspan(head * length_ * entry_bytes, length_ * entry_bytes), {}, {}}};
          };
          return kernels::HeadContext{entries(keys_), entries(values_), 0};
        });
  }

  /// Whether the last head of the last row is right, by plain loops in double.
  bool right(std::size_t window, std::size_t position, Rows<const float> q, Rows<const float> out) const {
    const std::size_t end = position + q.rows();
    const std::size_t begin = window == 0 || end < window ? 0 : end - window;
    const auto query = q.row(q.rows() - 1).last(head_dim);
    std::vector<double> sums(head_dim, 0.0);
    double total = 0.0;
    float entry[head_dim];
    for (std::size_t j = begin; j < end; ++j) {
      const std::size_t at = ((n_kv_heads - 1) * length_ + j) * entry_bytes;
      read_kv_entry<T>(keys_.data() + at, entry);
      double score = 0.0;
      for (std::size_t d = 0; d < head_dim; ++d) score += static_cast<double>(query[d]) * static_cast<double>(entry[d]);
      const double weight = std::exp(score / std::sqrt(static_cast<double>(head_dim)));
      total += weight;
      read_kv_entry<T>(values_.data() + at, entry);
      for (std::size_t d = 0; d < head_dim; ++d) sums[d] += weight * static_cast<double>(entry[d]);
    }
    const auto result = out.row(out.rows() - 1).last(head_dim);
    for (std::size_t d = 0; d < head_dim; ++d) {
      if (!(std::abs(static_cast<double>(result[d]) - sums[d] / total) <= 1e-4)) return false;
    }
    return true;
  }

 private:
  std::size_t length_;
  Buffer<std::byte> keys_;
  Buffer<std::byte> values_;
};

struct Activations {
  Activations(std::size_t rows, Random& random)
      : rows_(rows), q_(rows * n_heads * head_dim), out_(rows * n_heads * head_dim) {
    for (float& x : q_) x = random.normal();
  }
  Rows<const float> q() const { return {q_.data(), rows_, n_heads * head_dim}; }
  Rows<float> out() { return {out_.data(), rows_, n_heads * head_dim}; }

 private:
  std::size_t rows_;
  std::vector<float> q_;
  std::vector<float> out_;
};

/// Median, least and most of what the pairs gave, as counters.
void report(benchmark::State& state, const std::string& name, std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  state.counters[name] = samples[samples.size() / 2];
  state.counters[name + "_min"] = samples.front();
  state.counters[name + "_max"] = samples.back();
}

template <class F>
double timed(const F& f) {
  const double begin = bench::seconds();
  f();
  return bench::seconds() - begin;
}

/// One row at the end of `depth` positions, window 4096, a layer after the other.
template <KvElement T>
void decode(benchmark::State& state) {
  constexpr std::size_t window = 4096;
  constexpr std::size_t layers = 256 * (std::size_t{1} << 20) / (2 * n_kv_heads * window * Layer<T>::entry_bytes) + 1;
  const auto depth = static_cast<std::size_t>(state.range(0));
  const std::size_t seen = std::min(window, depth);
  const parallel::ThreadLimit limit(threads);
  Random random(1);
  std::vector<Layer<T>> model;
  for (std::size_t i = 0; i < layers; ++i) model.emplace_back(depth, random);
  Activations row(1, random);
  bench::ReadBandwidth bandwidth;
  const double bytes = static_cast<double>(2 * n_kv_heads * seen * Layer<T>::entry_bytes);
  std::vector<double> rates, limits, ratios;
  for (auto _ : state) {
    for (std::size_t pair = 0; pair < pairs + 1; ++pair) {
      const double best = bandwidth.measure();
      const double time = timed([&] {
        for (const Layer<T>& layer : model) layer.attend(window, depth - 1, row.q(), row.out());
      });
      if (pair == 0) continue;  // threads start, pages are met for the first time
      const double rate = bytes * static_cast<double>(layers) / time;
      rates.push_back(rate / 1e9);
      limits.push_back(best / 1e9);
      ratios.push_back(best / rate);
      state.SetIterationTime(time);
    }
  }
  if (!model.back().right(window, depth - 1, row.q(), row.out())) return state.SkipWithError("wrong result");
  report(state, "GB/s", rates);
  report(state, "bandwidth", limits);
  report(state, "time/read_time", ratios);
}

/// 512 rows after `position` others.
template <KvElement T>
void prefill(benchmark::State& state) {
  constexpr std::size_t window = 4096;
  constexpr std::size_t rows = 512;
  const auto position = static_cast<std::size_t>(state.range(0));
  const parallel::ThreadLimit limit(threads);
  Random random(2);
  const Layer<T> layer(position + rows, random);
  Activations chunk(rows, random);
  double seen = 0.0;
  for (std::size_t t = 0; t < rows; ++t) seen += static_cast<double>(std::min(window, position + t + 1));
  std::vector<double> rates, limits, fractions;
  for (auto _ : state) {
    for (std::size_t pair = 0; pair < pairs + 1; ++pair) {
      const double peak = bench::fp32_peak(threads);
      const double time = timed([&] { layer.attend(window, position, chunk.q(), chunk.out()); });
      if (pair == 0) continue;
      const double rate = 4.0 * seen * n_heads * head_dim / time;
      rates.push_back(rate / 1e9);
      limits.push_back(peak / 1e9);
      fractions.push_back(rate / peak);
      state.SetIterationTime(time);
    }
  }
  if (!layer.right(window, position, chunk.q(), chunk.out())) return state.SkipWithError("wrong result");
  report(state, "GFLOP/s", rates);
  report(state, "fp32_peak", limits);
  report(state, "fraction", fractions);
}

/// A prompt of 16384 in chunks of 512, and a row after it: the window against all keys. Every chunk is timed with the
/// one and at once with the other.
void window_against_full(benchmark::State& state) {
  constexpr std::size_t window = 4096;
  constexpr std::size_t length = 16384;
  const auto rows = static_cast<std::size_t>(state.range(0));
  const parallel::ThreadLimit limit(threads);
  Random random(3);
  // A prompt's chunk does much work on each key it reads; single rows rotate over layers that no cache holds.
  std::vector<Layer<bf16>> model;
  for (std::size_t i = 0; i < (rows == 1 ? 5 : 1); ++i) model.emplace_back(length, random);
  Activations chunk(rows, random);
  std::vector<double> full_ms, window_ms, ratios;
  for (auto _ : state) {
    for (std::size_t pair = 0; pair < (rows == 1 ? 5 * pairs : 5); ++pair) {
      double full = 0.0;
      double windowed = 0.0;
      const auto both = [&](const Layer<bf16>& layer, std::size_t position) {
        windowed += timed([&] { layer.attend(window, position, chunk.q(), chunk.out()); });
        full += timed([&] { layer.attend(0, position, chunk.q(), chunk.out()); });
      };
      if (rows == 1) {
        for (const Layer<bf16>& layer : model) both(layer, length - 1);
      } else {
        for (std::size_t position = 0; position < length; position += rows) both(model.front(), position);
      }
      const double layers = static_cast<double>(model.size());
      full_ms.push_back(1e3 * full / layers);
      window_ms.push_back(1e3 * windowed / layers);
      ratios.push_back(full / windowed);
      state.SetIterationTime(full + windowed);
    }
  }
  if (!model.back().right(0, length - rows, chunk.q(), chunk.out())) return state.SkipWithError("wrong result");
  report(state, "full_ms", full_ms);
  report(state, "window_ms", window_ms);
  report(state, "full/window", ratios);
}

BENCHMARK_TEMPLATE(decode, bf16)->ArgName("depth")->UseManualTime()->Iterations(1)->Arg(4096)->Arg(16384);
BENCHMARK_TEMPLATE(decode, q8)->ArgName("depth")->UseManualTime()->Iterations(1)->Arg(4096);
BENCHMARK_TEMPLATE(decode, float)->ArgName("depth")->UseManualTime()->Iterations(1)->Arg(4096);
BENCHMARK_TEMPLATE(prefill, bf16)->ArgName("position")->UseManualTime()->Iterations(1)->Arg(0)->Arg(16384);
BENCHMARK_TEMPLATE(prefill, q8)->ArgName("position")->UseManualTime()->Iterations(1)->Arg(16384);
BENCHMARK(window_against_full)->ArgName("rows")->UseManualTime()->Iterations(1)->Arg(1)->Arg(512);

}  // namespace

BENCHMARK_MAIN();
