// SPDX-License-Identifier: Apache-2.0
// The tool `mistral`: what the command line says goes into the structs of commands.hpp, and each command has a file.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <memory_resource>
#include <new>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/os/huge_pages.hpp>
#include <mistral/parallel/parallel.hpp>

#include "commands.hpp"
#include "configs.hpp"
#include "console.hpp"
#include "endings.hpp"
#include "options.hpp"
#include "suggest.hpp"

namespace mistral::tool { namespace {

Command add_generate(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "generate",
      "Continue a prompt. Prints the continuation as it comes, without the prompt, and a newline at its end");
  const auto arguments = std::make_shared<GenerateArguments>();
  GenerateArguments& a = *arguments;
  add_model(*app, a.model);
  add_adapter(*app, a.model);
  add_text(*app, "-p,--prompt", "-f,--prompt-file", a.prompt,
           "the text to continue; standard input where neither is given. BOS is put in front of it");
  CLI::Option* const chat = add_path(
      *app, "--chat", a.chat_file,
      "a file that holds a request to answer instead, a JSON object as mistral tokenize --chat takes one, - for "
      "standard input: messages, and perhaps tools and a tool_choice. Calls are printed as a line of JSON each");
  for (const char* const other : {"--prompt", "--prompt-file"}) chat->excludes(app->get_option(other));
  add_template(*app, a.chat_template, "how --chat is written down")->needs(chat);
  add_whole(*app, "-n,--max-tokens", a.max_tokens, 0, INT64_MAX, "tokens to generate at most (default: 256)");
  add_sampling(*app, a.sampling, a.seed);
  const auto settings = std::make_shared<bool>(false);
  add_model_settings(*app, *settings);
  app->add_option("--stop", a.stop, "a text that ends the output, and isn't part of it; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  add_stop_ids(*app, a.stop_ids);
  app->add_flag("--ignore-eos", a.ignore_eos, "go on after the token that ends a text");
  app->add_flag("--no-bos", a.no_bos, "don't put BOS in front of the prompt")->excludes(chat);
  add_parse_special(*app, a.parse_special, "the prompt")->excludes(chat);
  add_place(
      *app, "--state", a.state,
      "a file that keeps what the model has read: what it holds of the prompt's beginning isn't computed again, and "
      "at the end it holds the prompt and its continuation");
  add_lookup(*app, a.lookup,
             "draft up to N tokens (" + std::to_string(lookup_tokens) +
                 " unless said) from the text so far and take them through the model together: the same text, sooner "
                 "where it repeats itself");
  app->add_flag("--json", a.json, "print one JSON object at the end instead");
  app->add_flag("--verbose", a.verbose, "print speeds to standard error, as on a terminal");
  return {app, [app, arguments, settings] {
            check_sampling(arguments->sampling);
            arguments->settings = model_settings(*app, *settings, arguments->model.folder, arguments->sampling);
            for (const std::string& text : arguments->stop) {
              if (text.empty()) throw UsageError("--stop: expected a text, got nothing");
            }
            run_generate(*arguments);
          }};
}

Command add_chat(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "chat", "Talk with an Instruct model: a line of standard input is a message, and its answer comes as it is made");
  const auto arguments = std::make_shared<ChatArguments>();
  ChatArguments& a = *arguments;
  add_model(*app, a.model);
  add_adapter(*app, a.model);
  add_template(*app, a.chat_template, "how the conversation is written down");
  app->add_option("--system", a.system, "the system prompt")->type_name("TEXT");
  app->add_flag("--guardrail", a.guardrail, "put the system prompt of the paper in front, that has answers do no harm");
  add_place(*app, "--load", a.load, "go on from a conversation that was saved");
  app->add_flag("--context-shift", a.context_shift,
                "where a model has no window, leave out the oldest turns when its context is full, and go on");
  add_whole(*app, "-n,--max-tokens", a.max_tokens, 1, INT64_MAX, "tokens of an answer at most (default: 512)");
  add_sampling(*app, a.sampling, a.seed);
  const auto settings = std::make_shared<bool>(false);
  add_model_settings(*app, *settings);
  add_stop_ids(*app, a.stop_ids);
  app->add_flag("--json", a.json, "print a JSON object a line for each answer instead");
  app->add_flag("--verbose", a.verbose, "print speeds to standard error");
  return {app, [app, arguments, settings] {
            check_sampling(arguments->sampling);
            arguments->settings = model_settings(*app, *settings, arguments->model.folder, arguments->sampling);
            run_chat(*arguments);
          }};
}

Command add_tokenize(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand("tokenize", "Print the token ids of a text, or the text of token ids");
  const auto arguments = std::make_shared<TokenizeArguments>();
  TokenizeArguments& a = *arguments;
  CLI::Option* const tokenizer =
      add_path(*app, "--tokenizer", a.tokenizer, "a SentencePiece model, or a tokenizer.json");
  add_path(*app, "-m,--model", a.folder, "a folder with a tokenizer.json or tokenizer.model, or a .gguf or packed file")
      ->excludes(tokenizer);
  add_text(*app, "--text", "-f,--file", a.text, "the text, or the ids; standard input where neither is given",
           "; a text is taken byte by byte");
  CLI::Option* const decode = app->add_flag("--decode", a.decode, "take ids, print their text");
  app->add_flag("--skip-special", a.skip_special, "leave special tokens of a tokenizer.json out of the text")
      ->needs(decode);
  app->add_flag("--bos", a.bos, "put BOS in front")->excludes(decode);
  app->add_flag(
         "--add-special", a.add_special,
         "add what the model's maker has added to a text: BOS, EOS, or what the template of a tokenizer.json says")
      ->excludes(decode);
  add_parse_special(*app, a.parse_special, "the text")->excludes(decode);
  app->add_flag("--pieces", a.pieces, "print a line for each token: its id, a tab, its piece")->excludes(decode);
  app->add_flag("--json", a.json, "print a JSON array, or a string with --decode");
  CLI::Option* const chat =
      add_path(*app, "--chat", a.chat_file,
               "a file of conversations, a JSON object a line: {\"messages\": [{\"role\": ..., "
               "\"content\": ...}, ...]}, perhaps with tools, - for standard input. Prints a line for each: the JSON "
               "array of its ids, or {\"error\": ...}");
  for (const char* const other :
       {"--text", "--file", "--decode", "--bos", "--pieces", "--parse-special", "--add-special"}) {
    chat->excludes(app->get_option(other));
  }
  add_template(*app, a.chat_template, "how --chat writes them down")->needs(chat);
  return {app, [arguments] {
            if (arguments->tokenizer.empty() && arguments->folder.empty()) {
              throw UsageError("--tokenizer or --model is required");
            }
            run_tokenize(*arguments);
          }};
}

Command add_render(CLI::App& parent) {
  CLI::App* const app =
      parent.add_subcommand("render", "Print what a Jinja template makes of its variables, as transformers renders it");
  const auto arguments = std::make_shared<RenderArguments>();
  add_path(*app, "--template", arguments->template_file, "the template")->required();
  add_path(*app, "--context", arguments->context,
           "a file of variables, a JSON object a line, in which `now` is what the clock shows (2024-07-26T09:05:03), - "
           "for standard input. Prints a line for each: the text as a JSON string, or {\"error\": ...}")
      ->required();
  return {app, [arguments] { run_render(*arguments); }};
}

Command add_logits(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "logits", "Write the logits at every position to a .npy file: float32, (tokens, vocab_size)");
  const auto arguments = std::make_shared<LogitsArguments>();
  LogitsArguments& a = *arguments;
  add_model(*app, a.model);
  add_adapter(*app, a.model);
  CLI::Option* const tokens =
      app->add_option("--tokens", a.tokens, "token ids, with commas between them")->type_name("IDS");
  CLI::Option* const tokens_file =
      add_path(*app, "--tokens-file", a.tokens_file, "a file that holds token ids, - for standard input");
  add_text(*app, "-p,--prompt", "-f,--prompt-file", a.prompt, "a text instead. BOS is put in front of it");
  tokens->excludes(tokens_file);
  for (const char* const text : {"--prompt", "--prompt-file"}) {
    app->get_option(text)->excludes(tokens);
    app->get_option(text)->excludes(tokens_file);
  }
  app->add_flag("--no-bos", a.no_bos, "don't put BOS in front of the text");
  add_parse_special(*app, a.parse_special, "the text");
  add_path(*app, "-o,--out", a.out, "the file to write, - for standard output")->required();
  app->add_flag("--json", a.json, "print what was written as a JSON object");
  return {app, [arguments] { run_logits(*arguments); }};
}

