// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "../support/golden.hpp"
#include "tool.hpp"

using mistral::test::Run;
using mistral::test::run_tool;
using nlohmann::json;

TEST_CASE("perplexity prints the golden one") {
  const std::string model = mistral::test::stories();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  const json expected = mistral::test::expected_json(std::filesystem::path(model).parent_path());
  const Run run =
      run_tool({"perplexity", "--model", model, "--text", expected["nll_text"].get<std::string>(), "--json"});
  CHECK(run.exit_code == 0);
  CHECK(run.err == "");
  const json made = json::parse(run.out);
  CHECK(made["weights"] == "F32");
  CHECK(made["tokens"] == expected["nll_ids"].size());
  CHECK(made["targets"] == expected["nll_ids"].size() - 1);
  CHECK(std::abs(made["loss"].get<double>() - expected["nll_mean"].get<double>()) < 1e-4);
  CHECK(std::abs(made["perplexity"].get<double>() - expected["perplexity"].get<double>()) < 2e-4);
  CHECK_FALSE(made.contains("formats"));
}

TEST_CASE("perplexity holds the formats of a config against F32, in a text longer than the context") {
  const std::string model = mistral::test::stories();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  std::string story;
  for (int i = 0; i < 25; ++i)
    story += "Once upon a time, there was a little girl named Lily. She had a big red ball. ";
  const auto perplexity = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {"perplexity", "--model", model, "--file", "-"});
    const Run run = run_tool(options, {.in = story});
    CHECK(run.exit_code == 0);
    CHECK(run.err == "");
    return run.out;
  };
  const json made = json::parse(perplexity({"--against", "bf16", "--json"}));
  REQUIRE(made["formats"].size() == 2);
  const json& f32 = made["formats"][0];
  const json& bf16 = made["formats"][1];
  CHECK(f32["weights"] == "F32");
  CHECK(f32["mean_kl_divergence"] == 0.0);
  CHECK(f32["same_choice"] == 1.0);
  CHECK(f32["perplexity"] == made["perplexity"]);
  CHECK(bf16["weights"] == "BF16");
  CHECK(bf16["kv"] == "float");
  // weights that are off by 2^-9 of themselves: something is lost, and not much
  CHECK(bf16["mean_kl_divergence"].get<double>() > 0.0);
  CHECK(bf16["mean_kl_divergence"].get<double>() < 1e-3);
  CHECK(bf16["same_choice"].get<double>() > 0.9);

  const std::string table = perplexity({"--against", "bf16"});
  CHECK(table.find("\nF32 ") != std::string::npos);
  CHECK(table.find("\nBF16 ") != std::string::npos);
  // a stride of 1 gives each token all the context there is, and so is another figure
  CHECK(made["tokens"].get<int>() > 512);
  CHECK(json::parse(perplexity({"--stride", "100", "--json"}))["loss"] != made["loss"]);
}

TEST_CASE("perplexity says what it can't do") {
  const std::string model = mistral::test::stories();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  const auto check = [&](std::vector<std::string> options, int code, const std::string& message) {
    options.insert(options.begin(), {"perplexity", "--model", model});
    const Run run = run_tool(options);
    CHECK(run.exit_code == code);
    CHECK(run.out == "");
    CHECK(run.err.starts_with("mistral: error: " + message));
    CHECK(run.err.find('\n') == run.err.size() - 1);
  };
  check({"--text", ""}, 1, "[perplexity] the text: expected at least two tokens, got 1\n");
  check({"--text", "a b", "--stride", "0"}, 2, "--stride: expected a whole number of 1 ... ");
  check({"--text", "a b", "--stride", "513"}, 1, "[perplexity] stride: expected at most the context's 512, got 513\n");
  check({"--text", "a b", "--against", "Q1_0"}, 2, "--against: expected all, or some of F32, ");
  check({"--text", "a b", "--against", "q8,"}, 2, "--against: expected all, or some of F32, ");
  check({"--text", "a", "--file", "b"}, 2, "--text excludes --file");
}
