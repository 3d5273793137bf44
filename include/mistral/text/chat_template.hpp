// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/token.hpp>
#include <mistral/text/check_conversation.hpp>
#include <mistral/text/message.hpp>
#include <mistral/text/tokenizer.hpp>
#include <mistral/text/tool_text.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How a conversation is written down for an Instruct model, as Mistral's own mistral-common does it:
///
///     v1   <s> "[INST] system\n\nfirst user [/INST]" "assistant" </s> "[INST] last user [/INST]"
///     v3   <s> [INST] "first user" [/INST] "assistant" </s> [INST] "system\n\nlast user" [/INST]
///
/// and in v3 with functions that the model may call
///
///     [AVAILABLE_TOOLS] "tools" [/AVAILABLE_TOOLS] [INST] "last user" [/INST] [TOOL_CALLS] "calls" </s>
///     [TOOL_RESULTS] "result" [/TOOL_RESULTS] "assistant" </s>
///
/// where each text in quotes is encoded by itself, and the rest are control ids.
enum class ChatTemplate {
  v1,  ///< Mistral 7B Instruct v0.1 and v0.2: `[INST]` is plain text; the system prompt leads the first user message
  v3,  ///< v0.3: `[INST]` and `[/INST]` are control ids; the system prompt leads the last user message
};

/// The template that a tokenizer is made for: v3 where `[INST]` is a control piece, v1 elsewhere.
inline ChatTemplate chat_template_of(const Tokenizer& tokenizer) {
  const auto id = tokenizer.find("[INST]");
  return id && tokenizer.is_control(*id) ? ChatTemplate::v3 : ChatTemplate::v1;
}

/// Which of these templates a Jinja template of a model's maker writes down: those of Mistral's own Instruct models,
/// told by what stands in them. None for any other.
inline std::optional<ChatTemplate> chat_template_in(std::string_view jinja) {
  const auto has = [&](std::string_view text) { return jinja.find(text) != std::string_view::npos; };
  for (const std::string_view needed : {"[INST] ", "[/INST]", "bos_token", "eos_token"}) {
    if (!has(needed)) return std::nullopt;
  }
  for (const std::string_view foreign : {"<<SYS>>", "<|", "###", "[SYSTEM_PROMPT]", "<start_of_turn>"}) {
    if (has(foreign)) return std::nullopt;
  }
  return has("[AVAILABLE_TOOLS]") ? ChatTemplate::v3 : ChatTemplate::v1;
}

/// A conversation as ids, and where in them the answers stand.
struct EncodedChat {
  std::vector<TokenId> ids;  ///< with one BOS in front
  std::vector<TokenRange>
      answers;  ///< of each assistant turn: its content and its EOS, which is what there is to learn
};

namespace detail {

/// `text` with `more` behind it, an empty line between them where neither is empty.
inline void append_paragraph(std::string& text, std::string_view more) {
  if (!text.empty() && !more.empty()) text += "\n\n";
  text += more;
}

/// A conversation in the making: BOS, then a turn after the other.
class ChatEncoder {
 public:
  /// Throws Error where the tokenizer lacks a control piece of the template.
  ChatEncoder(const Tokenizer& tokenizer, ChatTemplate chat_template, bool parse_special)
      : tokenizer_(tokenizer),
        template_(chat_template),
        parse_special_(parse_special),
        eos_(given(tokenizer.eos_id(), "EOS")) {
    chat_.ids.push_back(given(tokenizer.bos_id(), "BOS"));
    if (template_ != ChatTemplate::v3) return;
    begin_inst_ = control("[INST]");
    end_inst_ = control("[/INST]");
  }

  void user(const std::string& content) {
    if (template_ == ChatTemplate::v1) {
      text("[INST] " + content + " [/INST]");
      return;
    }
    chat_.ids.push_back(begin_inst_);
    text(content);
    chat_.ids.push_back(end_inst_);
  }

