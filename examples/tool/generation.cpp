// SPDX-License-Identifier: Apache-2.0
#include "generation.hpp"

#include <random>

#include <mistral/text/jinja_chat.hpp>

#include "console.hpp"

namespace mistral::tool {

std::uint64_t random_seed() {
  std::random_device device;
  return static_cast<std::uint64_t>(device()) << 32 | device();
}

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::max_tokens:
      return "max_tokens";
    case StopReason::stop_id:
      return "stop_id";
    case StopReason::stop_string:
      return "stop_string";
    case StopReason::context:
      return "context";
    case StopReason::cancelled:
      return "cancelled";
  }
  return "";
}

namespace {

ChatFormat mistrals(ChatTemplate used, const std::string& own) {
  if (own.empty() || chat_template_in(own) == used) return used;
  std::string line =
      "mistral: note: the model comes with a chat template of its own, which isn't used: conversations are written "
      "down by Mistral's ";
  line.append(used == ChatTemplate::v1 ? "v1\n" : "v3\n");
  note(line);
  return used;
}

ChatFormat by_template(std::string_view source, const std::string& name) {
  ChatFormat format = JinjaChat::format(source, name);
  note("mistral: note: conversations are written down by " + printable(name, 1000) + "\n");
  return format;
}

}  // namespace

ChatFormat chat_format(const std::string& choice, const Tokenizer& tokenizer) {
  const std::string& own = tokenizer.jinja_template();
  if (choice == "v1") return mistrals(ChatTemplate::v1, own);
  if (choice == "v3") return mistrals(ChatTemplate::v3, own);
  if (choice == "own" && own.empty()) {
    throw UsageError("--template: expected v1, v3 or a file, for the model has no chat template of its own, got own");
  }
  const bool chosen_by_model = choice.empty() && (own.empty() || chat_template_in(own));
  if (chosen_by_model) return mistrals(chat_template_of(tokenizer), own);
  if (choice.empty() || choice == "own") return by_template(own, "the model's own chat template");
  return by_template(read_all(choice, "template"), "the chat template " + choice);
}

}  // namespace mistral::tool
