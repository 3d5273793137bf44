// SPDX-License-Identifier: Apache-2.0
// mistral finetune: a base, a data set in; an adapter (or all weights), its losses and some answers out.

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/number_text.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/train/dataset.hpp>
#include <mistral/train/fit.hpp>

#include "answers.hpp"
#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "endings.hpp"
#include "generation.hpp"
#include "load.hpp"
#include "model_files.hpp"
#include "options.hpp"
#include "run_folder.hpp"
#include "run_trainer.hpp"
#include "suggest.hpp"

namespace mistral::tool {

namespace {

// Set by Ctrl-C, a request to end or a terminal that is closed: the step that runs is finished, and the state is saved.
volatile std::sig_atomic_t interruption = 0;

void watch_for_interruptions() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const auto previous = std::signal(signal, [](int received) {
      interruption = received;
      std::signal(received, end_by);  // a second one doesn't wait
    });
    if (signal == SIGHUP && previous == SIG_IGN) std::signal(signal, SIG_IGN);  // nohup
  }
}

// Says what becomes of a file on its way into examples, where something does.
std::string lost_text(const std::string& file, const DatasetCounts& c) {
  std::string text;
  const auto add = [&](std::size_t count, const std::string& what) {
    if (count > 0) text.append(text.empty() ? "" : ", ").append(std::to_string(count)).append(what);
  };
  add(c.cut, " examples cut (" + std::to_string(c.cut_tokens) + " tokens)");
  add(c.dropped, " dropped (no answer within the sequence)");
  add(c.bad, " bad lines skipped (the first: " + c.first_bad + ")");
  return text.empty() ? text : printable(file, 1000) + ": " + text + "\n";
}

// Says which texts look like control tokens and stay text: a warning, where there are any.
void warn_of_markup(const std::string& file, const DatasetCounts& c, const Tokenizer& tokenizer) {
  if (c.with_markup == 0) return;
  std::string found, control;
  for (const auto& [text, count] : c.markup) {
    found.append(found.empty() ? "" : ", ").append(text).append(" in ").append(std::to_string(count));
    const auto id = tokenizer.find(text);
    if (id && tokenizer.is_control(*id)) control.append(control.empty() ? "" : ", ").append(text);
  }
  note("mistral: warning: " + printable(file, 1000) + ": " + std::to_string(c.with_markup) + " of " +
       std::to_string(c.lines - c.bad) +
       " examples hold markup as text, not as control tokens: " + printable(found, 1000) + "; " +
       (control.empty() ? "this tokenizer has no control token for it"
                        : "--parse-special makes control tokens of " + printable(control, 400)) +
       "\n");
}

// What there is to learn from, and to see what was learnt.
struct Data {
  DatasetSplit split;
  std::string lost;  // a line for each file, for people
};

Data read_data(const FinetuneArguments& a, const Tokenizer& tokenizer, std::size_t sequence) {
  DatasetOptions options{.max_tokens = sequence,
                         .train_on_prompt = a.train_on_prompt,
                         .parse_special = a.parse_special,
                         .skip_bad = a.skip_bad};
  if (a.data == "-" && a.validation == "-") {
    throw UsageError("--validation: expected a file, got -, which is --data already");
  }
  ChatFormat format = chat_format(a.chat_template, tokenizer);
  if (!a.chat_template.empty() || format.writer() != nullptr) options.chat_template = std::move(format);
  Dataset all = read_dataset(input_path(a.data), tokenizer, options);
  warn_of_markup(a.data, all.counts, tokenizer);
  Data data{{}, lost_text(a.data, all.counts)};
  if (a.validation.empty()) {
    data.split = split_dataset(std::move(all.examples), static_cast<double>(a.validation_share), a.seed + 3);
    return data;
  }
  Dataset held_out = read_dataset(input_path(a.validation), tokenizer, options);
  warn_of_markup(a.validation, held_out.counts, tokenizer);
  data.lost += lost_text(a.validation, held_out.counts);
  data.split = {std::move(all.examples), std::move(held_out.examples)};
  return data;
}

