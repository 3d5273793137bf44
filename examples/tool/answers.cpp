// SPDX-License-Identifier: Apache-2.0
#include "answers.hpp"

#include <algorithm>
#include <memory>

#include <mistral/core/printable.hpp>

#include "console.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

std::string indented(const std::string& text) {
  std::string out = "    ";
  for (const char c : printable_lines(text)) {  // a report, also where it goes to a file
    out += c;
    if (c == '\n') out += "    ";
  }
  return out + "\n";
}

}  // namespace

std::vector<Sample> samples_of(std::span<const Example> examples, std::size_t count, const Tokenizer& tokenizer) {
  std::vector<Sample> samples;
  count = std::min(count, examples.size());
  for (std::size_t i = 0; i < count; ++i) {
    const Example& example = examples[i * examples.size() / count];  // from all over the file
    const std::span<const TokenId> tokens(example.tokens);
    std::size_t end = example.answers.empty() ? tokens.size() : example.answers.front().end;
    std::size_t begin = example.answer_begin;
    if (begin <= 1) begin = std::max<std::size_t>(1, end / 3);  // a text without a prompt: its beginning is one
    if (end > begin && tokens[end - 1] == tokenizer.eos_id()) --end;
    const std::size_t bos = tokens[0] == tokenizer.bos_id() ? 1 : 0;
    samples.push_back({{tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(begin)},
                       tokenizer.decode(tokens.subspan(bos, begin - bos)),
                       tokenizer.decode(tokens.subspan(begin, end - begin)),
                       {},
                       {}});
  }
  return samples;
}

void answer(const AnyModel& model, const Tokenizer& tokenizer, std::size_t max_tokens, std::vector<Sample>& samples,
            std::string Sample::*to, const std::function<bool()>& stopped) {
  if (samples.empty()) return;
  Progress progress("answering", samples.size());
  const std::unique_ptr<AnySession> session = model.session();
  GenerateOptions options;
  options.sampling.temperature = 0.0f;
  options.max_tokens = max_tokens;
  options.stop_ids.assign(tokenizer.eos_ids().begin(), tokenizer.eos_ids().end());
  for (std::size_t i = 0; i < samples.size() && !stopped(); ++i) {
    session->clear();
    samples[i].*to = generate(*session, tokenizer, samples[i].prompt, options).text;
    progress.at(i + 1);
  }
}

std::string side_by_side(const std::vector<Sample>& samples) {
  std::string text;
  for (const Sample& s : samples) {
    text += "\nprompt:\n" + indented(s.prompt_text) + "the data's answer:\n" + indented(s.expected) + "the base's:\n" +
            indented(s.base) + "the tuned model's:\n" + indented(s.tuned);
  }
  return text;
}

}  // namespace mistral::tool
