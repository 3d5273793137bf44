// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/parser.hpp>
#include <mistral/text/message.hpp>
#include <mistral/text/tool_schema.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

inline bool is_letter_or_digit(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// Whether a function may be called so.
inline bool is_function_name(std::string_view name) noexcept {
  for (const char c : name) {
    if (!is_letter_or_digit(c) && c != '_' && c != '-') return false;
  }
  return !name.empty() && name.size() <= 64;
}

/// Whether a call may have this id.
inline bool is_call_id(std::string_view id) noexcept {
  for (const char c : id) {
    if (!is_letter_or_digit(c)) return false;
  }
  return id.size() == 9;
}

inline constexpr std::string_view function_name_rule = "1 to 64 of a-z, A-Z, 0-9, _ and -";
inline constexpr std::string_view call_id_rule = "9 of a-z, A-Z and 0-9";

/// The request to a template: messages, tools, and how they are taken.
struct Asked {
  std::span<const Message> messages;
  std::span<const Tool> tools;
  ChatOptions options;

  /// Whether a client asks for the next message rather than there being a whole conversation to learn from.
  bool is_request = false;

  /// Whether functions are spoken of.
  bool has_tools() const noexcept {
    if (!tools.empty()) return true;
    for (const Message& message : messages) {
      if (message.role == "tool" || !message.tool_calls.empty()) return true;
    }
    return false;
  }

  /// Whether neighbours of one role are one turn. A conversation that waits for an answer is a chat completion request,
  /// in which they are; one that ends with an answer is taken turn by turn as it stands.
  bool joins_neighbours() const noexcept {
    return messages.back().role != "assistant" || (options.continue_final_message && has_tools());
  }
};

/// Holds a conversation against the rules of mistral-common, whose validator of v3 this follows rule by rule.
class ConversationCheck {
 public:
  ///   takes_tools  the template can write calls and results down
  ConversationCheck(const Asked& asked, bool takes_tools) : asked_(asked), takes_tools_(takes_tools) {}

  /// Throws Error `[chat] ...` for a conversation that the template can't write down.
  void check() const {
    const std::span<const Message> messages = asked_.messages;
    if (messages.empty()) throw Error("chat", "messages", "at least one", "none");
    for (std::size_t i = 0; i < messages.size(); ++i) check_message(i);
    check_results();
    const std::size_t last = messages.size() - 1;
    const bool answered = messages[last].role == "assistant";
    if (asked_.options.continue_final_message && !answered) {
      fail(last, ", the last: role", "'assistant', to continue it", role_of(last));
    }
    if (asked_.is_request && answered && !asked_.options.continue_final_message && asked_.has_tools()) {
      fail(last, ", the last: role", "'user' or 'tool' (or continue_final_message)", role_of(last));
    }
    for (std::size_t i = 0; i < asked_.tools.size(); ++i) check_tool(i);
  }

 private:
  void check_message(std::size_t i) const {
    const Message& message = asked_.messages[i];
    const std::string& role = message.role;
    const std::string_view before = i > 0 ? std::string_view(asked_.messages[i - 1].role) : std::string_view();
    if (role == "system") {
      if (before == "assistant") fail(i, ": role", "'user' or 'assistant' after 'assistant'", role_of(i));
      if (before == "tool") fail(i, ": role", "'user', 'assistant' or 'tool' after 'tool'", role_of(i));
    } else if (role == "assistant") {
      check_assistant(i);
    } else if (role == "tool" && takes_tools_) {
      check_result(i, before);
    } else if (role != "user") {
      fail(i, ": role", takes_tools_ ? "'system', 'user', 'assistant' or 'tool'" : "'system', 'user' or 'assistant'",
           role_of(i));
    }
    if (role == "assistant" || message.tool_calls.empty()) return;
    fail(i, " of role " + role_of(i) + ": tool_calls", "none but the assistant's", "some");
  }

  void check_assistant(std::size_t i) const {
    const Message& message = asked_.messages[i];
    const std::string of = " of role 'assistant'";
    if (asked_.messages.size() == 1) fail(i, ": role", "a message of 'user' or 'system' before it", "'assistant'");
    if (message.tool_calls.empty()) {
      if (message.content.empty()) fail(i, of + ": content", takes_tools_ ? "text, or tool_calls" : "text", "none");
      return;
    }
    if (!takes_tools_) fail(i, of + ": tool_calls", "none, for template v1 has no tools", "some");
    if (!message.content.empty()) fail(i, of, "either content or tool_calls", "both");
    for (std::size_t j = 0; j < message.tool_calls.size(); ++j) {
      const ToolCall& call = message.tool_calls[j];
      const std::string which = ": tool_calls[" + std::to_string(j) + "]";
      if (!call.id.empty() && !is_call_id(call.id)) fail(i, which + ": id", call_id_rule, quoted(call.id));
      if (!is_function_name(call.name)) fail(i, which + ": name", function_name_rule, quoted(call.name));
    }
  }

  void check_result(std::size_t i, std::string_view before) const {
    const Message& message = asked_.messages[i];
    if (asked_.messages.size() == 1) fail(i, ": role", "a message of 'user' or 'system' before it", "'tool'");
    if (before == "user" || before == "system")
      fail(i, ": role", "'tool' after 'assistant' or 'tool'", "'tool' after '" + std::string(before) + "'");
    if (message.tool_call_id.empty()) fail(i, " of role 'tool': tool_call_id", "the id of a call", "none");
    if (!is_call_id(message.tool_call_id)) {
      fail(i, " of role 'tool': tool_call_id", call_id_rule, quoted(message.tool_call_id));
    }
    if (!message.name.empty() && !is_function_name(message.name)) {
      fail(i, " of role 'tool': name", function_name_rule, quoted(message.name));
    }
  }

  // Before the assistant goes on, each call has a result. Which result is whose is not looked at, nor are the calls of
  // a conversation's first message, nor the last ones.
  void check_results() const {
    std::int64_t missing = 0;
    for (std::size_t i = 1; i < asked_.messages.size(); ++i) {
      const Message& message = asked_.messages[i];
      if (message.role == "tool") --missing;
      if (message.role != "assistant") continue;
      if (missing != 0) {
        fail(i, " of role 'assistant'", "as many results as calls before it",
             std::to_string(missing < 0 ? -missing : missing) + (missing < 0 ? " more" : " less"));
      }
      missing = static_cast<std::int64_t>(message.tool_calls.size());
    }
  }

  void check_tool(std::size_t i) const {
    const Tool& tool = asked_.tools[i];
    const std::string which = "tools[" + std::to_string(i) + "]";
    if (!takes_tools_) throw Error("chat", "tools", "none, for template v1 has no tools", "some");
    if (!is_function_name(tool.name)) throw Error("chat", which + ": name", function_name_rule, quoted(tool.name));
    const JsonDocument schema = parse_json(tool.parameters, "chat", which + ": parameters", JsonDialect::python);
    if (schema.root.type != JsonValue::Type::object) {
      throw Error("chat", which + ": parameters", "a JSON Schema, an object", "something else");
    }
    ToolSchema(schema, which + ": parameters").check();
  }

  std::string role_of(std::size_t i) const { return quoted(asked_.messages[i].role); }

  static std::string quoted(std::string_view text) {
    std::string out = "'";  // not "'" + ..., of which gcc 12 warns in error (its bug 105651)
    return out.append(printable(text, 40)).append("'");
  }

  [[noreturn]] static void fail(std::size_t i, std::string_view what, std::string_view expected,
                                std::string_view found) {
    std::string where = "messages[" + std::to_string(i) + "]";
    throw Error("chat", where.append(what), expected, found);
  }

  const Asked& asked_;
  bool takes_tools_;
};

}}}  // namespace mistral::detail
