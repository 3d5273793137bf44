// SPDX-License-Identifier: Apache-2.0
// Chooses tokens by a rule of one's own:  04_custom_sampler CHECKPOINT [PROMPT]
//
// First with a hook on the logits: `generate` goes on as ever, but whatever holds an 'e' is banned. Then without
// `generate`: a loop of one's own over the logits, here Mirostat-like, which aims at a constant surprise.
#include <cmath>
#include <cstdio>
#include <limits>
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

// A tape's member `logits` sees the logits before a token is chosen.
struct WithoutLetter {
  const mistral::Tokenizer& tokenizer;
  char letter;

  void logits(std::span<float> all) const {
    for (std::size_t id = 0; id < all.size(); ++id) {
      if (tokenizer.piece(static_cast<mistral::TokenId>(id)).find(letter) != std::string_view::npos) {
        all[id] = -std::numeric_limits<float>::infinity();
      }
    }
  }
};

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CHECKPOINT [PROMPT]\n", argv[0]);
    return 2;
  }
  const std::string checkpoint = argv[1];
  using Model = mistral::Transformer<stories, mistral::F32>;
  const Model model = mistral::load<Model>(checkpoint);
  const auto tokenizer = mistral::Tokenizer::load(checkpoint + "/tokenizer.model");
  std::vector<mistral::TokenId> prompt = tokenizer.encode(argc > 2 ? argv[2] : "A big cat");
  prompt.insert(prompt.begin(), tokenizer.bos_id());
  mistral::Session<Model, float> session{model};

  const auto ignore = [](std::string_view) {};
  const auto lipogram =
      mistral::generate(session, tokenizer, prompt, {.max_tokens = 60}, ignore, WithoutLetter{tokenizer, 'e'});
  std::printf("without e:%s\n", lipogram.text.c_str());

  // Keeps the tokens whose surprise, -log2 p, is below a limit that follows how surprising the text has been so far.
  session.clear();
  std::span<const float> logits = session.prefill(prompt);
  mistral::Random random(42);
  mistral::StreamDecoder decoder(tokenizer);
  for (const mistral::TokenId token : prompt) decoder.feed(token);
  double limit = 4.0;
  std::printf("steady:");
  for (int step = 0; step < 60; ++step) {
    mistral::Sampler sampler({.temperature = 1.0f}, stories.vocab_size);
    const auto distribution = sampler.distribution(logits);  // by descending probability
    double kept = 0.0;
    std::size_t count = 0;
    while (count < distribution.size() && (count == 0 || -std::log2(distribution[count].probability) < limit)) {
      kept += distribution[count++].probability;
    }
    double draw = random.uniform_double() * kept;
    std::size_t choice = 0;
    while (choice + 1 < count && (draw -= distribution[choice].probability) >= 0.0) ++choice;
    limit += 0.1 * (2.0 - -std::log2(distribution[choice].probability / kept));  // 2 bits a token
    const std::string text = decoder.feed(distribution[choice].token);
    std::fwrite(text.data(), 1, text.size(), stdout);
    logits = session.decode(distribution[choice].token);
  }
  std::puts("");
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
