// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/json/records.hpp>
#include <mistral/text/tokenizer.hpp>
#include <mistral/train/batches.hpp>
#include <mistral/train/example_encoder.hpp>
#include <mistral/train/trainer_options.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// What became of a file's lines, or of an array's elements.
struct DatasetCounts {
  std::size_t lines = 0;        ///< that aren't blank
  std::size_t bad = 0;          ///< of these, without an example: skipped
  std::string first_bad = {};   ///< why the first of them is one
  std::size_t dropped = 0;      ///< examples whose answer lies behind max_tokens
  std::size_t cut = 0;          ///< examples that lost their ends
  std::size_t cut_tokens = 0;   ///< tokens that these lost
  std::size_t tokens = 0;       ///< of all examples, as they are
  std::size_t targets = 0;      ///< of these, to be predicted
  std::size_t with_markup = 0;  ///< examples with text that looks like control tokens, and stays text
  std::map<std::string, std::size_t> markup = {};  ///< of these, how many hold which text
};

/// Reads a file of examples, a JSON object a line (JSONL) or one array of objects, one after the other: memory for one
/// object, whatever the file's size. What an object is, its fields say, in this order; others are passed over:
///
/// - `messages`: a conversation (see parse_chat), in the chat template; each of the assistant's turns is an answer, but
///   for those whose `weight` is 0.
/// - `conversations`: the same as ShareGPT has it, turns of `from` (human, gpt, system) and `value`.
/// - `instruction`, `output`, and perhaps `input`: a conversation of one question, the input behind the instruction
///   with an empty line between them, and its answer; `history` holds pairs of a question and an answer before it.
/// - `prompt`, `completion`: BOS, the two as one text, EOS; the answer is the completion. No template.
/// - `text`: BOS, the text, EOS; all of it is to be predicted.
///
/// A `system` of a conversation stands before it. An answer takes in its EOS; nothing behind the last answer is kept.
/// With `train_on_prompt` all of it is kept and is to be predicted. Blank lines are passed over.
///
/// Text that looks like control tokens is counted; it stays text, but for the tokenizer's control pieces where
/// `parse_special` says so: a BOS in front and an EOS at the end are then not put there twice.
class DatasetReader {
 public:
  /// Throws Error `[dataset] path: ...` where the file can't be opened, for options out of range, and where the
  /// tokenizer has no EOS, or none of the template's pieces.
  DatasetReader(const std::string& path, const Tokenizer& tokenizer, const DatasetOptions& options = {})
      : records_(path, "dataset", options.max_line_bytes), options_(options), encoder_(tokenizer, options) {
    if (options.max_tokens < 2) {
      throw Error("dataset", "max_tokens", "at least 2", std::to_string(options.max_tokens));
    }
  }

  /// The next example, none at the end of the file. Throws Error `[dataset] file:line: ...` for a line, or an element,
  /// that holds none, unless those are to be skipped, and where the file can't be read.
  std::optional<Example> next() {
    while (records_.next()) {
      ++counts_.lines;
      detail::EncodedExample encoded;
      try {
        encoded = encoder_.encode(records_.object());
      } catch (const Error& error) {
        if (!options_.skip_bad) throw;
        if (counts_.bad++ == 0) counts_.first_bad = error.what();
        continue;
      }
      if (!encoded.markup.empty()) ++counts_.with_markup;
      for (const std::string& text : encoded.markup) ++counts_.markup[text];
      Example example = made(std::move(encoded));
      if (target_count(example) == 0) {
        ++counts_.dropped;
        continue;
      }
      counts_.tokens += example.tokens.size();
      counts_.targets += target_count(example);
      return example;
    }
    return std::nullopt;
  }

  /// Of the lines read so far.
  const DatasetCounts& counts() const noexcept { return counts_; }

 private:
  /// Cuts what is too long.
  Example made(detail::EncodedExample&& encoded) {
    Example example{.tokens = std::move(encoded.tokens)};
    std::vector<TokenRange>& answers = encoded.answers;
    if (options_.train_on_prompt) answers = {{1, example.tokens.size()}};
    const std::size_t whole = answers.back().end;  // what stands behind the last answer teaches nothing
    while (!answers.empty() && answers.back().begin >= options_.max_tokens) answers.pop_back();
    if (answers.empty()) return {};
    answers.back().end = (std::min)(answers.back().end, options_.max_tokens);
    example.tokens.resize(answers.back().end);
    if (example.tokens.size() < whole) {
      ++counts_.cut;
      counts_.cut_tokens += whole - example.tokens.size();
    }
    example.answer_begin = answers.front().begin;
    if (answers.size() > 1) example.answers = std::move(answers);
    return example;
  }

  JsonRecords records_;
  DatasetOptions options_;
  detail::ExampleEncoder encoder_;
  DatasetCounts counts_;
};

/// All examples of a file, and what became of its lines.
struct Dataset {
  std::vector<Example> examples;  ///< in the order of the file
  DatasetCounts counts;           ///< of lines, and of what was left out
};

/// Reads a whole file: see DatasetReader. Throws Error as it does, and where there is no example.
inline Dataset read_dataset(const std::string& path, const Tokenizer& tokenizer, const DatasetOptions& options = {}) {
  DatasetReader reader(path, tokenizer, options);
  Dataset dataset;
  while (auto example = reader.next()) dataset.examples.push_back(std::move(*example));
  dataset.counts = reader.counts();
  if (dataset.examples.empty()) {
    const DatasetCounts& c = dataset.counts;
    std::string found = "none";
    if (c.bad > 0) found += "; " + std::to_string(c.bad) + " lines are bad, the first: " + c.first_bad;
    if (c.dropped > 0) {
      found += "; of " + std::to_string(c.dropped) + " the answer lies behind the first " +
               std::to_string(options.max_tokens) + " tokens";
    }
    throw Error("dataset", printable(path, 1000), "at least one example", found);
  }
  return dataset;
}

/// Examples to learn from, and others to see what was learnt.
struct DatasetSplit {
  std::vector<Example> train;       ///< to learn from
  std::vector<Example> validation;  ///< to evaluate on
};

/// Takes a fraction of the examples, chosen by the seed, for validation: their number times the fraction, rounded, but
/// at least one where the fraction isn't 0, and never all of them. Both parts keep the file's order.
inline DatasetSplit split_dataset(std::vector<Example> examples, double fraction, std::uint64_t seed) {
  if (!(fraction >= 0.0 && fraction < 1.0)) {
    throw Error("dataset", "the fraction for validation", "0 ... 1, less than 1", number_text(fraction));
  }
  const std::size_t size = examples.size();
  if (fraction > 0.0 && size < 2) {
    throw Error("dataset", "examples to split", "at least two", std::to_string(size));
  }
  std::size_t count = 0;
  if (fraction > 0.0) {
    const auto wanted = static_cast<std::size_t>(std::lround(fraction * static_cast<double>(size)));
    count = std::clamp<std::size_t>(wanted, 1, size - 1);
  }
  const std::vector<std::size_t> order = shuffled(size, seed);
  std::vector<bool> chosen(size);
  for (std::size_t i = 0; i < count; ++i) chosen[order[i]] = true;
  DatasetSplit split;
  for (std::size_t i = 0; i < size; ++i) {
    (chosen[i] ? split.validation : split.train).push_back(std::move(examples[i]));
  }
  return split;
}

}}  // namespace mistral
