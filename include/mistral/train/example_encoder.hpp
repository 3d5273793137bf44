// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/text/chat_format.hpp>
#include <mistral/text/chat_json.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/markup.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How a file becomes examples.
struct DatasetOptions {
  std::size_t max_tokens = 512;  ///< longer examples are cut
  bool train_on_prompt = false;  ///< the loss covers all tokens, not the answers alone
  bool parse_special = false;    ///< control pieces that stand in the texts become their ids (see EncodeOptions)
  bool skip_bad = false;         ///< count the lines that hold no example, and go on, rather than throw
  std::optional<ChatFormat> chat_template = {};        ///< none: the one the tokenizer is made for
  std::size_t max_line_bytes = std::size_t{16} << 20;  ///< a longer line is a bad one
};

namespace detail {

/// What an error says, without its `[where]`.
inline std::string_view said_by(const Error& error) noexcept {
  const std::string_view line = error.what();
  const std::size_t end = line.find("] ");
  return end == std::string_view::npos ? line : line.substr(end + 2);
}

/// Whole tokens and answers, before anything is cut.
struct EncodedExample {
  std::vector<TokenId> tokens;
  std::vector<TokenRange> answers;
  std::set<std::string> markup{};  ///< text that looks like control tokens, and stayed text
};

/// Turns an object of the file into ids.
class ExampleEncoder {
 public:
  ExampleEncoder(const Tokenizer& tokenizer, const DatasetOptions& options)
      : tokenizer_(tokenizer),
        template_(options.chat_template ? *options.chat_template : ChatFormat(chat_template_of(tokenizer))),
        parse_special_(options.parse_special),
        markup_(tokenizer, options.parse_special ? MarkupFinder::Kind::foreign : MarkupFinder::Kind::any) {
    if (tokenizer.eos_id() < 0) throw Error("dataset", "the tokenizer", "one with EOS, which ends an answer", "none");
    if (options.chat_template && template_.writer() == nullptr)
      encode_chat(tokenizer, template_, {{"user", ""}});  // throws for what doesn't fit
  }

  EncodedExample encode(const JsonObject& json) const {
    if (json.has("messages")) return conversation(json, "messages", parse_chat(json), weights_of(json));
    if (json.has("conversations")) return conversation(json, "conversations", {.messages = turns_of(json)}, {});
    if (json.has("instruction")) return instruction(json);
    if (json.has("prompt") || json.has("completion")) {
      return continuation(json, json.string("prompt"), text(json, "completion"));
    }
    if (json.has("text")) return continuation(json, "", text(json, "text"));
    std::string fields;
    for (const std::string& name : json.names()) fields.append(fields.empty() ? "" : ", ").append(printable(name, 40));
    throw json.error(
        "expected the fields messages, or conversations, or instruction and output, or prompt and completion, or text, "
        "got " +
        (fields.empty() ? "none" : printable(fields, 200)));
  }

 private:
  static const std::string& text(const JsonObject& json, const std::string& name) {
    const std::string& value = json.string(name);
    if (value.empty()) throw json.unexpected(name, "text, which is what there is to learn");
    return value;
  }

  /// What the messages' `weight` fields say, 1 without one: of an answer, whether it is to be learnt.
  static std::vector<bool> weights_of(const JsonObject& json) {
    std::vector<bool> weights;
    for (const JsonObject& message : json.objects("messages")) {
      const double weight = message.has("weight") ? message.number("weight") : 1.0;
      if (weight != 0.0 && weight != 1.0) throw message.unexpected("weight", "0 (not to be learnt) or 1");
      weights.push_back(weight != 0.0);
    }
    return weights;
  }

  /// The turns of a ShareGPT conversation. Some files of that form have `role` and `content` in them.
  static std::vector<Message> turns_of(const JsonObject& json) {
    if (json.has("tools")) {  // "[]" for none, in some files
      const bool none = json.is_array("tools") ? json.objects("tools").empty()
                                               : json.string("tools").empty() || json.string("tools") == "[]";
      if (!none) throw json.unexpected("tools", "none");
    }
    std::vector<Message> messages;
    for (const JsonObject& turn : json.objects("conversations")) {
      if (!turn.has("from") && turn.has("role")) {
        messages.push_back(message_of(turn));
        continue;
      }
      const std::string& from = turn.string("from");
      std::string role = from;
      if (from == "human") role = "user";
      if (from == "gpt" || from == "chatgpt") role = "assistant";
      if (role != "system" && role != "user" && role != "assistant") {
        throw turn.unexpected("from", "'human', 'gpt', 'system', 'user' or 'assistant'");
      }
      messages.push_back({role, content_of(turn, "value")});
    }
    return messages;
  }

