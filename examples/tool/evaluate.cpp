// SPDX-License-Identifier: Apache-2.0
// mistral evaluate: what a model makes of a task's questions. docs/evaluation.md says what tasks are and what the
// figures mean.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/evaluate/evaluate.hpp>
#include <mistral/evaluate/program_results.hpp>
#include <mistral/text/markup.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "figures.hpp"
#include "generation.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

Json outcomes_of(const ChoiceResult& result) {
  Json all = Json::array();
  for (const ChoiceOutcome& o : result.outcomes) {
    all.push_back({{"line", o.line},
                   {"log_likelihoods", o.log_likelihoods},
                   {"chosen", o.chosen},
                   {"chosen_per_byte", o.chosen_per_byte}});
  }
  return all;
}

Json outcomes_of(const AnswerResult& result) {
  Json all = Json::array();
  for (const AnswerOutcome& o : result.outcomes) {
    all.push_back({{"line", o.line}, {"answers", o.answers}, {"given", o.given}, {"right", o.right}});
  }
  return all;
}

// What a run has to say: figures, and to programs also what each question came to.
struct Report {
  std::vector<Figure> figures;
  std::string remark;
  Json outcomes;
};

Report evaluate(const EvaluateArguments& arguments, const Task& task, const TaskPrompts& prompts,
                const ModelConfig& config, AnySession& session) {
  Progress progress("evaluating", task.items.size());
  const auto done = [&](std::size_t count) { progress.at(count); };
  if (task.kind == TaskKind::choices) {
    const ChoiceResult result = evaluate_choices(task, prompts, scorer_of(session), done);
    char remark[64];
    std::snprintf(remark, sizeof remark, "guessing would give %.6f\n", result.chance);
    return {{figure("accuracy", result.accuracy), figure("accuracy_per_byte", result.accuracy_per_byte)},
            remark,
            outcomes_of(result)};
  }
  if (task.kind == TaskKind::texts) {
    const TextResult result = evaluate_texts(task, prompts.tokenizer(), config, session, arguments.stride, done);
    const double error = result.loss.standard_error();
    return {
        {figure("loss", result.loss),
         {"perplexity", result.perplexity(), result.perplexity() * error, result.loss.count()},
         {"bits_per_byte", result.bits_per_byte(), result.bits_per_byte() * error / result.loss.value(), result.bytes}},
        "",
        {}};
  }
  GenerateOptions options;
  options.max_tokens = arguments.max_tokens;
  options.stop_ids = arguments.stop_ids;
  if (arguments.samples > 0) options.sampling = arguments.sampling;
  options.sampling.seed = arguments.seed.value_or(0);
  const auto run = [&](std::span<const TokenId> prompt, const GenerateOptions& asked) {
    session.clear();
    return generate(session, prompts.tokenizer(), prompt, asked);
  };
  const std::size_t samples = std::max<std::size_t>(1, arguments.samples);
  const AnswerResult result = evaluate_answers(task, prompts, samples, options, run, done);
  Report report{{}, "", outcomes_of(result)};
  if (arguments.samples == 0) {
    report.figures = {figure("exact_match", result.exact_match)};
  } else {
    report.figures = {figure("maj@" + std::to_string(samples), result.exact_match),
                      figure("sample_accuracy", result.sample_accuracy)};
  }
  return report;
}

// A plain text has no control tokens, whatever it looks like: a task that was written with a template's markup would be
// asked in a way that the model doesn't know.
void warn_of_control_text(const Task& task, const Tokenizer& tokenizer) {
  const MarkupFinder control(tokenizer, MarkupFinder::Kind::control);
  std::set<std::string> found;
  std::size_t count = 0;
  for (const TaskItem& item : task.items) {
    std::set<std::string> here;
    control.find(item.prompt, here);
    control.find(item.text, here);
    if (here.empty()) continue;
    ++count;
    found.merge(here);
  }
  if (count == 0) return;
  std::string list;
  for (const std::string& piece : found) list.append(list.empty() ? "" : ", ").append(piece);
  note("mistral: warning: " + std::to_string(count) + " of " + std::to_string(task.items.size()) + " questions hold " +
       printable(list, 400) + " as text, not as control tokens; --template asks in conversations\n");
}

void evaluate_results(const EvaluateArguments& arguments) {
  const std::vector<ProgramResult> results = read_program_results(input_path(arguments.results));
  std::vector<Figure> figures;
  for (const std::size_t k : arguments.pass_at) {
    figures.push_back(figure("pass@" + std::to_string(k), mean_pass_at(results, k)));
  }
  Json json = {{"results", arguments.results}};
  add_figures(json, figures);
  print(arguments.json ? dump(json) : table(figures));
}

}  // namespace

void run_evaluate(const EvaluateArguments& arguments) {
  if (!arguments.results.empty()) return evaluate_results(arguments);
  // All that can be wrong is looked at before the weights, which take long, are.
  const Task task = read_task(input_path(arguments.task));
  if (arguments.shots > 0 && task.kind == TaskKind::texts) {
    throw UsageError("--shots: expected a task of choices or answers, got one of texts");
  }
  if (!arguments.chat_template.empty() && task.kind == TaskKind::texts) {
    throw UsageError("--template: expected a task of choices or answers, got one of texts");
  }
  const AnyModelType& type = model_type(arguments.model);
  const ModelInfo& info = type.info();
  const Tokenizer tokenizer = load_tokenizer(arguments.model, info);
  std::optional<ChatFormat> format;
  if (!arguments.chat_template.empty()) format = chat_format(arguments.chat_template, tokenizer);
  const TaskPrompts prompts(task, arguments.shots, tokenizer, format);
  if (!format) warn_of_control_text(task, tokenizer);
  const Threads threads(arguments.model.threads);
  const std::unique_ptr<AnyModel> model = load_model(arguments.model, type);
  const std::unique_ptr<AnySession> session = model->session(task.kind == TaskKind::choices ? scoring_rollback : 0);
  const Report report = evaluate(arguments, task, prompts, info.config, *session);
  if (!arguments.json) return print(table(report.figures) + report.remark);
  Json json = {{"weights", info.weights}, {"kv", info.kv}, {"task", arguments.task}, {"shots", arguments.shots}};
  if (format) json["template"] = arguments.chat_template;
  add_figures(json, report.figures);
  if (!report.outcomes.is_null()) json["outcomes"] = report.outcomes;
  print(dump(json));
}

}  // namespace mistral::tool