  void assistant(std::string_view content, bool ends) {
    // v3 was trained on answers without spaces at their ends; other white space stays (npos + 1 is 0)
    if (template_ == ChatTemplate::v3) content = content.substr(0, content.find_last_not_of(' ') + 1);
    const std::size_t begin = chat_.ids.size();
    text(content);
    end_answer(begin, ends);
  }

  void calls(std::span<const ToolCall> calls, bool ends) {
    const std::size_t begin = chat_.ids.size();
    chat_.ids.push_back(control("[TOOL_CALLS]"));
    json(tool_calls_text(calls));
    end_answer(begin, ends);
  }

  void result(const Message& message) {
    chat_.ids.push_back(control("[TOOL_RESULTS]"));
    json(tool_result_text(message));
    chat_.ids.push_back(control("[/TOOL_RESULTS]"));
  }

  void tools(std::span<const Tool> tools) {
    chat_.ids.push_back(control("[AVAILABLE_TOOLS]"));
    json(tools_text(tools));
    chat_.ids.push_back(control("[/AVAILABLE_TOOLS]"));
  }

  EncodedChat take() { return std::move(chat_); }

 private:
  // no control id comes out of a text, whatever it holds, unless the options ask for that
  void text(std::string_view content) {
    const std::vector<TokenId> ids = tokenizer_.encode(content, {.parse_special = parse_special_});
    chat_.ids.insert(chat_.ids.end(), ids.begin(), ids.end());
  }

  // what functions take and give is never trusted with control ids
  void json(std::string_view content) {
    const std::vector<TokenId> ids = tokenizer_.encode(content);
    chat_.ids.insert(chat_.ids.end(), ids.begin(), ids.end());
  }

  void end_answer(std::size_t begin, bool ends) {
    if (ends && (chat_.ids.size() == begin || chat_.ids.back() != eos_)) chat_.ids.push_back(eos_);
    chat_.answers.push_back({begin, chat_.ids.size()});
  }

  TokenId control(std::string_view piece) const {
    const auto id = tokenizer_.find(piece);
    return given(id && tokenizer_.is_control(*id) ? *id : -1, piece);
  }

  TokenId given(TokenId id, std::string_view piece) const {
    if (id >= 0) return id;
    throw Error("chat", template_ == ChatTemplate::v1 ? "template v1" : "template v3",
                "a tokenizer with the control piece " + std::string(piece), "one without");
  }

  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  bool parse_special_;
  EncodedChat chat_;
  TokenId eos_;
  TokenId begin_inst_ = -1, end_inst_ = -1;
};

/// The system prompt, and the other messages.
struct Conversation {
  std::string system;
  std::vector<Message> turns;
};

/// Returns the conversation as the templates take it. What the system says, wherever, is one prompt. What is no message
/// of the user's at the front gets an empty one before it, as mistral-common has it.
inline Conversation conversation_of(const Asked& asked) {
  const std::span<const Message> messages = asked.messages;
  const bool joins = asked.joins_neighbours();
  Conversation conversation;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    if (message.role == "system") {
      append_paragraph(conversation.system, message.content);
    } else if (joins && i > 0 && messages[i - 1].role == message.role && message.role != "tool") {
      Message& turn = conversation.turns.back();
      append_paragraph(turn.content, message.content);
      turn.tool_calls.insert(turn.tool_calls.end(), message.tool_calls.begin(), message.tool_calls.end());
      if (turn.content.empty() || turn.tool_calls.empty()) continue;
      throw Error("chat", "messages[" + std::to_string(i) + "] of role 'assistant' and the one before it, one turn",
                  "either content or tool_calls", "both");
    } else {
      conversation.turns.push_back(message);
    }
  }
  std::vector<Message>& turns = conversation.turns;
  if (turns.empty() || turns.front().role != "user") turns.insert(turns.begin(), Message{"user"});
  return conversation;
}

