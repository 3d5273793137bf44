// SPDX-License-Identifier: Apache-2.0
// mistral moderate: what a model holds texts for, and how that agrees with their labels.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/evaluate/moderation.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "figures.hpp"
#include "generation.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

struct Judged {
  const LabelledText* text;
  Moderation moderation;
  Verdict verdict;
};

std::string_view name_of(Verdict verdict) { return verdict_names[static_cast<std::size_t>(verdict)]; }

ModerationCounts counts_of(const std::vector<Judged>& all) {
  ModerationCounts counts;
  for (const Judged& judged : all) {
    if (judged.text->label) counts.add(*judged.text->label, judged.verdict);
  }
  return counts;
}

std::vector<Figure> figures_of(const ModerationCounts& counts) {
  std::vector<Figure> figures{figure("accuracy", counts.accuracy())};
  for (std::size_t i = 0; i < verdict_count; ++i) {
    const auto verdict = static_cast<Verdict>(i);
    figures.push_back(figure("precision " + std::string(verdict_names[i]), counts.precision(verdict)));
    figures.push_back(figure("recall " + std::string(verdict_names[i]), counts.recall(verdict)));
  }
  return figures;
}

std::string probabilities_text(const Moderation& moderation) {
  std::string text;
  for (std::size_t i = 0; i < verdict_count; ++i) {
    char part[64];
    std::snprintf(part, sizeof part, "%s%s %.4f", i > 0 ? ", " : "", std::string(verdict_names[i]).c_str(),
                  moderation.probabilities[i]);
    text += part;
  }
  return text;
}

std::string text_of(const std::vector<Judged>& all, const ModerateArguments& arguments) {
  std::string text;
  for (const Judged& judged : all) {
    if (!arguments.file.empty()) text += std::to_string(judged.text->line) + ": ";
    text.append(name_of(judged.verdict)).append(" (").append(probabilities_text(judged.moderation)).append(")\n");
  }
  const ModerationCounts counts = counts_of(all);
  if (counts.accuracy().total == 0) return text;
  text += "\nlabel          found   acceptable      illegal      hateful  unqualified\n";
  for (std::size_t i = 0; i < verdict_count; ++i) {
    char line[160];
    const auto& row = counts.counts[i];
    std::snprintf(line, sizeof line, "%-20s %12zu %12zu %12zu %12zu\n", std::string(verdict_names[i]).c_str(), row[0],
                  row[1], row[2], row[3]);
    text += line;
  }
  return text + "\n" + table(figures_of(counts));
}

Json json_of(const std::vector<Judged>& all) {
  const auto by_name = [](const auto& values) {
    Json json;
    for (std::size_t i = 0; i < verdict_count; ++i) json[std::string(verdict_names[i])] = values[i];
    return json;
  };
  Json json;
  for (const Judged& judged : all) {
    Json text;
    if (judged.text->line > 0) text["line"] = judged.text->line;
    text["verdict"] = name_of(judged.verdict);
    if (judged.text->label) text["label"] = name_of(*judged.text->label);
    text["probabilities"] = by_name(judged.moderation.probabilities);
    text["log_likelihoods"] = by_name(judged.moderation.log_likelihoods);
    json["texts"].push_back(text);
  }
  const ModerationCounts counts = counts_of(all);
  if (counts.accuracy().total == 0) return json;
  add_figures(json, figures_of(counts));
  for (std::size_t i = 0; i < verdict_count; ++i) {
    json["counts"][std::string(verdict_names[i])] = by_name(counts.counts[i]);
  }
  return json;
}

}  // namespace

void run_moderate(const ModerateArguments& arguments) {
  // All that can be wrong is looked at before the weights, which take long, are.
  const std::vector<LabelledText> texts =
      arguments.file.empty() ? std::vector<LabelledText>{{.text = {*arguments.prompt, arguments.answer}}}
                             : read_labelled_texts(input_path(arguments.file));
  const AnyModelType& type = model_type(arguments.model);
  const Tokenizer tokenizer = load_tokenizer(arguments.model, type.info());
  const ChatFormat format = chat_format(arguments.chat_template, tokenizer);
  encode_chat(tokenizer, format, {{"user", ""}});  // throws for what doesn't fit
  const Threads threads(arguments.model.threads);
  const std::unique_ptr<AnyModel> model = load_model(arguments.model, type);
  const std::unique_ptr<AnySession> session = model->session(scoring_rollback);
  const Scorer score = scorer_of(*session);  // what all are asked goes through the model once

  std::vector<Judged> all;
  Progress progress("moderating", texts.size());
  for (const LabelledText& text : texts) {
    const Moderation made = moderate(text.text, tokenizer, format, score);
    all.push_back({&text, made, made.verdict(arguments.threshold)});
    progress.at(all.size());
  }
  print(arguments.json ? dump(json_of(all)) : text_of(all, arguments));
}

}  // namespace mistral::tool
