// SPDX-License-Identifier: Apache-2.0
// mistral bench: how fast a model's shape runs with random weights, each figure beside the machine's limit.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/error.hpp>
#include <mistral/io/os/memory.hpp>

#include "../../benchmarks/limits.hpp"
#include "bench_figures.hpp"
#include "choice.hpp"
#include "commands.hpp"
#include "compiler.hpp"
#include "configs.hpp"
#include "console.hpp"
#include "load.hpp"
#include "suggest.hpp"

namespace mistral::tool {

namespace {

// 0 where the system doesn't say.
std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  if (!(statm >> size >> resident)) return 0;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

std::size_t growth_since(std::size_t before) {
  const std::size_t now = resident_bytes();
  return now > before ? now - before : 0;
}

// The depths that decodes begin at: those asked for, and 0 where one is deeper, since what a depth adds needs to be
// told from what a token takes anyway.
std::vector<std::size_t> timed_depths(const BenchArguments& a) {
  std::vector<std::size_t> depths = a.depths;
  const bool deep = std::any_of(depths.begin(), depths.end(), [](std::size_t d) { return d > 0; });
  if (deep && std::find(depths.begin(), depths.end(), 0u) == depths.end()) depths.push_back(0);
  return depths;
}

// Refuses what doesn't fit in memory: a session for each depth, and beside them the loops of the bandwidth, or the
// caches of a batch.
void check_memory(const ModelInfo& info, const BenchArguments& a) {
  const std::optional<std::uint64_t> available = available_memory();
  if (!available) return;
  const auto cache = static_cast<double>(info.cache_bytes);
  const auto depths = static_cast<double>(timed_depths(a).size());
  const double needed = static_cast<double>(info.weight_bytes) +
                        depths * (cache + static_cast<double>(info.workspace_bytes)) +
                        std::max<double>(bench::ReadBandwidth::memory_bytes, static_cast<double>(a.sequences) * cache);
  if (needed <= static_cast<double>(*available)) return;
  throw Error(
      "memory",
      a.config + ": the weights, caches for " + format("%.0f", depths) + " depths, and what is timed beside them",
      "at most " + std::to_string(*available) + " bytes of memory", format("%.0f", needed) + " needed");
}

// What a model does, in bytes and operations.
class Work {
 public:
  explicit Work(const ModelInfo& info) : info_(info) {
    const ModelConfig& c = info.config;
    head_ = 2.0 * static_cast<double>(c.vocab_size * c.dim);
    layers_ = 2.0 * static_cast<double>(c.parameter_count()) - 2.0 * head_;
  }

  // Two a multiply-add, of the matrices alone: attention is not counted. `logits` of the rows go through the head.
  double operations(std::size_t rows, std::size_t logits) const {
    return layers_ * static_cast<double>(rows) + head_ * static_cast<double>(logits);
  }

  // Keys and values that a token sees, halfway through `tokens` from `depth`.
  double kv_bytes(std::size_t depth, std::size_t tokens) const {
    const std::size_t seen = std::min(depth + tokens / 2 + 1, info_.config.cache_len());
    return static_cast<double>(info_.cache_bytes) / static_cast<double>(info_.config.cache_len()) *
           static_cast<double>(seen);
  }

  double decode_bytes(std::size_t depth, std::size_t tokens) const {
    return static_cast<double>(info_.read_bytes) + kv_bytes(depth, tokens);
  }

 private:
  const ModelInfo& info_;
  double head_ = 0.0;
  double layers_ = 0.0;
};

// What the repeats gave for the decode from one depth.
struct Decode {
  std::size_t depth = 0;
  std::vector<double> tps, seconds, fractions;
  std::vector<double> tps_over_first;   // over that of the first depth, in the same repeat
  std::vector<double> added_per_layer;  // seconds that a layer takes longer than at depth 0
  std::vector<double> over_read_time;   // the same, over the time to read the keys and values that are added
  std::array<std::vector<double>, 10> tenths_tps;
};

struct Figures {
  std::vector<Decode> decodes;
  std::vector<double> prefill_tps, prefill_rates, prefill_fractions, peaks, fp32_peaks, bf16_peaks, int8_peaks,
      bandwidths, batch_tps, batch_fractions, scheduler_tps, scheduler_fractions, scheduler_over_forward;
  std::size_t cache_resident_bytes = 0;
  std::size_t peak_rss_bytes = 0;
  std::size_t resident_growth = 0;  // after the first tenth of a decode
};

class Bench {
 public:
  Bench(const ModelInfo& info, const BenchArguments& a, std::size_t threads, const AnyModel& model)
      : info_(info),
        a_(a),
        threads_(threads),
        model_(model),
        work_(info),
        tokens_(some_tokens(std::max(a.prompt_tokens, a.sequences), info.config.vocab_size)) {}