Command add_perplexity(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "perplexity", "Say how well a checkpoint predicts a text, and what each weight format loses");
  const auto arguments = std::make_shared<PerplexityArguments>();
  PerplexityArguments& a = *arguments;
  add_model(*app, a.model);
  add_adapter(*app, a.model);
  add_text(*app, "--text", "-f,--file", a.text,
           "the text; standard input where neither is given. BOS is put in front of it");
  add_name(*app, "--against", a.against,
           "hold these formats of the weights, with commas between them, against F32: perplexities, and the mean "
           "Kullback-Leibler divergence from its distributions; all: every one that the tool is compiled for")
      ->type_name("FORMATS");
  add_whole(*app, "--stride", a.stride, 1, INT32_MAX,
            "without a window, sequences of the context's length follow each other at this distance; half of the "
            "context unless said. With a window the text is one sequence");
  app->add_flag("--no-bos", a.no_bos, "don't put BOS in front of the text");
  add_parse_special(*app, a.parse_special, "the text");
  app->add_flag("--json", a.json, "print one JSON object");
  return {app, [arguments] { run_perplexity(*arguments); }};
}

Command add_evaluate(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "evaluate", "Say how good a checkpoint is at a task, with standard errors (docs/evaluation.md)");
  const auto arguments = std::make_shared<EvaluateArguments>();
  EvaluateArguments& a = *arguments;
  add_model(*app, a.model);
  add_adapter(*app, a.model);
  app->get_option("--model")->required(false);
  CLI::Option* const task =
      add_path(*app, "--task", a.task, "a file of questions, a JSON object a line: with choices, answers, or texts");
  CLI::Option* const results =
      add_path(*app, "--results", a.results,
               "instead, how many programs passed their tests, a JSON object a line: {\"samples\": 20, \"passed\": 3}");
  results->excludes(task)->excludes(app->get_option("--model"));
  app->add_option("--pass-at", a.pass_at, "the k of pass@k, with commas between several (default: 1)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(whole_in(1, 1'000'000))
      ->type_name("K[,K...]")
      ->needs(results);
  add_whole(*app, "--shots", a.shots, 0, 1000, "examples of the file to show before each question (default: none)");
  add_template(*app, a.chat_template, "ask in conversations, as an Instruct model is to be", "plain texts");
  add_whole(*app, "--samples", a.samples, 1, 10000,
            "sample N answers to each question, and take that of the majority (default: the most probable one)");
  add_whole(*app, "-n,--max-tokens", a.max_tokens, 1, INT64_MAX, "tokens of an answer at most (default: 256)");
  add_sampling(*app, a.sampling, a.seed, 0);
  add_stop_ids(*app, a.stop_ids);
  add_whole(*app, "--stride", a.stride, 1, INT32_MAX,
            "of texts longer than the context of a model without a window: see mistral perplexity");
  app->add_flag("--json", a.json, "print one JSON object, with what each question came to");
  return {app, [arguments] {
            check_sampling(arguments->sampling);
            if (arguments->results.empty() && (arguments->task.empty() || arguments->model.folder.empty())) {
              throw UsageError("--model and --task, or --results, are required");
            }
            run_evaluate(*arguments);
          }};
}

