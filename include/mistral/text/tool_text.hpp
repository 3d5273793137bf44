// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/io/json/python.hpp>
#include <mistral/text/message.hpp>

/// \file
/// The texts between the control ids of template v3 where functions are spoken of.

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Appends what a call was given, or gave: JSON as Python would write it, a JSON string of what isn't JSON, and {} for
/// nothing. Throws Error for JSON beyond the limits of parse_json.
inline void append_tool_value(std::string& json, std::string_view text, std::string_view subject) {
  if (text.empty()) {
    json += "{}";
  } else if (const std::optional<std::string> value = python_json(text, "chat", subject)) {
    json += *value;
  } else {
    append_python_string(json, text);
  }
}

/// Appends `"name": "text"`.
inline void append_python_field(std::string& json, std::string_view name, std::string_view text) {
  append_python_string(json, name);
  json += ": ";
  append_python_string(json, text);
}

/// Returns the tools as they stand in [AVAILABLE_TOOLS].
inline std::string tools_text(std::span<const Tool> tools) {
  std::string json = "[";
  for (const Tool& tool : tools) {
    if (json.size() > 1) json += ", ";
    json += R"({"type": "function", "function": {)";
    append_python_field(json, "name", tool.name);
    json += ", ";
    append_python_field(json, "description", tool.description);
    json += R"(, "parameters": )";
    append_tool_value(json, tool.parameters, "a tool's parameters");
    json += "}}";
  }
  return json += "]";
}

/// Returns calls as they stand behind [TOOL_CALLS].
inline std::string tool_calls_text(std::span<const ToolCall> calls) {
  std::string json = "[";
  for (const ToolCall& call : calls) {
    if (json.size() > 1) json += ", ";
    json += "{";
    append_python_field(json, "name", call.name);
    json += R"(, "arguments": )";
    append_tool_value(json, call.arguments, "a call's arguments");
    if (!call.id.empty()) {
      json += ", ";
      append_python_field(json, "id", call.id);
    }
    json += "}";
  }
  return json += "]";
}

/// Returns a result as it stands in [TOOL_RESULTS].
inline std::string tool_result_text(const Message& message) {
  std::string json = R"({"content": )";
  append_tool_value(json, message.content, "a tool's result");
  json += ", ";
  append_python_field(json, "call_id", message.tool_call_id);
  return json += "}";
}

}}}  // namespace mistral::detail