  EncodedExample instruction(const JsonObject& json) const {
    std::vector<Message> messages;
    if (json.has("history")) {
      for (const std::vector<std::string>& pair : json.string_lists("history")) {
        if (pair.size() != 2) throw json.unexpected("history", "pairs of a question and an answer");
        messages.push_back({"user", pair[0]});
        messages.push_back({"assistant", pair[1]});
      }
    }
    std::string user = json.string("instruction");
    if (json.has("input")) append_paragraph(user, json.string("input"));
    messages.push_back({"user", std::move(user)});
    messages.push_back({"assistant", text(json, "output")});
    return conversation(json, "instruction", {.messages = std::move(messages)}, {});
  }

  /// `weights`: of each message, whether it is to be learnt where it is an answer; none: all are.
  EncodedExample conversation(const JsonObject& json, const std::string& field, ChatRequest request,
                              std::vector<bool> weights) const {
    std::vector<Message>& messages = request.messages;
    if (json.has("system") && !json.string("system").empty()) {
      messages.insert(messages.begin(), {"system", json.string("system")});
      if (!weights.empty()) weights.insert(weights.begin(), true);
    }
    EncodedExample example;
    try {
      request.options.parse_special = parse_special_;
      EncodedChat chat = encode_chat_with_answers(tokenizer_, template_, request);
      example.tokens = std::move(chat.ids);
      example.answers = std::move(chat.answers);
    } catch (const Error& error) {
      throw json.error(said_by(error));
    }
    if (example.answers.empty()) throw json.unexpected(field, "an answer: a message of the assistant");
    if (std::find(weights.begin(), weights.end(), false) != weights.end()) {
      drop_answers(json, request, weights, template_.writer() == nullptr, example.answers);
    }
    for (const Message& message : messages) markup_.find(message.content, example.markup);
    return example;
  }

  /// Leaves out the answers whose weight is 0. `joins`: the template makes one turn of neighbours, where the request
  /// has it so.
  static void drop_answers(const JsonObject& json, const ChatRequest& request, const std::vector<bool>& weights,
                           bool joins, std::vector<TokenRange>& answers) {
    const std::vector<Message>& messages = request.messages;
    const bool merges = joins && Asked{messages, request.tools, request.options}.joins_neighbours();
    std::vector<bool> wanted;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      if (messages[i].role != "assistant") continue;
      if (merges && i > 0 && messages[i - 1].role == "assistant") {
        if (weights[i] == wanted.back()) continue;
        throw json.unexpected("messages", "one weight for answers that follow each other");
      }
      wanted.push_back(weights[i]);
    }
    if (wanted.size() != answers.size()) {
      throw json.unexpected("messages", "no weights, for the chat template doesn't write each answer by itself");
    }
    std::vector<TokenRange> kept;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (wanted[i]) kept.push_back(answers[i]);
    }
    if (kept.empty()) throw json.unexpected("messages", "an answer whose weight isn't 0");
    answers = std::move(kept);
  }

  /// Two texts that are one: the pieces are those of the whole, and the answer begins with the first one that the
  /// prompt alone doesn't have.
  EncodedExample continuation(const JsonObject& json, const std::string& prompt, const std::string& answer) const {
    if (json.has("system") && !json.string("system").empty()) {
      throw json.unexpected("system",
                            "none beside a text without a template (use messages, or instruction and output)");
    }
    const EncodeOptions options{.add_special = true, .parse_special = parse_special_};
    const std::vector<TokenId> begin = tokenizer_.encode(prompt, options);
    EncodedExample example;
    example.tokens = tokenizer_.encode(prompt + answer, options);
    if (example.tokens.empty() || example.tokens.back() != tokenizer_.eos_id()) {
      example.tokens.push_back(tokenizer_.eos_id());
    }
    const std::size_t most = (std::min)(begin.size(), example.tokens.size() - 1);
    std::size_t same = 0;
    while (same < most && begin[same] == example.tokens[same]) ++same;
    example.answers.push_back({same, example.tokens.size()});
    markup_.find(prompt, example.markup);
    markup_.find(answer, example.markup);
    if (template_.is(ChatTemplate::v1)) {  // whose own markup is text
      example.markup.erase("[INST]");
      example.markup.erase("[/INST]");
    }
    return example;
  }

  Tokenizer tokenizer_;
  ChatFormat template_;
  bool parse_special_;
  MarkupFinder markup_;
};

}  // namespace detail
}}  // namespace mistral
