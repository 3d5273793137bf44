// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/io/os/memory.hpp>

#include "tool.hpp"

using mistral::test::Run;
using mistral::test::run_tool;
using nlohmann::json;

namespace {

Run bench(const std::vector<std::string>& options) {
  std::vector<std::string> arguments{"bench", "--prompt-tokens", "8", "--repeats", "1", "--threads", "1"};
  arguments.insert(arguments.end(), options.begin(), options.end());
  return run_tool(arguments);
}

}  // namespace

TEST_CASE("bench times the decode from several depths, and a batch, and says what they took") {
  if (mistral::test::tool_path() == nullptr) return;
  const Run run = bench({"--config", "stories-260k", "--weights", "f32", "--window", "64", "--generate-tokens", "20",
                         "--depth", "64,1000000", "--sequences", "3", "--scheduler", "--json"});
  CHECK(run.exit_code == 0);
  CHECK(run.err == "");
  const json made = json::parse(run.out);
  for (const char* const key :
       {"prefill_tps", "decode_tps", "decode_fraction_of_bandwidth", "prefill_fraction_of_peak", "batch_tps",
        "batch_fraction_of_peak", "scheduler_tps", "scheduler_fraction_of_peak", "scheduler_over_forward"}) {
    CAPTURE(key);
    CHECK(made[key]["median"].get<double>() > 0.0);
    CHECK(made[key]["min"] == made[key]["max"]);  // of one repeat
  }
  for (const char* const limit : {"read_bandwidth", "fp32_peak"}) {
    CHECK(made["limits"][limit]["median"].get<double>() > 1e8);
  }
  CHECK(made["depth"] == 64);
  CHECK(made["sequences"] == 3);
  CHECK(made["kv_cache_bytes"] == 2 * 5 * 4 * 8 * 64 * 4);
  CHECK(made["peak_rss_bytes"].get<double>() > made["weight_bytes"].get<double>());
  REQUIRE(made["depths"].size() == 3);
  for (const std::size_t i : {0u, 1u, 2u}) {
    const json& depth = made["depths"][i];
    CHECK(depth["depth"] == std::vector<int>{64, 1'000'000, 0}[i]);  // the last to know what the others add
    CHECK(depth["tenths_tps"].size() == 10);
    // a window that is full, or the 11 tokens halfway from depth 0
    CHECK(depth["kv_bytes_seen"] == made["kv_cache_bytes"].get<double>() * (i < 2 ? 1.0 : 11.0 / 64.0));
    CHECK(depth.contains("attention_over_read_time") == (i < 2));
  }
  CHECK(made["depths"][0]["decode_tps_over_first"]["median"] == 1.0);
}

TEST_CASE("bench reads like this") {
  if (mistral::test::tool_path() == nullptr) return;
  const Run run = bench({"--config", "tiny", "--weights", "f32", "--generate-tokens", "1000"});
  CHECK(run.exit_code == 0);
  CHECK(run.out.starts_with(
      "tiny, weights F32, cache float, 1 threads, medians of 1 repeats (least ... greatest)\n  prefill of 8 tokens "));
  for (const char* const part : {"peak of fp32 ", "decode at depth 0 ", "read bandwidth ", "of it (",
                                 "tokens/s by tenths: ", "resident memory grew by ", "peak resident "}) {
    CAPTURE(part);
    CHECK(run.out.find(part) != std::string::npos);
  }
}

TEST_CASE("bench times steps of training, and says the memory that they take") {
  if (mistral::test::tool_path() == nullptr) return;
  const Run run = bench({"--config", "stories-260k", "--finetune", "--rank", "4", "--sequences", "2", "--json"});
  CHECK(run.exit_code == 0);
  CHECK(run.err == "");
  const json made = json::parse(run.out);
  CHECK(made["sequences"] == 2);
  CHECK(made["sequence_tokens"] == 8);
  // rank x (inputs + outputs) of each matrix: dim 64, 32 key and value outputs, 172 hidden, 512 tokens, 5 layers
  CHECK(made["trained_parameters"] == 4 * (5 * (2 * 128 + 2 * 96 + 3 * 236) + 576));
  CHECK(made["finetune_tps"]["median"].get<double>() > 0.0);
  CHECK(made["finetune_fraction_of_peak"]["median"].get<double>() > 0.0);
  CHECK(made["finetune_fraction_of_peak"]["median"].get<double>() < 1.0);
  CHECK(made["limits"]["fp32_peak"]["median"].get<double>() > 1e8);
  CHECK(made["peak_rss_bytes"].get<double>() > made["weight_bytes"].get<double>());
}

