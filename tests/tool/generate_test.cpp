// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "../support/golden.hpp"
#include "tool.hpp"

using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using nlohmann::json;

namespace {

// A checkpoint with trained weights, what is expected of it, and a tool to run it.
struct Stories {
  std::string folder = mistral::test::stories();
  json expected;
  bool missing = mistral::test::tool_path() == nullptr || folder.empty();

  Stories() {
    if (!missing) expected = mistral::test::expected_json(std::filesystem::path(folder).parent_path());
  }

  std::vector<std::string> greedy(const std::string& prompt) const { return greedy(prompt, folder); }
  static std::vector<std::string> greedy(const std::string& prompt, const std::string& model) {
    return {"generate", "--model", model, "--prompt", prompt, "--temperature", "0", "--max-tokens", "160"};
  }
};

std::vector<std::string> with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

json json_of(const Run& run) {
  REQUIRE(run.exit_code == 0);
  CHECK(run.err == "");
  REQUIRE(run.out.ends_with('\n'));
  return json::parse(run.out);
}

}  // namespace

TEST_CASE("generate gives the golden tokens, and its output is the golden text and a newline") {
  const Stories stories;
  if (stories.missing) return;
  REQUIRE(stories.expected["prompts"].size() == 5);
  for (const json& golden : stories.expected["prompts"]) {
    const auto prompt = golden["prompt"].get<std::string>();
    const auto text = golden["text"].get<std::string>();
    CAPTURE(prompt);
    REQUIRE(text.starts_with(prompt));
    const Run run = run_tool(stories.greedy(prompt));
    CHECK(run.exit_code == 0);
    CHECK(run.err == "");
    CHECK(run.out == text.substr(prompt.size()) + "\n");

    const json made = json_of(run_tool(with(stories.greedy(prompt), {"--json"})));
    CHECK(made["prompt_tokens"] == golden["prompt_ids"]);
    CHECK(made["tokens"] == golden["greedy_ids"]);
    CHECK(made["text"] == text.substr(prompt.size()));
    CHECK(made["stop_reason"] == "max_tokens");
    CHECK(made["weights"] == "F32");
    CHECK(made["kv"] == "float");
    CHECK(made["cache_bytes"] == 2 * 5 * 4 * 8 * 512 * 4);
    CHECK(made["wraps"] == 0);
    CHECK(made["decode_tokens_per_second"].get<double>() > 0.0);
  }
}

TEST_CASE("generate goes by another window where one is asked for, and where the checkpoint says so") {
  const Stories stories;
  if (stories.missing) return;
  const Scratch scratch;
  std::filesystem::copy(stories.folder, scratch.path("w24"));
  json config = json::parse(scratch.read("w24/config.json"));
  config["sliding_window"] = 24;
  scratch.write("w24/config.json", config.dump());

  for (const json& golden : stories.expected["prompts"]) {
    const auto prompt = golden["prompt"].get<std::string>();
    CAPTURE(prompt);
    const json named = json_of(run_tool(with(stories.greedy(prompt), {"--json", "--window", "24"})));
    CHECK(named["tokens"] == golden["window24_greedy_ids"]);
    CHECK(named["cache_bytes"] == 2 * 5 * 4 * 8 * 24 * 4);
    CHECK(named["wraps"] == (golden["prompt_ids"].size() + 159) / 24);
    const json said = json_of(run_tool(with(Stories::greedy(prompt, scratch.path("w24")), {"--json"})));
    CHECK(said["cache_bytes"] == named["cache_bytes"]);
    CHECK(said["tokens"] == golden["window24_greedy_ids"]);
  }
}

TEST_CASE("generate runs a bf16 checkpoint") {
  const Stories stories;
  const std::string folder = mistral::test::golden("stories260k/hf_bf16").string();
  if (stories.missing || folder.empty()) return;
  for (const json& golden : stories.expected["prompts"]) {
    const auto prompt = golden["prompt"].get<std::string>();
    const json made = json_of(run_tool(with(Stories::greedy(prompt, folder), {"--json", "--exact"})));
    CHECK(made["tokens"] == golden["bf16_weights_greedy_ids"]);
  }
}

