// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/check_conversation.hpp>
#include <mistral/text/message.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

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

/// Throws the object's Error where it has other fields than these.
inline void allow_fields(const JsonObject& object, std::initializer_list<std::string_view> allowed) {
  for (const std::string& name : object.names()) {
    if (std::find(allowed.begin(), allowed.end(), name) != allowed.end()) continue;
    std::string list;
    for (const std::string_view each : allowed) list.append(list.empty() ? "" : ", ").append(each);
    throw object.error("expected no fields but " + list + ", got '" + printable(name, 40) + "'");
  }
}

/// The `function` of a tool or a call, which may say that it is one.
inline JsonObject function_of(const JsonObject& object) {
  if (object.has("type") && object.string("type") != "function") throw object.unexpected("type", "'function'");
  return object.object("function");
}

inline ToolCall tool_call_of(const JsonObject& object) {
  allow_fields(object, {"id", "type", "function", "index"});
  const JsonObject function = function_of(object);
  allow_fields(function, {"name", "arguments"});
  ToolCall call{.name = function.string("name")};
  if (function.is_object("arguments")) {
    call.arguments = function.json("arguments");
  } else if (function.has("arguments") || !function.is_empty("arguments")) {  // null is none
    call.arguments = function.string("arguments");
  }
  if (object.has("id") && object.string("id") != "null") {
    call.id = object.string("id");
    if (call.id.empty()) throw object.unexpected("id", call_id_rule);
  }
  return call;
}

inline Tool tool_of(const JsonObject& object) {
  allow_fields(object, {"type", "function"});
  const JsonObject function = function_of(object);
  allow_fields(function, {"name", "description", "parameters", "strict"});
  if (function.has("strict")) (void)function.boolean("strict");  // of what is made of the answer
  Tool tool{.name = function.string("name")};
  if (function.has("description")) tool.description = function.string("description");
  if (!function.is_object("parameters")) throw function.unexpected("parameters", "a JSON Schema, an object");
  tool.parameters = function.json("parameters");
  return tool;
}

inline void read_tool_choice(const JsonObject& object, ChatRequest& request) {
  constexpr const char* name = "tool_choice";
  if (object.is_object(name)) {
    const JsonObject choice = object.object(name);
    allow_fields(choice, {"type", "function"});
    const JsonObject function = function_of(choice);
    allow_fields(function, {"name"});
    request.tool_choice = ToolChoice::named;
    request.forced_tool = function.string("name");
    return;
  }
  const std::string& choice = object.string(name);
  if (choice == "none") {
    request.tool_choice = ToolChoice::none;
  } else if (choice == "required" || choice == "any") {
    request.tool_choice = ToolChoice::required;
  } else if (choice != "auto") {
    throw object.unexpected(name, "'auto', 'none', 'required', 'any' or an object that names a function");
  }
}

/// A message. Throws its Error for fields that would change what is said.
///   prefix  set where it says that the answer goes on; an error where it is null
inline Message message_of(const JsonObject& object, bool* prefix = nullptr) {
  Message message{.role = object.string("role")};
  if (object.has("tool_calls")) {
    for (const JsonObject& call : object.objects("tool_calls")) message.tool_calls.push_back(tool_call_of(call));
  }
  if (object.has("content") || message.tool_calls.empty()) message.content = content_of(object, "content");
  if (message.role == "tool") {
    if (object.has("tool_call_id")) message.tool_call_id = object.string("tool_call_id");
    if (object.has("name")) message.name = object.string("name");
    if (object.has("name") && message.name.empty()) throw object.unexpected("name", function_name_rule);
  }
  if (!object.has("prefix") || !object.boolean("prefix")) return message;
  if (prefix == nullptr || message.role != "assistant") {
    throw object.unexpected("prefix", "false, but for a last message of 'assistant'");
  }
  *prefix = true;
  return message;
}

/// Writes a message as parse_chat reads it.
inline void write_message(JsonWriter& json, const Message& message) {
  json.begin_object().field("role", message.role);
  if (message.tool_calls.empty() || !message.content.empty()) json.field("content", message.content);
  if (!message.tool_calls.empty()) {
    json.name("tool_calls").begin_array();
    for (const ToolCall& call : message.tool_calls) {
      json.begin_object();
      if (!call.id.empty()) json.field("id", call.id);
      json.field("type", "function").name("function").begin_object();
      json.field("name", call.name).field("arguments", call.arguments).end_object().end_object();
    }
    json.end_array();
  }
  if (!message.tool_call_id.empty()) json.field("tool_call_id", message.tool_call_id);
  if (!message.name.empty()) json.field("name", message.name);
  json.end_object();
}