Command add_moderate(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "moderate",
      "Have a model say whether a prompt, or an answer, is acceptable or falls into a category that isn't: illegal, "
      "hateful, unqualified");
  const auto arguments = std::make_shared<ModerateArguments>();
  ModerateArguments& a = *arguments;
  add_model(*app, a.model);
  add_adapter(*app, a.model);
  add_template(*app, a.chat_template, "how the question is written down");
  CLI::Option* const prompt = app->add_option("-p,--prompt", a.prompt, "the prompt")->type_name("TEXT");
  app->add_option("--answer", a.answer, "judge this answer to the prompt")->type_name("TEXT")->needs(prompt);
  add_path(*app, "-f,--file", a.file,
           "texts instead, a JSON object a line: {\"prompt\": ..., \"answer\": ..., \"label\": ...}. With labels, says "
           "precision and recall")
      ->excludes(prompt);
  app->add_option("--threshold", a.threshold,
                  "hold a text for acceptable where that has at least this probability; where it is the most probable "
                  "unless said")
      ->check(CLI::Validator([](const std::string& text) { return why_not_number(text, 0.0, 1.0); }, ""))
      ->type_name("P");
  app->add_flag("--json", a.json, "print one JSON object, with what each text was found to be");
  return {app, [arguments] {
            if (!arguments->prompt && arguments->file.empty()) throw UsageError("--prompt or --file is required");
            run_moderate(*arguments);
          }};
}

