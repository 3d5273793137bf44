#include "generation.hpp"

#include <random>

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
  if (name.empty()) return chat_template_of(tokenizer);
  return name == "v1" ? ChatTemplate::v1 : ChatTemplate::v3;
}

}  // namespace mistral::tool
