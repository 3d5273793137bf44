// SPDX-License-Identifier: Apache-2.0
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

/// The template that a command line names, the one that the tokenizer is made for where it names none. Says a line
/// where the model's maker has another: see say_template.
ChatTemplate chat_template_named(const std::string& name, const Tokenizer& tokenizer);

/// Says a line where the model comes with a chat template that is another than the one used.
void say_template(const Tokenizer& tokenizer, ChatTemplate used);

}  // namespace mistral::tool