Command add_inspect(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand("inspect", "Say what a checkpoint is, and the memory that it takes");
  const auto arguments = std::make_shared<InspectArguments>();
  add_path(*app, "model,-m,--model", arguments->folder, "the checkpoint: a folder, or a .gguf or packed file")
      ->required();
  add_path(*app, "--tokenizer", arguments->tokenizer,
           "a SentencePiece model or a tokenizer.json, where it isn't the checkpoint's own");
  app->add_option(
         "--config", arguments->config,
         "print the definition of its mistral::ModelConfig instead, under this name, to be pasted into a program")
      ->check(CLI::Validator(
          [](const std::string& name) {
            const bool good = !name.empty() &&
                              name.find_first_not_of(
                                  "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == std::string::npos &&
                              (name[0] < '0' || name[0] > '9');
            return good ? std::string() : "expected an identifier of C++, got '" + printable(name, 40) + "'";
          },
          ""))
      ->type_name("NAME");
  app->add_flag("--verify", arguments->verify, "read a packed file whole, and hold it against its checksums");
  app->add_flag("--json", arguments->json, "print one JSON object");
  return {app, [arguments] { run_inspect(*arguments); }};
}

Command add_quantize(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand("quantize", "Write a checkpoint's weights in another format");
  const auto arguments = std::make_shared<QuantizeArguments>();
  QuantizeArguments& a = *arguments;
  add_path(*app, "model,-m,--model", a.folder, "the checkpoint: a folder, or a .gguf file")->required();
  app->add_option(
         "--weights", a.weights,
         "the format: " + option_formats(FormatsOf::gguf) + ", and, packed, " + option_formats(FormatsOf::packed_alone))
      ->required()
      ->type_name("FORMAT");
  add_path(*app, "-o,--out", a.out, "the file to write, - for standard output")->required();
  app->add_option_function<std::string>(
         "--to", [&a](const std::string& to) { a.packed = to == "packed"; },
         "gguf: for any program that reads GGUF (unless said); packed: as this one has it in memory, to start at once")
      ->transform(one_of({"gguf", "packed"}))
      ->type_name("gguf|packed");
  CLI::Option* const tokenizer =
      add_path(*app, "--tokenizer", a.tokenizer,
               "a SentencePiece model or a tokenizer.json, where it isn't the checkpoint's own");
  app->add_flag("--without-tokenizer", a.without_tokenizer, "write the model without a tokenizer")->excludes(tokenizer);
  add_whole(*app, "-t,--threads", a.threads, 1, 1024, "threads to run on (default: all processors)");
  app->add_flag("--json", a.json, "print what was written as a JSON object");
  return {app, [arguments] { run_quantize(*arguments); }};
}

Command add_compile(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "compile", "Compile the model of a checkpoint beforehand, which the other commands do when they first meet it");
  const auto arguments = std::make_shared<CompileArguments>();
  CompileArguments& a = *arguments;
  CLI::Option* const model =
      add_path(*app, "model,-m,--model", a.model.folder, "the checkpoint: a folder, or a .gguf or packed file");
  CLI::Option* const config =
      add_name(*app, "--config", a.config, "the name of a config instead, such as mistral-7b-v0.1")->excludes(model);
  add_model_type(*app, a.model);
  app->add_flag("--train", a.train, "compile it for adapters too, and for their training");
  CLI::Option* const out =
      add_place(*app, "-o,--out", a.out, "the file to write, for --compiled (default: one in the cache folder)");
  CLI::Option* const page = app->add_flag("--print", a.print, "print the page of C++ that would be compiled");
  CLI::Option* const list = app->add_flag("--list", a.list, "list what the cache folder holds");
  CLI::Option* const clear = app->add_flag("--clear", a.clear, "empty the cache folder");
  page->excludes(out);
  for (CLI::Option* const other : {list, clear})
    other->excludes(model)->excludes(config)->excludes(out)->excludes(page);
  list->excludes(clear);
  app->add_flag("--json", a.json, "print one JSON object");
  return {app, [arguments] {
            const CompileArguments& given = *arguments;
            if (given.model.folder.empty() && given.config.empty() && !given.list && !given.clear) {
              throw UsageError("expected a checkpoint, --config, --list or --clear");
            }
            run_compile(given);
          }};
}

