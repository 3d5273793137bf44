// SPDX-License-Identifier: Apache-2.0
#include "generation.hpp"

#include <random>

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

ChatTemplate chat_template_named(const std::string& name, const Tokenizer& tokenizer) {
  const ChatTemplate chosen = name.empty()   ? chat_template_of(tokenizer)
                              : name == "v1" ? ChatTemplate::v1
                                             : ChatTemplate::v3;
  say_template(tokenizer, chosen);
  return chosen;
}

void say_template(const Tokenizer& tokenizer, ChatTemplate used) {
  const std::string& own = tokenizer.jinja_template();
  if (own.empty() || chat_template_in(own) == used) return;
  std::string line =
      "mistral: note: the model comes with a chat template of its own, which isn't used: conversations are written "
      "down "
      "by Mistral's ";
  line.append(used == ChatTemplate::v1 ? "v1\n" : "v3\n");
  note(line);
}

}  // namespace mistral::tool
