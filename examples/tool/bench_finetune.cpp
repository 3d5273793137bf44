// SPDX-License-Identifier: Apache-2.0
// mistral bench --finetune: how fast adapters are trained on a model's shape with random weights, beside the machine's
// limit, and the memory that it takes.

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/error.hpp>

#include "bench_figures.hpp"
#include "console.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

// What a step multiplies, two operations a multiply-add: its matrices alone, neither the adapters nor attention.
struct StepWork {
  double forward = 0.0;  // and taking it again, block by block: multiplied as the weights' format is
  double inputs = 0.0;   // the gradient of the matrices' inputs: multiplied as floats

  StepWork(const ModelConfig& c, std::size_t rows) {
    const double head = 2.0 * static_cast<double>(c.vocab_size * c.dim);
    const double layers = 2.0 * static_cast<double>(c.parameter_count()) - 2.0 * head;
    const auto tokens = static_cast<double>(rows);
    forward = (2.0 * layers + head) * tokens;  // the head is not taken again
    inputs = (layers + head) * tokens;
  }
};

// Numbers of A and B beside the matrices of a model.
std::size_t trained_parameters(const ModelConfig& c, std::size_t rank) {
  const std::size_t layer = 2 * (c.dim + c.query_dim()) + 2 * (c.dim + c.kv_dim()) + 3 * (c.dim + c.hidden_dim);
  return rank * (c.n_layers * layer + c.dim + c.vocab_size);
}

struct StepFigures {
  std::vector<double> tps;
  std::vector<double> fractions;       // of the peaks: the time that the work takes at them over the step's
  std::vector<double> fp32_fractions;  // the same as if all were multiplied as floats
  std::vector<double> peaks;           // of what the weights' format is multiplied in
  std::vector<double> fp32_peaks;
  std::size_t peak_rss_bytes = 0;
};

StepFigures measure(const AnyModelType& type, const BenchArguments& a, std::size_t threads) {
  const ModelInfo& info = type.info();
  std::unique_ptr<AnyModel> model;
  {
    const Progress progress("making random weights for " + a.config + " ...");
    model = type.random(1);
  }
  model->add_adapter({.rank = a.rank, .alpha = 16.0f, .seed = 2});
  const auto trainer = model->trainer({.learning_rate = 1e-4f, .max_grad_norm = 0.3f});
  StepFigures figures;

  const std::size_t sequences = a.sequences > 0 ? a.sequences : 1;
  std::vector<Example> batch(sequences);
  for (std::size_t i = 0; i < sequences; ++i) {
    // the last one is only to be predicted
    batch[i].tokens = some_tokens(a.prompt_tokens + 1 + i, info.config.vocab_size);
    batch[i].tokens.erase(batch[i].tokens.begin(), batch[i].tokens.begin() + static_cast<std::ptrdiff_t>(i));
  }
  const std::size_t rows = sequences * a.prompt_tokens;
  const StepWork work(info.config, rows);
  Progress progress("measuring", a.repeats + 1);
  const float first = trainer->step(batch);  // not counted: it touches the memory that a step takes
  float loss = first;
  for (std::size_t i = 0; i < a.repeats; ++i) {
    progress.at(i + 1);
    const double fp32_before = bench::fp32_peak(threads);
    const auto [peak, seconds] = between([&] { return peak_of(info, threads); },
                                         [&] {
                                           const double begin = bench::seconds();
                                           loss = trainer->step(batch);
                                           return bench::seconds() - begin;
                                         });
    const double fp32 = (fp32_before + bench::fp32_peak(threads)) / 2.0;
    figures.tps.push_back(static_cast<double>(rows) / seconds);
    figures.fractions.push_back((work.forward / peak + work.inputs / fp32) / seconds);
    figures.fp32_fractions.push_back((work.forward + work.inputs) / seconds / fp32);
    figures.peaks.push_back(peak);
    figures.fp32_peaks.push_back(fp32);
  }
  if (!(loss < first)) {
    throw Error("bench", "the loss of the batch that is trained on", "less than " + std::to_string(first) + " at last",
                std::to_string(loss));
  }
  figures.peak_rss_bytes = peak_resident_bytes();
  return figures;
}

}  // namespace

void run_bench_finetune(const AnyModelType& type, const BenchArguments& a) {
  const ModelInfo& info = type.info();
  if (info.config.window_size == 0 && a.prompt_tokens + 1 > info.config.context_len) {
    throw UsageError("--prompt-tokens: expected at most " + std::to_string(info.config.context_len - 1) +
                     " for a model without a window, got " + std::to_string(a.prompt_tokens));
  }
  const std::size_t threads = a.threads != 0 ? a.threads : std::max(1u, std::thread::hardware_concurrency());
  const Threads limit(threads);
  const StepFigures f = measure(type, a, threads);
  const std::size_t sequences = a.sequences > 0 ? a.sequences : 1;
  const std::size_t trained = trained_parameters(info.config, a.rank);
  if (a.json) {
    nlohmann::ordered_json json = {
        {"config", a.config},
        {"weights", std::string(info.weights)},
        {"threads", threads},
        {"repeats", a.repeats},
        {"sequences", sequences},
        {"sequence_tokens", a.prompt_tokens},
        {"rank", a.rank},
        {"trained_parameters", trained},
        {"finetune_tps", to_json(f.tps)},
        {"finetune_fraction_of_peak", to_json(f.fractions)},
        {"finetune_fraction_of_fp32_peak", to_json(f.fp32_fractions)},
        {"limits", {{std::string(peak_name(info)) + "_peak", to_json(f.peaks)}, {"fp32_peak", to_json(f.fp32_peaks)}}},
        {"weight_bytes", info.weight_bytes},
        {"peak_rss_bytes", f.peak_rss_bytes}};
    return print(json_text(json, 2));
  }
  const auto name = [](std::string_view text) { return std::string(text); };
  const Spread tps = spread(f.tps);
  const Spread fraction = spread(f.fractions);
  const Spread fp32 = spread(f.fp32_fractions);
  std::string text = format("%s, weights %s, %zu threads, medians of %zu repeats (least ... greatest)\n",
                            a.config.c_str(), name(info.weights).c_str(), threads, a.repeats);
  text +=
      format("  a step of %zu x %zu tokens, adapters of rank %zu beside all matrices: %.2f tokens/s (%.2f ... %.2f)\n",
             sequences, a.prompt_tokens, a.rank, tps.median, tps.min, tps.max);
  text += format(
      "    forward and recomputation at the peak of %s (%.1f GOP/s), inputs' gradient at that of fp32 (%.1f): "
      "%.1f%% of them (%.1f ... %.1f)\n",
      peak_name(info), spread(f.peaks).median / 1e9, spread(f.fp32_peaks).median / 1e9, 100.0 * fraction.median,
      100.0 * fraction.min, 100.0 * fraction.max);
  text += format("    all of it at the peak of fp32: %.1f%% of it (%.1f ... %.1f)\n", 100.0 * fp32.median,
                 100.0 * fp32.min, 100.0 * fp32.max);
  text += "  memory: weights " + bytes_text(info.weight_bytes) + ", " + std::to_string(trained) +
          " trained parameters, peak resident " + bytes_text(f.peak_rss_bytes) + "\n";
  print(text);
}

}  // namespace mistral::tool
