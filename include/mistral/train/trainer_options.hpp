// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/train/optimizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A text to learn from: each of its tokens from `answer_begin` on is to be predicted from all that come before it, or,
/// where there are `answers`, those of these ranges alone (a conversation has several turns to learn). The first token
/// is predicted from nothing: an answer_begin of 0 means what 1 does.
struct Example {
  std::vector<TokenId> tokens = {};  ///< the whole sequence, BOS in front
  std::size_t answer_begin = 1;  ///< index of the first token that is learnt, at least 1: nothing predicts the first
  std::vector<TokenRange> answers = {};  ///< in order, none empty, none over another; they stand for answer_begin
};

/// How many tokens of an example are to be predicted.
inline std::size_t target_count(const Example& example) noexcept {
  const auto in = [](std::size_t begin, std::size_t end) {
    begin = begin > 0 ? begin : 1;
    return begin < end ? end - begin : 0;
  };
  if (example.answers.empty()) return in(example.answer_begin, example.tokens.size());
  std::size_t count = 0;
  for (const TokenRange& range : example.answers) count += in(range.begin, range.end);
  return count;
}

/// How a Trainer trains. AdamW's names and defaults are those of PyTorch.
struct TrainerOptions {
  float learning_rate = 1e-3f;  ///< of the step, before the schedule
  float beta1 = 0.9f;           ///< of AdamW; of SGD it is the momentum
  float beta2 = 0.999f;         ///< AdamW: of the mean of squared gradients
  float epsilon = 1e-8f;        ///< AdamW: what is added to the root of the second moment
  float weight_decay = 0.01f;   ///< of every parameter that is trained
  float max_grad_norm = 0.0f;   ///< gradients of a larger norm, all together, are scaled down to it; 0: no clipping
  Optimizer optimizer = Optimizer::adamw;  ///< how a gradient becomes a step
  Schedule schedule = Schedule::constant;  ///< of the learning rate
  std::uint64_t warmup_steps = 0;          ///< over which the rate rises from 0
  std::uint64_t total_steps = 0;           ///< where the linear and the cosine schedule end
  float min_learning_rate = 0.0f;          ///< what they end at
  std::uint64_t seed = 0;                  ///< of what dropout drops
  std::size_t adapter = 0;                 ///< which one of a Lora model's is trained
  std::size_t rows = 2048;        ///< tokens that go through the model together: memory against speed, not a bit of
                                  ///< the result; one example is never cut
  bool keep_activations = false;  ///< memory against speed, not a bit of the result: all that a block's backward needs
                                  ///< is kept, 2 (n_heads + n_kv_heads) head_dim + dim + 2 hidden_dim floats a layer
                                  ///< and row, and no forward is taken again
};

namespace detail {

/// Throws Error for an option out of range.
inline void check_options(const TrainerOptions& options) {
  const auto hold = [](bool good, std::string_view what, std::string_view expected, float found) {
    if (!good) throw Error("trainer", what, expected, number_text(found));
  };
  const auto from_zero = [](float x) { return x >= 0.0f && std::isfinite(x); };
  hold(from_zero(options.learning_rate), "learning_rate", "a number from 0 on", options.learning_rate);
  hold(options.beta1 >= 0.0f && options.beta1 < 1.0f, "beta1", "0 ... 1, less than 1", options.beta1);
  hold(options.beta2 >= 0.0f && options.beta2 < 1.0f, "beta2", "0 ... 1, less than 1", options.beta2);
  hold(options.epsilon > 0.0f && std::isfinite(options.epsilon), "epsilon", "a number above 0", options.epsilon);
  hold(from_zero(options.weight_decay), "weight_decay", "a number from 0 on", options.weight_decay);
  hold(from_zero(options.max_grad_norm), "max_grad_norm", "a number from 0 on", options.max_grad_norm);
  hold(from_zero(options.min_learning_rate), "min_learning_rate", "a number from 0 on", options.min_learning_rate);
  if (options.schedule != Schedule::constant && options.total_steps == 0) {
    throw Error("trainer", "total_steps", "where the schedule ends", "0");
  }
}

/// The options that an update depends on, as a file holds them: two that differ give other bits.
inline SafetensorsWriter::Metadata trainer_settings(const TrainerOptions& o) {
  SafetensorsWriter::Metadata out{{"format", "mistral trainer 1"}};
  const std::pair<const char*, float> numbers[] = {{"learning_rate", o.learning_rate},
                                                   {"beta1", o.beta1},
                                                   {"beta2", o.beta2},
                                                   {"epsilon", o.epsilon},
                                                   {"weight_decay", o.weight_decay},
                                                   {"max_grad_norm", o.max_grad_norm},
                                                   {"min_learning_rate", o.min_learning_rate}};
  for (const auto& [name, value] : numbers) out.emplace_back(name, number_text(value));
  out.emplace_back("optimizer", o.optimizer == Optimizer::adamw ? "adamw" : "sgd");
  out.emplace_back("schedule", o.schedule == Schedule::constant ? "constant"
                               : o.schedule == Schedule::linear ? "linear"
                                                                : "cosine");
  out.emplace_back("warmup_steps", std::to_string(o.warmup_steps));
  out.emplace_back("total_steps", std::to_string(o.total_steps));
  out.emplace_back("seed", std::to_string(o.seed));
  return out;
}

inline std::uint64_t count_of(const std::string& text, const std::string& path) {
  std::uint64_t count = 0;
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (failure != std::errc() || stop != text.data() + text.size()) {
    throw Error("trainer", printable(path, 1000) + ": steps and examples", "numbers", printable(text));
  }
  return count;
}

}  // namespace detail

}}  // namespace mistral
