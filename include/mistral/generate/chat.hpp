#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/token.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral::inline MISTRAL_ABI {

/// The system prompt with which the paper (section 5.1) has a model keep to guardrails.
inline constexpr std::string_view guardrail_prompt =
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity.";

/// A conversation, and what of it a session has taken. Turn by turn the session takes the ids that are new: all that it
/// has taken are always those of the template for the whole conversation, as encode_chat gives them. What it holds
/// beyond the beginning of these is taken back: an answer whose tokens are not those that its text has, and, in v3, the
/// last question with a system prompt, which moves to the next one. Where that is more than it can take back (see
/// Session::rollback), it is cleared and takes all ids again.
///
/// Through a window a conversation goes on for any number of turns; the memory of what was said grows, the session's
/// doesn't.
class Chat {
 public:
  /// Throws Error `[chat] template ...` where the tokenizer lacks BOS, EOS, or a control piece of the template.
  Chat(Tokenizer tokenizer, ChatTemplate chat_template) : tokenizer_(std::move(tokenizer)), template_(chat_template) {
    encode_chat(tokenizer_, template_, {{"user", ""}});
  }

  /// What was said so far, the system's message first.
  const std::vector<Message>& messages() const noexcept { return messages_; }

  /// Goes on from another conversation. Throws Error `[chat] messages[i] ...`, with all as it was, for one that can
  /// have no question behind it (encode_chat says why).
  void set_messages(std::vector<Message> messages) {
    std::vector<Message> asked = messages;
    asked.push_back({"user", ""});
    encode_chat(tokenizer_, template_, asked);
    messages_ = std::move(messages);
  }

  /// Puts a system prompt at the front, in place of what the system said; with no text, nothing.
  void set_system(std::string text) {
    Message first{"system", std::move(text)};
    messages_.reserve(messages_.size() + 1);  // from here on nothing throws
    std::erase_if(messages_, [](const Message& message) { return message.role == "system"; });
    if (!first.content.empty()) messages_.insert(messages_.begin(), std::move(first));
  }

  /// What the system said, joined by empty lines as the templates join it.
  std::string system() const {
    std::string text;
    for (const Message& message : messages_) {
      if (message.role == "system") detail::append_paragraph(text, message.content);
    }
    return text;
  }

  /// Forgets what was said, but for the system prompt.
  void reset() {
    std::erase_if(messages_, [](const Message& message) { return message.role != "system"; });
  }

  /// Asks the user's next question, and records the answer.
  ///   session  used for this conversation alone, or cleared since: else it is cleared here
  ///   run      run(prompt, seen) is to go on from `seen`, the ids that the session holds, with `prompt`, at least one
  ///            id, by `generate` or as it does, and returns what it made; its text should be no continuation of the
  ///            prompt's (GenerateOptions::own_text)
  /// An answer of no text is none: the question stays, and the template joins the next one to it. Throws what
  /// encode_chat and `run` throw, the conversation then being as it was.
  template <class Session, class Run>
  Generated answer(Session& session, std::string question, Run&& run) {
    messages_.push_back({"user", std::move(question)});
    try {
      std::vector<TokenId> ids = encode_chat(tokenizer_, template_, messages_);
      const auto differs = std::mismatch(seen_.begin(), seen_.end(), ids.begin(), ids.end()).first;
      std::size_t common = std::min(static_cast<std::size_t>(differs - seen_.begin()), ids.size() - 1);
      const auto behind = static_cast<std::int64_t>(seen_.size() - common);
      if (static_cast<std::size_t>(session.position()) == seen_.size() && behind <= session.revertible()) {
        session.rollback(behind);
      } else {
        session.clear();
        common = 0;
      }
      seen_.resize(common);
      Generated made = run(std::span<const TokenId>(ids).subspan(seen_.size()), std::span<const TokenId>(seen_));
      seen_ = std::move(ids);
      seen_.insert(seen_.end(), made.tokens.begin(), made.tokens.end());
      seen_.resize(static_cast<std::size_t>(session.position()));  // without a last token, which only was chosen
      if (!made.text.empty()) messages_.push_back({"assistant", made.text});
      return made;
    } catch (...) {  // wherever it was: the session may hold part of the question, or of the answer
      messages_.pop_back();
      session.clear();
      seen_.clear();
      throw;
    }
  }

  /// The same by `generate`, whose text ends with EOS at the latest.
  template <class Session, class OnText>
  Generated answer(Session& session, std::string question, GenerateOptions options, OnText&& on_text) {
    options.own_text = true;
    options.stop_ids.push_back(tokenizer_.eos_id());
    return answer(session, std::move(question), [&](std::span<const TokenId> prompt, std::span<const TokenId> seen) {
      options.seen = seen;
      return generate(session, tokenizer_, prompt, options, on_text);
    });
  }

 private:
  Tokenizer tokenizer_;
  ChatTemplate template_;
  std::vector<Message> messages_;
  std::vector<TokenId> seen_;  // what the session holds
};

}  // namespace mistral::inline MISTRAL_ABI
