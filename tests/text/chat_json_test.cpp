// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/chat_json.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "../support/scratch.hpp"

namespace {

using mistral::ChatRequest;
using mistral::Message;
using mistral::parse_chat;
using mistral::Tool;
using mistral::ToolChoice;
using mistral::test::error_of;

std::string parsing(std::string_view json) {
  return error_of([&] { parse_chat(json, "a.jsonl: line 7"); });
}

}  // namespace

TEST_CASE("a conversation comes with its roles and contents, letter by letter") {
  const ChatRequest chat = parse_chat(
      R"({"id": 3, "messages": [{"role": "user", "content": " a\n\u00e9 "}, {"content": "", "role": "robot", "name": "x"}]})",
      "a");
  REQUIRE(chat.messages.size() == 2);
  CHECK(chat.messages[0].role == "user");
  CHECK(chat.messages[0].content == " a\n\xc3\xa9 ");
  CHECK(chat.messages[1].role == "robot");
  CHECK(chat.messages[1].content == "");
  CHECK(!chat.options.continue_final_message);
  CHECK(parse_chat(R"({"messages": []})", "a").messages.empty());
}

TEST_CASE("an answer is to be continued where the field says so") {
  const auto continues = [](const std::string& value) {
    return parse_chat(R"({"messages": [], "continue_final_message": )" + value + "}", "a")
        .options.continue_final_message;
  };
  CHECK(continues("true"));
  CHECK(!continues("false"));
  CHECK(!continues("null"));
}

TEST_CASE("what is no conversation is an error that names the place") {
  const std::string at = "[chat] a.jsonl: line 7: ";
  CHECK(parsing("") == at + "not valid JSON at byte 1 (line 1, column 1)");
  CHECK(parsing(R"({"messages": [)") == at + "not valid JSON at byte 15 (line 1, column 15)");
  CHECK(parsing("{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}") ==
        at + "not valid JSON at byte 44 (line 1, column 44)");
  CHECK(parsing(R"([{"role": "user", "content": "a"}])") ==
        "[chat] a.jsonl: line 7: expected a JSON object, got an array");
  CHECK(parsing("{}") == at + "field 'messages' is missing");
  CHECK(parsing(R"({"messages": "Hi"})") == at + "field 'messages': expected an array of objects, got 'Hi'");
  CHECK(parsing(R"({"messages": [{"role": "user", "content": "a"}, "Hi"]})") ==
        at + "field 'messages': expected an array of objects, got 'Hi'");
  CHECK(parsing(R"({"messages": [{"role": "user", "content": "a"}, {"role": "user"}]})") ==
        at + "messages[1]: field 'content' is missing");
  CHECK(parsing(R"({"messages": [{"content": "a"}]})") == at + "messages[0]: field 'role' is missing");
  CHECK(parsing(R"({"messages": [{"role": null, "content": "a"}]})") ==
        at + "messages[0]: field 'role': expected a string, got null");
  CHECK(parsing(R"({"messages": [{"role": "user", "content": 3}]})") ==
        at + "messages[0]: field 'content': expected a string, got 3");
  CHECK(parsing(R"({"messages": [{"role": "user", "role": "user", "content": "a"}]})") ==
        at + "the field 'role' is there twice");
  CHECK(parsing(R"({"messages": [], "continue_final_message": 1})") ==
        at + "field 'continue_final_message': expected true or false, got 1");
}

TEST_CASE("fields that would change what is said are refused, not passed over") {
  const std::string at = "[chat] a.jsonl: line 7: ";
  const auto message = [](const std::string& fields) {
    return parsing(R"({"messages": [{"role": "assistant", "content": "a", )" + fields + "}]}");
  };
  CHECK(message(R"("tool_calls": null, "prefix": false, "name": "x")") == "no error");
  CHECK(message(R"("tool_calls": [])") == "no error");
  CHECK(message(R"("tool_calls": {})") ==
        at + "messages[0]: field 'tool_calls': expected an array of objects, got an object");
  CHECK(message(R"("tool_calls": [{"id": "1"}])") == at + "messages[0]: tool_calls[0]: field 'function' is missing");
  CHECK(parsing(R"({"messages": [], "tools": null})") == "no error");
  CHECK(parsing(R"({"messages": [], "tools": [{}]})") == at + "tools[0]: field 'function' is missing");
}