std::size_t sequence_of(const FinetuneArguments& a, const ModelInfo& info) {
  const std::size_t context = info.config.context_len;
  if (info.config.window_size != 0) return a.sequence.value_or(512);
  if (a.sequence && *a.sequence > context) {
    throw UsageError("--sequence: expected at most the " + std::to_string(context) + " tokens of the context of " +
                     printable(a.model.folder, 200) + ", got " + std::to_string(*a.sequence));
  }
  return a.sequence.value_or(std::min<std::size_t>(512, context));
}

LoraTargets targets_of(const std::vector<std::string>& names) {
  LoraTargets targets;
  if (names.empty()) return targets;
  for (const LoraTarget& target : lora_targets) targets.*target.chosen = false;
  for (const std::string& name : names) {
    const auto found = std::find_if(std::begin(lora_targets), std::end(lora_targets), [&](const LoraTarget& t) {
      return name == t.name() || name == t.name(TensorNaming::hugging_face);
    });
    if (found == std::end(lora_targets)) {
      throw UsageError("--targets: expected some of " + lora_target_names() + " (or " +
                       std::string(lora_targets[0].name(TensorNaming::hugging_face)) + ", ...), got '" +
                       printable(name, 40) + "'");
    }
    targets.*found->chosen = true;
  }
  return targets;
}

std::string targets_text(const LoraTargets& targets) {
  std::string text;
  for (const LoraTarget& target : lora_targets) {
    if (targets.*target.chosen) text.append(text.empty() ? "" : ",").append(target.name());
  }
  return text;
}

Schedule schedule_of(const std::string& name) {
  return name == "constant" ? Schedule::constant : name == "linear" ? Schedule::linear : Schedule::cosine;
}

// Shows how far a fit is, and keeps its losses.
class Hooks {
 public:
  Hooks(Metrics& metrics, std::uint64_t total, bool lines) : metrics_(metrics), lines_(lines) {
    progress_.emplace("training", static_cast<std::size_t>(total));
  }

  void resumed(std::uint64_t step) {
    metrics_.resumed(step);
    if (lines_) say("going on behind step " + std::to_string(step) + "\n");
  }

  bool step(const FitStep& s) {
    metrics_.add(s);
    tokens_ += s.tokens;
    seconds_ += s.seconds;
    ++steps_;
    loss_ = s.loss;
    const double left = seconds_ / static_cast<double>(steps_) * static_cast<double>(s.total_steps - s.step);
    char text[160];
    std::snprintf(text, sizeof text, ", loss %.4f%s, %.0f tokens/s, %.0f:%02.0f left", static_cast<double>(s.loss),
                  validation_.c_str(), speed(), std::floor(left / 60.0), std::floor(std::fmod(left, 60.0)));
    progress_->at(static_cast<std::size_t>(s.step), text);
    return interruption == 0;
  }

  bool evaluation(const FitEvaluation& e) {
    metrics_.add(e);
    metrics_.draw();
    char text[160];
    std::snprintf(text, sizeof text, " (validation %.4f)", e.loss);
    validation_ = text;
    if (!lines_) return interruption == 0;
    std::string line = "step " + std::to_string(e.step) + ": ";
    if (steps_ > 0) {
      std::snprintf(text, sizeof text, "loss %.4f, ", static_cast<double>(loss_));
      line += text;
    }
    std::snprintf(text, sizeof text, "validation loss %.4f%s", e.loss, e.best ? "" : " (no better)");
    say(line + text + "\n");
    return interruption == 0;
  }

  void done() { progress_.reset(); }

  std::size_t tokens() const noexcept { return tokens_; }
  double seconds() const noexcept { return seconds_; }
  double speed() const noexcept { return seconds_ > 0.0 ? static_cast<double>(tokens_) / seconds_ : 0.0; }

 private:
  static void say(const std::string& line) {
    clear_progress();  // the bar comes again with the next step
    print(line);
  }

  Metrics& metrics_;
  bool lines_;
  std::optional<Progress> progress_;
  std::string validation_;
  float loss_ = 0.0f;
  std::size_t tokens_ = 0;
  std::size_t steps_ = 0;
  double seconds_ = 0.0;
};

