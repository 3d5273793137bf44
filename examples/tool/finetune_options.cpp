// SPDX-License-Identifier: Apache-2.0
// What the command lines of `mistral finetune` and `mistral merge` say.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>

#include "commands.hpp"
#include "options.hpp"

namespace mistral::tool {

Command add_finetune(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand(
      "finetune", "Train a LoRA adapter beside a checkpoint's weights, or all of them, on a data set");
  const auto arguments = std::make_shared<FinetuneArguments>();
  FinetuneArguments& a = *arguments;
  add_model(*app, a.model);
  add_path(
      *app, "--data", a.data,
      "examples, a JSON object a line or one array of them: {messages}, {conversations} of ShareGPT, {instruction, "
      "input, output}, {prompt, completion} or {text}; - for standard input")
      ->required();
  add_place(*app, "-o,--out", a.out, "the folder for the adapter (as PEFT has it), checkpoints, losses and their plot")
      ->required();
  CLI::Option* const validation = add_path(*app, "--validation", a.validation, "examples to evaluate on, in a file");
  add_number_in(*app, "--validation-share", a.validation_share, 0.0f, 0.9f,
                "the share of --data that is kept for that instead; 0.1 unless said, 0: no evaluation");
  app->get_option("--validation-share")->excludes(validation);
  add_template(*app, a.chat_template, "how a conversation is written down");
  add_whole(*app, "--sequence", a.sequence, 2, 1'000'000,
            "tokens of an example at most, the rest is cut (default: 512)");
  app->add_flag("--train-on-prompt", a.train_on_prompt, "learn the prompts too, not the answers alone");
  app->add_flag("--parse-special", a.parse_special,
                "have control pieces that stand in the data's texts, such as <s> and [INST], become control tokens; "
                "they stay text unless said");
  app->add_flag("--skip-bad", a.skip_bad, "count lines that hold no example, and go on");

  CLI::Option* const full = app->add_flag("--full", a.full, "train all weights, in F32, rather than an adapter");
  add_whole(*app, "--rank", a.rank, 1, 512, "of the adapter (default: 32)");
  add_number(*app, "--alpha", a.alpha, "what the adapter adds is scaled by alpha / rank (default: 16)");
  add_number_in(*app, "--dropout", a.dropout, 0.0f, 0.99f, "of the adapter's inputs (default: 0.1)");
  app->add_flag("--rslora", a.rslora, "scale by alpha / sqrt(rank)");
  app->add_option(
         "--targets", a.targets,
         "the matrices that it stands beside, with commas between them: " + lora_target_names() + " (default: all)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME[,NAME...]");
  for (const char* const name : {"--rank", "--alpha", "--dropout", "--rslora", "--targets"}) {
    app->get_option(name)->excludes(full);
  }

  add_whole(*app, "--epochs", a.epochs, 1, 1'000'000, "how often each example is learnt from (default: 3)");
  add_whole(*app, "--max-steps", a.max_steps, 1, INT32_MAX, "updates at most");
  add_whole(*app, "--batch", a.batch, 1, 1'000'000, "examples that go through the model together (default: 4)");
  add_whole(*app, "--accumulation", a.accumulation, 1, 1'000'000, "so many of these for an update (default: 4)");
  add_number_in(*app, "--learning-rate", a.learning_rate, 0.0f, 1000.0f, "2e-4 unless said");
  app->add_option("--schedule", a.schedule, "of the learning rate, down to 0 (default: cosine)")
      ->transform(one_of({"constant", "linear", "cosine"}))
      ->type_name("NAME");
  add_number_in(*app, "--warmup", a.warmup, 0.0f, 1.0f,
                "the share of the steps in which the rate rises (default: 0.03)");
  app->add_option("--optimizer", a.optimizer, "adamw unless said")
      ->transform(one_of({"adamw", "sgd"}))
      ->type_name("adamw|sgd");
  add_number_in(*app, "--weight-decay", a.weight_decay, 0.0f, 1000.0f, "0.01 unless said");
  add_number_in(*app, "--clip", a.clip, 0.0f, 1e9f,
                "gradients of a larger norm are scaled down to it; 0.3 unless said, 0: none are");
  add_whole(*app, "--eval-every", a.eval_every, 1, INT32_MAX, "updates between evaluations (default: an epoch's)");
  add_whole(*app, "--save-every", a.save_every, 1, INT32_MAX,
            "updates between checkpoints (default: one with each evaluation)");
  add_whole(*app, "--patience", a.patience, 1, INT32_MAX,
            "evaluations in a row without an improvement, and then the end (default: never)");
  add_number_in(*app, "--min-delta", a.min_delta, 0.0f, 1e9f,
                "nats: for --patience, an improvement is a loss that is lower by more than that (default: 0)");
  app->get_option("--min-delta")->needs("--patience");
  add_number_in(*app, "--max-loss-rise", a.max_loss_rise, 0.0f, 1e9f,
                "nats that the smoothed loss may rise above its lowest before the run gives up; 1 unless said, 0: any");
  add_whole(*app, "-s,--seed", a.seed, 0, INT64_MAX, "the same seed gives the same bits (default: 42)");
  app->add_flag("--keep-activations", a.keep_activations, "more memory for more speed");
  app->add_flag("--resume", a.resume, "go on from the last checkpoint in --out, where there is one");
  add_whole(*app, "--samples", a.samples, 0, 1000,
            "prompts of the data that are answered before and after, for comparison (default: 3)");
  add_whole(*app, "--sample-tokens", a.sample_tokens, 1, 1'000'000, "tokens of such an answer at most (default: 128)");
  app->add_flag("--json", a.json, "print one JSON object at the end instead");
  return {app, [arguments] { run_finetune(*arguments); }};
}

Command add_merge(CLI::App& parent) {
  CLI::App* const app = parent.add_subcommand("merge", "Add an adapter to a checkpoint's weights, and write the sum");
  const auto arguments = std::make_shared<MergeArguments>();
  MergeArguments& a = *arguments;
  add_path(*app, "-m,--model", a.folder, "the checkpoint: a folder, or a .gguf file")->required();
  add_path(*app, "--adapter", a.adapter, "the adapter: a folder as PEFT has it")->required();
  add_place(
      *app, "-o,--out", a.out,
      "a folder of Hugging Face's layout; a GGUF file where the name ends in .gguf or --weights is no float format "
      "of folders")
      ->required();
  add_name(*app, "--weights", a.weights,
           "f32 or bf16 for a folder; one of " + option_formats(FormatsOf::gguf) +
               " for GGUF (default: the checkpoint's own where the output can have it, else f32)")
      ->type_name("FORMAT");
  CLI::Option* const tokenizer =
      add_path(*app, "--tokenizer", a.tokenizer,
               "a SentencePiece model or a tokenizer.json, where it isn't the checkpoint's own");
  app->add_flag("--without-tokenizer", a.without_tokenizer, "write the model without a tokenizer")->excludes(tokenizer);
  add_whole(*app, "-t,--threads", a.threads, 1, 1024, "threads to run on (default: all processors)");
  app->add_flag("--json", a.json, "print what was written as a JSON object");
  return {app, [arguments] { run_merge(*arguments); }};
}

}  // namespace mistral::tool
