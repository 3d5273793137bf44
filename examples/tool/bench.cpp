// mistral bench: how fast a preset's shape runs with random weights, each figure beside the machine's limit.

#include <sys/resource.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/error.hpp>

#include "../../benchmarks/limits.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "load.hpp"
#include "presets.hpp"

namespace mistral::tool {

namespace {

// Median, least and greatest of some figures.
struct Spread {
  double median = 0.0;
  double min = 0.0;
  double max = 0.0;
};

Spread spread(std::vector<double> figures) {
  std::sort(figures.begin(), figures.end());
  const std::size_t n = figures.size();
  return {(figures[(n - 1) / 2] + figures[n / 2]) / 2.0, figures.front(), figures.back()};
}

nlohmann::json to_json(const Spread& s) { return {{"median", s.median}, {"min", s.min}, {"max", s.max}}; }

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// `mistral-7b-v0.1` with the weights `bf16` is the preset of that name, or mistral-7b-v0.1-bf16.
const AnyPreset& preset_for(const BenchArguments& a) {
  const std::string weights = lower(a.weights);
  for (const AnyPreset* preset : presets()) {
    const PresetInfo& info = preset->info();
    const bool named = info.name == a.config || info.name == a.config + "-" + lower(info.weights);
    if (named && (weights.empty() || lower(info.weights) == weights)) return *preset;
  }
  throw UsageError("--config " + a.config + (weights.empty() ? "" : " --weights " + a.weights) +
                   ": no such preset is compiled in (there are " + preset_names() + ")");
}

std::size_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

// The limit of what a preset multiplies in. BF16 weights are multiplied as floats.
double peak_of(const PresetInfo& info, std::size_t threads) {
  const double int8 = info.multiplies_integers ? bench::int8_peak(threads) : 0.0;
  return int8 > 0.0 ? int8 : bench::fp32_peak(threads);
}

std::vector<TokenId> some_tokens(std::size_t count, std::size_t vocab_size) {
  std::vector<TokenId> tokens(count);
  for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<TokenId>((i * 7919 + 1) % vocab_size);
  return tokens;
}

// What a run does, in bytes and operations.
struct Work {
  double decode_bytes;  // weights that a token reads, and the keys and values that it sees
  double prefill_ops;   // two a multiply-add, of the matrices alone: attention is not counted

