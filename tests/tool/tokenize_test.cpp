#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tool.hpp"

using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;

namespace {

std::string model_file() { return mistral::test::golden("tokenizer/bpe600.model").string(); }

std::string output(const std::vector<std::string>& more, const std::string& in = {}) {
  std::vector<std::string> arguments{"tokenize", "--tokenizer", model_file()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Run run = run_tool(arguments, {.in = in});
  CHECK(run.exit_code == 0);
  CHECK(run.err == "");
  return run.out;
}

}  // namespace

TEST_CASE("tokenize gives SentencePiece's ids of every golden text, and decode the text of every golden id") {
  const auto encode = mistral::test::golden("tokenizer/bpe600.encode.jsonl");
  if (mistral::test::tool_path() == nullptr || model_file().empty() || encode.empty()) return;
  std::ifstream lines(encode);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line) && count < 60;) {
    const auto json = nlohmann::json::parse(line);
    if (json["text"].is_null()) continue;  // base64 only: the library's own tests read those
    ++count;
    const auto text = json["text"].get<std::string>();
    CAPTURE(text);
    CHECK(nlohmann::json::parse(output({"--json"}, text)) == json["ids"]);
  }
  CHECK(count > 20);
}

TEST_CASE("tokenize prints ids, pieces, and JSON") {
  if (mistral::test::tool_path() == nullptr || model_file().empty()) return;
  const auto ids = nlohmann::json::parse(output({"--text", "the cat", "--json"})).get<std::vector<int>>();
  REQUIRE(ids.size() > 1);
  std::string line;
  for (const int id : ids) line.append(line.empty() ? "" : " ").append(std::to_string(id));
  CHECK(output({"--text", "the cat"}) == line + "\n");
  CHECK(output({}, "the cat") == line + "\n");
  const Scratch scratch;
  CHECK(output({"--file", scratch.write("text", "the cat")}) == line + "\n");
  CHECK(output({"--text", "the cat", "--bos"}) == "1 " + line + "\n");
  CHECK(output({"--text", ""}) == "\n");

  const auto pieces = nlohmann::json::parse(output({"--text", "the cat", "--pieces", "--json"}));
  REQUIRE(pieces.size() == ids.size());
  std::string lines;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    CHECK(pieces[i]["id"] == ids[i]);
    lines.append(std::to_string(ids[i])).append("\t").append(pieces[i]["piece"].get<std::string>()).append("\n");
  }
  CHECK(output({"--text", "the cat", "--pieces"}) == lines);
}

TEST_CASE("tokenize takes every byte of a text, the newline at its end too") {
  if (mistral::test::tool_path() == nullptr || model_file().empty()) return;
  CHECK(output({}, "the cat\n") != output({}, "the cat"));
}

TEST_CASE("decode undoes tokenize") {
  if (mistral::test::tool_path() == nullptr || model_file().empty()) return;
  const std::string text = "the cat 12 sat, né? \xe2\x82\xac";
  const std::string ids = output({}, text);
  CHECK(output({"--decode"}, ids) == text + "\n");
  CHECK(output({"--decode", "--text", ids}) == text + "\n");
  CHECK(nlohmann::json::parse(output({"--decode", "--json"}, ids)) == text);
  CHECK(output({"--decode"}, "") == "\n");
}
