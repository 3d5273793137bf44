// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/random.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/text/chat_format.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/message.hpp>
#include <mistral/text/tokenizer.hpp>
#include <mistral/text/tool_calls.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

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
/// doesn't. Without one it ends with the model's context, unless make_room() is called before each question.
class Chat {
 public:
  /// Throws Error `[chat] template ...` where the tokenizer lacks BOS, EOS, or a control piece of one of Mistral's own
  /// templates. What a Jinja template has against a conversation, it says when that is asked for an answer.
  Chat(Tokenizer tokenizer, ChatFormat format) : tokenizer_(std::move(tokenizer)), template_(std::move(format)) {
    if (template_.writer() == nullptr) encode_chat(tokenizer_, template_, {{"user", ""}});
  }

  /// Returns what was said so far, the system's message first; what make_room() left out stands there too.
  const std::vector<Message>& messages() const noexcept { return messages_; }

  /// How many of the oldest messages of the user and the assistant the model isn't shown any more: see make_room().
  std::size_t forgotten() const noexcept { return forgotten_; }

  /// The functions that the model may call.
  const std::vector<Tool>& tools() const noexcept { return tools_; }

  /// Tells the model from here on which functions it may call. Throws Error `[chat] tools ...`, with all as it was, for
  /// tools that the template can't write down.
  void set_tools(std::vector<Tool> tools) {
    (void)encode_chat(tokenizer_, template_, ChatRequest{.messages = {{"user"}}, .tools = tools});
    tools_ = std::move(tools);
  }

  /// Starts the ids of calls anew: the same seed gives the same ids to the same answers.
  void set_call_seed(std::uint64_t seed) noexcept { call_seed_ = seed; }

  /// Why what the last answer has for calls could not be read as such, and stands as its text; empty where nothing is
  /// wrong.
  const std::string& call_error() const noexcept { return call_error_; }

  /// Goes on from another conversation. Throws Error `[chat] messages[i] ...`, with all as it was, for one that can
  /// have no question behind it (encode_chat says why).
  void set_messages(std::vector<Message> messages) {
    std::vector<Message> asked = messages;
    asked.push_back({"user", "?"});  // a Jinja template may refuse one of nothing
    encode_chat(tokenizer_, template_, asked);
    messages_ = std::move(messages);
    forgotten_ = 0;
  }

  /// Puts a system prompt at the front, in place of what the system said; with no text, nothing.
  void set_system(std::string text) {
    Message first{"system", std::move(text)};
    messages_.reserve(messages_.size() + 1);  // from here on nothing throws
    std::erase_if(messages_, [](const Message& message) { return message.role == "system"; });
    if (!first.content.empty()) messages_.insert(messages_.begin(), std::move(first));
  }

