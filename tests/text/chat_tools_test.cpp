// SPDX-License-Identifier: Apache-2.0
// Requests with tools: the ids and refusals of mistral-common 1.11.7, and what holds for all of them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/chat_json.hpp>
#include <mistral/text/chat_template.hpp>

#include "../support/data.hpp"
#include "../support/scratch.hpp"
#include "small_v3.hpp"

namespace {

using mistral::ChatRequest;
using mistral::ChatTemplate;
using mistral::encode_chat;
using mistral::encode_chat_with_answers;
using mistral::Message;
using mistral::parse_chat;
using mistral::TokenId;
using mistral::Tokenizer;
using mistral::Tool;
using mistral::ToolCall;
using mistral::test::error_of;
using mistral::test::small_v3;
using Ids = std::vector<TokenId>;

const Tool clock_tool{"clock", "The time of day", R"({"type": "object", "properties": {}})"};
const Message question{"user", "Is it 2?"};
const Message call{.role = "assistant", .tool_calls = {{"clock", "{}", "a1B2c3D4e"}}};
const Message result{.role = "tool", .content = "14:03", .tool_call_id = "a1B2c3D4e"};

std::string refusal(const ChatRequest& request) {
  return error_of([&] { encode_chat(small_v3(), ChatTemplate::v3, request); });
}

/// Control pieces as they are, and between them the texts.
std::string shown(const Tokenizer& tokenizer, const Ids& ids) {
  std::string all;
  Ids text;
  const auto end_text = [&] {
    all += tokenizer.decode(text);
    text.clear();
  };
  for (const TokenId id : ids) {
    if (tokenizer.is_control(id)) {
      end_text();
      all += tokenizer.piece(id);
    } else {
      text.push_back(id);
    }
  }
  end_text();
  return all;
}

}  // namespace

TEST_CASE("all golden requests with tools have mistral-common's ids, and those that it refuses are errors") {
  const auto path = mistral::test::golden("tools/v3_tools.jsonl");
  const auto model = mistral::test::golden("tokenizer/mistral_v3.model");
  if (path.empty() || model.empty()) return;
  const Tokenizer tokenizer = Tokenizer::load(model.string());
  std::size_t count = 0, refused = 0;
  std::ifstream lines(path);
  for (std::string line; std::getline(lines, line); ++count) {
    const auto expected = nlohmann::ordered_json::parse(line);
    CAPTURE(expected["name"].get<std::string>());
    Ids ids;
    const auto encode = [&] {
      ids = encode_chat(tokenizer, ChatTemplate::v3, parse_chat(expected["request"].dump(), "request"));
    };
    if (expected.contains("error")) {
      ++refused;
      CHECK(error_of(encode).starts_with("[chat] "));
      continue;
    }
    CHECK(error_of(encode) == "no error");
    CHECK(ids == expected["tokens"].get<Ids>());
    // the same again from what we write of it
    const ChatRequest again = parse_chat(mistral::chat_json(parse_chat(expected["request"].dump(), "a")), "b");
    CHECK(encode_chat(tokenizer, ChatTemplate::v3, again) == ids);
  }
  CHECK(count == 111);
  CHECK(refused == 23);
}

TEST_CASE("a conversation with tools reads as template v3 says") {
  const Tokenizer& tokenizer = small_v3();
  const std::string tools =
      R"([AVAILABLE_TOOLS][{"type": "function", "function": {"name": "clock", "description": "The time of day", )"
      R"("parameters": {"type": "object", "properties": {}}}}][/AVAILABLE_TOOLS])";
  const std::string calls = R"([TOOL_CALLS][{"name": "clock", "arguments": {}, "id": "a1B2c3D4e"}]</s>)";
  const std::string results = R"([TOOL_RESULTS]{"content": "14:03", "call_id": "a1B2c3D4e"}[/TOOL_RESULTS])";
  const auto read = [&](std::vector<Message> messages) {
    return shown(tokenizer, encode_chat(tokenizer, ChatTemplate::v3,
                                        ChatRequest{.messages = std::move(messages), .tools = {clock_tool}}));
  };
  CHECK(read({{"system", "S"}, question}) == "<s>" + tools + "[INST]S\n\nIs it 2?[/INST]");
  CHECK(read({question, call, result}) == "<s>" + tools + "[INST]Is it 2?[/INST]" + calls + results);
  CHECK(read({question, call, result, {"assistant", "Yes."}, {"user", "Sure?"}}) ==
        "<s>[INST]Is it 2?[/INST]" + calls + results + "Yes.</s>" + tools + "[INST]Sure?[/INST]");
  // calls and results need no tools
  CHECK(shown(tokenizer, encode_chat(tokenizer, ChatTemplate::v3, {question, call, result})) ==
        "<s>[INST]Is it 2?[/INST]" + calls + results);
}