TEST_CASE("a prompt comes from the command line, a file, or standard input, less one newline") {
  const Stories stories;
  if (stories.missing) return;
  const Scratch scratch;
  const std::vector<std::string> common{"generate",     "--model", stories.folder, "--temperature", "0",
                                        "--max-tokens", "4",       "--json"};
  const auto ids = [&](const std::vector<std::string>& more, const std::string& in = {}) {
    return json_of(run_tool(with(common, more), {.in = in}))["prompt_tokens"].dump();
  };
  const std::string expected = ids({"--prompt", "Once upon"});
  CHECK(ids({}, "Once upon\n") == expected);
  CHECK(ids({"--prompt-file", "-"}, "Once upon") == expected);
  CHECK(ids({"--prompt-file", scratch.write("prompt", "Once upon\n")}) == expected);
  CHECK(ids({"--prompt-file", scratch.write("prompt", "Once upon\n\n")}) == ids({"--prompt", "Once upon\n"}));
  CHECK(ids({"--prompt", ""}) == "[1]");
  CHECK(ids({"--prompt="}) == "[1]");
  CHECK(ids({}, "") == "[1]");
  CHECK(ids({"--prompt", "--json"}) == ids({}, "--json"));
  CHECK(ids({"--prompt", "[a,b]"}) == ids({}, "[a,b]"));
  REQUIRE(expected.starts_with("[1,"));
  CHECK(ids({"--prompt", "Once upon", "--no-bos"}) == "[" + expected.substr(3));
}

TEST_CASE(
    "a prompt's file of Windows is the prompt that it is elsewhere, and what the command line says is taken as it is") {
  const Stories stories;
  if (stories.missing) return;
  const Scratch scratch;
  const std::vector<std::string> common{"generate",     "--model", stories.folder, "--temperature", "0",
                                        "--max-tokens", "2",       "--json"};
  const auto ids = [&](const std::vector<std::string>& more, const std::string& in = {}) {
    return json_of(run_tool(with(common, more), {.in = in}))["prompt_tokens"].dump();
  };
  const std::string one = ids({"--prompt", "Once upon"}), two = ids({"--prompt", "Once\nupon\n"});
  CHECK(ids({"--prompt-file", scratch.write("p", "Once upon\r\n")}) == one);
  CHECK(ids({"--prompt-file", scratch.write("p", "\xef\xbb\xbfOnce upon")}) == one);
  CHECK(ids({"--prompt-file", scratch.write("p", "\xef\xbb\xbfOnce\r\nupon\r\n\r\n")}) == two);
  CHECK(ids({}, "Once\r\nupon\r\n\r\n") == two);
  const std::string lone = ids({"--prompt", "Once\rupon\r"});
  CHECK(ids({}, "Once\rupon\r") == lone);  // a lone CR ends no line
  CHECK(ids({}, "Once\rupon\r\r\n") == lone);
  CHECK(ids({"--prompt", "Once\r\nupon"}) != ids({"--prompt", "Once\nupon"}));
  const Run wide = run_tool(with(common, {}), {.in = "\xff\xfe"
                                                     "O"});
  CHECK(wide.exit_code == 1);
  CHECK(wide.err ==
        "mistral: error: [prompt] standard input: expected a text in UTF-8, got one in UTF-16; save it as UTF-8\n");
}

TEST_CASE("control pieces in a prompt stay text with a warning, or become control tokens where that is asked for") {
  const Stories stories;
  if (stories.missing) return;
  const std::vector<std::string> command{"generate",     "--model", stories.folder, "--temperature", "0",
                                         "--max-tokens", "1",       "--json"};
  const std::string prompt = "<s> a question</s>";
  const Run run = run_tool(with(command, {"--prompt", prompt}));
  CHECK(run.exit_code == 0);
  CHECK(run.err ==
        "mistral: warning: the text holds </s>, <s> as text, not as control tokens; --parse-special makes them that\n");
  const json as_text = json::parse(run.out)["prompt_tokens"];
  CHECK(std::count(as_text.begin(), as_text.end(), 1) == 1);
  const json special = json_of(run_tool(with(command, {"--prompt", prompt, "--parse-special"})));
  json wanted = json_of(run_tool(with(command, {"--prompt", "a question"})))["prompt_tokens"];
  wanted.push_back(2);
  CHECK(special["prompt_tokens"] == wanted);
  CHECK(json_of(run_tool(with(command, {"--prompt", prompt, "--parse-special", "--no-bos"})))["prompt_tokens"] ==
        wanted);
  // what is no control piece of the tokenizer is text without a word: v1 has [INST] so
  CHECK(run_tool(with(command, {"--prompt", "[INST] a question [/INST] <|im_start|>"})).err == "");

  const std::string ids =
      json_of(run_tool({"tokenize", "--model", stories.folder, "--text", prompt, "--bos", "--parse-special", "--json"}))
          .dump();
  CHECK(ids == wanted.dump());
  const Run perplexity = run_tool({"perplexity", "--model", stories.folder, "--text", "<s> a question"});
  CHECK(perplexity.exit_code == 0);
  CHECK(perplexity.err.starts_with("mistral: warning: the text holds <s> as text, "));
  CHECK(run_tool({"perplexity", "--model", stories.folder, "--text", "<s> a question", "--parse-special"}).err == "");
}