TEST_CASE("a last answer that is a prefix is to be continued, and no other message can be one") {
  const auto chat = [](const std::string& role, const std::string& prefix, const std::string& more) {
    return R"({"messages": [{"role": "user", "content": "a"}, {"role": ")" + role + R"(", "content": "b", "prefix": )" +
           prefix + "}" + more;
  };
  CHECK(parse_chat(chat("assistant", "true", "]}"), "a").options.continue_final_message);
  CHECK(!parse_chat(chat("assistant", "false", "]}"), "a").options.continue_final_message);
  const std::string at = "[chat] a.jsonl: line 7: ";
  const std::string last = "false, but for a last message of 'assistant', got true";
  CHECK(parsing(chat("user", "true", "]}")) == at + "messages[1]: field 'prefix': expected " + last);
  CHECK(parsing(chat("assistant", "true", R"(, {"role": "user", "content": "c"}]})")) ==
        at + "messages[1]: field 'prefix': expected " + last);
  CHECK(parsing(chat("assistant", "true", R"(], "continue_final_message": true})")) ==
        at + "field 'continue_final_message': expected false where the last message has 'prefix', got true");
}

TEST_CASE("a request brings its tools, calls and results, letter by letter") {
  const ChatRequest chat = parse_chat(
      R"({"messages": [{"role": "user", "content": "a"},
                       {"role": "assistant", "content": null, "tool_calls": [
                          {"id": "abcdef123", "type": "function", "function": {"name": "f", "arguments": " {\"b\":1} "}},
                          {"index": 1, "function": {"name": "g", "arguments": {"z": 1, "a": [2.50, "\u00e9"]}}},
                          {"id": null, "function": {"name": "h", "arguments": null}}]},
                       {"role": "tool", "tool_call_id": "abcdef123", "name": "f", "content": "1"}],
          "tools": [{"type": "function", "function": {"name": "f", "description": "d", "strict": false,
                       "parameters": {"type": "object","properties":{"z":{}, "a":{"default":100000000000000000000}}}}},
                    {"function": {"name": "g", "parameters": {}}}],
          "tool_choice": {"type": "function", "function": {"name": "g"}}})",
      "a");
  REQUIRE(chat.messages.size() == 3);
  CHECK(chat.messages[1] ==
        Message{.role = "assistant",
                .tool_calls = {
                    {"f", R"( {"b":1} )", "abcdef123"}, {"g", "{\"z\": 1, \"a\": [2.5, \"\xc3\xa9\"]}"}, {"h", "{}"}}});
  CHECK(chat.messages[2] == Message{.role = "tool", .content = "1", .tool_call_id = "abcdef123", .name = "f"});
  REQUIRE(chat.tools.size() == 2);
  CHECK(chat.tools[0] ==
        Tool{"f", "d", R"({"type": "object", "properties": {"z": {}, "a": {"default": 100000000000000000000}}})"});
  CHECK(chat.tools[1] == Tool{"g"});
  CHECK(chat.tool_choice == ToolChoice::named);
  CHECK(chat.forced_tool == "g");

  // what is written is read as the same
  const ChatRequest again = parse_chat(mistral::chat_json(chat), "b");
  CHECK(again.messages == chat.messages);
  CHECK(again.tools == chat.tools);
  CHECK(again.tool_choice == chat.tool_choice);
  CHECK(again.forced_tool == chat.forced_tool);
  CHECK(mistral::message_json(chat.messages[2]) ==
        R"({"role":"tool","content":"1","tool_call_id":"abcdef123","name":"f"})");
}

