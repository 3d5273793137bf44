// SPDX-License-Identifier: Apache-2.0
// One step of training with adapters of rank 32 beside all matrices: 512 tokens through four layers of the 7B's shape,
// and 4 x 512 through a small model, each beside the machine's multiply-add peak measured in the same run. Counted are
// 2 x parameters x tokens for the forward, for taking it again and for the inputs' gradient; the adapters, the
// attention and the optimizer go uncounted.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include <mistral/nn/weights.hpp>
#include <mistral/train.hpp>

#include "../limits.hpp"
#include "small.hpp"

namespace {

using namespace mistral;

const std::size_t threads = std::max(1u, std::thread::hardware_concurrency());

constexpr ModelConfig four_layers = [] {
  ModelConfig config = mistral_7b_v0_1;
  config.n_layers = 4;
  return config;
}();

using bench::small;

template <class Model, std::size_t Sequences>
void step(benchmark::State& state) {
  constexpr std::size_t length = 512;
  const parallel::ThreadLimit limit(threads);
  Model model;
  randomize(model, 1);
  add_adapter(model, {.rank = 32, .alpha = 16.0f, .seed = 2});
  Trainer trainer{model, {.learning_rate = 1e-4f, .max_grad_norm = 0.3f}};
  Random random(3);
  std::vector<Example> batch(Sequences);
  for (Example& example : batch) {
    for (std::size_t t = 0; t <= length; ++t) {  // the last one is only to be predicted
      example.tokens.push_back(static_cast<TokenId>(random.next() % Model::config.vocab_size));
    }
  }
  const double tokens = static_cast<double>(Sequences * length);
  const double parameters = static_cast<double>(
      Model::config.parameter_count() - Model::config.vocab_size * Model::config.dim);  // embeddings multiply nothing
  std::vector<double> fractions;
  std::vector<double> speeds;
  const float before = trainer.step(batch);
  float loss = before;
  for (auto _ : state) {
    const double machine = bench::fp32_peak(threads);
    const double begin = bench::seconds();
    loss = trainer.step(batch);
    const double seconds = bench::seconds() - begin;
    state.SetIterationTime(seconds);
    fractions.push_back(6.0 * parameters * tokens / seconds / machine);
    speeds.push_back(tokens / seconds);
  }
  if (!(loss < before)) state.SkipWithError("the loss doesn't fall");
  std::sort(fractions.begin(), fractions.end());
  std::sort(speeds.begin(), speeds.end());
  state.counters["tokens/s"] = speeds[speeds.size() / 2];
  state.counters["of_fp32_peak"] = fractions[fractions.size() / 2];
  state.counters["of_limit_min"] = fractions.front();
  state.counters["of_limit_max"] = fractions.back();
}

void timing(benchmark::internal::Benchmark* b) { b->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond); }

BENCHMARK_TEMPLATE(step, Transformer<four_layers, Lora<Q4_0>>, 1)->Apply(timing);
BENCHMARK_TEMPLATE(step, Transformer<small, Lora<F32>>, 4)->Apply(timing);

}  // namespace

BENCHMARK_MAIN();
