// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/token.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/message.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Writes conversations down in a way of its own, such as by a model's Jinja template (JinjaChat).
class ChatWriter {
 public:
  ChatWriter() = default;
  ChatWriter(const ChatWriter&) = delete;
  ChatWriter& operator=(const ChatWriter&) = delete;
  virtual ~ChatWriter() = default;

  /// Returns the ids of a conversation; one whose last message isn't the assistant's ends with what an answer follows.
  /// Throws Error for a conversation that can't be written down.
  virtual std::vector<TokenId> encode(const Tokenizer& tokenizer, const ChatRequest& request) const = 0;

  /// Returns the ids of a conversation, and where in them the answers stand. Throws Error where that can't be told.
  virtual EncodedChat encode_with_answers(const Tokenizer& tokenizer, const ChatRequest& request) const = 0;
};

/// How conversations are written down: one of Mistral's own templates, or a writer such as a JinjaChat. It is made of
/// either by itself, wherever a function takes a ChatFormat.
class ChatFormat {
 public:
  /// Goes by one of Mistral's own templates.
  ChatFormat(ChatTemplate own) : own_(own) {}

  /// Goes by a writer, which isn't null.
  ChatFormat(std::shared_ptr<const ChatWriter> writer) : writer_(std::move(writer)) {}

  /// Returns the writer, null where it is one of Mistral's own templates.
  const ChatWriter* writer() const noexcept { return writer_.get(); }

  /// Returns which of Mistral's own templates it is, where it has no writer.
  ChatTemplate own() const noexcept { return own_; }

  /// Whether it is that one of Mistral's own templates.
  bool is(ChatTemplate own) const noexcept { return !writer_ && own_ == own; }

 private:
  ChatTemplate own_ = ChatTemplate::v1;
  std::shared_ptr<const ChatWriter> writer_;
};

/// Returns the ids of a conversation. Throws what the format's own writing does.
inline std::vector<TokenId> encode_chat(const Tokenizer& tokenizer, const ChatFormat& format,
                                        const std::vector<Message>& messages, ChatOptions options = {}) {
  if (format.writer() != nullptr) return format.writer()->encode(tokenizer, {.messages = messages, .options = options});
  return encode_chat(tokenizer, format.own(), messages, options);
}

/// Returns the ids of a conversation, and where in them the answers stand. Throws what the format's own writing does.
inline EncodedChat encode_chat_with_answers(const Tokenizer& tokenizer, const ChatFormat& format,
                                            const std::vector<Message>& messages, ChatOptions options = {}) {
  if (format.writer() != nullptr)
    return format.writer()->encode_with_answers(tokenizer, {.messages = messages, .options = options});
  return encode_chat_with_answers(tokenizer, format.own(), messages, options);
}

/// Returns the ids of a request, a ChatRequest: see the overload above.
template <std::same_as<ChatRequest> Request>
std::vector<TokenId> encode_chat(const Tokenizer& tokenizer, const ChatFormat& format, const Request& request) {
  if (format.writer() != nullptr) return format.writer()->encode(tokenizer, request);
  return encode_chat(tokenizer, format.own(), request);
}

/// Returns the ids of a request, a ChatRequest, and where its answers stand: see the overload above.
template <std::same_as<ChatRequest> Request>
EncodedChat encode_chat_with_answers(const Tokenizer& tokenizer, const ChatFormat& format, const Request& request) {
  if (format.writer() != nullptr) return format.writer()->encode_with_answers(tokenizer, request);
  return encode_chat_with_answers(tokenizer, format.own(), request);
}

}}  // namespace mistral
