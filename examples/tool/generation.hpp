// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include <mistral/generate/generate.hpp>
#include <mistral/text/chat_format.hpp>
#include <mistral/text/tokenizer.hpp>

/// \file
/// What the commands that generate text share.

namespace mistral::tool {

std::uint64_t random_seed();

/// `stop_string`
const char* name_of(StopReason reason);

/// Returns how conversations are written down, and says a line where that is by a Jinja template, or where the model
/// comes with another one than is used.
///   choice  "v1", "v3", "own" for the model's own Jinja template, or a file that holds one. Empty: the model's own,
///   but
///           for Mistral's own models, for which it is v1 or v3, as the tokenizer is made for
/// Throws Error for a template that is none, and UsageError for "own" where the model has none.
ChatFormat chat_format(const std::string& choice, const Tokenizer& tokenizer);

}  // namespace mistral::tool
