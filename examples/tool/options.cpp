// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <span>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/io/os/folder_content.hpp>

#include "console.hpp"
#include "suggest.hpp"

namespace mistral::tool {

namespace {

std::string not_empty(const std::string& path) {
  return path.empty() ? std::string("expected a path, got nothing") : std::string();
}

// `64.0` is 64 to whoever wrote it
std::string without_fraction(const std::string& text) {
  const std::size_t point = text.find('.');
  if (point == 0 || point == std::string::npos) return {};
  const bool digits = text.find_first_not_of("0123456789") == point;
  return digits && text.find_first_not_of('0', point + 1) == std::string::npos ? text.substr(0, point) : std::string();
}

std::string not_a_number(const std::string& expected, const std::string& text) {
  std::string line = expected + ", got '" + printable(text, 40) + "'";
  const std::size_t comma = text.find(',');
  if (comma == std::string::npos) return line;
  std::string pointed = text;
  pointed[comma] = '.';
  char* end = nullptr;
  std::strtod(pointed.c_str(), &end);
  return *end == '\0' ? line + "; did you mean " + pointed + "?" : line;
}

// Other programs' names for what this one has.
struct Habit {
  const char* theirs;
  const char* ours;
};
constexpr Habit habits[] = {{"--predict", "--max-tokens"},
                            {"--n-predict", "--max-tokens"},
                            {"--max-new-tokens", "--max-tokens"},
                            {"--n-tokens", "--max-tokens"},
                            {"--repeat-penalty", "--repetition-penalty"},
                            {"--frequency-penalty", "--repetition-penalty"},
                            {"--in-file", "--file"},
                            {"--model-path", "--model"},
                            {"--model-name-or-path", "--model"},
                            {"--checkpoint", "--model"},
                            {"--lora", "--adapter"},
                            {"--lora-path", "--adapter"},
                            {"--adapter-path", "--adapter"},
                            {"--preset", "--weights"},
                            {"--ctx-size", "--context"},
                            {"--context-size", "--context"},
                            {"--cache-type-k", "--kv"},
                            {"--cache-type-v", "--kv"},
                            {"--system-prompt", "--system"},
                            {"--sys", "--system"},
                            {"-sys", "--system"},
                            {"--chat-template", "--template"},
                            {"--output", "--out"},
                            {"--outfile", "--out"},
                            {"--output-dir", "--out"},
                            {"--outtype", "--weights"},
                            {"--format", "--weights"},
                            {"--dtype", "--weights"},
                            {"--type", "--weights"},
                            {"--quantize", "--weights"},
                            {"--prompt-cache", "--state"},
                            {"--draft", "--lookup"},
                            {"--dataset", "--data"},
                            {"--data-path", "--data"},
                            {"--train-file", "--data"},
                            {"--train-data", "--data"},
                            {"--eval-data", "--validation"},
                            {"--validation-file", "--validation"},
                            {"--lr", "--learning-rate"},
                            {"--lora-r", "--rank"},
                            {"--lora-rank", "--rank"},
                            {"--lora-alpha", "--alpha"},
                            {"--lora-dropout", "--dropout"},
                            {"--use-rslora", "--rslora"},
                            {"--target-modules", "--targets"},
                            {"--num-epochs", "--epochs"},
                            {"--num-train-epochs", "--epochs"},
                            {"--batch-size", "--batch"},
                            {"--per-device-train-batch-size", "--batch"},
                            {"--gradient-accumulation-steps", "--accumulation"},
                            {"--max-grad-norm", "--clip"},
                            {"--max-seq-length", "--sequence"},
                            {"--max-length", "--sequence"},
                            {"--eval-steps", "--eval-every"},
                            {"--save-steps", "--save-every"},
                            {"--warmup-ratio", "--warmup"},
                            {"--lr-scheduler-type", "--schedule"},
                            {"--resume-from-checkpoint", "--resume"},
                            {"--limit", "--max-tokens"},
                            {"--num-fewshot", "--shots"},
                            {"--tasks", "--task"},
                            {"-p", "--text"},
                            {"-r", "--stop"},
                            {"--reverse-prompt", "--stop"},
                            {"-v", "--verbose"},
                            {"--ignore-end-of-text", "--ignore-eos"},
                            {"-i", "--file"},
                            {"-q", "--weights"}};
// What this program has nothing like, and why.
constexpr Habit others[] = {{"-c", "--context N is the context of a model without a window"},
                            {"-ngl", "all runs on the processor"},
                            {"--n-gpu-layers", "all runs on the processor"},
                            {"--gpu-layers", "all runs on the processor"},
                            {"--device", "all runs on the processor"},
                            {"-b", "prompts are cut into chunks by themselves"},
                            {"--ubatch-size", "prompts are cut into chunks by themselves"},
                            {"-fa", "attention is always computed in one pass"},
                            {"--flash-attn", "attention is always computed in one pass"},
                            {"--mlock", "see docs/guest.md for memory"},
                            {"--no-mmap", "packed files are mapped, others are read"},
                            {"-cnv", "mistral chat is for conversations"},
                            {"-no-cnv", "mistral generate continues plain texts"},
                            {"--conversation", "mistral chat is for conversations"}};

std::string joined_by_dashes(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

const char* find(std::span<const Habit> all, const std::string& name) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Habit& habit) { return name == habit.theirs; });
  return found != all.end() ? found->ours : nullptr;
}

