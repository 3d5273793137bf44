// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <mistral/evaluate/likelihood.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/text/tokenizer.hpp>

#include <mistral/run/any_model.hpp>

#include "commands.hpp"

namespace mistral::tool {

/// Tokens that a session with a window must be able to take back to score ends: as many as tell a prompt with its end
/// from the next, mostly.
inline constexpr std::size_t scoring_rollback = 512;

/// Scores the ends of prompts as ContinuationScorer::score does.
using Scorer = std::function<std::vector<TextScore>(std::span<const TokenId>, std::span<const std::vector<TokenId>>)>;

/// Returns a function that scores the ends of prompts, one prompt after the other. It must end before the session.
inline Scorer scorer_of(AnySession& session) {
  return [scorer = std::make_shared<ContinuationScorer<AnySession>>(session)](
             std::span<const TokenId> prompt, std::span<const std::vector<TokenId>> ends) {
    return scorer->score(prompt, ends);
  };
}

/// Shows the logits of each step to a function: a tape.
template <class Function>
class LogitsHook {
 public:
  explicit LogitsHook(Function function) : function_(std::move(function)) {}
  void logits(std::span<float> logits) { function_(logits); }

 private:
  Function function_;
};

/// While it lives, the process uses as many threads as the arguments say.
class Threads {
 public:
  explicit Threads(std::size_t threads) {
    if (threads > 0) limit_.emplace(threads);
  }

 private:
  std::optional<parallel::ThreadLimit> limit_;
};

/// The tokenizer at `path`; where that is empty, the folder's, or the GGUF or packed file's own.
Tokenizer load_tokenizer(const std::string& path, const std::string& folder);

/// The same for a model of that config: throws Error where the tokenizer has ids that the model hasn't.
Tokenizer load_tokenizer(const ModelArguments& arguments, const ModelInfo& info);

/// How a prompt becomes ids.
struct PromptOptions {
  bool no_bos = false;         // no BOS in front, where the tokenizer adds one
  bool parse_special = false;  // control pieces in the text become control tokens
  bool whole = false;  // a text that ends there, rather than one that goes on: EOS, where the tokenizer adds one
};

/// The ids of a prompt. Says on standard error which of the tokenizer's control pieces stay text in it, where they
/// aren't asked for by `parse_special`.
std::vector<TokenId> prompt_ids(const Tokenizer& tokenizer, std::string_view text, PromptOptions options);

/// `<s>, [INST]`: the tokenizer's control pieces that stand in a text; empty where none does.
std::string control_text_in(const Tokenizer& tokenizer, std::string_view text);

/// What a session would refuse, before the weights are loaded: no tokens, ids outside of the vocabulary, more than the
/// context of a model without a window. Throws Error.
void check_tokens(std::span<const TokenId> tokens, const ModelInfo& info);

/// The number of the adapter that the arguments choose: by its path as they have it, by the last name of a path, where
/// no other ends in it, or by its number; no_adapter for `none`. Throws UsageError for another name.
std::size_t chosen_adapter(const ModelArguments& arguments);

/// Says a line where an adapter was trained beside another base than the one in `folder`, or where nobody can tell but
/// the names differ.
///   same  what trained_beside says
void say_base(std::optional<bool> same, const std::string& adapter, const std::string& folder);

/// Says a line where a model's context is longer than the checkpoint's.
void say_context(const ModelArguments& arguments, const ModelInfo& info);

/// Says a line where tensors are encoded again when they are loaded, though the command line asks for no format.
void say_reencoded(const ModelArguments& arguments, const ModelInfo& info);

/// Loads the weights, and all adapters, of which sessions go through the chosen one, with a word about it on a
/// terminal.
std::unique_ptr<AnyModel> load_model(const ModelArguments& arguments, const AnyModelType& type);

/// Returns the options to load a checkpoint by, with room for a session beside its weights.
LoadOptions load_options(const ModelArguments& arguments, const ModelInfo& info, ProgressHook progress);

}  // namespace mistral::tool
