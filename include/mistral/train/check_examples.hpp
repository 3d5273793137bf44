// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/token.hpp>
#include <mistral/train/trainer_options.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Throws Error for a batch of no examples, and for one that a model of this config can't learn from.
inline void check_examples(std::span<const Example> batch, const ModelConfig& config) {
  if (batch.empty()) throw Error("trainer", "a batch", "at least one example", "none");
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const Example& example = batch[i];
    const auto refuse = [i](const std::string& what, const std::string& expected, const std::string& found) {
      throw Error("trainer", "example " + std::to_string(i) + what, expected, found);
    };
    const std::size_t size = example.tokens.size();
    if (size < 2) refuse("", "at least 2 tokens", std::to_string(size));
    if (example.answers.empty() && example.answer_begin >= size) {
      refuse(": answer_begin", "less than its " + std::to_string(size) + " tokens",
             std::to_string(example.answer_begin));
    }
    std::size_t from = 0;
    for (const TokenRange& range : example.answers) {
      if (range.begin < from || range.begin >= range.end || range.end > size) {
        refuse(": answers", "ranges in order, within its " + std::to_string(size) + " tokens",
               std::to_string(range.begin) + " ... " + std::to_string(range.end));
      }
      from = range.end;
    }
    if (target_count(example) == 0) refuse(": answers", "a token behind the first", "none");
    if (config.window_size == 0 && size > config.context_len) {
      refuse("", "at most " + std::to_string(config.context_len) + " tokens (context_len)", std::to_string(size));
    }
    for (std::size_t t = 0; t < size; ++t) {
      const TokenId id = example.tokens[t];
      if (id < 0 || static_cast<std::size_t>(id) >= config.vocab_size) {
        refuse(": token " + std::to_string(t), "an id of 0 ... " + std::to_string(config.vocab_size - 1),
               std::to_string(id));
      }
    }
  }
}

}}}  // namespace mistral::detail