// What stands before a `=`.
std::string name_in(const std::string& argument) { return argument.substr(0, argument.find('=')); }

// The option of that name, or null.
const CLI::Option* option_of(const CLI::App& command, const std::string& name) {
  for (const CLI::Option* const option : command.get_options()) {
    if (option->check_name(name)) return option;
  }
  return nullptr;
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* const option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

}  // namespace

CLI::Option* add_path(CLI::App& app, const std::string& name, std::string& path, const std::string& help) {
  return app.add_option(name, path, help)->check(CLI::Validator(not_empty, ""))->type_name("PATH");
}

CLI::Option* add_place(CLI::App& app, const std::string& name, std::string& path, const std::string& help) {
  const auto no_stream = [](const std::string& text) {
    return text != "-"
               ? std::string()
               : "expected a path, got -, and standard input and output can't be it (./- is a file of that name)";
  };
  return add_path(app, name, path, help)->check(CLI::Validator(no_stream, ""));
}

CLI::Option* add_name(CLI::App& app, const std::string& name, std::string& value, const std::string& help) {
  const auto some = [](const std::string& text) {
    return text.empty() ? std::string("expected a name, got nothing") : std::string();
  };
  return app.add_option(name, value, help)->check(CLI::Validator(some, ""))->type_name("NAME");
}

std::string option_formats(FormatsOf which) {
  std::string names;
  for_each_format([&]<class F>(std::type_identity<F>) {
    if (which == FormatsOf::any || (which == FormatsOf::gguf) == GgufFormat<F>) {
      names.append(names.empty() ? "" : ", ").append(CLI::detail::to_lower(std::string(F::name)));
    }
  });
  return names;
}

std::string lora_target_names() {
  std::string names;
  for (const LoraTarget& target : lora_targets) names.append(names.empty() ? "" : ", ").append(target.name());
  return names;
}

CLI::Validator one_of(std::vector<std::string> names) {
  std::string list;
  for (const std::string& name : names) list.append(list.empty() ? "{" : ",").append(name);
  return CLI::Validator(
      [names = std::move(names), list = list + "}"](std::string& text) {
        for (const std::string& name : names) {
          if (CLI::detail::to_lower(text) != name) continue;
          text = name;
          return std::string();
        }
        if (text.empty()) return "expected one of " + list + ", got nothing";
        return printable(text, 40) + " not in " + list + did_you_mean(text, names);
      },
      "");
}

std::string unknown_option(const CLI::App& command, const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") break;
    if (argument.size() < 2 || argument[0] != '-') continue;
    const std::string name = name_in(argument);
    const CLI::Option* option = option_of(command, name);
    const bool is_long = argument[1] == '-';
    const bool has_value = is_long ? name.size() < argument.size() : argument.size() > 2;
    if (!is_long && option == nullptr && find(others, name) == nullptr && find(habits, name) == nullptr) {
      option = option_of(command, argument.substr(0, 2));  // -mPATH
    }
    if (option == nullptr) return name;
    if (!is_long && argument.size() > 2 && argument[2] == '=') return argument;  // CLI11 would make = part of the value
    if (!has_value && option->get_items_expected_min() > 0) ++i;                 // whatever it looks like
  }
  return {};
}

std::string not_expected(const CLI::App& command, const std::string& argument) {
  std::string line = "The following argument was not expected: " + printable(argument, 200);
  if (!argument.starts_with('-')) {
    const CLI::Option* const model = option_of(command, "--model");
    if (model != nullptr && model->count() == 0) return line + "; a checkpoint is given by --model";
    const bool prompts = option_of(command, "--prompt") != nullptr;
    return prompts ? line + "; a prompt is given by --prompt" : line;
  }
  if (argument.size() > 2 && argument[1] != '-' && argument[2] == '=') {
    return line + "; the value of " + argument.substr(0, 2) + " stands behind a space";
  }
  const std::string name = joined_by_dashes(argument);
  if (const char* const why = find(others, name)) return line + "; " + why;
  const char* const ours = find(habits, name);
  if (ours != nullptr && option_of(command, ours) != nullptr) return line + "; did you mean " + ours + "?";
  return line + did_you_mean(name, option_names(command));
}

