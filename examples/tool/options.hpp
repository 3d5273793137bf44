// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "commands.hpp"

/// \file
/// What the command lines of several commands are made of.

namespace mistral::tool {

/// A command: its options, and what it does once they are read.
struct Command {
  CLI::App* app;
  std::function<void()> run;
};

CLI::Option* add_path(CLI::App& app, const std::string& name, std::string& path, const std::string& help);

/// A path at which there is a file or a folder: `-`, which is standard input and output elsewhere, is none.
CLI::Option* add_place(CLI::App& app, const std::string& name, std::string& path, const std::string& help);

/// A name that may not be empty.
CLI::Option* add_name(CLI::App& app, const std::string& name, std::string& value, const std::string& help);

/// One of some names, in small or large letters: for Option::transform, which makes it that name.
CLI::Validator one_of(std::vector<std::string> names);

/// Which weight formats a help text names.
enum class FormatsOf {
  any,           ///< all
  gguf,          ///< those that GGUF files have
  packed_alone,  ///< those that they don't have
};

/// The names of weight formats as command lines have them, `f32, f16, bf16`.
std::string option_formats(FormatsOf which);

/// The names of the matrices that an adapter may stand beside, `wq, wk, wv`.
std::string lora_target_names();

/// Why `text` is no whole number in [least, most]; empty where it is one.
std::string why_not_whole(const std::string& text, std::uint64_t least, std::uint64_t most);

/// That it is one.
CLI::Validator whole_in(std::uint64_t least, std::uint64_t most);

/// A whole number: CLI11 by itself takes -5 for one without a sign.
template <class T>
CLI::Option* add_whole(CLI::App& app, const std::string& name, T& value, std::uint64_t least, std::uint64_t most,
                       const std::string& help) {
  return app.add_option(name, value, help)->check(whole_in(least, most))->type_name("N");
}

CLI::Option* add_number(CLI::App& app, const std::string& name, float& value, const std::string& help);

/// Why `text` is no number within [least, most]; empty where it is one.
std::string why_not_number(const std::string& text, double least, double most);

/// A number within bounds, both of them allowed.
CLI::Option* add_number_in(CLI::App& app, const std::string& name, float& value, float least, float most,
                           const std::string& help);

/// A text by one option, or by a file that another names; `lines` says how its lines are taken.
void add_text(CLI::App& app, const std::string& name, const std::string& file_name, TextArguments& arguments,
              const std::string& what, const std::string& lines = "; CR LF at the end of a line counts as LF");

/// The model and how it is run.
void add_model(CLI::App& app, ModelArguments& arguments);

/// Adapters, and the one of them that the model goes through.
/// Adds the options that choose the type of the model: --weights, --kv, --window, --context, --exact.
void add_model_type(CLI::App& app, ModelArguments& arguments);

void add_adapter(CLI::App& app, ModelArguments& arguments);

/// How tokens are chosen, and by what seed; where none is said, by `default_seed`, or a random one where there is none.
void add_sampling(CLI::App& app, SamplingOptions& sampling, std::optional<std::uint64_t>& seed,
                  std::optional<std::uint64_t> default_seed = {});

/// Ids that end a text, besides those of the tokenizer.
void add_stop_ids(CLI::App& app, std::vector<TokenId>& ids);

/// Whether the model's own settings count.
void add_model_settings(CLI::App& app, bool& wanted);

/// The settings that a checkpoint comes with, and puts those of them into `sampling` that the command line doesn't say;
/// none where they aren't wanted, of which a line on standard error then tells. Throws Error for settings that are
/// wanted and not supported.
std::optional<GenerationSettings> model_settings(const CLI::App& app, bool wanted, const std::string& checkpoint,
                                                 SamplingOptions& sampling);

/// Throws UsageError for what `add_sampling` has read and can't be.
void check_sampling(const SamplingOptions& sampling);

/// `name [N]`: tokens of a draft at most, lookup_tokens where N isn't given; 0 without the option.
CLI::Option* add_lookup(CLI::App& app, std::size_t& lookup, const std::string& help);

/// The chat template: "v1", "v3", "own", a file, or empty for what chat_format chooses.
CLI::Option* add_template(CLI::App& app, std::string& chat_template, const std::string& what,
                          const std::string& otherwise = "the model's own, v1 or v3 for Mistral's models");

/// `--parse-special`: control pieces that stand in `what` become control tokens.
CLI::Option* add_parse_special(CLI::App& app, bool& parse_special, const std::string& what);

/// The first of a command's arguments that looks like an option and is none of it; empty where there is none. CLI11
/// would rather say that another option is missing.
std::string unknown_option(const CLI::App& command, const std::vector<std::string>& arguments);

/// What is to be said of an argument that a command doesn't take.
std::string not_expected(const CLI::App& command, const std::string& argument);

/// The commands that train, whose options are many (finetune_options.cpp).
Command add_finetune(CLI::App& parent);
Command add_merge(CLI::App& parent);

}  // namespace mistral::tool
