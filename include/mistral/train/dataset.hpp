#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/json.hpp>
#include <mistral/io/line_reader.hpp>
#include <mistral/io/printable.hpp>
#include <mistral/text/chat_json.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/tokenizer.hpp>
#include <mistral/train/batches.hpp>
#include <mistral/train/trainer_options.hpp>

namespace mistral::inline MISTRAL_ABI {

/// How a file becomes examples.
struct DatasetOptions {
  std::size_t max_tokens = 512;  ///< longer examples are cut
  bool train_on_prompt = false;  ///< the loss covers all tokens, not the answers alone
  bool skip_bad = false;         ///< count the lines that hold no example, and go on, rather than throw
  std::optional<ChatTemplate> chat_template = {};      ///< none: the one the tokenizer is made for
  std::size_t max_line_bytes = std::size_t{16} << 20;  ///< a longer line is a bad one
};

/// What became of a file's lines.
struct DatasetCounts {
  std::size_t lines = 0;       ///< that aren't blank
  std::size_t bad = 0;         ///< of these, without an example: skipped
  std::string first_bad = {};  ///< why the first of them is one
  std::size_t dropped = 0;     ///< examples whose answer lies behind max_tokens
  std::size_t cut = 0;         ///< examples that lost their ends
  std::size_t cut_tokens = 0;  ///< tokens that these lost
  std::size_t tokens = 0;      ///< of all examples, as they are
  std::size_t targets = 0;     ///< of these, to be predicted
};

namespace detail {

/// What an error says, without its `[where]`.
inline std::string_view said_by(const Error& error) noexcept {
  const std::string_view line = error.what();
  const std::size_t end = line.find("] ");
  return end == std::string_view::npos ? line : line.substr(end + 2);
}

/// Whole tokens and answers, before anything is cut.
struct EncodedExample {
  std::vector<TokenId> tokens;
  std::vector<TokenRange> answers;
};

/// Turns an object of the file into ids.
class ExampleEncoder {
 public:
  ExampleEncoder(const Tokenizer& tokenizer, const DatasetOptions& options)
      : tokenizer_(tokenizer), template_(options.chat_template.value_or(chat_template_of(tokenizer))) {
    if (tokenizer.eos_id() < 0) throw Error("dataset", "the tokenizer", "one with EOS, which ends an answer", "none");
    if (options.chat_template) encode_chat(tokenizer, template_, {{"user", ""}});  // throws for what doesn't fit
  }

  EncodedExample encode(const JsonObject& json) const {
    if (json.has("messages")) return chat(json, parse_chat(json));
    if (json.has("instruction")) {
      std::string user = json.string("instruction");
      if (json.has("input")) append_paragraph(user, json.string("input"));
      return chat(json, {{{"user", user}, {"assistant", text(json, "output")}}, {}});
    }
    if (json.has("prompt") || json.has("completion")) {
      return continuation(json.string("prompt"), text(json, "completion"));
    }
    if (json.has("text")) return continuation("", text(json, "text"));
    std::string fields;
    for (const std::string& name : json.names()) fields.append(fields.empty() ? "" : ", ").append(printable(name, 40));
    throw json.error(
        "expected the fields messages, or instruction and output, or prompt and completion, or text, got " +
        (fields.empty() ? "none" : printable(fields, 200)));
  }

 private:
  static const std::string& text(const JsonObject& json, const std::string& name) {
    const std::string& value = json.string(name);
    if (value.empty()) throw json.unexpected(name, "text, which is what there is to learn");
    return value;
  }

  EncodedExample chat(const JsonObject& json, const ChatRequest& request) const {
    try {
      EncodedChat chat = encode_chat_with_answers(tokenizer_, template_, request.messages, request.options);
      if (!chat.answers.empty()) return {std::move(chat.ids), std::move(chat.answers)};
    } catch (const Error& error) {
      throw json.error(said_by(error));
    }
    throw json.unexpected("messages", "an answer: a message of the assistant");
  }

