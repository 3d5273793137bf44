// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/io/npy.hpp>

#include "../support/golden.hpp"
#include "tool.hpp"

using namespace mistral;
using test::Run;
using test::run_tool;
using test::Scratch;

namespace {

std::string comma_separated(const std::vector<TokenId>& tokens) {
  std::string text;
  for (const TokenId token : tokens) text.append(text.empty() ? "" : ",").append(std::to_string(token));
  return text;
}

}  // namespace

TEST_CASE("logits writes the golden logits at every position, from both layouts") {
  const auto folder = test::golden("forward/gqa_w8");
  if (test::tool_path() == nullptr || folder.empty()) return;
  const Safetensors expected = Safetensors::open((folder / "expected.safetensors").string());
  const auto tokens = test::tensor_values<TokenId>(expected, "tokens");
  const auto golden = test::tensor_values<float>(expected, "logits_prefill");
  const Scratch scratch;
  for (const char* const layout : {"hf", "mistral"}) {
    CAPTURE(layout);
    const std::string out = scratch.path(std::string(layout) + ".npy");
    const Run run = run_tool(
        {"logits", "--model", (folder / layout).string(), "--tokens", comma_separated(tokens), "--out", out, "--json"});
    CHECK(run.exit_code == 0);
    CHECK(run.err == "");
    const auto json = nlohmann::json::parse(run.out);
    CHECK(json["weights"] == "F32");
    CHECK(json["shape"] == std::vector<std::size_t>{tokens.size(), 97});
    CHECK(json["tokens"] == tokens);
    const NpyMatrix made = read_npy(out);
    CHECK(made.rows == tokens.size());
    CHECK(made.cols == 97);
    CHECK(test::max_error(made.values, golden) < 1e-4f);
  }
}

TEST_CASE("logits are written as write_npy writes them") {
  const std::string model = test::tiny_model();
  if (test::tool_path() == nullptr || model.empty()) return;
  const Scratch scratch;
  REQUIRE(run_tool({"logits", "--model", model, "--tokens", "1,2,3", "--out", scratch.path("tool.npy")}).exit_code ==
          0);
  const NpyMatrix made = read_npy(scratch.path("tool.npy"));
  write_npy(scratch.path("library.npy"), made.values, made.rows, made.cols);
  CHECK(scratch.read("tool.npy") == scratch.read("library.npy"));
}

TEST_CASE("the logits of a long text are the same bits as those of its beginning") {
  const std::string model = test::tiny_model();
  if (test::tool_path() == nullptr || model.empty()) return;
  const Scratch scratch;
  std::vector<TokenId> tokens(3000);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i * i % 97);
  const auto logits_of = [&](std::size_t count) {
    const std::string file =
        scratch.write("tokens", comma_separated({tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count)}));
    const Run run = run_tool({"logits", "--model", model, "--tokens-file", file, "--out", scratch.path("out.npy")});
    CHECK(run.exit_code == 0);
    CHECK(run.out == "");
    return read_npy(scratch.path("out.npy"));
  };
  const NpyMatrix all = logits_of(tokens.size());
  const NpyMatrix some = logits_of(700);
  CHECK(all.rows == 3000);
  REQUIRE(some.rows == 700);
  CHECK(std::memcmp(all.values.data(), some.values.data(), some.values.size() * sizeof(float)) == 0);
}

TEST_CASE("the logits of a text give the golden log-probabilities of what follows it") {
  const std::string model = test::stories();
  if (test::tool_path() == nullptr || model.empty()) return;
  const auto expected = test::expected_json(std::filesystem::path(model).parent_path());
  const Scratch scratch;
  const std::string out = scratch.path("out.npy");
  const Run run = run_tool({"logits", "--model", model, "--prompt-file", "-", "--out", out, "--json"},
                           {.in = expected["nll_text"].get<std::string>() + "\n"});
  REQUIRE(run.exit_code == 0);
  const auto ids = expected["nll_ids"].get<std::vector<TokenId>>();
  CHECK(nlohmann::json::parse(run.out)["tokens"] == ids);
  const NpyMatrix logits = read_npy(out);
  REQUIRE(logits.rows == ids.size());
  double sum = 0.0;
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    sum -= test::log_probability(std::span(logits.values).subspan(i * logits.cols, logits.cols), ids[i + 1]);
  }
  CHECK(std::abs(sum / static_cast<double>(ids.size() - 1) - expected["nll_mean"].get<double>()) < 1e-4);
}

