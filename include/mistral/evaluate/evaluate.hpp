// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/evaluate/estimators.hpp>
#include <mistral/evaluate/likelihood.hpp>
#include <mistral/evaluate/perplexity.hpp>
#include <mistral/evaluate/task.hpp>
#include <mistral/evaluate/task_prompts.hpp>
#include <mistral/generate/finite_logits.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A model's answer to a question with choices.
struct ChoiceOutcome {
  std::size_t line = 0;                 ///< of the task's file, from 1
  std::vector<double> log_likelihoods;  ///< of each choice behind the prompt, in nats
  std::size_t chosen = 0;               ///< the most probable; of several the first
  std::size_t chosen_per_byte = 0;      ///< the same by log-likelihood over the choice's bytes
};

/// The figures of a task whose questions have choices.
struct ChoiceResult {
  Proportion accuracy;                  ///< of `chosen`
  Proportion accuracy_per_byte;         ///< of `chosen_per_byte`
  double chance = 0.0;                  ///< what guessing would give: the mean of 1 / choices
  std::vector<ChoiceOutcome> outcomes;  ///< of each question, in the order of the file
};

/// A model's own answer to a question.
struct AnswerOutcome {
  std::size_t line = 0;              ///< of the task's file, from 1
  std::vector<std::string> answers;  ///< of each sample, as `answer_in` finds them
  std::string given;                 ///< the majority's
  bool right = false;                ///< the answer that most samples gave is one of the right ones
};

/// The figures of a task whose questions are answered freely.
struct AnswerResult {
  Proportion exact_match;               ///< of `given`, the majority's answer
  Mean sample_accuracy;                 ///< of a sample by itself: the mean over questions of the share of right ones
  std::vector<AnswerOutcome> outcomes;  ///< of each question, in the order of the file
};

/// How well texts were predicted.
struct TextResult {
  std::size_t texts = 0;  ///< how many were scored
  std::size_t bytes = 0;  ///< of UTF-8, of all texts
  Mean loss;  ///< negative log-likelihood of a token, in nats; its standard error takes tokens for independent

  /// exp(mean loss): tokens that the model is as unsure among.
  double perplexity() const noexcept { return std::exp(loss.value()); }
  /// Bits that the model needs for a byte of text: independent of the tokenizer.
  double bits_per_byte() const noexcept {
    return loss.value() * static_cast<double>(loss.count()) / std::numbers::ln2 / static_cast<double>(bytes);
  }
};

namespace detail {

/// Puts the task's line in front of what went wrong with it.
template <class Action>
auto at_line(std::size_t line, const Action& action) {
  try {
    return action();
  } catch (const Error& error) {
    throw Error("task", "line " + std::to_string(line) + ": " + error.what());
  }
}

}  // namespace detail

/// Asks the questions of a task with choices.
///   score   score(prompt, ends): as ContinuationScorer's, which goes through what all choices have in common once
///   done    done(n) is told after the nth question
/// Throws Error `[task] line n: ...` with what `score` throws.
template <class Score, class Done>
ChoiceResult evaluate_choices(const Task& task, const TaskPrompts& prompts, Score&& score, Done&& done) {
  ChoiceResult result;
  for (const TaskItem& item : task.items) {
    const std::vector<TextScore> scores = detail::at_line(item.line, [&] {
      const Continuations ids = prompts.choices(item);
      return score(std::span<const TokenId>(ids.prompt), std::span(ids.ends));
    });
    ChoiceOutcome outcome{.line = item.line, .log_likelihoods = {}};
    std::vector<double> per_byte;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      outcome.log_likelihoods.push_back(scores[i].log_likelihood);
      per_byte.push_back(scores[i].log_likelihood / static_cast<double>(item.choices[i].size()));
    }
    const auto largest = [](const std::vector<double>& all) {
      return static_cast<std::size_t>(std::max_element(all.begin(), all.end()) - all.begin());
    };
    outcome.chosen = largest(outcome.log_likelihoods);
    outcome.chosen_per_byte = largest(per_byte);
    result.accuracy.add(outcome.chosen == item.right);
    result.accuracy_per_byte.add(outcome.chosen_per_byte == item.right);
    result.chance += 1.0 / static_cast<double>(item.choices.size()) / static_cast<double>(task.items.size());
    result.outcomes.push_back(std::move(outcome));
    done(result.outcomes.size());
  }
  return result;
}