  Work(const PresetInfo& info, const BenchArguments& a) {
    const ModelConfig& c = info.config;
    const std::size_t middle = a.depth + a.generate_tokens / 2 + 1;
    const double seen = static_cast<double>(std::min(middle, c.cache_len()));
    const double entry = static_cast<double>(info.cache_bytes) / static_cast<double>(c.cache_len());
    decode_bytes = static_cast<double>(info.read_bytes) + seen * entry;
    const double vocab = static_cast<double>(c.vocab_size * c.dim);
    const double layers = static_cast<double>(c.parameter_count()) - 2.0 * vocab;
    prefill_ops = 2.0 * (layers * static_cast<double>(a.prompt_tokens) + vocab);
  }
};

}  // namespace

void run_bench(const BenchArguments& a) {
  const AnyPreset& preset = preset_for(a);
  const PresetInfo& info = preset.info();
  const std::size_t most = std::max(a.prompt_tokens, a.depth + 1 + a.generate_tokens);
  if (info.config.window_size == 0 && most > info.config.context_len) {
    throw UsageError("--depth, --prompt-tokens: expected at most " + std::to_string(info.config.context_len) +
                     " tokens in all for a model without a window, got " + std::to_string(most));
  }
  const std::size_t threads = a.threads != 0 ? a.threads : std::max(1u, std::thread::hardware_concurrency());
  const Threads limit(threads);
  std::unique_ptr<AnyModel> model;
  {
    const Progress progress("making random weights for " + std::string(info.name) + " ...");
    model = preset.random(1);
  }
  const std::unique_ptr<AnySession> session = model->session();
  const std::vector<TokenId> prompt = some_tokens(a.prompt_tokens, info.config.vocab_size);
  const std::vector<TokenId> context = some_tokens(a.depth + 1, info.config.vocab_size);

  const auto time_prefill = [&] {
    session->clear();
    const double begin = bench::seconds();
    session->prefill(prompt);
    return bench::seconds() - begin;
  };
  const auto go_to_depth = [&] {
    session->clear();
    session->prefill(context);
  };
  const auto time_decode = [&] {
    const double begin = bench::seconds();
    for (std::size_t i = 0; i < a.generate_tokens; ++i) session->decode(prompt[i % prompt.size()]);
    return bench::seconds() - begin;
  };

  time_prefill();  // a first run that isn't counted: it touches the memory that a run takes
  go_to_depth();
  time_decode();
  const std::size_t peak_bytes = peak_resident_bytes();

  const Work work(info, a);
  const bench::ReadBandwidth read_bandwidth(threads);
  std::vector<double> bandwidths, peaks, fp32_peaks, bf16_peaks, int8_peaks, prefill_tps, decode_tps, prefill_fractions,
      decode_fractions;
  Progress progress("measuring", a.repeats);
  for (std::size_t i = 0; i < a.repeats; ++i) {
    progress.at(i);
    // Limit, run, limit: the limit of a run is the mean of what was measured before and after it.
    const auto between = [](const auto& measure, const auto& run) {
      const double before = measure();
      const double seconds = run();
      return std::pair((before + measure()) / 2.0, seconds);
    };
    go_to_depth();
    const auto [bandwidth, decode] = between([&] { return read_bandwidth.measure(); }, time_decode);
    const auto [peak, prefill] = between([&] { return peak_of(info, threads); }, time_prefill);
    const double per_token = decode / static_cast<double>(a.generate_tokens);
    bandwidths.push_back(bandwidth);
    peaks.push_back(peak);
    fp32_peaks.push_back(bench::fp32_peak(threads));
    bf16_peaks.push_back(bench::bf16_peak(threads));
    int8_peaks.push_back(bench::int8_peak(threads));
    decode_tps.push_back(1.0 / per_token);
    prefill_tps.push_back(static_cast<double>(a.prompt_tokens) / prefill);
    decode_fractions.push_back(work.decode_bytes / per_token / bandwidth);
    prefill_fractions.push_back(work.prefill_ops / prefill / peak);
  }

  const Spread decode = spread(decode_tps), prefill = spread(prefill_tps);
  const Spread of_bandwidth = spread(decode_fractions), of_peak = spread(prefill_fractions);
  const double read_rate = decode.median * work.decode_bytes;
  const double op_rate = prefill.median / static_cast<double>(a.prompt_tokens) * work.prefill_ops;
  if (a.json) {
    const nlohmann::json out = {{"config", std::string(info.name)},
                                {"weights", std::string(info.weights)},
                                {"kv", std::string(info.kv)},
                                {"threads", threads},
                                {"repeats", a.repeats},
                                {"prompt_tokens", a.prompt_tokens},
                                {"generate_tokens", a.generate_tokens},
                                {"depth", a.depth},
                                {"prefill_tps", to_json(prefill)},
                                {"decode_tps", to_json(decode)},
                                {"decode_bytes_per_second", read_rate},
                                {"prefill_operations_per_second", op_rate},
                                {"decode_fraction_of_bandwidth", to_json(of_bandwidth)},
                                {"prefill_fraction_of_peak", to_json(of_peak)},
                                {"limits",
                                 {{"read_bandwidth", to_json(spread(bandwidths))},
                                  {"fp32_peak", to_json(spread(fp32_peaks))},
                                  {"bf16_peak", to_json(spread(bf16_peaks))},
                                  {"int8_peak", to_json(spread(int8_peaks))},
                                  {"prefill_peak", info.multiplies_integers ? "int8_peak" : "fp32_peak"}}},
                                {"peak_rss_bytes", peak_bytes},
                                {"weight_bytes", info.weight_bytes},
                                {"kv_cache_bytes", info.cache_bytes},
                                {"workspace_bytes", info.workspace_bytes}};
    return print(out.dump(2) + "\n");
  }
  char text[2048];
  std::snprintf(text, sizeof text,
                "%.*s, weights %.*s, cache %.*s, %zu threads, medians of %zu repeats (least ... greatest)\n"
                "  prefill of %zu tokens   %8.2f tokens/s (%.2f ... %.2f)   %7.1f GOP/s\n"
                "    peak of %s          %8.1f GOP/s: %.1f%% of it (%.1f ... %.1f)\n"
                "  decode at depth %-6zu  %8.2f tokens/s (%.2f ... %.2f)   %7.1f GB/s\n"
                "    read bandwidth        %8.1f GB/s: %.1f%% of it (%.1f ... %.1f)\n"
                "  memory: weights %s, cache %s, workspace %s; peak resident %s\n",
                static_cast<int>(info.name.size()), info.name.data(), static_cast<int>(info.weights.size()),
                info.weights.data(), static_cast<int>(info.kv.size()), info.kv.data(), threads, a.repeats,
                a.prompt_tokens, prefill.median, prefill.min, prefill.max, op_rate / 1e9,
                info.multiplies_integers ? "int8" : "fp32", spread(peaks).median / 1e9, 100.0 * of_peak.median,
                100.0 * of_peak.min, 100.0 * of_peak.max, a.depth, decode.median, decode.min, decode.max,
                read_rate / 1e9, spread(bandwidths).median / 1e9, 100.0 * of_bandwidth.median, 100.0 * of_bandwidth.min,
                100.0 * of_bandwidth.max, bytes_text(info.weight_bytes).c_str(), bytes_text(info.cache_bytes).c_str(),
                bytes_text(info.workspace_bytes).c_str(), bytes_text(peak_bytes).c_str());
  print(text);
}

}  // namespace mistral::tool
