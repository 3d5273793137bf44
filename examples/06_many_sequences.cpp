// SPDX-License-Identifier: Apache-2.0
// Many texts at once over one model:  06_many_sequences [CHECKPOINT], the folder of examples/own_model/breeze
//
// Their rows go through the model together, so that its weights are read once for all. A sequence joins and leaves at
// any step, has options of its own, and gets the text that it would get alone, bit by bit.
#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include <mistral/generate/batch.hpp>
#include <mistral/model.hpp>

inline constexpr mistral::ModelConfig breeze{.dim = 128,
                                             .n_layers = 4,
                                             .head_dim = 32,
                                             .hidden_dim = 384,
                                             .n_heads = 4,
                                             .n_kv_heads = 2,
                                             .window_size = 64,
                                             .context_len = 1024,
                                             .vocab_size = 2048};

int main(int argc, char** argv) try {
  const std::string checkpoint = argc > 1 ? argv[1] : "examples/own_model/breeze";
  using Model = mistral::Transformer<breeze, mistral::F32>;
  const Model model = mistral::load<Model>(checkpoint);
  const auto tokenizer = mistral::Tokenizer::load(checkpoint + "/tokenizer.model");

  // Four caches: of more sequences, some wait. A forward takes 32 rows: one of each text that is being written, and for
  // what is left of them prompts.
  mistral::SessionBatch<Model, float> batch{model, tokenizer, {.max_sequences = 4, .token_budget = 32}};
  const std::string shared = "And the king said unto the people, Hear ye the words which I shall speak this day: ";
  std::map<mistral::SequenceId, std::string> texts;
  for (const char* end : {"Let", "Behold", "I will", "The land", "Ye shall", "My son"}) {
    std::vector<mistral::TokenId> prompt = tokenizer.encode(shared + end);
    prompt.insert(prompt.begin(), tokenizer.bos_id());
    mistral::BatchRequest request{.prompt = prompt, .options = {.max_tokens = 24, .stop_strings = {"."}}};
    request.options.sampling = {.temperature = 0.8f, .top_p = 0.9f, .seed = texts.size()};
    texts[batch.add(std::move(request))] = end;
  }

  // One that tells each piece of its text as it comes, and another that is called off.
  mistral::BatchRequest told{.prompt = {tokenizer.bos_id()}, .options = {.max_tokens = 12}};
  told.on_text = [](std::string_view text) {
    std::printf("(%.*s)", static_cast<int>(text.size()), text.data());
    return true;  // go on
  };
  batch.add(std::move(told));
  const mistral::SequenceId endless = batch.add({.prompt = {tokenizer.bos_id()}, .options = {.max_tokens = 1000000}});

  const auto begin = std::chrono::steady_clock::now();
  std::size_t tokens = 0;
  while (!batch.empty()) {
    if (batch.counters().forwards == 60) batch.cancel(endless);
    for (const mistral::BatchResult& result : batch.step()) {
      tokens += result.made.tokens.size();
      if (texts.count(result.id) == 0) continue;
      std::printf("\n%s%s", texts[result.id].c_str(), result.made.text.c_str());
    }
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const mistral::BatchCounters& counters = batch.counters();
  std::printf("\n%zu tokens in %.2f s, in %llu forwards of %.1f rows; %llu tokens of prompts were shared\n", tokens,
              seconds.count(), static_cast<unsigned long long>(counters.forwards),
              static_cast<double>(counters.rows) / static_cast<double>(counters.forwards),
              static_cast<unsigned long long>(counters.shared_tokens));
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
