// SPDX-License-Identifier: Apache-2.0
// Continues a text:  01_generate CHECKPOINT [PROMPT]
//
// The config below is that of the small "stories260K" model, so that the example runs in a second. For Mistral 7B there
// is one line to change: using Model = mistral::Transformer<mistral::mistral_7b_v0_1, mistral::BF16>;
#include <cstdio>
#include <string>
#include <vector>

#include <mistral/model.hpp>

inline constexpr mistral::ModelConfig stories{.dim = 64,
                                              .n_layers = 5,
                                              .head_dim = 8,
                                              .hidden_dim = 172,
                                              .n_heads = 8,
                                              .n_kv_heads = 4,
                                              .window_size = 0,
                                              .context_len = 512,
                                              .vocab_size = 512};

using Model = mistral::Transformer<stories, mistral::F32>;
using Session = mistral::Session<Model, float>;

// What the program will take is known before it runs.
static_assert(mistral::memory_bytes<Model, Session> < 8'000'000);

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CHECKPOINT [PROMPT]\n", argv[0]);
    return 2;
  }
  const std::string checkpoint = argv[1];
  const Model model = mistral::load<Model>(checkpoint);
  const auto tokenizer = mistral::Tokenizer::load(checkpoint + "/tokenizer.model");

  std::vector<mistral::TokenId> prompt = tokenizer.encode(argc > 2 ? argv[2] : "Once upon a time");
  prompt.insert(prompt.begin(), tokenizer.bos_id());

  Session session{model};
  mistral::GenerateOptions options;
  options.max_tokens = 200;
  options.sampling = {.temperature = 0.8f, .top_p = 0.95f, .seed = 42};
  options.stop_ids = {tokenizer.eos_id(), tokenizer.bos_id()};
  mistral::generate(session, tokenizer, prompt, options, [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  });
  std::puts("");
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