inline EncodedChat encode_asked(const Tokenizer& tokenizer, ChatTemplate chat_template, const Asked& asked) {
  ConversationCheck(asked, chat_template == ChatTemplate::v3).check();
  ChatEncoder encoder{tokenizer, chat_template, asked.options.parse_special};
  const Conversation conversation = conversation_of(asked);
  const std::vector<Message>& turns = conversation.turns;

  std::size_t led = 0;  // the user's message that the system prompt and the tools go to; the first turn is the user's
  for (std::size_t i = 0; chat_template == ChatTemplate::v3 && i < turns.size(); ++i) {
    if (turns[i].role == "user") led = i;
  }
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const Message& turn = turns[i];
    const bool ends = !(asked.options.continue_final_message && i + 1 == turns.size());
    if (turn.role == "tool") {
      encoder.result(turn);
    } else if (turn.role == "assistant" && !turn.tool_calls.empty()) {
      encoder.calls(turn.tool_calls, ends);
    } else if (turn.role == "assistant") {
      encoder.assistant(turn.content, ends);
    } else {
      if (i == led && !asked.tools.empty()) encoder.tools(asked.tools);
      const bool leads = i == led && !conversation.system.empty();
      encoder.user(leads ? conversation.system + "\n\n" + turn.content : turn.content);
    }
  }
  return encoder.take();
}

}  // namespace detail

/// The ids of a conversation, exactly one BOS first, and where the answers stand, so that a loss can cover them alone.
/// Text that looks like a control piece is text in every message. (In v1 `[INST]` is text for the template too: there a
/// user who writes `[/INST]` cannot be told from the template.)
///
/// - Messages of the system may stand anywhere but behind the assistant's and the tools'; all of them, joined by empty
///   lines, lead the first user message (v1) or the last (v3).
/// - Where the first message that isn't the system's isn't the user's either, an empty one of the user's goes before
/// it.
/// - Messages of one role in a row are joined by an empty line where the last message is not the assistant's, as
///   mistral-common joins a chat completion request's. They stay apart where it is, as in its `encode_instruct`.
/// - An assistant's message loses the spaces at its end (v3), and is followed by EOS, but for a last one that is to be
///   continued.
/// - Tools, calls and results are JSON (v3), to the letter as mistral-common writes it: the tools before the last user
///   message, calls as an answer, and each result in a turn of its own.
///
/// Throws Error `[chat] messages[i] ...`, which names the role, for no messages, an unknown role, the system behind the
/// assistant, an answer of nothing, a conversation of an answer alone, a last message to be continued that isn't the
/// assistant's; ids of calls and names of functions that break their rules; results that aren't as many as the calls
/// before them once the assistant goes on; Error `[chat] tools ...` for a tool whose name or schema is wrong, or any
/// with v1; and Error `[chat] template ...` where the tokenizer lacks BOS, EOS, or a control piece of v3.
inline EncodedChat encode_chat_with_answers(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                            const std::vector<Message>& messages, ChatOptions options = {}) {
  return detail::encode_asked(tokenizer, chat_template, {messages, {}, options, false});
}

/// Returns the ids of a conversation with tools, a ChatRequest, and where its answers stand: see the overload above. (A
/// template, so that a list in braces is always one of messages.)
template <std::same_as<ChatRequest> Request>
EncodedChat encode_chat_with_answers(const Tokenizer& tokenizer, ChatTemplate chat_template, const Request& request) {
  return detail::encode_asked(tokenizer, chat_template, {request.messages, request.tools, request.options, false});
}

/// Returns the ids of a conversation: encode_chat_with_answers says how, and for what it throws. One with tools, calls
/// or results must wait for an answer, or have its last one continued.
inline std::vector<TokenId> encode_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                        const std::vector<Message>& messages, ChatOptions options = {}) {
  return detail::encode_asked(tokenizer, chat_template, {messages, {}, options, true}).ids;
}

/// Returns the ids of a request, a ChatRequest: see the overload above. Whatever the tool choice is, they are the same.
template <std::same_as<ChatRequest> Request>
std::vector<TokenId> encode_chat(const Tokenizer& tokenizer, ChatTemplate chat_template, const Request& request) {
  return detail::encode_asked(tokenizer, chat_template, {request.messages, request.tools, request.options, true}).ids;
}

}}  // namespace mistral
