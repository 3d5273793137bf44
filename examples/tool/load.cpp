// SPDX-License-Identifier: Apache-2.0
#include "load.hpp"

#include <algorithm>
#include <new>
#include <set>
#include <vector>

#include <mistral/checkpoint/adapter_base.hpp>
#include <mistral/nn/adapter_choice.hpp>
#include <mistral/text/markup.hpp>
#include <mistral/text/text_fields.hpp>

#include "choice.hpp"
#include "console.hpp"
#include "model_files.hpp"

namespace mistral::tool {

namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

}  // namespace

Tokenizer load_tokenizer(const std::string& path, const std::string& folder) {
  if (!path.empty()) return Tokenizer::load(path).with_eos_ids(eos_ids_of(folder));
  if (is_gguf_file(folder) || is_packed_file(folder)) {
    const bool holds_one =
        is_gguf_file(folder) ? has_tokenizer(Gguf::open(folder)) : !PackedFile::open(folder).tokenizer().empty();
    if (holds_one) return Tokenizer::load(folder);
    throw Error("tokenizer", printable(folder, 1000), "a tokenizer in the file, or another by --tokenizer", "neither");
  }
  const TokenizerInFolder found = find_tokenizer(folder);
  if (!found.readable.empty()) return Tokenizer::load(found.readable);
  if (!path_exists(folder)) {
    if (const std::string remedy = hub_remedy(folder); !remedy.empty()) {
      throw Error("tokenizer", printable(folder, 1000) + ": " + remedy,
                  "a folder with tokenizer.json or tokenizer.model",
                  "no such folder, but what reads as a name on a hub");
    }
  } else if (!is_folder(folder)) {
    return Tokenizer::load(folder);  // which says what it is
  }
  throw Error("tokenizer", printable(folder, 1000),
              "tokenizer.json or tokenizer.model in the folder, or another file by --tokenizer",
              found.other.empty() ? "neither" : found.other);
}

Tokenizer load_tokenizer(const ModelArguments& arguments, const ModelInfo& info) {
  Tokenizer tokenizer = load_tokenizer(arguments.tokenizer, arguments.folder);
  if (tokenizer.vocab_size() > info.config.vocab_size) {
    const std::string path = !arguments.tokenizer.empty() ? arguments.tokenizer
                             : is_gguf_file(arguments.folder) || is_packed_file(arguments.folder)
                                 ? arguments.folder
                                 : find_tokenizer(arguments.folder).readable;
    throw Error("tokenizer", printable(path, 1000) + ": the vocabulary",
                "at most the model's " + std::to_string(info.config.vocab_size) + " pieces",
                std::to_string(tokenizer.vocab_size()));
  }
  return tokenizer;
}

std::vector<TokenId> prompt_ids(const Tokenizer& tokenizer, std::string_view text, PromptOptions options) {
  if (!options.parse_special) {
    if (const std::string found = control_text_in(tokenizer, text); !found.empty()) {
      note("mistral: warning: the text holds " + printable(found, 400) +
           " as text, not as control tokens; --parse-special makes them that\n");
    }
  }
  std::vector<TokenId> ids = tokenizer.encode(text, {.parse_special = options.parse_special});
  const bool begun = !ids.empty() && ids.front() == tokenizer.bos_id();
  if (!options.no_bos && tokenizer.adds_bos() && !begun) ids.insert(ids.begin(), tokenizer.bos_id());
  if (options.whole && tokenizer.adds_eos()) ids.push_back(tokenizer.eos_id());
  return ids;
}

std::string control_text_in(const Tokenizer& tokenizer, std::string_view text) {
  std::set<std::string> found;
  MarkupFinder(tokenizer, MarkupFinder::Kind::control).find(text, found);
  std::string list;
  for (const std::string& piece : found) list.append(list.empty() ? "" : ", ").append(piece);
  return list;
}

void check_tokens(std::span<const TokenId> tokens, const ModelInfo& info) {
  if (tokens.empty()) throw Error("tokens", "the prompt", "at least one token", "none");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<std::size_t>(tokens[i]) >= info.config.vocab_size) {
      throw Error("tokens", "token " + std::to_string(i),
                  "an id of 0 ... " + std::to_string(info.config.vocab_size - 1), std::to_string(tokens[i]));
    }
  }
  if (info.config.window_size == 0 && tokens.size() > info.config.context_len) {
    throw Error("tokens", "the prompt, for a model without a window",
                "at most " + std::to_string(info.config.context_len) + " tokens", std::to_string(tokens.size()));
  }
}