  Figures run() {
    measure_cache();
    sessions_.push_back(model_.session());
    for (const std::size_t depth : timed_depths(a_)) figures_.decodes.emplace_back().depth = depth;

    prefill();  // a first run that isn't counted: it touches the memory that a run takes
    sessions_.front()->randomize_cache(static_cast<std::int64_t>(figures_.decodes.front().depth));
    sessions_.front()->decode(tokens_.front());
    figures_.peak_rss_bytes = peak_resident_bytes();  // with one session
    while (sessions_.size() < figures_.decodes.size()) sessions_.push_back(model_.session());

    Progress progress("measuring", a_.repeats + (a_.sequences > 0 ? 1 : 0));
    {
      bench::ReadBandwidth bandwidth;
      for (std::size_t i = 0; i < a_.repeats; ++i) {
        repeat(bandwidth);
        progress.at(i + 1);
      }
    }
    if (a_.sequences > 0) batch();
    return std::move(figures_);
  }

 private:
  // What a cache that has gone all the way through its rings takes of the machine's memory.
  void measure_cache() {
    const std::size_t before = resident_bytes();
    const auto cache = model_.rows(1);
    cache->randomize_caches(static_cast<std::int64_t>(info_.config.cache_len()));
    figures_.cache_resident_bytes = growth_since(before);
  }

  double prefill() {
    sessions_.front()->clear();
    const double begin = bench::seconds();
    sessions_.front()->prefill(std::span(tokens_).first(a_.prompt_tokens));
    return bench::seconds() - begin;
  }

  // Seconds of each tenth of the tokens of each depth. The depths take turns with every token, and the loops of the
  // bandwidth with every quarter of a second of them, so that what slows the machine for a while slows them all.
  std::vector<std::array<double, 10>> decode(bench::ReadBandwidth& bandwidth) {
    constexpr double seconds_a_turn = 0.25;
    double since_turn = seconds_a_turn;
    std::vector<std::array<double, 10>> seconds(figures_.decodes.size());
    for (std::size_t d = 0; d < seconds.size(); ++d) {
      sessions_[d]->randomize_cache(static_cast<std::int64_t>(figures_.decodes[d].depth));
    }
    std::size_t resident = 0;
    for (std::size_t tenth = 0, i = 0; tenth < 10; ++tenth) {
      for (const std::size_t end = a_.generate_tokens * (tenth + 1) / 10; i < end; ++i) {
        if (since_turn >= seconds_a_turn) {
          bandwidth.turn();
          since_turn = 0.0;
        }
        for (std::size_t n = 0; n < seconds.size(); ++n) {
          const std::size_t d = (i + n) % seconds.size();  // none is always the first behind the loops
          const double begin = bench::seconds();
          sessions_[d]->decode(tokens_[i % a_.prompt_tokens]);
          const double taken = bench::seconds() - begin;
          seconds[d][tenth] += taken;
          since_turn += taken;
        }
      }
      if (tenth == 0) resident = resident_bytes();
    }
    figures_.resident_growth = std::max(figures_.resident_growth, growth_since(resident));
    return seconds;
  }

