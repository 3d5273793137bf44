// SPDX-License-Identifier: Apache-2.0
// What generate keeps on the disk, and what it drafts from the text: with the model that the project holds.
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tool.hpp"

using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using nlohmann::json;

namespace {

const std::string breeze = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";  // a window of 64
const std::string beginning = "And it came to pass in those days, that the king of the land said unto his servants";

Run generate(const std::string& prompt, const std::vector<std::string>& more, const std::string& model = breeze) {
  std::vector<std::string> arguments{"generate", "--model", model, "--prompt", prompt, "--temperature", "0"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_tool(arguments);
}

json made(const std::string& prompt, std::vector<std::string> more) {
  more.push_back("--json");
  const Run run = generate(prompt, more);
  CAPTURE(run.err);
  REQUIRE(run.exit_code == 0);
  CHECK(run.err == "");
  return json::parse(run.out);
}

}  // namespace

TEST_CASE("generate goes on from what another process has read, and says the same as one that reads it all") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string state = scratch.path("state");
  const auto run = [&](const std::string& prompt, const std::string& tokens) {
    const json with = made(prompt, {"--max-tokens", tokens, "--state", state});
    const json without = made(prompt, {"--max-tokens", tokens});
    CHECK(with["tokens"] == without["tokens"]);
    CHECK(with["text"] == without["text"]);
    CHECK(!without.contains("state_tokens"));
    return std::pair{with["state_tokens"].get<std::size_t>(), with["prompt_tokens"].size()};
  };
  const auto [none, first] = run(beginning, "0");  // keeps the prompt
  CHECK(none == 0);
  CHECK(run(beginning + ", and spake", "90").first == first);  // goes on, and past the window
  // The same prompt again: the answer is taken back, across the wrap, and the prompt's last token.
  const auto [again, longer] = run(beginning + ", and spake", "30");
  CHECK(again == longer - 1);
  CHECK(run(beginning + ", and spake", "400").first == longer - 1);
  // More than a session with a window can be rolled back by: it begins anew.
  CHECK(run(beginning, "5").first == 0);
  CHECK(run("Another", "5").first == 1);  // BOS
}

TEST_CASE("generate refuses a state that is cut, damaged, or of another model in a line, and leaves it there") {
  if (mistral::test::tool_path() == nullptr) return;
  const Scratch scratch;
  const std::string state = scratch.path("state");
  made(beginning, {"--max-tokens", "3", "--state", state});
  const std::string good = scratch.read("state");
  const auto error = [&](const std::string& bytes) {
    scratch.write("state", bytes);
    const Run run = generate(beginning, {"--state", state});
    CHECK(run.exit_code == 1);
    CHECK(run.out == "");
    CHECK(run.err.find('\n') == run.err.size() - 1);
    CHECK(scratch.read("state") == bytes);
    return run.err;
  };
  const std::string prefix = "mistral: error: [state] " + state + ": ";
  CHECK(error("") == prefix + "the file is empty\n");
  CHECK(error("no state") == prefix + "the file: expected at least 32 bytes, got 8\n");
  CHECK(error(good.substr(0, good.size() - 1)).starts_with(prefix + "the file: expected "));
  std::string damaged = good;
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  CHECK(error(damaged).starts_with(prefix + "ring 15: the checksum: expected "));
  scratch.write("state", good);
  CHECK(generate(beginning, {"--state", scratch.path("no/such/folder")}).err ==
        "mistral: error: [state] " + scratch.path("no/such/folder") + ": cannot write: No such file or directory\n");
}

TEST_CASE("generate says the same with drafts from the text, and how many were right") {
  if (mistral::test::tool_path() == nullptr) return;
  const json plain = made(beginning, {"--max-tokens", "200"});
  CHECK(!plain.contains("lookup"));
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{{"--lookup"}, {"--lookup", "4"}}) {
    std::vector<std::string> options{"--max-tokens", "200"};
    options.insert(options.end(), more.begin(), more.end());
    const json drafted = made(beginning, options);
    CHECK(drafted["tokens"] == plain["tokens"]);
    const json& counts = drafted["lookup"];
    const auto forwards = counts["forwards"].get<int>(), accepted = counts["accepted"].get<int>(),
               all = counts["drafted"].get<int>();
    CHECK(forwards + accepted == 199);  // the last token doesn't go through the model
    CHECK(accepted > 50);
    CHECK(accepted <= all);
    CHECK(counts["acceptance"].get<double>() == doctest::Approx(static_cast<double>(accepted) / all));
  }
  const std::vector<std::string> drawn{"--max-tokens", "120", "--temperature", "0.8", "--seed", "11"};
  std::vector<std::string> with = drawn;
  with.push_back("--lookup");
  CHECK(generate(beginning, with).out == generate(beginning, drawn).out);
  for (const char* const wrong : {"0", "4097", "-1", "x"}) {
    CAPTURE(wrong);
    const Run run = generate(beginning, {std::string("--lookup=") + wrong});
    CHECK(run.exit_code == 2);
    CHECK(run.err.find("--lookup") != std::string::npos);
  }
}