Command add_bench(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "bench", "Time a model's shape with random weights, each figure beside the machine's limit");
  const auto arguments = std::make_shared<BenchArguments>();
  BenchArguments& a = *arguments;
  const auto add_count = [app](const char* name, std::size_t& value, std::size_t least, const std::string& help) {
    app->add_option(name, value, help + "; " + std::to_string(value) + " unless said")
        ->check(whole_in(least, 100'000'000))
        ->type_name("N");
  };
  app->add_option("--config", a.config,
                  "a checkpoint, whose shape counts, or the name of a config: " + config_names_text())
      ->required()
      ->type_name("NAME");
  add_name(*app, "--weights", a.weights, "the format of the weights (default: bf16, or the checkpoint's own)")
      ->type_name("FORMAT");
  add_whole(*app, "--window", a.window, 0, 1 << 24,
            "tokens that a query sees, 0 for all of them (default: the config's own)");
  app->add_option("--kv", a.kv, "the elements of the cache: float, bf16, q8 (default: float for f32, else bf16)")
      ->transform(one_of({"float", "bf16", "q8"}))
      ->type_name("NAME");
  add_count("--prompt-tokens", a.prompt_tokens, 1, "tokens of the prefill that is timed");
  add_count("--generate-tokens", a.generate_tokens, 1, "tokens of the decode that is timed");
  app->add_option("--depth", a.depths,
                  "tokens in the cache before the decode, which are not computed; several with commas between them are "
                  "timed in turn (default: 0)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(whole_in(0, 100'000'000))
      ->type_name("N[,N...]");
  CLI::Option* const sequences =
      app->add_option(
             "--sequences", a.sequences,
             "time forwards of a row of each of N sequences too, from depth 0; not timed unless said. With --finetune: "
             "sequences of a step")
          ->check(whole_in(1, 512))
          ->type_name("N");
  CLI::Option* const finetune = app->add_flag(
      "--finetune", a.finetune,
      "time steps of training adapters instead, of --sequences (1 unless said) x --prompt-tokens tokens, and say the "
      "memory that they take");
  app->add_flag("--scheduler", a.scheduler,
                "time the same through a SessionBatch too: a step in which each sequence chooses its next token")
      ->needs(sequences);
  for (const char* const other : {"--generate-tokens", "--depth", "--scheduler"})
    finetune->excludes(app->get_option(other));
  CLI::Option* const lookup = add_lookup(
      *app, a.lookup,
      "time --generate-tokens of an answer that repeats the prompt of --prompt-tokens with a change here and there "
      "instead, with drafts of up to N tokens (" +
          std::to_string(lookup_tokens) + " unless said) and without");
  lookup->excludes(finetune)->excludes(app->get_option("--depth"))->excludes(app->get_option("--sequences"));
  app->add_option("--rank", a.rank, "of the adapters beside all matrices (default: 32)")
      ->check(whole_in(1, 512))
      ->type_name("N")
      ->needs(finetune);
  add_count("--repeats", a.repeats, 1, "how often all are timed");
  app->add_option("-t,--threads", a.threads, "threads to run on (default: all processors)")
      ->check(whole_in(1, 1024))
      ->type_name("N");
  app->add_flag("--json", a.json, "print one JSON object");
  return {app, [arguments] { run_bench(*arguments); }};
}

int fail(int code, std::string_view message) {
  note("mistral: error: " + printable(message, 4000) + "\n");
  return code;
}

// The arguments as CLI11 is to have them: it reads `--prompt=` as `--prompt` followed by its value.
std::vector<std::string> arguments_of(int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    const bool no_value =
        argument.size() > 3 && argument.starts_with("--") && argument.find('=') == argument.size() - 1;
    if (no_value) argument.pop_back();
    arguments.push_back(std::move(argument));
    if (no_value) arguments.emplace_back();
  }
  return arguments;
}

// `help` and `version` are asked for as commands too: what is asked for, as options.
std::vector<std::string> without_habits(std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  if (arguments[0] == "version") arguments[0] = "--version";
  if (arguments[0] != "help") return arguments;
  if (arguments.size() == 1 || arguments[1].starts_with('-') || arguments[1] == "help") return {"--help"};
  if (arguments[1] == "version") return {"--version"};
  return {arguments[1], "--help"};
}

// What is to be said of a first argument that is no command: what probably was meant.
std::string no_command(const std::string& name, std::span<const Command> commands) {
  std::vector<std::string> names{"help", "version"};
  for (const Command& command : commands) names.push_back(command.app->get_name());
  constexpr std::pair<const char*, const char*> elsewhere[] = {
      {"run", "generate"},     {"complete", "generate"}, {"completion", "generate"}, {"train", "finetune"},
      {"lora", "finetune"},    {"sft", "finetune"},      {"eval", "evaluate"},       {"ppl", "perplexity"},
      {"convert", "quantize"}, {"export", "quantize"},   {"info", "inspect"},        {"show", "inspect"},
      {"encode", "tokenize"},  {"decode", "tokenize"},   {"presets", "compile"},     {"build", "compile"},
      {"benchmark", "bench"},  {"cli", "chat"}};
  std::string line = "unknown command '" + printable(name, 40) + "'";
  for (const auto& [theirs, ours] : elsewhere) {
    if (name == theirs) return line + "; did you mean " + ours + "?";
  }
  return line + did_you_mean(name, names);
}