  void repeat(bench::ReadBandwidth& bandwidth) {
    const auto tokens = static_cast<double>(a_.generate_tokens);
    const auto tenths = decode(bandwidth);
    const double limit = bandwidth.best();
    figures_.bandwidths.push_back(limit);
    for (std::size_t k = 0; k < tenths.size(); ++k) {
      Decode& d = figures_.decodes[k];
      double seconds = 0.0;
      for (std::size_t i = 0; i < tenths[k].size(); ++i) {
        seconds += tenths[k][i] / tokens;
        const std::size_t n = a_.generate_tokens * (i + 1) / 10 - a_.generate_tokens * i / 10;
        if (n > 0) d.tenths_tps[i].push_back(static_cast<double>(n) / tenths[k][i]);
      }
      d.seconds.push_back(seconds);
      d.tps.push_back(1.0 / seconds);
      d.fractions.push_back(work_.decode_bytes(d.depth, a_.generate_tokens) / seconds / limit);
    }
    const Decode* const shallow = at_depth_0();
    for (Decode& d : figures_.decodes) {
      d.tps_over_first.push_back(d.tps.back() / figures_.decodes.front().tps.back());
      if (d.depth == 0 || shallow == nullptr) continue;
      const double added = d.seconds.back() - shallow->seconds.back();
      const double bytes = work_.kv_bytes(d.depth, a_.generate_tokens) - work_.kv_bytes(0, a_.generate_tokens);
      if (bytes <= 0.0) continue;  // so many tokens that the window filled from depth 0 as well
      d.added_per_layer.push_back(added / static_cast<double>(info_.config.n_layers));
      d.over_read_time.push_back(added / (bytes / limit));
    }
    const auto [peak, seconds] = between([&] { return peak_of(info_, threads_); }, [&] { return prefill(); });
    const double rate = work_.operations(a_.prompt_tokens, 1) / seconds;
    figures_.peaks.push_back(peak);
    figures_.prefill_tps.push_back(static_cast<double>(a_.prompt_tokens) / seconds);
    figures_.prefill_rates.push_back(rate);
    figures_.prefill_fractions.push_back(rate / peak);
    figures_.fp32_peaks.push_back(bench::fp32_peak(threads_));
    figures_.bf16_peaks.push_back(bench::bf16_peak(threads_));
    figures_.int8_peaks.push_back(bench::int8_peak(threads_));
  }

  const Decode* at_depth_0() const {
    for (const Decode& d : figures_.decodes) {
      if (d.depth == 0) return &d;
    }
    return nullptr;
  }

  void batch() {
    const auto count = static_cast<double>(a_.sequences);
    for (std::size_t i = 0; i < a_.repeats; ++i) {
      const auto measure = [&] { return peak_of(info_, threads_); };
      const auto [peak, seconds] = between(measure, [&] { return bare_forward(); });
      figures_.batch_tps.push_back(count / seconds);
      figures_.batch_fractions.push_back(work_.operations(a_.sequences, a_.sequences) / seconds / peak);
      if (!a_.scheduler) continue;
      const auto [other_peak, step] = between(measure, [&] { return scheduled_forward(); });
      figures_.scheduler_tps.push_back(count / step);
      figures_.scheduler_fractions.push_back(work_.operations(a_.sequences, a_.sequences) / step / other_peak);
      figures_.scheduler_over_forward.push_back(seconds / step);
    }
  }

  // Seconds of a forward of a row of each sequence. Here as below, the first isn't counted, and caches are made for
  // each run: those of both at once may be more than there is memory for.
  double bare_forward() {
    const auto rows = model_.rows(a_.sequences);
    const auto forward = [&] { rows->forward(std::span(tokens_).first(a_.sequences)); };
    forward();
    return seconds_each(forward);
  }

  // Seconds of a step of a SessionBatch in which each sequence decodes a token, its choice included.
  double scheduled_forward() {
    const auto batch = model_.batch({.max_sequences = a_.sequences, .token_budget = a_.sequences});
    for (const TokenId token : std::span(tokens_).first(a_.sequences)) {
      batch->add({.prompt = {token}, .options = {.max_tokens = timed_forwards + 2}});
    }
    batch->step();  // the prompts
    const double seconds = seconds_each([&] { batch->step(); });
    while (!batch->empty()) {
      for (const BatchResult& result : batch->step()) {
        if (result.error) std::rethrow_exception(result.error);
      }
    }
    return seconds;
  }

  static constexpr std::size_t timed_forwards = 4;

  template <class Forward>
  static double seconds_each(const Forward& forward) {
    const double begin = bench::seconds();
    for (std::size_t i = 0; i < timed_forwards; ++i) forward();
    return (bench::seconds() - begin) / static_cast<double>(timed_forwards);
  }

