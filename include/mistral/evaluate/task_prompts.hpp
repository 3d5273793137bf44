// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/token.hpp>
#include <mistral/evaluate/likelihood.hpp>
#include <mistral/evaluate/task.hpp>
#include <mistral/text/chat_format.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How the questions of a task with choices or answers become ids: as plain texts, or each as a conversation for an
/// Instruct model, in which the prompt is the user's and what follows the assistant's.
///
/// In a conversation, examples are turns before the question, and white space at the end of a prompt and at the
/// beginning of a choice is left out: the template says what stands between them. There is one BOS, in front of all.
class TaskPrompts {
 public:
  ///   shots          so many of the task's examples go before each question
  ///   format  none: plain texts
  /// Throws Error where the task has fewer examples, and for a tokenizer without what the template needs.
  TaskPrompts(const Task& task, std::size_t shots, const Tokenizer& tokenizer, std::optional<ChatFormat> format = {})
      : tokenizer_(tokenizer), template_(std::move(format)), before_(shots_text(task, shots)) {
    if (!template_) return;
    for (const TaskItem& shot : std::span(task.shots).first(shots)) {
      turns_.push_back({"user", std::string(without_end(shot.prompt))});
      const bool choices = task.kind == TaskKind::choices;
      turns_.push_back({"assistant", std::string(without_begin(choices ? shot.choices[shot.right] : shot.answers[0]))});
    }
    encode_chat(tokenizer, *template_, {{"user", ""}});  // throws for what the tokenizer lacks
  }

  const Tokenizer& tokenizer() const noexcept { return tokenizer_; }

  /// Whether questions are conversations: what follows is then a text of its own.
  bool is_chat() const noexcept { return template_.has_value(); }

  /// Returns the tokens that an item's answer follows.
  std::vector<TokenId> prompt(const TaskItem& item) const {
    if (template_) return encode_chat(tokenizer_, *template_, conversation(item));
    std::vector<TokenId> ids = tokenizer_.encode(before_ + item.prompt);
    if (tokenizer_.adds_bos()) ids.insert(ids.begin(), tokenizer_.bos_id());
    return ids;
  }

  /// The prompt and its choices.
  Continuations choices(const TaskItem& item) const {
    if (!template_) return encode_continuations(tokenizer_, before_ + item.prompt, item.choices);
    std::vector<std::string> answers;
    for (const std::string& choice : item.choices) answers.emplace_back(without_begin(choice));
    return encode_answers(tokenizer_, *template_, conversation(item), answers);
  }

 private:
  static constexpr std::string_view space = " \t\r\n";

  static std::string_view without_begin(std::string_view text) noexcept {
    return text.substr((std::min)(text.find_first_not_of(space), text.size()));
  }
  static std::string_view without_end(std::string_view text) noexcept {
    return text.substr(0, text.find_last_not_of(space) + 1);  // npos + 1 is 0
  }

  std::vector<Message> conversation(const TaskItem& item) const {
    std::vector<Message> messages = turns_;
    messages.push_back({"user", std::string(without_end(item.prompt))});
    return messages;
  }

  Tokenizer tokenizer_;
  std::optional<ChatFormat> template_;
  std::string before_;          // the examples, of plain texts...
  std::vector<Message> turns_;  // ...and of conversations
};

}}  // namespace mistral