  /// Returns what the system said, joined by empty lines as the templates join it.
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
    forgotten_ = 0;
  }

  /// How many tokens the model is shown where this question is asked next, the conversation before it included.
  std::size_t prompt_tokens(std::string question) const { return prompt_tokens(asked_by(std::move(question))); }

  /// How many tokens the model is shown where these messages come next: a question, or the results of calls.
  std::size_t prompt_tokens(const std::vector<Message>& asked) const {
    std::vector<Message> all = messages_;
    all.insert(all.end(), asked.begin(), asked.end());
    return prompt_tokens(all, forgotten_);
  }

  /// For models without a window, before each question: where the conversation with this question, and an answer,
  /// would go past the context, leaves out the oldest turns, each a question and its answer, from here on. What the
  /// system said stays. So that this needn't be done again at once, a quarter of the context is kept free where the
  /// last turn can stay. The session is then as if the turns that are left were all that was ever said: `answer`
  /// has it compute them again.
  ///   context  tokens that the model takes: config.context_len
  ///   answer   tokens of the answer at most; room is made for as many, but for no more than half of the context
  /// Returns the number of turns left out by this call. Throws Error `[chat] the question ...`, with all as it was,
  /// where the question and what the system said are alone longer than the context.
  std::size_t make_room(std::string question, std::size_t context, std::size_t answer) {
    return make_room(asked_by(std::move(question)), context, answer);
  }

  /// Makes room for other messages than a question, such as the results of calls: see the overload above.
  std::size_t make_room(const std::vector<Message>& next, std::size_t context, std::size_t answer) {
    std::vector<Message> asked = messages_;
    asked.insert(asked.end(), next.begin(), next.end());
    const std::size_t room = (std::min)(answer, context / 2);
    if (prompt_tokens(asked, forgotten_) + room <= context) return 0;

    const std::vector<std::size_t> turns = later_turns(asked);
    const auto first_within = [&](std::size_t limit) {
      return std::partition_point(turns.begin(), turns.end(), [&](std::size_t forgotten) {
        return prompt_tokens(asked, forgotten) + room > limit;
      });
    };
    auto first = first_within(context - context / 4);
    if (turns.end() - first <= 1) first = first_within(context);  // no turn goes that still fits, but for room to spare
    if (first == turns.end() && !turns.empty()) --first;          // no room for all of an answer
    const std::size_t forgotten = first == turns.end() ? forgotten_ : *first;
    if (const std::size_t least = prompt_tokens(asked, forgotten); least > context) {
      throw Error("chat", system().empty() ? "the question" : "the question and the system prompt",
                  "at most the " + std::to_string(context) + " tokens of the context", std::to_string(least));
    }
    if (first == turns.end()) return 0;
    forgotten_ = forgotten;
    return static_cast<std::size_t>(first - turns.begin()) + 1;
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
    return answer(session, asked_by(std::move(question)), run);
  }

  /// Has the model go on behind other messages than a question: the results of the calls that messages().back() has
  /// where there are tools() and the model asked for some. See the overload above.
  template <class Session, class Run>
  Generated answer(Session& session, std::vector<Message> asked, Run&& run) {
    const std::size_t said = messages_.size();
    try {
      messages_.insert(messages_.end(), std::make_move_iterator(asked.begin()), std::make_move_iterator(asked.end()));
      std::vector<TokenId> ids = encode(without_oldest(messages_, forgotten_));
      const auto differs = std::mismatch(seen_.begin(), seen_.end(), ids.begin(), ids.end()).first;
      std::size_t common = (std::min)(static_cast<std::size_t>(differs - seen_.begin()), ids.size() - 1);
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
      Message answered = read(made);
      if (!answered.content.empty() || !answered.tool_calls.empty()) messages_.push_back(std::move(answered));
      return made;
    } catch (const Cancelled&) {  // by the session's token: it has taken nothing of the prompt
      messages_.resize(said);
      if (static_cast<std::size_t>(session.position()) != seen_.size()) {
        session.clear();
        seen_.clear();
      }
      throw;
    } catch (...) {  // wherever it was: the session may hold part of the question, or of the answer
      messages_.resize(said);
      session.clear();
      seen_.clear();
      throw;
    }
  }

  /// Answers by `generate`, whose text ends with one of the tokenizer's eos_ids() at the latest.
  template <class Session, class OnText>
  Generated answer(Session& session, std::string question, GenerateOptions options, OnText&& on_text) {
    return answer(session, asked_by(std::move(question)), std::move(options), on_text);
  }

  /// Answers other messages than a question by `generate`: see the overloads above.
  template <class Session, class OnText>
  Generated answer(Session& session, std::vector<Message> asked, GenerateOptions options, OnText&& on_text) {
    options.own_text = true;
    options.stop_ids.insert(options.stop_ids.end(), tokenizer_.eos_ids().begin(), tokenizer_.eos_ids().end());
    return answer(session, std::move(asked), [&](std::span<const TokenId> prompt, std::span<const TokenId> seen) {
      options.seen = seen;
      return generate(session, tokenizer_, prompt, options, on_text);
    });
  }

 private:
  // The messages without so many of the oldest that aren't the system's.
  static std::vector<Message> without_oldest(const std::vector<Message>& messages, std::size_t count) {
    std::vector<Message> left;
    for (const Message& message : messages) {
      if (message.role == "system" || count == 0) {
        left.push_back(message);
      } else {
        --count;
      }
    }
    return left;
  }

  static std::vector<Message> asked_by(std::string question) { return {{"user", std::move(question)}}; }

  std::vector<TokenId> encode(std::vector<Message> messages) const {
    return encode_chat(tokenizer_, template_, ChatRequest{.messages = std::move(messages), .tools = tools_});
  }

  // What the model said. Calls where it may make some: the template has no place for a text beside them.
  Message read(const Generated& made) {
    Message message{"assistant", made.text};
    call_error_.clear();
    if (tools_.empty()) return message;
    AnswerReader reader(tokenizer_, call_seed_);
    for (const TokenId token : made.tokens) {
      if (static_cast<std::size_t>(token) >= tokenizer_.vocab_size()) continue;  // pads the model's vocabulary
      AnswerPiece piece = reader.feed(token);
      message.tool_calls.insert(message.tool_calls.end(), piece.calls.begin(), piece.calls.end());
    }
    (void)reader.finish();
    call_error_ = reader.error();
    (void)split_mix(call_seed_);  // another answer has other ids
    if (!call_error_.empty()) message.tool_calls.clear();
    if (!message.tool_calls.empty()) message.content.clear();
    return message;
  }

  std::size_t prompt_tokens(const std::vector<Message>& asked, std::size_t forgotten) const {
    return encode(without_oldest(asked, forgotten)).size();
  }

  // How many messages stand before each turn behind the first that is still shown, the system's not counted: a turn
  // begins with a question behind an answer.
  std::vector<std::size_t> later_turns(const std::vector<Message>& asked) const {
    std::vector<std::size_t> turns;
    std::size_t before = 0;
    bool behind_answer = false;
    for (const Message& message : asked) {
      if (message.role == "system") continue;
      if (message.role == "user" && behind_answer && before > forgotten_) turns.push_back(before);
      behind_answer = message.role != "user";
      ++before;
    }
    return turns;
  }

  Tokenizer tokenizer_;
  ChatFormat template_;
  std::vector<Message> messages_;
  std::vector<Tool> tools_;
  std::uint64_t call_seed_ = 0;
  std::string call_error_;
  std::size_t forgotten_ = 0;  // see forgotten()
  std::vector<TokenId> seen_;  // what the session holds
};

}}  // namespace mistral
