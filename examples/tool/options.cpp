#include "options.hpp"

#include <charconv>
#include <cstdlib>
#include <sstream>
#include <system_error>

#include <mistral/core/error.hpp>
#include <mistral/io/printable.hpp>

namespace mistral::tool {

namespace {

std::string not_empty(const std::string& path) {
  return path.empty() ? std::string("expected a path, got nothing") : std::string();
}

}  // namespace

CLI::Option* add_path(CLI::App& app, const std::string& name, std::string& path, const std::string& help) {
  return app.add_option(name, path, help)->check(CLI::Validator(not_empty, ""))->type_name("PATH");
}

std::string why_not_whole(const std::string& text, std::uint64_t least, std::uint64_t most) {
  std::uint64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure == std::errc() && end == text.data() + text.size() && number >= least && number <= most) return {};
  return "expected a whole number of " + std::to_string(least) + " ... " + std::to_string(most) + ", got '" +
         printable(text, 40) + "'";
}

CLI::Option* add_number(CLI::App& app, const std::string& name, float& value, const std::string& help) {
  const auto is_number = [](const std::string& text) {
    char* end = nullptr;
    std::strtod(text.c_str(), &end);
    return !text.empty() && *end == '\0' ? std::string() : "expected a number, got '" + printable(text, 40) + "'";
  };
  return app.add_option(name, value, help)->check(CLI::Validator(is_number, ""))->type_name("X");
}

void add_text(CLI::App& app, const std::string& name, const std::string& file_name, TextArguments& arguments,
              const std::string& what) {
  CLI::Option* const text = app.add_option(name, arguments.text, what)->type_name("TEXT");
  CLI::Option* const file = add_path(app, file_name, arguments.file, "a file that holds it, - for standard input");
  file->excludes(text);
}

CLI::Option* add_number_in(CLI::App& app, const std::string& name, float& value, float least, float most,
                           const std::string& help) {
  const auto in_range = [=](const std::string& text) {
    char* end = nullptr;
    const float number = std::strtof(text.c_str(), &end);
    if (!text.empty() && *end == '\0' && number >= least && number <= most) return std::string();
    std::ostringstream expected;
    expected << "expected a number of " << least << " ... " << most << ", got '" << printable(text, 40) << "'";
    return expected.str();
  };
  return app.add_option(name, value, help)->check(CLI::Validator(in_range, ""))->type_name("X");
}

void add_model(CLI::App& app, ModelArguments& arguments) {
  add_path(app, "--model", arguments.folder,
           "the checkpoint: a folder of Hugging Face's or Mistral's layout, or a .gguf or packed file")
      ->required();
  add_path(app, "--tokenizer", arguments.tokenizer,
           "a SentencePiece model, or a .gguf file that holds one, where it isn't the checkpoint's own");
  app.add_option("--preset", arguments.preset,
                 "the preset to run it by, with the preset's window (see: mistral presets)")
      ->type_name("NAME");
  add_whole(app, "--threads", arguments.threads, 1, 1024, "threads to run on; all processors unless said");
  app.add_flag("!--no-memory-check", arguments.check_memory, "load a model that doesn't fit in the memory available");
}

void add_adapter(CLI::App& app, ModelArguments& arguments) {
  CLI::Option* const adapters =
      app.add_option("--adapter", arguments.adapters,
                     "a LoRA adapter to go through, a folder as PEFT has it, or several, one after each --adapter; the "
                     "preset is one that is compiled for training")
          ->check(CLI::Validator(not_empty, ""))
          ->type_name("PATH")
          ->allow_extra_args(false);
  app.add_option("--use-adapter", arguments.use_adapter,
                 "which of them: its path, the last name of its path, its number from 0 on, or none; the first unless "
                 "said")
      ->needs(adapters)
      ->type_name("NAME");
}

void add_sampling(CLI::App& app, SamplingOptions& sampling, std::optional<std::uint64_t>& seed,
                  std::optional<std::uint64_t> default_seed) {
  add_number(app, "--temperature", sampling.temperature, "0: always the most probable token; 0.7 unless said");
  add_whole(app, "--top-k", sampling.top_k, 0, INT32_MAX, "choose among the N most probable tokens; 0: all");
  add_number(app, "--top-p", sampling.top_p, "choose among the tokens that make up this probability");
  add_number(app, "--min-p", sampling.min_p, "drop tokens below this fraction of the most probable one's");
  add_number(app, "--repetition-penalty", sampling.repetition_penalty,
             "what the logits of tokens that were there already are divided by");
  add_whole(app, "--seed", seed, 0, UINT64_MAX,
            "the same seed gives the same text; " + (default_seed ? std::to_string(*default_seed) : "a random one") +
                " unless said");
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
  const auto in_range = [](const std::string& text) { return why_not_whole(text, 1, most); };
  return app.add_option_function<std::string>("--lookup", take, help)
      ->expected(0, 1)
      ->check(CLI::Validator(in_range, ""))
      ->default_str(std::to_string(lookup_tokens))
      ->type_name("[N]");
}

CLI::Option* add_template(CLI::App& app, std::string& chat_template, const std::string& what,
                          const std::string& otherwise) {
  return app
      .add_option("--template", chat_template,
                  what + ": v1 (Mistral 7B Instruct v0.1, v0.2) or v3 (v0.3); " + otherwise + " unless said")
      ->check(CLI::IsMember({"v1", "v3"}))
      ->type_name("NAME");
}

}  // namespace mistral::tool
