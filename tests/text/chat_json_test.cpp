// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/chat_json.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "../support/scratch.hpp"

namespace {

using mistral::ChatRequest;
using mistral::parse_chat;
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
  CHECK(message(R"("tool_calls": [{"id": "1"}])") ==
        at + "messages[0]: field 'tool_calls': expected a message without, got an array");
  CHECK(message(R"("prefix": true)") == at + "messages[0]: field 'prefix': expected false (and continue_final_message "
                                             "where the answer goes on), got true");
  CHECK(parsing(R"({"messages": [], "tools": null})") == "no error");
  CHECK(parsing(R"({"messages": [], "tools": [{}]})") == at + "field 'tools': expected none, got an array");
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
