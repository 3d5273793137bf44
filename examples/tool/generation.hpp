#pragma once

#include <cstdint>
#include <string>

#include <mistral/generate/generate.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/tokenizer.hpp>

/// \file
/// What the commands that generate text share.

namespace mistral::tool {

std::uint64_t random_seed();

/// `stop_string`
const char* name_of(StopReason reason);

/// The template that a command line names, the tokenizer's own where it names none.
ChatTemplate chat_template_named(const std::string& name, const Tokenizer& tokenizer);

}  // namespace mistral::tool
