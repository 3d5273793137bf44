// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// What one side of a conversation said. Roles are "system", "user" and "assistant".
struct Message {
  std::string role;     ///< "system", "user" or "assistant"
  std::string content;  ///< UTF-8; what looks like a control token in it stays text
  /// Both are equal.
  friend bool operator==(const Message&, const Message&) = default;
};

/// How a conversation is written down for an Instruct model, as Mistral's own mistral-common does it:
///
///     v1   <s> "[INST] system\n\nfirst user [/INST]" "assistant" </s> "[INST] last user [/INST]"
///     v3   <s> [INST] "first user" [/INST] "assistant" </s> [INST] "system\n\nlast user" [/INST]
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

/// What a conversation may ask for.
struct ChatOptions {
  /// The last message is the beginning of an answer, which the model is to continue: no EOS follows it. It is an error
  /// where the last message isn't the assistant's.
  bool continue_final_message = false;
  /// Control pieces that stand in the messages become their ids (see EncodeOptions), which those who wrote the messages
  /// must then be trusted with. An answer that ends with EOS already gets no second one.
  bool parse_special = false;
};

/// A conversation as ids, and where in them the answers stand.
struct EncodedChat {
  std::vector<TokenId> ids;  ///< with one BOS in front
  std::vector<TokenRange>
      answers;  ///< of each assistant turn: its content and its EOS, which is what there is to learn
};

namespace detail {

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
    if (ends && (chat_.ids.size() == begin || chat_.ids.back() != eos_)) chat_.ids.push_back(eos_);
    chat_.answers.push_back({begin, chat_.ids.size()});
  }

  EncodedChat take() { return std::move(chat_); }

 private:
  // no control id comes out of a text, whatever it holds, unless the options ask for that
  void text(std::string_view content) {
    const std::vector<TokenId> ids = tokenizer_.encode(content, {.parse_special = parse_special_});
    chat_.ids.insert(chat_.ids.end(), ids.begin(), ids.end());
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

/// Throws Error for a conversation that no template can write down.
inline void check_conversation(const std::vector<Message>& messages, ChatOptions options) {
  if (messages.empty()) throw Error("chat", "messages", "at least one", "none");
  const auto fail = [&](std::size_t i, std::string_view what, std::string_view expected, std::string_view found) {
    std::string where = "messages[" + std::to_string(i) + "]";
    throw Error("chat", where.append(what), expected, found);
  };
  const auto quoted = [&](std::size_t i) {
    std::string role = "'";  // not "'" + ..., of which gcc 12 warns in error (its bug 105651)
    return role.append(printable(messages[i].role, 40)).append("'");
  };

  bool any_user = false;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    if (role == "user") {
      any_user = true;
    } else if (role == "assistant") {
      if (!any_user) fail(i, ": role", "a message of 'user' before the first of 'assistant'", quoted(i));
      if (content.empty()) fail(i, " of role 'assistant': content", "text", "none");
    } else if (role != "system") {
      fail(i, ": role", "'system', 'user' or 'assistant'", quoted(i));
    } else if (i > 0 && messages[i - 1].role == "assistant") {
      fail(i, ": role", "'user' or 'assistant' after 'assistant'", quoted(i));
    }
  }
  const std::size_t last = messages.size() - 1;
  if (!any_user)
    fail(last, " of role " + quoted(last) + ", the last", "a message of 'user' in the conversation", "none");
  if (options.continue_final_message && messages[last].role != "assistant") {
    fail(last, ", the last: role", "'assistant', to continue it", quoted(last));
  }
}

/// `text` with `more` behind it, an empty line between them where neither is empty.
inline void append_paragraph(std::string& text, std::string_view more) {
  if (!text.empty() && !more.empty()) text += "\n\n";
  text += more;
}

/// The system prompt, and the messages of the user and the assistant.
struct Conversation {
  std::string system;
  std::vector<Message> turns;
};

/// What the system says, wherever, is one prompt. A conversation that waits for an answer is a chat completion request,
/// in which neighbours of one role are one turn; one that ends with an answer is taken turn by turn as it stands.
inline Conversation conversation_of(const std::vector<Message>& messages) {
  const bool merges = messages.back().role != "assistant";
  Conversation conversation;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "system") {
      append_paragraph(conversation.system, messages[i].content);
    } else if (merges && i > 0 && messages[i - 1].role == messages[i].role) {
      append_paragraph(conversation.turns.back().content, messages[i].content);
    } else {
      conversation.turns.push_back(messages[i]);
    }
  }
  return conversation;
}

}  // namespace detail

/// The ids of a conversation, exactly one BOS first, and where the answers stand, so that a loss can cover them alone.
/// Text that looks like a control piece is text in every message. (In v1 `[INST]` is text for the template too: there a
/// user who writes `[/INST]` cannot be told from the template.)
///
/// - Messages of the system may stand anywhere but behind the assistant's; all of them, joined by empty lines, lead the
///   first user message (v1) or the last (v3).
/// - Messages of one role in a row are joined by an empty line where the last message is not the assistant's, as
///   mistral-common joins a chat completion request's. They stay apart where it is, as in its `encode_instruct`.
/// - An assistant's message loses the spaces at its end (v3), and is followed by EOS, but for a last one that is to be
///   continued.
///
/// Throws Error `[chat] messages[i] ...`, which names the role, for no messages, an unknown role, the system behind the
/// assistant, an answer of nothing, a last message to be continued that isn't the assistant's, and for an answer before
/// any user's message or none of them at all (where mistral-common would make up an empty one); and Error `[chat]
/// template ...` where the tokenizer lacks BOS, EOS, or a control piece of v3.
inline EncodedChat encode_chat_with_answers(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                            const std::vector<Message>& messages, ChatOptions options = {}) {
  detail::check_conversation(messages, options);
  detail::ChatEncoder encoder{tokenizer, chat_template, options.parse_special};
  const detail::Conversation conversation = detail::conversation_of(messages);
  const std::vector<Message>& turns = conversation.turns;

  std::size_t led = 0;  // the user's message that the system prompt goes to; the first turn is always the user's
  for (std::size_t i = 0; chat_template == ChatTemplate::v3 && i < turns.size(); ++i) {
    if (turns[i].role == "user") led = i;
  }
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const std::string& content = turns[i].content;
    if (turns[i].role == "assistant") {
      encoder.assistant(content, !(options.continue_final_message && i + 1 == turns.size()));
    } else if (i == led && !conversation.system.empty()) {
      encoder.user(conversation.system + "\n\n" + content);
    } else {
      encoder.user(content);
    }
  }
  return encoder.take();
}

/// The ids of a conversation: encode_chat_with_answers says how, and for what it throws.
inline std::vector<TokenId> encode_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                        const std::vector<Message>& messages, ChatOptions options = {}) {
  return encode_chat_with_answers(tokenizer, chat_template, messages, options).ids;
}

}}  // namespace mistral