struct Outcome {
  const ModelInfo* model;
  std::size_t trained;  // parameters
  std::size_t train_examples, validation_examples;
  FitResult fit;
  std::size_t tokens;
  double seconds;
};

std::string result_text(const Outcome& o, const RunFolder& folder, bool full) {
  char text[512];
  std::string out;
  if (o.validation_examples > 0) {
    std::snprintf(text, sizeof text, "validation loss: %.4f before, %.4f after (step %llu%s)\n", o.fit.first_loss,
                  o.fit.best_loss, static_cast<unsigned long long>(o.fit.best_step),
                  o.fit.stopped_early ? "; stopped early" : "");
    out += text;
  }
  std::snprintf(text, sizeof text, "%llu steps, %zu tokens in %.0f s, %.0f tokens/s\n",
                static_cast<unsigned long long>(o.fit.steps - o.fit.first_step), o.tokens, o.seconds,
                o.seconds > 0.0 ? static_cast<double>(o.tokens) / o.seconds : 0.0);
  return out + text + (full ? "model: " : "adapter: ") + printable(folder.path(), 1000) + "\n";
}

std::string result_json(const Outcome& o, const RunFolder& folder, const std::vector<Sample>& samples) {
  nlohmann::ordered_json json = {{"weights", o.model->weights},
                                 {"kv", o.model->kv},
                                 {"out", folder.path()},
                                 {"trained_parameters", o.trained},
                                 {"train_examples", o.train_examples},
                                 {"validation_examples", o.validation_examples},
                                 {"first_step", o.fit.first_step},
                                 {"steps", o.fit.steps},
                                 {"stopped_early", o.fit.stopped_early}};
  if (o.validation_examples > 0) {
    json["validation_loss_before"] = o.fit.first_loss;
    json["validation_loss_after"] = o.fit.best_loss;
    json["best_step"] = o.fit.best_step;
  }
  json["tokens"] = o.tokens;
  json["seconds"] = o.seconds;
  json["samples"] = nlohmann::json::array();
  for (const Sample& s : samples) {
    json["samples"].push_back(
        {{"prompt", s.prompt_text}, {"expected", s.expected}, {"base", s.base}, {"tuned", s.tuned}});
  }
  return json_text(json);
}

std::unique_ptr<AnyModel> load_trained(const FinetuneArguments& a, const AnyModelType& type) {
  say_context(a.model, type.info());
  say_reencoded(a.model, type.info());
  Progress progress("loading " + bytes_text(type.info().weight_bytes) + " of weights", 1);
  return type.load(a.model.folder, load_options(a.model, type.info(), progress.hook()));
}

}  // namespace

