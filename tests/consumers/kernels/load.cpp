// SPDX-License-Identifier: Apache-2.0
#include "consumer_kernels.hpp"

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

inline constexpr mistral::ModelConfig breeze{.dim = 128,
                                             .n_layers = 4,
                                             .head_dim = 32,
                                             .hidden_dim = 384,
                                             .n_heads = 4,
                                             .n_kv_heads = 2,
                                             .window_size = 64,
                                             .context_len = 1024,
                                             .vocab_size = 2048};

// A second unit, with another of the formats, that loads and generates.
int generated() {
  using Model = mistral::Transformer<breeze, mistral::Q4_0>;
  const Model model = mistral::load<Model>(CONSUMER_CHECKPOINT);
  const auto tokenizer = mistral::Tokenizer::load(CONSUMER_CHECKPOINT "/tokenizer.model");
  std::vector<mistral::TokenId> prompt = tokenizer.encode("And it came to pass");
  prompt.insert(prompt.begin(), tokenizer.bos_id());
  mistral::Session<Model, mistral::bf16> session{model};
  std::string shown;
  const auto made =
      mistral::generate(session, tokenizer, prompt, {.max_tokens = 20}, [&](std::string_view text) { shown += text; });
  std::printf("%s\n", shown.c_str());
  return made.text == shown ? static_cast<int>(made.tokens.size()) : 0;
}
