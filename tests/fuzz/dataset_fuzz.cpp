// SPDX-License-Identifier: Apache-2.0
// seeds: none
// Reads the input as a data set: its examples are what a trainer takes, or an error says what is wrong.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <mistral/train/dataset.hpp>

#include "attempt.hpp"

using namespace mistral;

namespace {

void check(const Dataset& dataset, const DatasetOptions& options, const Tokenizer& tokenizer) {
  std::size_t tokens = 0, targets = 0;
  for (const Example& example : dataset.examples) {
    fuzz::require(example.tokens.size() >= 2 && example.tokens.size() <= options.max_tokens);
    fuzz::require(target_count(example) > 0);
    for (const TokenId token : example.tokens) {
      fuzz::require(token >= 0 && static_cast<std::size_t>(token) < tokenizer.vocab_size());
    }
    std::size_t from = 0;
    for (const TokenRange& range : example.answers) {
      fuzz::require(range.begin >= from && range.begin < range.end && range.end <= example.tokens.size());
      from = range.end;
    }
    tokens += example.tokens.size();
    targets += target_count(example);
  }
  fuzz::require(tokens == dataset.counts.tokens && targets == dataset.counts.targets);
  fuzz::require(dataset.examples.size() + dataset.counts.bad + dataset.counts.dropped == dataset.counts.lines);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder;
  static const Tokenizer tokenizer = Tokenizer::load(MISTRAL_SOURCE_DIR "/tests/data/tokenizer/bpe600.model");
  const std::string path = folder.write("data.jsonl", {reinterpret_cast<const char*>(data), size});
  for (const bool lenient : {false, true}) {
    const DatasetOptions options{
        .max_tokens = lenient ? 8u : 64u, .train_on_prompt = lenient, .skip_bad = lenient, .max_line_bytes = 4096};
    fuzz::attempt([&] { check(read_dataset(path, tokenizer, options), options, tokenizer); });
  }
  return 0;
}