int run(int argc, const char* const* argv) {
  CLI::App app{"Mistral 7B, and models of its family, on the CPU", "mistral"};
  app.set_version_flag("-v,--version", "mistral " MISTRAL_TOOL_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer("mistral help COMMAND says what a command takes.");
  const Command commands[] = {add_generate(app), add_chat(app),       add_tokenize(app), add_render(app),
                              add_logits(app),   add_perplexity(app), add_evaluate(app), add_moderate(app),
                              add_inspect(app),  add_quantize(app),   add_finetune(app), add_merge(app),
                              add_compile(app),  add_bench(app)};
  const CLI::App* chosen = nullptr;
  const auto help_of = [&] {
    return " (see: mistral " + (chosen != nullptr ? chosen->get_name() + " " : "") + "--help)";
  };
  const std::vector<std::string> arguments = without_habits(arguments_of(argc, argv));
  try {
    const std::string first = arguments.empty() ? std::string() : arguments[0];
    if (!arguments.empty() && !first.starts_with('-')) {
      for (const Command& command : commands) {
        if (command.app->get_name() == first) chosen = command.app;
      }
      if (chosen == nullptr) throw UsageError(no_command(first, commands));
      const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
      const bool helps = std::find(rest.begin(), rest.end(), "--help") != rest.end() ||
                         std::find(rest.begin(), rest.end(), "-h") != rest.end();
      const std::string unknown = helps ? std::string() : unknown_option(*chosen, rest);
      if (!unknown.empty()) throw UsageError(not_expected(*chosen, unknown));
    }
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // as CLI11 takes them: in reverse
    for (const Command& command : commands) {
      if (command.app->parsed()) command.run();
    }
    return 0;
  } catch (const CLI::Success& success) {  // --help, --version
    std::ostringstream text;
    app.exit(success, text, text);
    print(text.str());
    return 0;
  } catch (const CLI::RequiredError& error) {
    if (chosen != nullptr) {
      const std::vector<std::string> extras = chosen->remaining();
      return fail(2, (extras.empty() ? error.what() : not_expected(*chosen, extras[0])) + help_of());
    }
    std::string line =
        "expected a command, got " + (arguments.empty() ? "none" : "'" + printable(arguments[0], 40) + "'");
    if (arguments.empty()) return fail(2, line + help_of());
    const std::string near = did_you_mean(arguments[0], {"--help", "--version"});
    const bool of_generate = commands[0].app->get_option_no_throw(arguments[0]) != nullptr;
    return fail(2,
                line + (of_generate ? "; did you mean mistral generate " + arguments[0] + " ...?" : near) + help_of());
  } catch (const CLI::ExtrasError& error) {
    const std::vector<std::string> extras = chosen != nullptr ? chosen->remaining() : std::vector<std::string>();
    return fail(2, (extras.empty() ? error.what() : not_expected(*chosen, extras[0])) + help_of());
  } catch (const CLI::ParseError& error) {
    return fail(2, error.what() + help_of());
  } catch (const UsageError& error) {
    return fail(2, error.what() + help_of());
  }
}

}}  // namespace mistral::tool

int main(int argc, char** argv) {
  mistral::tool::watch_endings();
  mistral::HugePages huge_pages;  // for weights and activations
  std::pmr::set_default_resource(&huge_pages);
  try {
    try {
      // TBB looks for libraries when it starts, and where memory has run out by then, the C library crashes over one
      // that isn't there (glibc 2.36). In a thread of its own: this one's share of threads is set later.
      std::thread([] { (void)mistral::parallel::thread_count(); }).join();
      return mistral::tool::run(argc, argv);
    } catch (const mistral::Error& error) {
      return mistral::tool::fail(1, error.what());
    } catch (const std::bad_alloc&) {
      return mistral::tool::out_of_memory();
    } catch (const std::exception& error) {
      return mistral::tool::fail(1, error.what());
    }
  } catch (const std::bad_alloc&) {  // there was none left to say what went wrong
    return mistral::tool::out_of_memory();
  }
}
