// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A call of a function that the model asks for.
struct ToolCall {
  std::string name;              ///< of the function: 1 to 64 of a-z, A-Z, 0-9, _ and -
  std::string arguments = "{}";  ///< JSON; what isn't is passed on as a JSON string of it
  std::string id{};              ///< nine of a-z, A-Z and 0-9, by which a result names it; empty: none
  /// Both are equal.
  friend bool operator==(const ToolCall&, const ToolCall&) = default;
};

/// A message of a conversation. Roles are "system", "user", "assistant" and "tool".
struct Message {
  std::string role;                    ///< "system", "user", "assistant" or, for the result of a call, "tool"
  std::string content{};               ///< UTF-8; what looks like a control token in it stays text
  std::vector<ToolCall> tool_calls{};  ///< of the assistant, instead of a content
  std::string tool_call_id{};          ///< of a tool: the call that this is the result of
  std::string name{};                  ///< of a tool: the function; not written down, and may be empty
  /// Both are equal.
  friend bool operator==(const Message&, const Message&) = default;
};

/// A function that the model may call.
struct Tool {
  std::string name;               ///< 1 to 64 of a-z, A-Z, 0-9, _ and -
  std::string description{};      ///< what it does, for the model
  std::string parameters = "{}";  ///< a JSON Schema of its arguments: an object, whose order of fields is kept
  /// Both are equal.
  friend bool operator==(const Tool&, const Tool&) = default;
};

/// The choice that the model has about the tools. The prompt's ids are the same whatever it is; whoever runs the model
/// may keep to it.
enum class ToolChoice {
  automatic,  ///< it calls or answers as it finds right
  none,       ///< it answers
  required,   ///< it calls at least one
  named       ///< it calls ChatRequest::forced_tool
};

/// The options of a conversation.
struct ChatOptions {
  /// The last message is the beginning of an answer, which the model is to continue: no EOS follows it. It is an error
  /// where the last message isn't the assistant's.
  bool continue_final_message = false;
  /// Control pieces that stand in the messages become their ids (see EncodeOptions), which those who wrote the messages
  /// must then be trusted with. An answer that ends with EOS already gets no second one. Tools, calls and results stay
  /// text even so.
  bool parse_special = false;
};

/// A conversation as a client asks for its next message.
struct ChatRequest {
  std::vector<Message> messages;
  ChatOptions options{};
  std::vector<Tool> tools{};
  ToolChoice tool_choice = ToolChoice::automatic;
  std::string forced_tool{};  ///< the function's name where tool_choice is `named`
};

}}  // namespace mistral