TEST_CASE("with a tokenizer of v3 a prompt with --parse-special has the ids that its template has") {
  const Stories stories;
  const std::string v3 = mistral::test::golden("tokenizer/mistral_v3.model").string();
  if (stories.missing || v3.empty()) return;
  const Run chat = run_tool({"tokenize", "--tokenizer", v3, "--chat", "-"},
                            {.in = R"({"messages": [{"role": "user", "content": "a question"}]})"});
  const Run text = run_tool(
      {"tokenize", "--tokenizer", v3, "--text", "[INST] a question [/INST]", "--bos", "--parse-special", "--json"});
  CHECK(chat.exit_code == 0);
  CHECK(json::parse(text.out) == json::parse(chat.out));
}

TEST_CASE("generate ends at a stop string, which it doesn't print") {
  const Stories stories;
  if (stories.missing) return;
  const Run run = run_tool(with(stories.greedy(""), {"--stop", "[there]", "--stop", " little"}));
  CHECK(run.exit_code == 0);
  CHECK(run.out == "Once upon a time, there was a\n");
  const json made = json_of(run_tool(with(stories.greedy(""), {"--stop", " little", "--json"})));
  CHECK(made["stop_reason"] == "stop_string");
  CHECK(made["text"] == "Once upon a time, there was a");
}

TEST_CASE("a model without a window stops at its context, and one with a window goes on") {
  const Stories stories;
  if (stories.missing) return;
  const std::vector<std::string> common{"generate",     "--model", stories.folder, "--prompt", "", "--temperature", "0",
                                        "--max-tokens", "1000",    "--ignore-eos", "--json"};
  const json full = json_of(run_tool(common));
  CHECK(full["stop_reason"] == "context");
  CHECK(full["tokens"].size() == 512);  // the last is chosen from the logits at position 511
  const json window = json_of(run_tool(with(common, {"--window", "24"})));
  CHECK(window["stop_reason"] == "max_tokens");
  CHECK(window["tokens"].size() == 1000);
  CHECK(window["wraps"] == 1000 / 24);
}

TEST_CASE("a seed gives the same text on any number of threads, and no seed another each time") {
  const Stories stories;
  if (stories.missing) return;
  const auto text = [&](const std::vector<std::string>& more) {
    const Run run = run_tool(with({"generate", "--model", stories.folder, "--prompt", "One day", "--max-tokens", "60",
                                   "--temperature", "1.2", "--top-p", "0.95", "--top-k", "100"},
                                  more));
    CHECK(run.exit_code == 0);
    return run.out;
  };
  const std::string one = text({"--seed", "7", "--threads", "1"});
  CHECK(text({"--seed", "7", "--threads", "2"}) == one);
  CHECK(text({"--seed", "7"}) == one);
  CHECK(text({"--seed", "8", "--threads", "1"}) != one);
  CHECK(text({}) != text({}));
}

TEST_CASE("generate says how fast it was where it is asked, on standard error") {
  const Stories stories;
  if (stories.missing) return;
  const Run run = run_tool(with(stories.greedy(""), {"--verbose"}));
  CHECK(run.out.starts_with("Once upon a time"));
  CHECK(run.err.starts_with("prefill: 1 tokens in "));
  CHECK(run.err.find("\ndecode: 159 tokens in ") != std::string::npos);
  CHECK(run.err.find("\ncache: 655.36 kB, wrapped 0 times\n") != std::string::npos);
}

TEST_CASE("a reader that goes away ends generate quietly") {
  const Stories stories;
  if (stories.missing) return;
  const Scratch scratch;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addclose(&actions, ends[0]);
  ::posix_spawn_file_actions_addclose(&actions, ends[1]);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, scratch.path("err").c_str(), O_WRONLY | O_CREAT, 0600);
  const ::pid_t child = mistral::test::start_tool({"generate", "--model", stories.folder, "--window", "24", "--prompt",
                                                   "", "--max-tokens", "1000000000", "--ignore-eos"},
                                                  actions);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  char text[16] = {};
  CHECK(::read(ends[0], text, sizeof text) > 0);
  ::close(ends[0]);
  Run run;
  mistral::test::wait_for(child, run);
  CHECK(run.signal == SIGPIPE);
  CHECK(scratch.read("err") == "");
}

