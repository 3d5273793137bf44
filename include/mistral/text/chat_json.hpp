// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/text/chat_template.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A conversation as it stands in a file.
struct ChatRequest {
  std::vector<Message> messages;
  ChatOptions options;
};

namespace detail {

/// A field that holds a text, or its parts: `[{"type": "text", "text": ...}, ...]`, which are joined by empty lines, as
/// mistral-common joins them. Throws the object's Error for parts of another type.
inline std::string content_of(const JsonObject& message, const std::string& name) {
  if (!message.is_array(name)) return message.string(name);
  std::string content;
  for (const JsonObject& part : message.objects(name)) {
    if (part.string("type") != "text") throw part.unexpected("type", "'text'");
    append_paragraph(content, part.string("text"));
  }
  return content;
}

/// A message of `role` and `content`. Throws its Error for fields that would change what is said.
inline Message message_of(const JsonObject& message) {
  if (message.has("tool_calls") && !message.objects("tool_calls").empty()) {
    throw message.unexpected("tool_calls", "a message without");
  }
  if (message.has("prefix") && message.boolean("prefix")) {
    throw message.unexpected("prefix", "false (and continue_final_message where the answer goes on)");
  }
  return {message.string("role"), content_of(message, "content")};
}

}  // namespace detail

/// Reads a conversation from the JSON object that chat servers take, a line of a JSONL file for one:
/// `{"messages": [{"role": "user", "content": "Hi"}, ...], "continue_final_message": false}`. A content may also be
/// parts: `[{"type": "text", "text": "Hi"}, ...]`. The second field may be missing or null; fields of other names are
/// passed over, but for those that would change what is said: tools, and an assistant's `tool_calls` and `prefix`.
/// Roles and their order are left to encode_chat. Throws the object's Error for fields that are missing, of another
/// type or not supported.
inline ChatRequest parse_chat(const JsonObject& object) {
  ChatRequest request;
  for (const JsonObject& message : object.objects("messages")) request.messages.push_back(detail::message_of(message));
  if (object.has("tools") && !object.objects("tools").empty()) throw object.unexpected("tools", "none");
  if (object.has("continue_final_message")) {
    request.options.continue_final_message = object.boolean("continue_final_message");
  }
  return request;
}

/// The same from text. Throws Error `[chat] name: ...`, for what is not JSON and for ill-formed UTF-8 too.
inline ChatRequest parse_chat(std::string_view json, std::string_view name) {
  return parse_chat(JsonObject::parse(std::as_bytes(std::span(json)), "chat", name));
}

}}  // namespace mistral