  const ModelInfo& info_;
  const BenchArguments& a_;
  std::size_t threads_;
  const AnyModel& model_;
  Work work_;
  std::vector<TokenId> tokens_;
  std::vector<std::unique_ptr<AnySession>> sessions_;  // of each depth
  Figures figures_;
};

nlohmann::ordered_json json_of(const ModelInfo& info, const BenchArguments& a, std::size_t threads, const Figures& f) {
  const Work work(info);
  const auto decode_json = [&](const Decode& d) {
    nlohmann::ordered_json out = {
        {"depth", d.depth},
        {"decode_tps", to_json(d.tps)},
        {"decode_bytes_per_second", spread(d.tps).median * work.decode_bytes(d.depth, a.generate_tokens)},
        {"decode_fraction_of_bandwidth", to_json(d.fractions)},
        {"decode_tps_over_first", to_json(d.tps_over_first)},
        {"read_bandwidth", to_json(f.bandwidths)},
        {"kv_bytes_seen", work.kv_bytes(d.depth, a.generate_tokens)},
        {"resident_growth_bytes", f.resident_growth}};
    if (!d.over_read_time.empty()) {
      out["attention_seconds_per_layer"] = to_json(d.added_per_layer);
      out["attention_over_read_time"] = to_json(d.over_read_time);
    }
    if (a.generate_tokens >= d.tenths_tps.size()) {
      for (const auto& tenth : d.tenths_tps) out["tenths_tps"].push_back(spread(tenth).median);
    }
    return out;
  };
  const Decode& first = f.decodes.front();
  nlohmann::ordered_json out = {{"config", a.config},
                                {"weights", std::string(info.weights)},
                                {"kv", std::string(info.kv)},
                                {"window_size", info.config.window_size},
                                {"context_len", info.config.context_len},
                                {"threads", threads},
                                {"repeats", a.repeats},
                                {"prompt_tokens", a.prompt_tokens},
                                {"generate_tokens", a.generate_tokens},
                                {"prefill_tps", to_json(f.prefill_tps)},
                                {"prefill_operations_per_second", spread(f.prefill_rates).median},
                                {"prefill_fraction_of_peak", to_json(f.prefill_fractions)}};
  out.update(decode_json(first));  // of the first depth
  for (const Decode& d : f.decodes) out["depths"].push_back(decode_json(d));
  if (a.sequences > 0) {
    out["sequences"] = a.sequences;
    out["batch_tps"] = to_json(f.batch_tps);
    out["batch_fraction_of_peak"] = to_json(f.batch_fractions);
  }
  if (a.scheduler) {
    out["scheduler_tps"] = to_json(f.scheduler_tps);
    out["scheduler_fraction_of_peak"] = to_json(f.scheduler_fractions);
    out["scheduler_over_forward"] = to_json(f.scheduler_over_forward);
  }
  out["limits"] = {{"read_bandwidth", to_json(f.bandwidths)},
                   {"fp32_peak", to_json(f.fp32_peaks)},
                   {"bf16_peak", to_json(f.bf16_peaks)},
                   {"int8_peak", to_json(f.int8_peaks)},
                   {"prefill_peak", std::string(peak_name(info)) + "_peak"}};
  out["peak_rss_bytes"] = f.peak_rss_bytes;
  out["weight_bytes"] = info.weight_bytes;
  out["kv_cache_bytes"] = info.cache_bytes;
  out["kv_cache_resident_bytes"] = f.cache_resident_bytes;
  out["workspace_bytes"] = info.workspace_bytes;
  return out;
}

std::string text_of(const ModelInfo& info, const BenchArguments& a, std::size_t threads, const Figures& f) {
  const Work work(info);
  const auto rate_line = [](const std::string& what, const Spread& tps, double rate, const char* unit) {
    return format("  %-24s %9.2f tokens/s (%.2f ... %.2f)   %7.1f %s\n", what.c_str(), tps.median, tps.min, tps.max,
                  rate / 1e9, unit);
  };
  const auto limit_line = [](const std::string& what, double limit, const char* unit, const Spread& fraction) {
    return format("    %-22s %9.1f %s: %.1f%% of it (%.1f ... %.1f)\n", what.c_str(), limit / 1e9, unit,
                  100.0 * fraction.median, 100.0 * fraction.min, 100.0 * fraction.max);
  };
  std::string text = format("%s, weights %.*s, cache %.*s, %zu threads, medians of %zu repeats (least ... greatest)\n",
                            printable(a.config, 100).c_str(), static_cast<int>(info.weights.size()),
                            info.weights.data(), static_cast<int>(info.kv.size()), info.kv.data(), threads, a.repeats);
  const std::string peak = std::string("peak of ") + peak_name(info);
  text += rate_line("prefill of " + std::to_string(a.prompt_tokens) + " tokens", spread(f.prefill_tps),
                    spread(f.prefill_rates).median, "GOP/s");
  text += limit_line(peak, spread(f.peaks).median, "GOP/s", spread(f.prefill_fractions));
  for (const Decode& d : f.decodes) {
    const Spread tps = spread(d.tps);
    text += rate_line("decode at depth " + std::to_string(d.depth), tps,
                      tps.median * work.decode_bytes(d.depth, a.generate_tokens), "GB/s");
    text += limit_line("read bandwidth", spread(f.bandwidths).median, "GB/s", spread(d.fractions));
    if (&d != &f.decodes.front()) {
      const Spread over = spread(d.tps_over_first);
      text += format("    tokens/s over those at depth %zu: %.3f (%.3f ... %.3f)\n", f.decodes.front().depth,
                     over.median, over.min, over.max);
    }
    if (!d.over_read_time.empty()) {
      const Spread over = spread(d.over_read_time);
      text += format(
          "    the depth adds %.0f us to a layer: %.2f of the time to read its keys and values (%.2f ... %.2f)\n",
          1e6 * spread(d.added_per_layer).median, over.median, over.min, over.max);
    }
    if (a.generate_tokens >= 1000) {
      text += "    tokens/s by tenths:";
      for (const auto& tenth : d.tenths_tps) text += format(" %.0f", spread(tenth).median);
      text += format("; resident memory grew by %s after the first\n", bytes_text(f.resident_growth).c_str());
    }
  }
  if (a.sequences > 0) {
    const auto lines = [&](const std::string& what, const Spread& tps, const Spread& fractions) {
      const double each = work.operations(a.sequences, a.sequences) / static_cast<double>(a.sequences);
      text += rate_line(what, tps, tps.median * each, "GOP/s");
      text += limit_line(peak, spread(f.peaks).median, "GOP/s", fractions);
    };
    lines("a row of " + std::to_string(a.sequences) + " sequences", spread(f.batch_tps), spread(f.batch_fractions));
    if (a.scheduler) {
      lines("through the scheduler", spread(f.scheduler_tps), spread(f.scheduler_fractions));
      const Spread over = spread(f.scheduler_over_forward);
      text += format("    tokens/s over those of the bare forward: %.3f (%.3f ... %.3f)\n", over.median, over.min,
                     over.max);
    }
  }
  text += "  memory: weights " + bytes_text(info.weight_bytes) + ", cache " + bytes_text(info.cache_bytes) +
          " (resident " + bytes_text(f.cache_resident_bytes) + "), workspace " + bytes_text(info.workspace_bytes) +
          "; peak resident " + bytes_text(f.peak_rss_bytes) + "\n";
  return text;
}

// The type whose shape is timed: of a config's name, or of a checkpoint.
ModelChoice choice_of(const BenchArguments& a) {
  const Use use = a.finetune ? Use::train_adapter : Use::inference;
  const auto config = config_named(a.config);
  if (!config) {
    if (!path_exists(a.config)) {
      throw UsageError("--config: expected a checkpoint, or one of " + config_names_text() + ", got '" +
                       printable(a.config, 100) + "'" + did_you_mean(a.config, config_names()));
    }
    ModelArguments model;
    model.folder = a.config;
    model.weights = a.weights;
    model.kv = a.kv;
    model.window = a.window;
    return choice_of(model, use);
  }
  ModelChoice choice;
  choice.config = *config;
  if (a.window) choice.config.window_size = *a.window;
  if (!a.weights.empty()) choice.weights = format_named(a.weights, "--weights");
  choice.kv = !a.kv.empty() ? a.kv : choice.weights == "F32" ? "float" : "bf16";
  choice.adapters = choice.trains = a.finetune;
  return choice;
}

}  // namespace

void run_bench(const BenchArguments& a) {
  const AnyModelType& type = compiled_type(choice_of(a));
  const ModelInfo& info = type.info();
  if (a.finetune) return run_bench_finetune(type, a);
  if (a.lookup > 0) return run_bench_lookup(type, a);
  const std::size_t deepest = *std::max_element(a.depths.begin(), a.depths.end());
  const std::size_t most = std::max(a.prompt_tokens, deepest + a.generate_tokens);
  if (info.config.window_size == 0 && most > info.config.context_len) {
    throw UsageError("--depth, --prompt-tokens: expected at most " + std::to_string(info.config.context_len) +
                     " tokens in all for a model without a window, got " + std::to_string(most));
  }
  check_memory(info, a);
  const std::size_t threads = a.threads != 0 ? a.threads : std::max(1u, std::thread::hardware_concurrency());
  const Threads limit(threads);
  std::unique_ptr<AnyModel> model;
  {
    const Progress progress("making random weights for " + a.config + " ...");
    model = type.random(1);
  }
  const Figures figures = Bench(info, a, threads, *model).run();
  print(a.json ? json_text(json_of(info, a, threads, figures), 2) : text_of(info, a, threads, figures));
}

}  // namespace mistral::tool