std::string why_not_whole(const std::string& text, std::uint64_t least, std::uint64_t most) {
  std::uint64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure == std::errc() && end == text.data() + text.size() && number >= least && number <= most) return {};
  const std::string line = "expected a whole number of " + std::to_string(least) + " ... " + std::to_string(most) +
                           ", got '" + printable(text, 40) + "'";
  const std::string whole = without_fraction(text);
  return whole.empty() ? line : line + "; did you mean " + whole + "?";
}

CLI::Validator whole_in(std::uint64_t least, std::uint64_t most) {
  return CLI::Validator([=](const std::string& text) { return why_not_whole(text, least, most); }, "");
}

CLI::Option* add_number(CLI::App& app, const std::string& name, float& value, const std::string& help) {
  const auto is_number = [](const std::string& text) {
    char* end = nullptr;
    std::strtod(text.c_str(), &end);
    return !text.empty() && *end == '\0' ? std::string() : not_a_number("expected a number", text);
  };
  return app.add_option(name, value, help)->check(CLI::Validator(is_number, ""))->type_name("X");
}

void add_text(CLI::App& app, const std::string& name, const std::string& file_name, TextArguments& arguments,
              const std::string& what, const std::string& lines) {
  CLI::Option* const text = app.add_option(name, arguments.text, what)->type_name("TEXT");
  CLI::Option* const file =
      add_path(app, file_name, arguments.file, "a file that holds it, - for standard input" + lines);
  file->excludes(text);
}

std::string why_not_number(const std::string& text, double least, double most) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (!text.empty() && *end == '\0' && number >= least && number <= most) return {};
  std::ostringstream expected;
  expected << "expected a number of " << least << " ... " << most;
  return not_a_number(expected.str(), text);
}

CLI::Option* add_number_in(CLI::App& app, const std::string& name, float& value, float least, float most,
                           const std::string& help) {
  const auto in_range = [=](const std::string& text) {
    return why_not_number(text, static_cast<double>(least), static_cast<double>(most));
  };
  return app.add_option(name, value, help)->check(CLI::Validator(in_range, ""))->type_name("X");
}

CLI::Option* add_parse_special(CLI::App& app, bool& parse_special, const std::string& what) {
  return app.add_flag("--parse-special", parse_special,
                      "have control pieces that stand in " + what +
                          ", such as <s> and [INST], become control tokens (default: they stay text)");
}

void add_model(CLI::App& app, ModelArguments& arguments) {
  add_path(app, "-m,--model", arguments.folder,
           "the checkpoint: a folder of Hugging Face's or Mistral's layout, or a .gguf or packed file")
      ->required();
  add_path(
      app, "--tokenizer", arguments.tokenizer,
      "a SentencePiece model, a tokenizer.json, or a .gguf file that holds one, where it isn't the checkpoint's own");
  add_model_type(app, arguments);
  add_path(app, "--compiled", arguments.compiled,
           "a model that mistral compile --out made, to run it by (default: compiled when it is first met)");
  add_whole(app, "-t,--threads", arguments.threads, 1, 1024, "threads to run on (default: all processors)");
  app.add_flag("!--no-memory-check", arguments.check_memory, "load a model that doesn't fit in the memory available");
}

void add_model_type(CLI::App& app, ModelArguments& arguments) {
  add_name(app, "--weights", arguments.weights,
           "the format to hold the weights in: " + option_formats(FormatsOf::any) + " (default: the checkpoint's own)")
      ->type_name("FORMAT");
  app.add_option("--kv", arguments.kv, "the elements of the cache: float, bf16, q8 (default: float for f32, else bf16)")
      ->transform(one_of({"float", "bf16", "q8"}))
      ->type_name("NAME");
  add_whole(app, "--window", arguments.window, 0, 1 << 24,
            "tokens that a query sees, 0 for all of them (default: the checkpoint's own)");
  add_whole(app, "--context", arguments.context, 1, 1 << 24,
            "tokens of a model without a window at most (default: the checkpoint's own)");
  app.add_flag("--exact", arguments.exact,
               "round nothing but the weights: keep activations and the cache in float, which is slower");
}