TEST_CASE("a tool choice is one of the known ones") {
  const auto choice = [](const std::string& value) {
    return parse_chat(R"({"messages": [], "tool_choice": )" + value + "}", "a").tool_choice;
  };
  CHECK(choice("null") == ToolChoice::automatic);
  CHECK(choice(R"("auto")") == ToolChoice::automatic);
  CHECK(choice(R"("none")") == ToolChoice::none);
  CHECK(choice(R"("any")") == ToolChoice::required);
  CHECK(choice(R"("required")") == ToolChoice::required);
  for (const ToolChoice wanted : {ToolChoice::automatic, ToolChoice::none, ToolChoice::required}) {
    CHECK(parse_chat(mistral::chat_json({.messages = {}, .tool_choice = wanted}), "a").tool_choice == wanted);
  }
  const auto refused = [](const std::string& value) {
    return parsing(R"({"messages": [], "tool_choice": )" + value + "}");
  };
  const std::string at = "[chat] a.jsonl: line 7: ";
  CHECK(refused(R"("some")") == at +
                                    "field 'tool_choice': expected 'auto', 'none', 'required', 'any' or an object that "
                                    "names a function, got 'some'");
  CHECK(refused("1") == at + "field 'tool_choice': expected a string, got 1");
  CHECK(refused(R"({"function": {}})") == at + "field 'tool_choice': field 'function': field 'name' is missing");
}

TEST_CASE("fields of tools and calls that are not known are errors, and so are wrong ones") {
  const std::string at = "[chat] a.jsonl: line 7: ";
  const auto tool = [](const std::string& fields) {
    return parsing(R"({"messages": [], "tools": [{)" + fields + "}]}");
  };
  CHECK(tool(R"("function": {"name": "f", "parameters": {}}, "x": 1)") ==
        at + "tools[0]: expected no fields but type, function, got 'x'");
  CHECK(tool(R"("function": {"name": "f", "parameters": {}, "x": 1})") ==
        at + "tools[0]: field 'function': expected no fields but name, description, parameters, strict, got 'x'");
  CHECK(tool(R"("type": "code", "function": {})") == at + "tools[0]: field 'type': expected 'function', got 'code'");
  CHECK(tool(R"("function": {"name": "f", "parameters": []})") ==
        at + "tools[0]: field 'function': field 'parameters': expected a JSON Schema, an object, got an array");
  CHECK(tool(R"("function": {"parameters": {}})") == at + "tools[0]: field 'function': field 'name' is missing");
  const auto call = [](const std::string& fields) {
    return parsing(R"({"messages": [{"role": "assistant", "tool_calls": [{)" + fields + "}]}]}");
  };
  const std::string in_call = at + "messages[0]: tool_calls[0]: ";
  CHECK(call(R"("function": {"name": "f", "arguments": "{}"}, "x": 1)") ==
        in_call + "expected no fields but id, type, function, index, got 'x'");
  CHECK(call(R"("function": {"name": "f"})") == in_call + "field 'function': field 'arguments' is missing");
  CHECK(call(R"("function": {"name": "f", "arguments": 5})") ==
        in_call + "field 'function': field 'arguments': expected a string, got 5");
  CHECK(call(R"("id": "", "function": {"name": "f", "arguments": "{}"})") ==
        in_call + "field 'id': expected 9 of a-z, A-Z and 0-9, got ''");
  CHECK(parsing(R"({"messages": [{"role": "tool", "content": "1", "name": ""}]})") ==
        at + "messages[0]: field 'name': expected 1 to 64 of a-z, A-Z, 0-9, _ and -, got ''");
}

TEST_CASE("a content may be parts, of text alone") {
  const auto content = [](const std::string& parts) {
    return parse_chat(R"({"messages": [{"role": "user", "content": )" + parts + "}]}", "a").messages.at(0).content;
  };
  CHECK(content(R"([{"type": "text", "text": "Hi"}])") == "Hi");
  CHECK(content(R"([{"type": "text", "text": "a "}, {"text": "", "type": "text"}, {"type": "text", "text": "b"}])") ==
        "a \n\nb");
  CHECK(content("[]") == "");
  const std::string at = "[chat] a.jsonl: line 7: messages[0]: ";
  const auto refused = [](const std::string& parts) {
    return parsing(R"({"messages": [{"role": "user", "content": )" + parts + "}]}");
  };
  CHECK(refused(R"([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}])") ==
        at + "content[1]: field 'type': expected 'text', got 'image_url'");
  CHECK(refused(R"([{"text": "a"}])") == at + "content[0]: field 'type' is missing");
  CHECK(refused(R"(["a"])") == at + "field 'content': expected an array of objects, got 'a'");
}
