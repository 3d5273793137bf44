// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/continuation.hpp>
#include <mistral/nn/tape.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How many sequences a batch runs and keeps.
struct BatchOptions {
  std::size_t max_sequences = 16;            ///< that run at once: each has a cache
  std::size_t token_budget = 64;             ///< rows of one forward, at most; at least max_sequences
  std::size_t max_waiting = 1024;            ///< sequences that wait for a cache, at most
  std::size_t max_waiting_tokens = 1 << 20;  ///< of the prompts of those that wait, at most
  std::size_t max_prompt_tokens = 0;         ///< of one prompt, at most; 0: any number. See also GenerateOptions
  bool share_prefixes = true;                ///< take over what another sequence has computed of the same first tokens
  /// Tokens that a sequence must save to wait for an older one to compute them: for a BOS alone none should.
  std::size_t worth_waiting = 16;

  /// Throws Error `[batch] <field>: expected ..., got ...` where a field is out of its range.
  void validate() const {
    if (max_sequences == 0) throw Error("batch", "max_sequences", "at least 1", "0");
    if (token_budget < max_sequences) {
      throw Error("batch", "token_budget", "at least " + std::to_string(max_sequences) + " (max_sequences)",
                  std::to_string(token_budget));
    }
    if (worth_waiting == 0) throw Error("batch", "worth_waiting", "at least 1", "0");
  }
};

/// A text that is to be continued beside others. What is left empty is not called; what throws ends this sequence and
/// no other, and what it threw is in the result. All are called by step(), in its thread, and may call add() and
/// cancel().
struct BatchRequest {
  std::vector<TokenId> prompt;  ///< BOS first, where a text begins
  GenerateOptions options{};    ///< what options.seen names must last as long as the sequence
  std::size_t adapter = 0;      ///< of the model's adapters (nn/lora.hpp); one that it hasn't got counts as none
  std::uint64_t tag = 0;        ///< the caller's own, which the result brings back; the batch doesn't look at it
  /// Each piece of text as soon as it is final; false ends the text.
  std::function<bool(std::string_view)> on_text{};
  /// The logits (vocab_size) of each step before a token is chosen, to read and to write.
  std::function<void(std::span<float>)> on_logits{};
  /// The residual stream of its own rows before each block and after the last, to read and to write. Such a sequence
  /// shares no prefix with others.
  std::function<void(const Residual&)> on_residual{};
};

/// A start of a sequence that the batch hasn't computed: a cache, and the number of tokens in it.
struct BatchStart {
  const AnyKvCache* cache = nullptr;  ///< of the batch's type, or null
  std::size_t tokens = 0;             ///< that the sequence has taken; see above
};

/// Names a sequence of a batch; the later joined, the larger.
using SequenceId = std::uint64_t;

/// How a sequence ended.
struct BatchResult {
  SequenceId id = 0;                  ///< what add() gave
  Generated made;                     ///< what it had made, where it was cancelled or failed
  std::exception_ptr error{};         ///< what one of its functions or its sampler threw; null where all went well
  std::optional<std::size_t> slot{};  ///< whose cache it left (SessionBatch::cache), if it ended by itself
  std::uint64_t tag = 0;              ///< the request's
};

/// Counts of a batch's work so far.
struct BatchCounters {
  std::uint64_t forwards = 0;       ///< steps that went through the model
  std::uint64_t rows = 0;           ///< tokens that went through the model
  std::uint64_t shared_tokens = 0;  ///< tokens that didn't need to: another sequence's cache held them
};

}}  // namespace mistral