void add_adapter(CLI::App& app, ModelArguments& arguments) {
  CLI::Option* const adapters =
      app.add_option("--adapter", arguments.adapters,
                     "a LoRA adapter to go through, a folder as PEFT has it, or several, one after each --adapter")
          ->check(CLI::Validator(not_empty, ""))
          ->type_name("PATH")
          ->allow_extra_args(false);
  add_name(app, "--use-adapter", arguments.use_adapter,
           "which of them: its path, the last name of its path, its number from 0 on, or none (default: the first)")
      ->needs(adapters);
}

void add_sampling(CLI::App& app, SamplingOptions& sampling, std::optional<std::uint64_t>& seed,
                  std::optional<std::uint64_t> default_seed) {
  add_number(app, "--temperature,--temp", sampling.temperature, "0: always the most probable token (default: 0.7)");
  add_whole(app, "--top-k", sampling.top_k, 0, INT32_MAX, "choose among the N most probable tokens; 0: all");
  add_number(app, "--top-p", sampling.top_p, "choose among the tokens that make up this probability");
  add_number(app, "--min-p", sampling.min_p, "drop tokens below this fraction of the most probable one's");
  add_number(app, "--repetition-penalty", sampling.repetition_penalty,
             "what the logits of tokens that were there already are divided by");
  add_whole(app, "-s,--seed", seed, 0, UINT64_MAX,
            "the same seed gives the same text; " + (default_seed ? std::to_string(*default_seed) : "a random one") +
                " unless said");
}

void add_stop_ids(CLI::App& app, std::vector<TokenId>& ids) {
  app.add_option("--stop-id", ids,
                 "a token that ends the text, besides those that the model ends texts with; may be given several times")
      ->check(whole_in(0, INT32_MAX))
      ->type_name("ID")
      ->allow_extra_args(false);
}

void add_model_settings(CLI::App& app, bool& wanted) {
  app.add_flag(
      "--model-settings", wanted,
      "go by the model's generation_config.json where an option doesn't say how tokens are drawn, or how many");
}

std::optional<GenerationSettings> model_settings(const CLI::App& app, bool wanted, const std::string& checkpoint,
                                                 SamplingOptions& sampling) {
  GenerationSettings settings;
  try {
    settings = read_generation_settings(checkpoint);
  } catch (const Error& error) {
    if (wanted) throw;
    note("mistral: note: " + printable(error.what(), 1000) +
         "; nothing goes by this file but the ids that end a text\n");
    return std::nullopt;
  }
  if (!wanted) {
    const std::string text = settings.text();
    if (!text.empty()) note("mistral: note: the model comes with " + text + ", by which --model-settings goes\n");
    return std::nullopt;
  }
  const SamplingOptions asked = std::exchange(sampling, settings.sampling(sampling));
  const auto given = [&](const char* name) { return app.get_option(name)->count() > 0; };
  if (given("--temperature")) sampling.temperature = asked.temperature;
  if (given("--top-k")) sampling.top_k = asked.top_k;
  if (given("--top-p")) sampling.top_p = asked.top_p;
  if (given("--min-p")) sampling.min_p = asked.min_p;
  if (given("--repetition-penalty")) sampling.repetition_penalty = asked.repetition_penalty;
  if (given("--max-tokens")) settings.max_new_tokens = settings.max_length = std::nullopt;
  return settings;
}

void check_sampling(const SamplingOptions& sampling) {
  try {
    sampling.validate();
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

CLI::Option* add_lookup(CLI::App& app, std::size_t& lookup, const std::string& help) {
  constexpr std::uint64_t most = 4096;
  const auto take = [&lookup](const std::string& text) { lookup = static_cast<std::size_t>(std::stoull(text)); };
  return app.add_option_function<std::string>("--lookup", take, help)
      ->expected(0, 1)
      ->check(whole_in(1, most))
      ->default_str(std::to_string(lookup_tokens))
      ->type_name("[N]");
}

CLI::Option* add_template(CLI::App& app, std::string& chat_template, const std::string& what,
                          const std::string& otherwise) {
  return app
      .add_option(
          "--template", chat_template,
          what + ": v1 (Mistral 7B Instruct v0.1, v0.2), v3 (v0.3), own (the model's own Jinja template) or a file " +
              "with a Jinja template (default: " + otherwise + ")")
      ->transform(CLI::Validator(
          [](std::string& text) {
            const std::string no_name = one_of({"v1", "v3", "own"})(text);
            if (no_name.empty() || (!text.empty() && path_exists(text))) return std::string();
            return text.empty() ? no_name : no_name + ", and no file of that name";
          },
          ""))
      ->type_name("NAME|FILE");
}

}  // namespace mistral::tool