/// Asks the questions of a task with answers, each `samples` times, with the seeds options.sampling.seed, + 1, ...; the
/// answer is that of the majority, and right where it is one of the item's to the letter.
///   run  run(prompt, options): as `generate` in a session that was cleared
template <class Run, class Done>
AnswerResult evaluate_answers(const Task& task, const TaskPrompts& prompts, std::size_t samples,
                              const GenerateOptions& options, Run&& run, Done&& done) {
  AnswerResult result;
  const std::span<const TokenId> ends = prompts.tokenizer().eos_ids();
  for (const TaskItem& item : task.items) {
    const std::vector<TokenId> prompt = detail::at_line(item.line, [&] { return prompts.prompt(item); });
    GenerateOptions asked = options;
    asked.own_text = prompts.is_chat();
    asked.stop_strings.insert(asked.stop_strings.end(), item.stop.begin(), item.stop.end());
    asked.stop_ids.insert(asked.stop_ids.end(), ends.begin(), ends.end());
    const auto is_right = [&](const std::string& answer) {
      return std::find(item.answers.begin(), item.answers.end(), answer) != item.answers.end();
    };
    AnswerOutcome outcome{.line = item.line, .answers = {}, .given = {}};
    std::size_t right = 0;
    for (std::size_t i = 0; i < samples; ++i, ++asked.sampling.seed) {
      const Generated made = detail::at_line(item.line, [&] { return run(std::span<const TokenId>(prompt), asked); });
      outcome.answers.push_back(answer_in(made.text, item.after));
      if (is_right(outcome.answers.back())) ++right;
    }
    outcome.given = majority(outcome.answers);
    outcome.right = is_right(outcome.given);
    result.exact_match.add(outcome.right);
    result.sample_accuracy.add(static_cast<double>(right) / static_cast<double>(samples));
    result.outcomes.push_back(std::move(outcome));
    done(result.outcomes.size());
  }
  return result;
}

/// Scores the texts of a task, each from its first token on, BOS before it.
///   config   the model's; `stride` as text_pieces takes it
///   session  of which clear() and forward() are used, and check_finite
/// Throws Error `[task] line n: ...` with what forward throws, or where logits are no finite numbers.
template <class Session, class Done>
TextResult evaluate_texts(const Task& task, const Tokenizer& tokenizer, const ModelConfig& config, Session& session,
                          std::size_t stride, Done&& done) {
  TextResult result;
  for (const TaskItem& item : task.items) {
    std::vector<TokenId> ids = tokenizer.encode(item.text);
    if (tokenizer.adds_bos()) ids.insert(ids.begin(), tokenizer.bos_id());
    if (tokenizer.adds_eos()) ids.push_back(tokenizer.eos_id());
    detail::at_line(item.line, [&] {
      const std::span<const TokenId> tokens(ids);
      std::size_t fresh = 0;  // where the sequence began
      for (const TextPiece& piece : text_pieces(ids.size(), config, stride)) {
        if (piece.fresh) session.clear();
        if (piece.fresh) fresh = piece.begin;
        const Rows<const float> logits = session.forward(tokens.subspan(piece.begin, piece.count));
        check_finite(session, logits, tokens.subspan(fresh, piece.begin + piece.count - fresh));
        for (std::size_t i = piece.context; i < piece.count; ++i) {
          result.loss.add(-log_probability(logits.row(i), ids[piece.begin + i + 1]));
        }
      }
    });
    result.bytes += item.text.size();
    done(++result.texts);
  }
  return result;
}

}}  // namespace mistral
