// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/text/tokenizer.hpp>

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

TEST_CASE("tokenize takes a tokenizer.json, and adds and parses special tokens as Hugging Face does") {
  const auto file = mistral::test::golden("tokenizer_json/tokenizers/small_a_09_flags_legacy.json");
  if (mistral::test::tool_path() == nullptr || file.empty()) return;
  const auto tokenize = [&](std::vector<std::string> more, const std::string& in) {
    more.insert(more.begin(), {"tokenize", "--tokenizer", file.string(), "--json"});
    const Run run = run_tool(more, {.in = in});
    CHECK(run.exit_code == 0);
    return nlohmann::json::parse(run.out);
  };
  const mistral::Tokenizer tokenizer = mistral::Tokenizer::load(file.string());
  for (const std::string text : {"<s>Hi [INST] a<|im_start|> [PAD] b", "word words", "  a"}) {
    const std::vector<mistral::TokenId> ids = tokenizer.encode(text, {.add_special = true, .parse_special = true});
    CHECK(tokenize({"--add-special", "--parse-special"}, text) == ids);
    CHECK(tokenize({"--parse-special"}, text) == tokenizer.encode(text, {.parse_special = true}));
    CHECK(tokenize({}, text) == tokenizer.encode(text));
    std::string list;
    for (const mistral::TokenId id : ids) list.append(std::to_string(id)).append(" ");
    CHECK(tokenize({"--decode"}, list) == tokenizer.decode(ids));
    CHECK(tokenize({"--decode", "--skip-special"}, list) == tokenizer.decode(ids, {.skip_special = true}));
  }
  CHECK(run_tool({"tokenize", "--tokenizer", file.string(), "--skip-special", "--text", "a"}).exit_code == 2);
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

TEST_CASE("tokenize --chat prints the ids of every golden conversation, and an error for what is refused") {
  const auto chat = mistral::test::golden("chat/chat.jsonl");
  if (mistral::test::tool_path() == nullptr || chat.empty()) return;
  const Scratch scratch;
  for (const std::string version : {"v1", "v3"}) {
    const auto model = mistral::test::golden("tokenizer/mistral_" + version + ".model");
    if (model.empty()) return;
    std::string lines;
    std::vector<nlohmann::json> expected;
    std::ifstream golden(chat);
    for (std::string line; std::getline(golden, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["version"] != version) continue;
      expected.push_back(json);
      lines += line + "\n";
    }
    CHECK(expected.size() == 142);
    const std::string file = scratch.write("chat.jsonl", lines);
    const std::vector<std::string> arguments{"tokenize", "--tokenizer", model.string(), "--chat", file};
    std::vector<std::string> with_template = arguments;
    with_template.insert(with_template.end(), {"--template", version});
    const Run run = run_tool(with_template);
    CHECK(run.exit_code == 0);
    CHECK(run.err == "");
    std::istringstream out(run.out);
    std::string line;
    for (const auto& json : expected) {
      CAPTURE(json.dump());
      REQUIRE(std::getline(out, line));
      const auto printed = nlohmann::json::parse(line);
      if (json.contains("error")) {
        CHECK(printed.at("error").is_string());
      } else {
        CHECK(printed == json["tokens"]);
      }
    }
    CHECK(!std::getline(out, line));
    CHECK(run_tool(arguments).out == run.out);  // the template that the tokenizer is made for
  }
}

TEST_CASE("tokenize --chat prints the ids of every golden request with tools, and an error for what is refused") {
  const auto tools = mistral::test::golden("tools/v3_tools.jsonl");
  const auto model = mistral::test::golden("tokenizer/mistral_v3.model");
  if (mistral::test::tool_path() == nullptr || tools.empty() || model.empty()) return;
  std::string lines;
  std::vector<nlohmann::ordered_json> expected;
  std::ifstream golden(tools);
  for (std::string line; std::getline(golden, line);) {
    expected.push_back(nlohmann::ordered_json::parse(line));
    lines += expected.back()["request"].dump() + "\n";
  }
  const Scratch scratch;
  const std::string file = scratch.write("tools.jsonl", lines);
  const Run run = run_tool({"tokenize", "--tokenizer", model.string(), "--template", "v3", "--chat", file});
  std::istringstream out(run.out);
  std::string line;
  for (const auto& json : expected) {
    CAPTURE(json["name"].dump());
    REQUIRE(std::getline(out, line));
    const auto printed = nlohmann::ordered_json::parse(line);
    if (json.contains("error")) {
      CHECK(printed.at("error").is_string());
    } else {
      CHECK(printed == json["tokens"]);
    }
  }
  CHECK(!std::getline(out, line));
  CHECK(run.exit_code == 0);  // what is refused is a result
  CHECK(run.err == "");
}

TEST_CASE("tokenize --chat names the line that holds no conversation, and goes on behind it") {
  if (mistral::test::tool_path() == nullptr || model_file().empty()) return;
  const std::string good = R"({"messages": [{"role": "user", "content": "the cat"}]})";
  const std::string refused = R"({"messages": [{"role": "robot", "content": "the cat"}]})";
  const std::string ids = nlohmann::json::parse(output({"--text", "[INST] the cat [/INST]", "--bos", "--json"})).dump();
  CHECK(output({"--chat", "-"}, good) == ids + "\n");
  CHECK(output({"--chat", "-"}, "\n" + good + "\r\n \n\n" + good + "\n") == ids + "\n" + ids + "\n");
  CHECK(output({"--chat", "-", "--template", "v1"}, "") == "");
  const std::string refusal =
      R"({"error":"[chat] messages[0]: role: expected 'system', 'user' or 'assistant', got 'robot'"})";
  CHECK(output({"--chat", "-"}, refused + "\n" + good) == refusal + "\n" + ids + "\n");

  const Scratch scratch;
  for (const std::string& bad :
       {std::string("{\"messages\": ["), std::string("[]"), std::string("{}"), std::string("\xff"),
        std::string("a\0b", 3), std::string(R"({"messages": [{"role": "user"}]})"), std::string(R"({"messages": "a"})"),
        std::string(1 << 20, '['), R"({"messages": [], "a": ")" + std::string(1 << 20, 'x')}) {
    CAPTURE(bad.substr(0, 60));
    const std::string file = scratch.write("a.jsonl", good + "\n\n" + bad + "\n" + refused + "\n" + bad + "\n" + good);
    const Run run = run_tool({"tokenize", "--tokenizer", model_file(), "--chat", file});
    CHECK(run.exit_code == 1);
    const std::string start = "mistral: error: [chat] " + file + ":3: ";
    REQUIRE(run.err.size() > start.size());
    CHECK(run.err.substr(0, start.size()) == start);
    const std::string message = run.err.substr(16, run.err.size() - 17);
    std::istringstream out(run.out);
    std::vector<std::string> lines;
    for (std::string line; std::getline(out, line);) lines.push_back(line);
    REQUIRE(lines.size() == 5);
    CHECK(lines[0] == ids);
    CHECK(nlohmann::json::parse(lines[1]).at("error") == message);
    CHECK(lines[2] == refusal);
    CHECK(nlohmann::json::parse(lines[3]).at("error").get<std::string>().find(":5: ") != std::string::npos);
    CHECK(lines[4] == ids);
  }
}

TEST_CASE("tokenize --chat takes a long conversation") {
  if (mistral::test::tool_path() == nullptr || model_file().empty()) return;
  const std::string text(5'000'000, 'a');
  const std::string line = R"({"messages": [{"role": "user", "content": ")" + text + R"("}]})";
  const auto ids = nlohmann::json::parse(output({"--chat", "-"}, line)).get<std::vector<int>>();
  CHECK(ids.size() > 1000);
  CHECK(ids.front() == 1);
}

TEST_CASE("conversations come a line each, with Windows' ends of lines, or all in one array") {
  if (mistral::test::tool_path() == nullptr || model_file().empty()) return;
  const std::string one = R"({"messages": [{"role": "user", "content": "a cat"}]})";
  const std::string two = R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "b"}]}]})";
  const std::string wanted = output({"--chat", "-"}, one + "\n" + two + "\n");
  CHECK(std::count(wanted.begin(), wanted.end(), '\n') == 2);
  CHECK(output({"--chat", "-"}, "\xef\xbb\xbf\r\n" + one + "\r\n" + two + "\r\n") == wanted);
  CHECK(output({"--chat", "-"}, "[" + one + ",\n" + two + "]\n") == wanted);
  CHECK(output({"--chat", "-"}, "[]") == "");
  const Run run = run_tool({"tokenize", "--tokenizer", model_file(), "--chat", "-"}, {.in = "[" + one + ", {}]"});
  CHECK(run.exit_code == 1);
  CHECK(run.err == "mistral: error: [chat] standard input:1 (element 2): field 'messages' is missing\n");
}

TEST_CASE("tokenize takes a text byte by byte, and ids as lines of text") {
  if (mistral::test::tool_path() == nullptr || model_file().empty()) return;
  const Scratch scratch;
  CHECK(output({"--file", scratch.write("t", "a\r\nb")}) == output({"--text", "a\r\nb"}));
  const std::string ids = output({"--text", "a cat"});
  CHECK(output({"--decode"}, "\xef\xbb\xbf" + ids.substr(0, ids.size() - 1) + "\r\n") == "a cat\n");
}
