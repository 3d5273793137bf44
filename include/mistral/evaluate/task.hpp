// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/json/lines.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The kind of question that the lines of a task ask.
enum class TaskKind {
  choices,  ///< which of several ends of a text is the most probable
  answers,  ///< the text that follows
  texts,    ///< how probable a text is
};

/// One question of a task: a line of its file.
struct TaskItem {
  std::size_t line = 0;                ///< in the file, from 1 on
  std::string prompt{};                ///< of choices and answers
  std::vector<std::string> choices{};  ///< each behind the prompt as it stands, spaces included
  std::size_t right = 0;               ///< the index of the choice that is right
  std::vector<std::string> answers{};  ///< each of which is right
  std::vector<std::string> stop{};     ///< texts that end an answer
  std::string after{};                 ///< what stands before the answer proper in the text; empty: all is answer
  std::string text{};                  ///< of texts
};

/// A file of questions of one kind.
struct Task {
  TaskKind kind = TaskKind::choices;  ///< of all items
  std::vector<TaskItem> items;        ///< in the order of the file, without the examples of k-shot prompts
  std::vector<TaskItem> shots;        ///< examples, to be shown with their answers and never asked
};

namespace detail {

inline const std::string& some_text(const JsonObject& json, const std::string& name) {
  const std::string& value = json.string(name);
  if (value.empty()) throw json.unexpected(name, "text");
  return value;
}

/// `all`, none of which may be empty, and at least `least`.
inline std::vector<std::string> some_texts(const JsonObject& json, const std::string& name, std::size_t least) {
  std::vector<std::string> all = json.strings(name);
  if (all.size() < least) throw json.unexpected(name, "at least " + std::to_string(least));
  for (const std::string& text : all) {
    if (text.empty()) throw json.unexpected(name, "no empty text");
  }
  return all;
}

inline std::pair<TaskKind, TaskItem> parse_task_item(const JsonObject& json, std::size_t line) {
  TaskItem item{.line = line};
  if (json.has("text")) {
    item.text = some_text(json, "text");
    return {TaskKind::texts, item};
  }
  item.prompt = json.string("prompt");
  if (json.has("choices")) {
    item.choices = some_texts(json, "choices", 2);
    const auto last = static_cast<std::int64_t>(item.choices.size()) - 1;
    item.right = static_cast<std::size_t>(json.integer("answer", 0, last));
    return {TaskKind::choices, item};
  }
  item.answers = json.has("answers") ? some_texts(json, "answers", 1) : std::vector{some_text(json, "answer")};
  item.stop = json.has("stop") ? some_texts(json, "stop", 0) : std::vector<std::string>{"\n\n"};
  if (json.has("after")) item.after = some_text(json, "after");
  return {TaskKind::answers, item};
}

inline std::string_view name_of(TaskKind kind) noexcept {
  return kind == TaskKind::choices ? "choices" : kind == TaskKind::answers ? "an answer" : "a text";
}

}  // namespace detail

/// Reads a task, a JSON object a line; docs/evaluation.md says what its fields are. Throws Error `[task] file:line:
/// ...` for a line that is none, or of another kind than those before it, and `[task] file: ...` for a file without
/// questions, or that can't be read.
inline Task read_task(const std::string& path) {
  Task task;
  for_each_json_line(path, "task", [&](const JsonObject& json, std::size_t line) {
    const auto [kind, item] = detail::parse_task_item(json, line);
    if (task.items.size() + task.shots.size() > 0 && kind != task.kind) {
      throw json.error("expected " + std::string(detail::name_of(task.kind)) + " as in the lines before, got " +
                       std::string(detail::name_of(kind)));
    }
    task.kind = kind;
    const bool shot = json.has("shot") && json.boolean("shot");
    if (shot && kind == TaskKind::texts) throw json.unexpected("shot", "no example in a task of texts");
    (shot ? task.shots : task.items).push_back(item);
  });
  if (task.items.empty()) {
    throw Error("task", printable(path, 1000), "at least one line that asks something", "none");
  }
  return task;
}

/// Returns the text before each question: the first `count` examples with their answers, an empty line behind each.
/// Throws Error where the task has fewer.
inline std::string shots_text(const Task& task, std::size_t count) {
  if (count > task.shots.size()) {
    throw Error("task", "examples", "at most the file's " + std::to_string(task.shots.size()), std::to_string(count));
  }
  std::string text;
  for (const TaskItem& shot : std::span(task.shots).first(count)) {
    text.append(shot.prompt).append(task.kind == TaskKind::choices ? shot.choices[shot.right] : shot.answers[0]);
    text += "\n\n";
  }
  return text;
}

/// The answer in a text that was generated: what stands behind the last `after`, up to the end of its line; where that
/// isn't found, or is empty, all of the text. Without white space around it.
inline std::string answer_in(std::string_view text, std::string_view after) {
  const std::size_t at = after.empty() ? std::string_view::npos : text.rfind(after);
  if (at != std::string_view::npos) {
    text.remove_prefix(at + after.size());
    text = text.substr(0, text.find('\n'));
  }
  constexpr std::string_view space = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(space);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(space) + 1 - begin));
}

}}  // namespace mistral
