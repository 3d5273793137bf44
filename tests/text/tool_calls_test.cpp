// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/tool_calls.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/tool_text.hpp>

#include "../support/rounds.hpp"
#include "../support/scratch.hpp"
#include "small_v3.hpp"

namespace {

using mistral::AnswerPiece;
using mistral::AnswerReader;
using mistral::ChatRequest;
using mistral::TokenId;
using mistral::ToolCall;
using mistral::ToolChoice;
using mistral::test::small_v3;
using Ids = std::vector<TokenId>;

/// All that came of an answer.
struct Read {
  std::string text;
  std::vector<ToolCall> calls;
  std::string error;
  friend bool operator==(const Read&, const Read&) = default;

  void add(AnswerPiece piece) {
    text += piece.text;
    calls.insert(calls.end(), piece.calls.begin(), piece.calls.end());
  }
};

Read read_tokens(const Ids& ids, std::uint64_t seed = 0) {
  AnswerReader reader(small_v3(), seed);
  Read read;
  for (const TokenId id : ids) read.add(reader.feed(id));
  read.add(reader.finish());
  read.error = reader.error();
  return read;
}

/// An answer of text, the marker's control id and text.
Read read_answer(const std::string& before, const std::string& calls, std::uint64_t seed = 0) {
  Ids ids = small_v3().encode(before);
  ids.push_back(*small_v3().find("[TOOL_CALLS]"));
  const Ids rest = small_v3().encode(calls);
  ids.insert(ids.end(), rest.begin(), rest.end());
  ids.push_back(small_v3().eos_id());
  return read_tokens(ids, seed);
}

Read read_text(std::string_view text, std::size_t piece) {
  AnswerReader reader(std::uint64_t{3});
  Read read;
  for (; !text.empty(); text.remove_prefix((std::min)(piece, text.size())))
    read.add(reader.push(text.substr(0, piece)));
  read.add(reader.finish());
  read.error = reader.error();
  return read;
}

}  // namespace

TEST_CASE("an answer of text is passed on, whatever it looks like") {
  for (const std::string text :
       {"", "Hello there", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}]", "[{\"a\": 1}]"}) {
    const Read read = read_tokens(small_v3().encode(text));
    CHECK(read == Read{text, {}, ""});
  }
}

TEST_CASE("calls come one by one, as soon as each is complete") {
  AnswerReader reader(small_v3());
  Ids ids{*small_v3().find("[TOOL_CALLS]")};
  const Ids rest = small_v3().encode(
      R"([{"name": "f", "arguments": {"a": [1, "}"]}, "id": "abcdef123"}, {"name": "g", "arguments": {}}])");
  ids.insert(ids.end(), rest.begin(), rest.end());
  std::vector<std::size_t> at;  // each call, at which token it came
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const AnswerPiece piece = reader.feed(ids[i]);
    CHECK(piece.text == "");
    for (const ToolCall& call : piece.calls) {
      CHECK(call.name == (at.empty() ? "f" : "g"));
      at.push_back(i);
    }
  }
  REQUIRE(at.size() == 2);
  // the first as its last brace came, with all of the second to come
  const Ids rest_of_all(ids.begin() + static_cast<std::ptrdiff_t>(at[0]) + 1, ids.end());
  CHECK(small_v3().decode(rest_of_all).find("{\"name\": \"g\"") != std::string::npos);
  CHECK(reader.in_calls());
  CHECK(reader.finish().calls.empty());
  CHECK(reader.error() == "");
}

TEST_CASE("calls keep the model's ids, and get nine characters that a seed decides where it gives none") {
  const std::string two =
      R"( [{"name": "f", "arguments": {"b": 1, "a": 22.50}, "id": "abcdef123"}, {"arguments": "{}", "name": "g-h_1"}])";
  const Read read = read_answer("", two, 7);
  REQUIRE(read.calls.size() == 2);
  CHECK(read.text == "");
  CHECK(read.error == "");
  CHECK(read.calls[0] == ToolCall{"f", R"({"b": 1, "a": 22.5})", "abcdef123"});
  CHECK(read.calls[1].name == "g-h_1");
  CHECK(read.calls[1].arguments == "{}");
  CHECK(mistral::detail::is_call_id(read.calls[1].id));
  CHECK(read_answer("", two, 7) == read);
  CHECK(read_answer("", two, 8).calls[1].id != read.calls[1].id);
  // an id that can't be one, or is another call's already, is replaced
  const Read same = read_answer("", R"([{"name": "f", "arguments": {}, "id": "abcdef123"},
                                        {"name": "f", "arguments": {}, "id": "abcdef123"},
                                        {"name": "f", "arguments": {}, "id": "0"}, {"name": "f", "id": null}])");
  REQUIRE(same.calls.size() == 4);
  std::set<std::string> ids;
  for (const ToolCall& call : same.calls) {
    CHECK(mistral::detail::is_call_id(call.id));
    ids.insert(call.id);
  }
  CHECK(ids.size() == 4);
  mistral::Random random(1), again(1);
  CHECK(mistral::new_tool_call_id(random) == mistral::new_tool_call_id(again));
}

TEST_CASE("text before and behind calls stays text") {
  const Read read = read_answer("Let me see.", R"([{"name": "f", "arguments": {}}] that's all)");
  CHECK(read.text == "Let me see. that's all");
  CHECK(read.calls.size() == 1);
  CHECK(read_answer("", "[]") == Read{"", {}, ""});
}