  /// Two texts that are one: the pieces are those of the whole, and the answer begins with the first one that the
  /// prompt alone doesn't have.
  EncodedExample continuation(const std::string& prompt, const std::string& answer) const {
    const std::vector<TokenId> begin = prompt.empty() ? std::vector<TokenId>{} : tokenizer_.encode(prompt);
    const std::vector<TokenId> whole = tokenizer_.encode(prompt + answer);
    std::size_t same = 0;
    while (same < begin.size() && same < whole.size() && begin[same] == whole[same]) ++same;
    EncodedExample example;
    if (tokenizer_.bos_id() >= 0) example.tokens.push_back(tokenizer_.bos_id());
    same += example.tokens.size();
    example.tokens.insert(example.tokens.end(), whole.begin(), whole.end());
    example.tokens.push_back(tokenizer_.eos_id());
    example.answers.push_back({same, example.tokens.size()});
    return example;
  }

  Tokenizer tokenizer_;
  ChatTemplate template_;
};

}  // namespace detail

/// Reads a file of examples, a JSON object a line (JSONL), one after the other: memory for one line, whatever the
/// file's size. What an object is, its fields say, in this order; others are passed over:
///
/// - `messages`: a conversation (see parse_chat), in the chat template; each of the assistant's turns is an answer.
/// - `instruction`, `output`, and perhaps `input`: a conversation of one question, the input behind the instruction
///   with an empty line between them, and its answer.
/// - `prompt`, `completion`: BOS, the two as one text, EOS; the answer is the completion. No template.
/// - `text`: BOS, the text, EOS; all of it is to be predicted.
///
/// An answer takes in its EOS; nothing behind the last answer is kept. With `train_on_prompt` all of it is kept and is
/// to be predicted. Blank lines are passed over.
class DatasetReader {
 public:
  /// Throws Error `[dataset] path: ...` where the file can't be opened, for options out of range, and where the
  /// tokenizer has no EOS, or none of the template's pieces.
  DatasetReader(const std::string& path, const Tokenizer& tokenizer, const DatasetOptions& options = {})
      : lines_(path, "dataset", options.max_line_bytes),
        file_(printable(path, 1000)),
        options_(options),
        encoder_(tokenizer, options) {
    if (options.max_tokens < 2) {
      throw Error("dataset", "max_tokens", "at least 2", std::to_string(options.max_tokens));
    }
  }

  /// The next example, none at the end of the file. Throws Error `[dataset] file:line: ...` for a line that holds none,
  /// unless those are to be skipped, and where the file can't be read.
  std::optional<Example> next() {
    while (lines_.next()) {
      if (lines_.line().find_first_not_of(" \t\r") == std::string::npos && !lines_.too_long()) continue;
      ++counts_.lines;
      detail::EncodedExample encoded;
      try {
        encoded = read();
      } catch (const Error& error) {
        if (!options_.skip_bad) throw;
        if (counts_.bad++ == 0) counts_.first_bad = error.what();
        continue;
      }
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
  detail::EncodedExample read() const {
    const std::string subject = file_ + ":" + std::to_string(lines_.number());
    if (lines_.too_long()) {
      throw Error("dataset", subject, "a line of at most " + std::to_string(options_.max_line_bytes) + " bytes",
                  "a longer one");
    }
    return encoder_.encode(JsonObject::parse(std::as_bytes(std::span(lines_.line())), "dataset", subject));
  }

  /// Cuts what is too long.
  Example made(detail::EncodedExample&& encoded) {
    Example example{.tokens = std::move(encoded.tokens)};
    std::vector<TokenRange>& answers = encoded.answers;
    if (options_.train_on_prompt) answers = {{1, example.tokens.size()}};
    const std::size_t whole = answers.back().end;  // what stands behind the last answer teaches nothing
    while (!answers.empty() && answers.back().begin >= options_.max_tokens) answers.pop_back();
    if (answers.empty()) return {};
    answers.back().end = std::min(answers.back().end, options_.max_tokens);
    example.tokens.resize(answers.back().end);
    if (example.tokens.size() < whole) {
      ++counts_.cut;
      counts_.cut_tokens += whole - example.tokens.size();
    }
    example.answer_begin = answers.front().begin;
    if (answers.size() > 1) example.answers = std::move(answers);
    return example;
  }

  LineReader lines_;
  std::string file_;
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
    throw Error("dataset", "the fraction for validation", "0 ... 1, less than 1", std::to_string(fraction));
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

}  // namespace mistral::inline MISTRAL_ABI
