#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

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

/// Why `text` is no whole number in [least, most]; empty where it is one.
std::string why_not_whole(const std::string& text, std::uint64_t least, std::uint64_t most);

/// A whole number: CLI11 by itself takes -5 for one without a sign.
template <class T>
CLI::Option* add_whole(CLI::App& app, const std::string& name, T& value, std::uint64_t least, std::uint64_t most,
                       const std::string& help) {
  const auto in_range = [=](const std::string& text) { return why_not_whole(text, least, most); };
  return app.add_option(name, value, help)->check(CLI::Validator(in_range, ""))->type_name("N");
}

CLI::Option* add_number(CLI::App& app, const std::string& name, float& value, const std::string& help);

/// A number within bounds, both of them allowed.
CLI::Option* add_number_in(CLI::App& app, const std::string& name, float& value, float least, float most,
                           const std::string& help);

/// A text by one option, or by a file that another names.
void add_text(CLI::App& app, const std::string& name, const std::string& file_name, TextArguments& arguments,
              const std::string& what);

/// The model and how it is run.
void add_model(CLI::App& app, ModelArguments& arguments);

/// Adapters, and the one of them that the model goes through.
void add_adapter(CLI::App& app, ModelArguments& arguments);

/// How tokens are chosen, and by what seed; where none is said, by `default_seed`, or a random one where there is none.
void add_sampling(CLI::App& app, SamplingOptions& sampling, std::optional<std::uint64_t>& seed,
                  std::optional<std::uint64_t> default_seed = {});

/// Throws UsageError for what `add_sampling` has read and can't be.
void check_sampling(const SamplingOptions& sampling);

/// `name [N]`: tokens of a draft at most, lookup_tokens where N isn't given; 0 without the option.
CLI::Option* add_lookup(CLI::App& app, std::size_t& lookup, const std::string& help);

/// The chat template: "v1", "v3", or empty for the tokenizer's.
CLI::Option* add_template(CLI::App& app, std::string& chat_template, const std::string& what,
                          const std::string& otherwise = "what the tokenizer is made for");

/// The commands that train, whose options are many (finetune_options.cpp).
Command add_finetune(CLI::App& parent);
Command add_merge(CLI::App& parent);

}  // namespace mistral::tool