/// Writes a tool as parse_chat reads it.
inline void write_tool(JsonWriter& json, const Tool& tool) {
  json.begin_object().field("type", "function").name("function").begin_object();
  json.field("name", tool.name).field("description", tool.description).name("parameters");
  const JsonDocument parameters = parse_json(tool.parameters, "chat", "tool '" + printable(tool.name, 64) + "'");
  json.literal(python_json(parameters, parameters.root)).end_object().end_object();
}

}  // namespace detail

/// Reads a request from the JSON object that chat servers take, a line of a JSONL file for one:
///
///     {"messages": [{"role": "user", "content": "Is it 2 o'clock?"},
///                   {"role": "assistant", "tool_calls": [{"id": "a1B2c3D4e", "type": "function",
///                                                         "function": {"name": "clock", "arguments": "{}"}}]},
///                   {"role": "tool", "tool_call_id": "a1B2c3D4e", "content": "14:03"}],
///      "tools": [{"type": "function", "function": {"name": "clock", "description": "The time of day",
///                                                  "parameters": {"type": "object", "properties": {}}}}],
///      "tool_choice": "auto", "continue_final_message": false}
///
/// All but the messages may be missing or null. A content may also be parts, `[{"type": "text", "text": "Hi"}, ...]`; a
/// call's arguments may be the object itself; tool_choice may be "auto", "none", "required", "any", which is the same,
/// or `{"type": "function", "function": {"name": ...}}`; and a last message of the assistant's with `"prefix": true`
/// means what continue_final_message does. Other fields of the request and of messages are passed over; those of tools
/// and calls are errors. Roles and their order, names and ids are left to encode_chat. Throws the object's Error for
/// fields that are missing, of another type or not supported.
inline ChatRequest parse_chat(const JsonObject& object) {
  ChatRequest request;
  const std::vector<JsonObject> messages = object.objects("messages");
  bool prefix = false;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    request.messages.push_back(detail::message_of(messages[i], i + 1 == messages.size() ? &prefix : nullptr));
  }
  if (object.has("tools")) {
    for (const JsonObject& tool : object.objects("tools")) request.tools.push_back(detail::tool_of(tool));
  }
  if (object.has("tool_choice")) detail::read_tool_choice(object, request);
  if (object.has("continue_final_message")) {
    request.options.continue_final_message = object.boolean("continue_final_message");
  }
  if (prefix && request.options.continue_final_message) {
    throw object.unexpected("continue_final_message", "false where the last message has 'prefix'");
  }
  request.options.continue_final_message = request.options.continue_final_message || prefix;
  return request;
}

/// Reads a request from text: see the overload above. Throws Error `[chat] name: ...`, for what is not JSON and for
/// ill-formed UTF-8 too.
inline ChatRequest parse_chat(std::string_view json, std::string_view name) {
  return parse_chat(JsonObject::parse(std::as_bytes(std::span(json)), "chat", name));
}

/// Returns a message as JSON that parse_chat reads, and other programs too. Throws Error `[json] ...` for a text that
/// is not UTF-8.
inline std::string message_json(const Message& message) {
  JsonWriter json;
  detail::write_message(json, message);
  return std::move(json).text();
}

/// Returns a request as JSON from which parse_chat reads the same. Throws Error `[json] ...` for a text that is not
/// UTF-8, and `[chat] ...` for a tool's parameters that are not JSON.
inline std::string chat_json(const ChatRequest& request) {
  JsonWriter json;
  json.begin_object().name("messages").begin_array();
  for (const Message& message : request.messages) detail::write_message(json, message);
  json.end_array();
  if (!request.tools.empty()) {
    json.name("tools").begin_array();
    for (const Tool& tool : request.tools) detail::write_tool(json, tool);
    json.end_array();
  }
  if (request.tool_choice == ToolChoice::none) json.field("tool_choice", "none");
  if (request.tool_choice == ToolChoice::required) json.field("tool_choice", "required");
  if (request.tool_choice == ToolChoice::named) {
    json.name("tool_choice").begin_object().field("type", "function").name("function");
    json.begin_object().field("name", request.forced_tool).end_object().end_object();
  }
  if (request.options.continue_final_message) json.field("continue_final_message", true);
  json.end_object();
  return std::move(json).text();
}

}}  // namespace mistral