void run_finetune(const FinetuneArguments& a) {
  // All that can be wrong is looked at before the weights, which take long, are.
  const LoraTargets targets = targets_of(a.targets);
  std::vector<std::string> sources = sources_of(a.model);
  sources.insert(sources.end(), {a.data, a.validation});
  check_output("--out", a.out, sources);
  for (const std::string& name : RunFolder::files()) check_output("--out", path_in(a.out, name), sources);
  const AnyModelType& type = model_type(a.model, a.full ? Use::train_all : Use::train_adapter);
  const ModelInfo& info = type.info();
  const Tokenizer tokenizer = load_tokenizer(a.model, info);
  const Data data = read_data(a, tokenizer, sequence_of(a, info));
  const DatasetSplit& split = data.split;
  if (a.patience > 0 && split.validation.empty()) {
    throw UsageError("--patience: expected examples for validation, got none");
  }

  std::vector<std::pair<std::string, std::string>> tokenizer_files;
  if (a.full) {
    tokenizer_files = TokenizerToWrite(a.model.tokenizer, a.model.folder, info.config.vocab_size, false).files();
  }

  RunFolder folder(a.out, a.resume);
  const FitOptions fit_options{.epochs = a.epochs,
                               .max_steps = a.max_steps,
                               .batch = a.batch,
                               .accumulation = a.accumulation,
                               .eval_steps = a.eval_every,
                               .patience = a.patience,
                               .min_delta = static_cast<double>(a.min_delta),
                               .save_steps = a.save_every,
                               .max_loss_rise = a.max_loss_rise,
                               .seed = a.seed + 1,
                               .folder = folder.in("state"),
                               .resume = a.resume};
  const std::uint64_t total = fit_steps(split.train.size(), fit_options);
  const TrainerOptions trainer_options{.learning_rate = a.learning_rate,
                                       .weight_decay = a.weight_decay,
                                       .max_grad_norm = a.clip,
                                       .optimizer = a.optimizer == "sgd" ? Optimizer::sgd : Optimizer::adamw,
                                       .schedule = schedule_of(a.schedule),
                                       .warmup_steps = static_cast<std::uint64_t>(
                                           std::llround(static_cast<double>(a.warmup) * static_cast<double>(total))),
                                       .total_steps = total,
                                       .seed = a.seed,
                                       .keep_activations = a.keep_activations};

  const Threads threads(a.model.threads);
  const std::unique_ptr<AnyModel> model = load_trained(a, type);
  SafetensorsWriter::Metadata settings{{"finetune.weights", std::string(info.weights)},
                                       {"finetune.trained", a.full ? "all" : targets_text(targets)}};
  if (!a.full) {
    const AdapterOptions adapter{a.rank, a.alpha, a.dropout, a.seed + 2, a.rslora, targets};
    model->add_adapter(adapter);
    settings.emplace_back("finetune.rank", std::to_string(a.rank));
    settings.emplace_back("finetune.alpha", number_text(a.alpha));
    settings.emplace_back("finetune.dropout", number_text(a.dropout));
    settings.emplace_back("finetune.rslora", a.rslora ? "true" : "false");
  }
  const std::unique_ptr<AnyTrainer> trainer = model->trainer(trainer_options);
  Outcome outcome{&info, 0, split.train.size(), split.validation.size(), {}, 0, 0.0};
  for (const Parameter& p : trainer->parameters()) outcome.trained += p.value.size();
  if (!a.json) {
    print(data.lost + std::to_string(split.train.size()) + " examples to learn from, " +
          std::to_string(split.validation.size()) + " for validation; weights in " + std::string(info.weights) + ", " +
          std::to_string(outcome.trained) + " parameters to train, " + std::to_string(total) + " steps\n");
  }

  watch_for_interruptions();
  // before the first update, an adapter changes no bit of the base's answers
  std::vector<Sample> samples =
      samples_of(split.validation.empty() ? split.train : split.validation, a.samples, tokenizer);
  answer(*model, tokenizer, a.sample_tokens, samples, &Sample::base, [] { return interruption != 0; });

  RunTrainer run(*model, *trainer, folder,
                 {.base_model = a.model.folder,
                  .checkpoint = {.bos_id = tokenizer.bos_id(),
                                 .eos_id = tokenizer.eos_id(),
                                 .eos_ids = {tokenizer.eos_ids().begin(), tokenizer.eos_ids().end()}},
                  .tokenizer = std::move(tokenizer_files),
                  .full = a.full,
                  .validated = !split.validation.empty()},
                 std::move(settings));
  Metrics metrics(folder, "Fine-tuning " + last_part(a.model.folder));
  Hooks hooks(metrics, total, !a.json);
  outcome.fit = fit(run, split.train, split.validation, fit_options, hooks);
  hooks.done();
  metrics.draw();
  if (outcome.fit.interrupted) {
    note("mistral: interrupted after step " + std::to_string(outcome.fit.steps) + "; --resume goes on from there\n");
    std::raise(interruption);
  }

  outcome.tokens = hooks.tokens();
  outcome.seconds = hooks.seconds();
  answer(*model, tokenizer, a.sample_tokens, samples, &Sample::tuned, [] { return interruption != 0; });
  print(a.json ? result_json(outcome, folder, samples) : result_text(outcome, folder, a.full) + side_by_side(samples));
}

}  // namespace mistral::tool