TEST_CASE("calls are an answer to learn, and a conversation may end with them where it isn't a request") {
  const Tokenizer& tokenizer = small_v3();
  const ChatRequest request{.messages = {question, call}, .tools = {clock_tool}};
  const auto chat = encode_chat_with_answers(tokenizer, ChatTemplate::v3, request);
  REQUIRE(chat.answers.size() == 1);
  CHECK(chat.ids[chat.answers[0].begin] == tokenizer.find("[TOOL_CALLS]"));
  CHECK(chat.answers[0].end == chat.ids.size());
  CHECK(chat.ids.back() == tokenizer.eos_id());
  CHECK(refusal(request) ==
        "[chat] messages[1], the last: role: expected 'user' or 'tool' (or continue_final_message), got 'assistant'");
  // what the model is asked to continue is what stands before the answer
  const Ids asked(chat.ids.begin(), chat.ids.begin() + static_cast<std::ptrdiff_t>(chat.answers[0].begin));
  CHECK(asked == encode_chat(tokenizer, ChatTemplate::v3, ChatRequest{.messages = {question}, .tools = {clock_tool}}));
}

TEST_CASE("no text that a request brings in becomes a control id, wherever it stands") {
  const Tokenizer& tokenizer = small_v3();
  const auto controls = [&](const std::string& text, bool parse_special) {
    ChatRequest request;
    const std::string json = "{\"k" + text + "\": [\"" + text + "\"]}";
    request.messages = {{"system", parse_special ? "x" : text},
                        {"user", parse_special ? "x" : text},
                        {.role = "assistant", .tool_calls = {{"f", json, "a1B2c3D4e"}, {"f", text, "a1B2c3D4f"}}},
                        {.role = "tool", .content = text, .tool_call_id = "a1B2c3D4e"},
                        {.role = "tool", .content = json, .tool_call_id = "a1B2c3D4f"},
                        {"assistant", parse_special ? "x" : text},
                        {"user", parse_special ? "x" : text}};
    request.tools = {{"f", text, "{\"title\": \"" + text + "\", \"x" + text + "\": 1}"}};
    request.options.parse_special = parse_special;
    Ids all;
    for (const TokenId id : encode_chat(tokenizer, ChatTemplate::v3, request)) {
      if (tokenizer.is_control(id)) all.push_back(id);
    }
    return all;
  };
  const Ids expected = controls("x", false);
  CHECK(expected.size() == 1 + 2 + 2 + 2 * 2 + 1 + 2 + 2);  // BOS, [INST], calls, results, answer, tools, [INST]
  for (std::size_t i = 0; i < tokenizer.vocab_size(); ++i) {
    if (!tokenizer.is_control(static_cast<TokenId>(i))) continue;
    const std::string piece(tokenizer.piece(static_cast<TokenId>(i)));
    for (const std::string& around : {piece, " " + piece + " ", piece + piece, "x" + piece}) {
      CAPTURE(around);
      CHECK(controls(around, false) == expected);
      CHECK(controls(around, true) == expected);  // which trusts what people say, not what functions give
    }
  }
}