std::size_t chosen_adapter(const ModelArguments& arguments) {
  const std::vector<std::string>& paths = arguments.adapters;
  const std::string& name = arguments.use_adapter;
  if (name.empty()) return 0;
  const auto exact = std::find(paths.begin(), paths.end(), name);
  if (exact != paths.end()) return static_cast<std::size_t>(exact - paths.begin());
  const auto ends_so = [&](const std::string& path) { return last_part(path) == name; };
  const auto named = std::find_if(paths.begin(), paths.end(), ends_so);
  if (named != paths.end()) {
    if (std::find_if(named + 1, paths.end(), ends_so) == paths.end()) {
      return static_cast<std::size_t>(named - paths.begin());
    }
    throw UsageError("--use-adapter: expected the path of one adapter, got '" + printable(name, 200) +
                     "', which several paths end in");
  }
  if (name == "none") return no_adapter;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (name == std::to_string(i)) return i;
  }
  throw UsageError("--use-adapter: expected the path, the name or the number of an --adapter, or none, got '" +
                   printable(name, 200) + "'");
}

void say_base(std::optional<bool> same, const std::string& adapter, const std::string& folder) {
  const std::string name = adapter_base(adapter).name;
  const std::string what = printable(adapter, 1000) + " was trained beside ";
  if (same == false) {
    note("mistral: warning: " + what + (name.empty() ? "other weights" : "'" + printable(name, 200) + "'") +
         ", whose weights are others than those of " + printable(folder, 1000) + "\n");
  } else if (!same && !name.empty() && lower(last_part(name)) != lower(last_part(folder))) {
    note("mistral: note: " + what + "'" + printable(name, 200) + "', by its name alone: make sure that " +
         printable(folder, 1000) + " is that\n");
  }
}

void say_context(const ModelArguments& arguments, const ModelInfo& info) {
  const std::string& folder = arguments.folder;
  const bool in_own_format = arguments.weights.empty();  // and its tensors have been looked at
  const std::optional<std::int64_t> said =
      (in_own_format ? facts_of(folder).config : checkpoint_config(folder)).context_len;
  if (!said || static_cast<std::size_t>(*said) >= info.config.context_len) return;
  note("mistral: note: " + printable(folder, 1000) + " names a context of " + std::to_string(*said) +
       " tokens; the model goes on to " + std::to_string(info.config.context_len) + "\n");
}

void say_reencoded(const ModelArguments& arguments, const ModelInfo& info) {
  if (!arguments.weights.empty()) return;
  const CheckpointFacts& facts = facts_of(arguments.folder);
  if (facts.config.layout == CheckpointLayout::packed) return;
  std::size_t matrices = 0, others = 0;
  for (const MatrixType& type : facts.types) {
    matrices += type.matrices;
    if (type.name != info.weights) others += type.matrices;
  }
  if (others == 0) return;
  note("mistral: note: " + std::to_string(others) + " of " + std::to_string(matrices) + " matrices of " +
       printable(arguments.folder, 1000) + " aren't in " + std::string(info.weights) +
       " and are encoded again in that; --weights chooses another format\n");
}

LoadOptions load_options(const ModelArguments& arguments, const ModelInfo& info, ProgressHook progress) {
  return {.allow_different_window = arguments.window.has_value(),
          .allow_longer_context = true,
          .check_memory = arguments.check_memory,
          .session_bytes = info.cache_bytes + info.workspace_bytes,
          .progress = progress,
          .refuse_not_finite = arguments.refuse_not_finite};
}

std::unique_ptr<AnyModel> load_model(const ModelArguments& arguments, const AnyModelType& type) {
  const ModelInfo& info = type.info();
  say_context(arguments, info);
  say_reencoded(arguments, info);
  Progress progress("loading " + bytes_text(info.weight_bytes) + " of weights", info.weight_bytes);
  try {
    std::unique_ptr<AnyModel> model = type.load(arguments.folder, load_options(arguments, info, progress.hook()));
    if (arguments.adapters.empty()) return model;
    for (const std::string& adapter : arguments.adapters) {
      model->load_adapter(adapter);
      say_base(model->trained_beside(adapter), adapter, arguments.folder);
    }
    model->use_adapter(chosen_adapter(arguments));
    return model;
  } catch (const std::bad_alloc&) {
    throw Error("memory", "the model",
                bytes_text(info.weight_bytes + info.cache_bytes + info.workspace_bytes) + " of memory", "less");
  }
}

}  // namespace mistral::tool