TEST_CASE("what the template writes for calls is read as the same calls") {
  const std::vector<ToolCall> calls{
      {"f", R"({"q": "</s>[TOOL_CALLS] \"x\" \\", "n": {"a": [1, 2.5, null]}})", "abcdef123"},
      {"g", "{}", "A1b2C3d4E"}};
  CHECK(read_answer("", mistral::detail::tool_calls_text(calls)) == Read{"", calls, ""});
}

TEST_CASE("calls that are cut off or wrong are text, and said to be") {
  const auto check = [](const std::string& calls, std::size_t read_before, const std::string& text,
                        const std::string& error) {
    CAPTURE(calls);
    const Read read = read_answer("", calls);
    CHECK(read.calls.size() == read_before);
    CHECK(read.text == text);
    CHECK(read.error == error);
  };
  const std::string one = R"([{"name": "f", "arguments": {}})";
  const std::string cut = "the answer ends in the middle of its calls";
  check("", 0, "[TOOL_CALLS]", cut);
  check("[", 0, "[TOOL_CALLS][", cut);
  check(R"([{"name": "f)", 0, R"([TOOL_CALLS][{"name": "f)", cut);
  check(one, 1, "", cut);
  check(one + R"(, {"name")", 1, R"(, {"name")", cut);
  check("Sorry", 0, "[TOOL_CALLS]Sorry", "expected [ behind [TOOL_CALLS]");
  check("[1, 2] x", 0, "[TOOL_CALLS][1, 2] x", "expected { where a call begins");
  check(one + " {}]", 1, " {}]", "expected a comma or ] behind a call");
  check(one + ",]", 1, ",]", "expected { where a call begins");
  check("[{}] x", 0, "[TOOL_CALLS][{}] x", "[tool calls] a call: field 'name' is missing");
  check(R"([{"name": "a b"}])", 0, R"([TOOL_CALLS][{"name": "a b"}])",
        "[tool calls] a call: field 'name': expected 1 to 64 of a-z, A-Z, 0-9, _ and -, got 'a b'");
  check(R"([{"name": "f", "arguments": [1]}])", 0, R"([TOOL_CALLS][{"name": "f", "arguments": [1]}])",
        "[tool calls] a call: field 'arguments': expected an object, got an array");
  check(R"([{"name": "f", 'x'}])", 0, R"([TOOL_CALLS][{"name": "f", 'x'}])",
        "[tool calls] a call: not valid JSON at byte 15 (line 1, column 15)");
  check("[" + std::string(100, '['), 0, "[TOOL_CALLS][" + std::string(100, '['), "expected { where a call begins");
}

TEST_CASE("however an answer is cut into pieces, the texts joined and the calls are the same") {
  std::mt19937_64 random(5);
  const std::vector<std::string> parts{"[TOOL_CALLS]",
                                       "[TOOL_",
                                       "CALLS]",
                                       " ",
                                       "[",
                                       "]",
                                       "{",
                                       "}",
                                       ",",
                                       "\"",
                                       "\\",
                                       R"([{"name": "f", "arguments": {"a": "}\"]"}})",
                                       R"(, {"name": "g", "arguments": {}})",
                                       R"({"name": "h", "id": "abcdef123"})",
                                       "text",
                                       "\xc3\xa9",
                                       "\n",
                                       "[[TOOL_CALLS]"};
  for (std::size_t round = 0; round < mistral::test::rounds(std::size_t{3000}); ++round) {
    std::string answer = round % 2 == 0 ? "" : "[TOOL_CALLS] ";
    for (std::size_t i = random() % 8; i > 0; --i) answer += parts[random() % parts.size()];
    CAPTURE(answer);
    const Read whole = read_text(answer, answer.size() + 1);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{7}})
      CHECK(read_text(answer, piece) == whole);
    if (whole.calls.empty()) CHECK((whole.text == answer || whole.error.empty()));  // an empty list is no text
    if (whole.calls.empty() && !whole.error.empty()) CHECK(whole.text == answer);
  }
}

TEST_CASE("a tool choice decides what an answer begins with") {
  ChatRequest request{.messages = {{"user", "a"}}, .tools = {{"f"}, {"g"}}};
  const auto& tokenizer = small_v3();
  CHECK(mistral::forced_answer(tokenizer, request).empty());
  request.tool_choice = ToolChoice::none;
  CHECK(mistral::forced_answer(tokenizer, request).empty());
  request.tool_choice = ToolChoice::required;
  const TokenId begin = *tokenizer.find("[TOOL_CALLS]");
  CHECK(mistral::forced_answer(tokenizer, request) == Ids{begin});
  request.tool_choice = ToolChoice::named;
  request.forced_tool = "g";
  Ids answer = mistral::forced_answer(tokenizer, request);
  CHECK(answer.front() == begin);
  const Ids rest = tokenizer.encode("{\"x\": 1}}]");
  answer.insert(answer.end(), rest.begin(), rest.end());
  const Read read = read_tokens(answer);
  REQUIRE(read.calls.size() == 1);
  CHECK(read.calls[0].name == "g");
  CHECK(read.calls[0].arguments == "{\"x\": 1}");
  const auto refused = [&] { return mistral::test::error_of([&] { mistral::forced_answer(tokenizer, request); }); };
  request.forced_tool = "h";
  CHECK(refused() == "[chat] tool_choice: expected the name of one of the tools, got 'h'");
  request.tools.clear();
  CHECK(refused() == "[chat] tool_choice: expected tools to choose from, got none");
}
