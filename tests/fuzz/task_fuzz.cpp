// SPDX-License-Identifier: Apache-2.0
// seeds: *.jsonl
// Reads the input as a task of questions: each can be asked and judged, or an error says what is wrong.
#include <cstddef>
#include <cstdint>
#include <string>

#include <mistral/evaluate/task.hpp>

#include "attempt.hpp"

using namespace mistral;

namespace {

void check(const TaskItem& item, TaskKind kind) {
  fuzz::require(item.line > 0);
  if (kind == TaskKind::texts) return fuzz::require(!item.text.empty());
  if (kind == TaskKind::choices) return fuzz::require(item.choices.size() > 1 && item.right < item.choices.size());
  fuzz::require(!item.answers.empty());
  const std::string answer = answer_in(item.prompt + item.after + item.answers[0], item.after);
  fuzz::require(answer.empty() || answer.find_first_not_of(" \t\r\n") == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder;
  const std::string path = folder.write("task.jsonl", {reinterpret_cast<const char*>(data), size});
  fuzz::attempt([&] {
    const Task task = read_task(path);
    fuzz::require(!task.items.empty());
    for (const TaskItem& item : task.items) check(item, task.kind);
    for (const TaskItem& item : task.shots) check(item, task.kind);
    (void)shots_text(task, task.shots.size());
    fuzz::require(!fuzz::attempt([&] { (void)shots_text(task, task.shots.size() + 1); }));
  });
  return 0;
}
