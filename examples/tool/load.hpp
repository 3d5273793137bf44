#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include <mistral/parallel/parallel.hpp>
#include <mistral/text/tokenizer.hpp>

#include "any_model.hpp"
#include "commands.hpp"

namespace mistral::tool {

/// While it lives, the process uses as many threads as the arguments say.
class Threads {
 public:
  explicit Threads(std::size_t threads) {
    if (threads > 0) limit_.emplace(threads);
  }

 private:
  std::optional<parallel::ThreadLimit> limit_;
};

/// The tokenizer at `path`; where that is empty, tokenizer.model in the folder, or the GGUF file's own.
Tokenizer load_tokenizer(const std::string& path, const std::string& folder);

/// The same for a model of that config: throws Error where the tokenizer has ids that the model hasn't.
Tokenizer load_tokenizer(const ModelArguments& arguments, const PresetInfo& info);

/// The ids of a prompt, BOS first unless told otherwise.
std::vector<TokenId> prompt_ids(const Tokenizer& tokenizer, std::string_view text, bool no_bos);

/// What a session would refuse, before the weights are loaded: no tokens, ids outside of the vocabulary, more than the
/// context of a model without a window. Throws Error.
void check_tokens(std::span<const TokenId> tokens, const PresetInfo& info);

/// The preset that the arguments ask for, or that fits: see choose_preset; one that is compiled for training where
/// there is an adapter.
const AnyPreset& choose_preset(const ModelArguments& arguments);

/// Loads the weights, and the adapter where there is one, with a word about it on a terminal.
std::unique_ptr<AnyModel> load_model(const ModelArguments& arguments, const AnyPreset& preset);

}  // namespace mistral::tool