TEST_CASE("bench times an answer that repeats its prompt with drafts and without, and says what was accepted") {
  if (mistral::test::tool_path() == nullptr) return;
  const std::vector<std::string> options{"bench", "--config", "tiny", "--prompt-tokens", "200", "--generate-tokens",
                                         "180",   "--lookup", "5",    "--repeats",       "1",   "--threads",
                                         "1"};
  std::vector<std::string> with_json = options;
  with_json.push_back("--json");
  const json made = json::parse(run_tool(with_json).out);
  CHECK(made["answer_tokens"] == 180);
  CHECK(made["answer_is_given"] == true);
  CHECK(made["draft_tokens"] == 5);
  CHECK(made["edits"].get<int>() > 0);
  CHECK(made["forwards"].get<int>() + made["accepted"].get<int>() == 180);
  CHECK(made["accepted"].get<int>() > 100);
  CHECK(made["drafted"].get<int>() > made["accepted"].get<int>());
  const double ratio = made["lookup_tps"]["median"].get<double>() / made["plain_tps"]["median"].get<double>();
  CHECK(made["lookup_over_plain"]["median"].get<double>() == doctest::Approx(ratio));
  const Run text = run_tool(options);
  CHECK(text.exit_code == 0);
  CHECK(text.out.find("Its tokens are given, for random weights edit nothing") != std::string::npos);
}

TEST_CASE("bench refuses what a model doesn't hold") {
  if (mistral::test::tool_path() == nullptr) return;
  const auto error_of = [](const std::vector<std::string>& options) {
    const Run run = bench(options);
    CHECK(run.exit_code == 2);
    CHECK(run.out == "");
    return run.err;
  };
  CHECK(
      error_of({"--config", "stories-260k", "--depth", "10,500"}) ==
      "mistral: error: --depth, --prompt-tokens: expected at most 512 tokens in all for a model without a window, got "
      "564 (see: mistral bench --help)\n");
  CHECK(error_of({"--config", "tiny", "--weights", "q1_0"})
            .starts_with("mistral: error: --weights: expected one of F32, F16, BF16, Q8_0, "));
  CHECK(error_of({"--config", "tinny"})
            .starts_with("mistral: error: --config: expected a checkpoint, or one of mistral-7b-v0.1, "));
  CHECK(error_of({"--config", "tiny", "--depth", "8,x"}).starts_with("mistral: error: --depth: "));
  CHECK(
      error_of({"--config", "stories-260k", "--rank", "8"}).starts_with("mistral: error: --rank requires --finetune"));
  CHECK(error_of({"--config", "tiny", "--scheduler"}).starts_with("mistral: error: --scheduler requires --sequences"));
  CHECK(error_of({"--config", "tiny", "--sequences", "0"}).starts_with("mistral: error: --sequences: "));
}

TEST_CASE("bench refuses what doesn't fit in memory, and says what it needs") {
  if (mistral::test::tool_path() == nullptr) return;
  const auto available = mistral::available_memory();
  if (!available || *available > 100'000'000'000) {
    std::fprintf(stderr, "SKIPPED: bench's need of memory: the system doesn't say what there is, or has too much\n");
    return;
  }
  std::string depths = "0";
  for (int i = 1; i < 60'000; ++i) depths += ",0";  // some 2 MB each
  const Run run = bench({"--config", "stories-260k", "--depth", depths});
  CHECK(run.exit_code == 1);
  CHECK(run.out == "");
  CHECK(run.err.starts_with("mistral: error: [memory] stories-260k: the weights, caches for 60000 depths, "));
  CHECK(run.err.find(" bytes of memory, got ") != std::string::npos);
  CHECK(run.err.ends_with(" needed\n"));
}