TEST_CASE("logits go to standard output too") {
  const std::string model = test::tiny_model();
  if (test::tool_path() == nullptr || model.empty()) return;
  const Scratch scratch;
  const Run run = run_tool({"logits", "--model", model, "--tokens", "5 6", "--out", "/dev/stdout"});
  CHECK(run.exit_code == 0);
  scratch.write("out.npy", run.out);
  CHECK(read_npy(scratch.path("out.npy")).rows == 2);
}

TEST_CASE("what is interrupted leaves no half of a file behind") {
  const std::string model = test::tiny_model();
  if (test::tool_path() == nullptr || model.empty()) return;
  const Scratch scratch;
  const std::string tokens = scratch.write("tokens", comma_separated(std::vector<TokenId>(2'000'000, 5)));
  const std::string out = scratch.write("out/old.npy", "old");
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  const ::pid_t child =
      test::start_tool({"logits", "--model", model, "--tokens-file", tokens, "--threads", "1", "--out", out}, actions);
  ::posix_spawn_file_actions_destroy(&actions);
  const auto files = [&] {
    using Iterator = std::filesystem::directory_iterator;
    return std::distance(Iterator(scratch.path("out")), Iterator());
  };
  for (int i = 0; files() < 2 && i < 3000; ++i) ::usleep(10'000);
  CHECK(files() == 2);  // the old file, and the one that is being written
  ::kill(child, SIGINT);
  Run run;
  test::wait_for(child, run);
  CHECK(run.signal == SIGINT);
  CHECK(files() == 1);
  CHECK(scratch.read("out/old.npy") == "old");
}

// Checkpoints of shapes that the tool was built without knowing, in each layout and format. All of them take minutes to
// compile: $MISTRAL_TEST_ALL asks for that, else some are tried.
TEST_CASE("a golden checkpoint of any shape and format gives its logits with --exact") {
  const std::filesystem::path data = test::golden("forward/w1").parent_path().parent_path();
  if (test::tool_path() == nullptr || data.empty()) return;
  struct Case {
    std::filesystem::path model, expected;
    const char* logits;
  };
  const char* const dequantized = "logits_prefill_f32_from_dequantized";
  std::vector<Case> cases;
  const auto add_forward = [&](const std::filesystem::path& folder) {
    for (const char* const layout : {"hf", "mistral", "hf_sharded"}) {
      if (!std::filesystem::exists(folder / layout)) continue;
      cases.push_back({folder / layout, folder / "expected.safetensors", "logits_prefill"});
    }
  };
  const auto add_gguf = [&](const std::string& name) {
    cases.push_back({data / "gguf" / (name + ".gguf"), data / "gguf" / (name + ".expected.safetensors"), dequantized});
  };
  if (std::getenv("MISTRAL_TEST_ALL") != nullptr) {
    for (const auto& entry : std::filesystem::directory_iterator(data / "forward")) add_forward(entry.path());
    for (const char* const name : {"gqa_w8_f32", "kmix", "stories260k_q4_0", "stories260k_q8_0"}) add_gguf(name);
  } else {
    add_forward(data / "forward/w1");
    add_gguf("kmix");
  }
  for (const Case& c : cases) {
    CAPTURE(c.model);
    if (!std::filesystem::exists(c.model)) {
      std::fprintf(stderr, "SKIPPED: %s isn't here\n", c.model.c_str());
      continue;
    }
    const Safetensors expected = Safetensors::open(c.expected.string());
    const Scratch scratch;
    const std::string out = scratch.path("logits.npy");
    const Run run = run_tool({"logits", "--model", c.model.string(), "--exact", "--tokens",
                              comma_separated(test::tensor_values<TokenId>(expected, "tokens")), "--out", out});
    CHECK(run.exit_code == 0);
    CHECK_MESSAGE(test::max_error(read_npy(out).values, test::tensor_values<float>(expected, c.logits)) < 1e-4f,
                  run.err);
  }
}