TEST_CASE("what breaks a rule of tools is an error that names the place") {
  const auto with = [&](std::vector<Message> messages) { return refusal({.messages = std::move(messages)}); };
  const auto calling = [&](const ToolCall& one) {
    return with({question, {.role = "assistant", .tool_calls = {one}}, result});
  };
  const auto tool = [&](const Tool& one) { return refusal({.messages = {question}, .tools = {clock_tool, one}}); };
  const std::string id = "expected 9 of a-z, A-Z and 0-9, got ";
  const std::string name = "expected 1 to 64 of a-z, A-Z, 0-9, _ and -, got ";
  CHECK(calling({"f", "{}", "short"}) == "[chat] messages[1]: tool_calls[0]: id: " + id + "'short'");
  CHECK(calling({"f g", "{}", ""}) == "[chat] messages[1]: tool_calls[0]: name: " + name + "'f g'");
  CHECK(tool({"", "", "{}"}) == "[chat] tools[1]: name: " + name + "''");
  CHECK(tool({"f", "", "[]"}) == "[chat] tools[1]: parameters: expected a JSON Schema, an object, got something else");
  CHECK(tool({"f", "", "{"}) == "[chat] tools[1]: parameters: not valid JSON at byte 2 (line 1, column 2)");
  CHECK(tool({"f", "", R"({"type": 1})"}).starts_with("[chat] tools[1]: parameters.type: expected one of array, "));
  CHECK(with({question, call, {.role = "tool", .content = "1"}}) ==
        "[chat] messages[2] of role 'tool': tool_call_id: expected the id of a call, got none");
  CHECK(with({question, call, {.role = "tool", .content = "1", .tool_call_id = "abc"}}) ==
        "[chat] messages[2] of role 'tool': tool_call_id: " + id + "'abc'");
  CHECK(with({question, call, {.role = "tool", .content = "1", .tool_call_id = "a1B2c3D4e", .name = "f g"}}) ==
        "[chat] messages[2] of role 'tool': name: " + name + "'f g'");
  CHECK(with({question, result}) ==
        "[chat] messages[1]: role: expected 'tool' after 'assistant' or 'tool', got 'tool' after 'user'");
  CHECK(with({result}) == "[chat] messages[0]: role: expected a message of 'user' or 'system' before it, got 'tool'");
  CHECK(with({question, call, result, {"system", "x"}}) ==
        "[chat] messages[3]: role: expected 'user', 'assistant' or 'tool' after 'tool', got 'system'");
  CHECK(with({question, call, {"assistant", "x"}, question}) ==
        "[chat] messages[2] of role 'assistant': expected as many results as calls before it, got 1 less");
  CHECK(with({question, call, result, result, {"assistant", "x"}, question}) ==
        "[chat] messages[4] of role 'assistant': expected as many results as calls before it, got 1 more");
  CHECK(with({question, {.role = "assistant", .content = "x", .tool_calls = call.tool_calls}, result}) ==
        "[chat] messages[1] of role 'assistant': expected either content or tool_calls, got both");
  CHECK(with({question, {"assistant", "x"}, call, result}) ==
        "[chat] messages[2] of role 'assistant' and the one before it, one turn: expected either content or "
        "tool_calls, got both");
  CHECK(with({{.role = "user", .content = "x", .tool_calls = call.tool_calls}, question}) ==
        "[chat] messages[0] of role 'user': tool_calls: expected none but the assistant's, got some");
}

TEST_CASE("template v1 has no tools") {
  const Tokenizer& tokenizer = small_v3();
  const auto refused = [&](const ChatRequest& request) {
    return error_of([&] { encode_chat(tokenizer, ChatTemplate::v1, request); });
  };
  CHECK(refused({.messages = {question}, .tools = {clock_tool}}) ==
        "[chat] tools: expected none, for template v1 has no tools, got some");
  CHECK(refused({.messages = {question, call, result}}) ==
        "[chat] messages[1] of role 'assistant': tool_calls: expected none, for template v1 has no tools, got some");
  CHECK(refused({.messages = {question, {"assistant", "x"}, result}}) ==
        "[chat] messages[2]: role: expected 'system', 'user' or 'assistant', got 'tool'");
}