namespace {

// A copy of the checkpoint with other files beside it, and for v3 a tokenizer with the control pieces of tools.
std::string copied(const Scratch& scratch, const std::string& folder) {
  const std::string copy = scratch.path("m");
  std::filesystem::copy(folder, copy);
  return copy;
}

}  // namespace

TEST_CASE("--stop-id ends the text at a token of the caller's, besides the model's own") {
  const Stories stories;
  if (stories.missing) return;
  const json whole = json_of(run_tool(with(stories.greedy("Once upon a time"), {"--json"})));
  const auto tokens = whole["tokens"].get<std::vector<int>>();
  REQUIRE(tokens.size() > 8);
  const int stop = tokens[6];
  const auto first = static_cast<std::size_t>(std::find(tokens.begin(), tokens.end(), stop) - tokens.begin());
  const json cut = json_of(run_tool(
      with(stories.greedy("Once upon a time"), {"--json", "--stop-id", "300", "--stop-id", std::to_string(stop)})));
  CHECK(cut["stop_reason"] == "stop_id");
  CHECK(cut["tokens"].size() <= first);
  const Run bad = run_tool(with(stories.greedy("x"), {"--stop-id", "-1"}));
  CHECK(bad.exit_code == 2);
}

TEST_CASE("the settings that a model comes with are said, and count where they are asked for") {
  const Stories stories;
  if (stories.missing) return;
  const Scratch scratch;
  const std::string model = copied(scratch, stories.folder);
  scratch.write("m/generation_config.json",
                R"({"do_sample": true, "temperature": 0.5, "top_k": 3, "max_new_tokens": 5, "eos_token_id": [2]})");
  const std::vector<std::string> arguments{"generate", "--model", model, "--prompt", "Once", "--seed", "3", "--json"};
  const Run unasked = run_tool(arguments);
  CHECK(unasked.exit_code == 0);
  CHECK(
      unasked.err ==
      "mistral: note: the model comes with do_sample true, temperature 0.5, top_k 3, by which --model-settings goes\n");
  const json asked = json_of(run_tool(with(arguments, {"--model-settings"})));
  CHECK(asked["tokens"].size() == 5);
  CHECK(asked["tokens"] ==
        json::parse(run_tool(with(arguments, {"--temperature", "0.5", "--top-k", "3", "-n", "5"})).out)["tokens"]);
  // what the command line says goes first
  const json given = json_of(run_tool(with(arguments, {"--model-settings", "-n", "7", "--temperature", "0"})));
  CHECK(given["tokens"] == json::parse(run_tool(with(arguments, {"--temperature", "0", "-n", "7"})).out)["tokens"]);
  scratch.write("m/generation_config.json", R"({"num_beams": 4})");
  const Run refused = run_tool(with(arguments, {"--model-settings"}));
  CHECK(refused.exit_code == 1);
  CHECK(refused.err.find("field 'num_beams': expected 1, for others are not supported, got 4") != std::string::npos);
  CHECK(run_tool(arguments).exit_code == 0);
}

TEST_CASE("generate --chat answers a request as the template writes it down") {
  const Stories stories;
  if (stories.missing) return;
  const Scratch scratch;
  const std::string request = scratch.write("r.json", R"({"messages": [{"role": "user",
 "content": "Once upon a time"}]})");
  const std::vector<std::string> arguments{"generate",      "--model", stories.folder, "--chat", request, "--json",
                                           "--temperature", "0",       "-n",           "12"};
  const json made = json_of(run_tool(arguments));
  const Run ids = run_tool({"tokenize", "--model", stories.folder, "--chat", "-"},
                           {.in = R"({"messages": [{"role": "user", "content": "Once upon a time"}]})"});
  CHECK(made["prompt_tokens"] == json::parse(ids.out));
  CHECK(!made.contains("tool_calls"));
  CHECK(made["tokens"].size() <= 12);
  const std::string tools = scratch.write(
      "t.json",
      R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"function": {"name": "f", "parameters": {}}}]})");
  const Run refused = run_tool({"generate", "--model", stories.folder, "--chat", tools});
  CHECK(refused.exit_code == 1);
  CHECK(refused.err == "mistral: error: [chat] tools: expected none, for template v1 has no tools, got some\n");
  CHECK(run_tool({"generate", "--model", stories.folder, "--chat", tools, "--prompt", "x"}).exit_code == 2);
}
