// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <mistral/core/token.hpp>
#include <mistral/text/tokenizer.hpp>
#include <mistral/train/trainer_options.hpp>

#include <mistral/run/any_model.hpp>

namespace mistral::tool {

/// A prompt that the base and the tuned model answer, and the answer that the data have.
struct Sample {
  std::vector<TokenId> prompt;
  std::string prompt_text;
  std::string expected;
  std::string base;
  std::string tuned;
};

/// Prompts from all over the examples, `count` at most; of an example without a prompt, its first third.
std::vector<Sample> samples_of(std::span<const Example> examples, std::size_t count, const Tokenizer& tokenizer);

/// Has a model answer the prompts, greedily, with `max_tokens` at most each, until `stopped` says so.
void answer(const AnyModel& model, const Tokenizer& tokenizer, std::size_t max_tokens, std::vector<Sample>& samples,
            std::string Sample::*to, const std::function<bool()>& stopped);

/// All of them as text, for people.
std::string side_by_side(const std::vector<Sample>& samples);

}  // namespace mistral::tool
