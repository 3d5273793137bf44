// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <poll.h>
#include <pty.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "../support/clean_message.hpp"
#include "tool.hpp"

namespace {

using mistral::test::is_clean;
using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using mistral::test::stories;

bool missing() { return mistral::test::tool_path() == nullptr || stories().empty(); }

// What drives a terminal, turns text round, ends a line or hides, and a byte that belongs to no character.
const std::string hostile =
    "\x1b[31m\xC2\x9B"
    "2J\xE2\x80\xAE\xE2\x80\xA8\xE2\x80\xA9\xE2\x81\xA6\xE2\x80\x8F\xD8\x9C\xEF\xBB\xBF\xE2\x80\x8B\xF3\xA0\x81\x81\r\n"
    "\xFF";

bool is_clean_line(std::string_view line) { return line.ends_with('\n') && is_clean(line.substr(0, line.size() - 1)); }

// The ids of a text's bytes.
std::string byte_ids(std::string_view text) {
  std::string ids;
  for (const char c : text) ids += std::to_string(3 + static_cast<unsigned char>(c)) + " ";
  return ids;
}

// What the tool shows on a terminal.
std::string on_terminal(const std::vector<std::string>& arguments) {
  int terminal = -1;
  const ::pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  REQUIRE(child >= 0);
  if (child == 0) {
    std::vector<char*> argv{const_cast<char*>("mistral")};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execv(mistral::test::tool_path(), argv.data());
    ::_exit(127);
  }
  std::string shown;
  for (;;) {
    ::pollfd ready{.fd = terminal, .events = POLLIN, .revents = 0};
    char block[4096];
    const auto count = ::poll(&ready, 1, 30'000) == 1 ? ::read(terminal, block, sizeof block) : -1;
    if (count <= 0) break;
    shown.append(block, static_cast<std::size_t>(count));
  }
  Run run;
  mistral::test::wait_for(child, run);
  CHECK(run.exit_code == 0);
  ::close(terminal);
  return shown;
}

}  // namespace

TEST_CASE("no message about a file, a name or an option drives a terminal") {
  if (missing()) return;
  const Scratch scratch;
  const std::string name = hostile.substr(0, hostile.find('\r'));
  const auto check = [&](const std::vector<std::string>& arguments, const std::string& in = "") {
    const Run run = run_tool(arguments, {.in = in});
    CAPTURE(arguments[0]);
    CAPTURE(run.err);
    CHECK(run.exit_code > 0);
    CHECK(is_clean_line(run.err));
    CHECK(run.err.find("2J") != std::string::npos);
  };
  const std::string missing_file = scratch.path(name);
  for (const char* const path : {"--model", "--tokenizer", "--adapter", "--prompt-file"}) {
    std::vector<std::string> arguments{"generate", path, missing_file};
    if (path != std::string_view("--model")) arguments.insert(arguments.end(), {"--model", stories()});
    if (path != std::string_view("--prompt-file")) arguments.insert(arguments.end(), {"--prompt", "a"});
    check(arguments);
  }
  check({hostile});
  check({"compile", hostile});
  check({"compile", "--" + hostile});
  check({"compile", "--config", hostile});
  check({"generate", "--model", stories(), "--prompt", "a", "--top-k", hostile});
  check({"chat", "--model", stories(), "--template=" + hostile});
  check({"generate", "--model", stories(), "--prompt", "a", "--temperature", hostile});
  check({"tokenize", "--model", stories(), "--template", hostile, "--chat", "-"});
  check({"generate", "--model", stories(), "--weights", hostile, "--prompt", "a"});
  check({"quantize", stories(), "--weights", hostile, "--out", scratch.path("x")});
  check({"quantize", stories(), "--weights", "q8_0", "--out", scratch.path("no/" + name)});
  check({"finetune", "--model", stories(), "--data", scratch.write("d", "{\"text\": \"a\"}\n"), "--targets", hostile,
         "--out", scratch.path("x")});
  check({"logits", "--model", stories(), "--tokens", hostile, "--out", scratch.path("x")});
  check({"chat", "--model", stories()}, "/" + name + "\n");
  check({"chat", "--model", stories(), "--load", missing_file});
  check({"tokenize", "--model", stories(), "--chat", scratch.write(name, "{}")});
  const std::string quoted = nlohmann::json(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  scratch.write("model/config.json", "{\"model_type\": " + quoted + "}");
  scratch.write("model/model.safetensors", "x");
  check({"inspect", "--model", scratch.path("model")});
  check({"finetune", "--model", stories(), "--out", scratch.path("x"), "--data",
         scratch.write("fields", "{" + quoted + ": 1}\n")});
  check({"evaluate", "--model", stories(), "--task",
         scratch.write("task",
                       "{\"prompt\": \"a\", \"choices\": [" + quoted + ", \"b\"], \"answer\": " + quoted + "}\n")});
  check({"moderate", "--model", stories(), "--file",
         scratch.write("label", "{\"prompt\": \"a\", \"label\": " + quoted + "}\n")});
}

TEST_CASE("what a command says of a name that drives a terminal doesn't") {
  if (missing()) return;
  const Scratch scratch;
  const std::string out = scratch.path(hostile.substr(0, hostile.find('\r')) + ".gguf");
  const Run run = run_tool({"quantize", stories(), "--weights", "q8_0", "--out", out});
  CHECK(run.exit_code == 0);
  CHECK(is_clean_line(run.out));
  const Run json = run_tool({"quantize", stories(), "--weights", "q8_0", "--out", out, "--json"});
  CHECK(is_clean_line(json.out));
  CHECK(nlohmann::json::parse(json.out)["out"] == out);
  const Run pieces = run_tool({"tokenize", "--model", stories(), "--text", hostile, "--pieces"});
  CHECK(pieces.exit_code == 0);
  std::string lines = pieces.out;
  for (char& c : lines) c = c == '\n' || c == '\t' ? ' ' : c;
  CHECK(is_clean(lines));
}

TEST_CASE("JSON is escaped, and means the same") {
  if (missing()) return;
  const std::string text = hostile.substr(0, hostile.size() - 1) + "\xC3\xA9\x7F";
  const Run run = run_tool({"tokenize", "--model", stories(), "--decode", "--json", "--text", byte_ids(text)});
  CHECK(run.exit_code == 0);
  CHECK(is_clean_line(run.out));
  CHECK(nlohmann::json::parse(run.out) == text);
  CHECK(run.out.find("\\u009b2J\\u202e\\u2028") != std::string::npos);
  CHECK(run.out.find("\\udb40\\udc41") != std::string::npos);
  CHECK(run.out.find("\xC3\xA9") != std::string::npos);
}

TEST_CASE("a pipe is given a text as it is, and a terminal what can be seen of it") {
  if (missing()) return;
  const std::string text =
      "one\ttwo\nthree\x1b[2J\xC2\x9B"
      "31m\xE2\x80\xAE\xC3\xA9\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA6";
  const std::vector<std::string> arguments{"tokenize", "--model", stories(), "--decode", "--text", byte_ids(text)};
  CHECK(run_tool(arguments).out == text + "\n");
  const std::string shown = on_terminal(arguments);
  CHECK(shown.find("one\ttwo\r\nthree\\x1b[2J\\u009b31m\\u202e\xC3\xA9\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA6") !=
        std::string::npos);
}
