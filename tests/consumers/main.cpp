// SPDX-License-Identifier: Apache-2.0
// The program of every consumer: a model of its own through the umbrella header, prefilled and decoded.
#include <mistral/model.hpp>
#include <mistral/nn/weights.hpp>

#include <cstdio>
#include <vector>

inline constexpr mistral::ModelConfig tiny{.dim = 64,
                                           .n_layers = 3,
                                           .head_dim = 16,
                                           .hidden_dim = 160,
                                           .n_heads = 4,
                                           .n_kv_heads = 2,
                                           .window_size = 8,
                                           .context_len = 64,
                                           .vocab_size = 97,
                                           .rope_theta = 10000.0f,
                                           .norm_eps = 1e-5f};

int main() {
  using Model = mistral::Transformer<tiny, mistral::BF16>;
  using Session = mistral::Session<Model, mistral::bf16>;
  static_assert(mistral::memory_bytes<Model, Session> < 1'000'000);
  Model model;
  mistral::randomize(model, 1);
  const std::vector<mistral::TokenId> text{1, 20, 76, 34, 30, 15, 3, 10, 80, 84, 49, 25};

  // Prefilled at once or decoded one by one, the last token gets the same bits.
  Session session{model};
  const std::span<const float> prefilled = session.prefill(text);
  const std::vector<float> expected(prefilled.begin(), prefilled.end());
  session.clear();
  std::span<const float> logits;
  for (const mistral::TokenId token : text) logits = session.decode(token);
  const bool same = std::vector<float>(logits.begin(), logits.end()) == expected;
  std::printf("logit 0 is %.9g, prefilled and decoded %s\n", static_cast<double>(logits[0]), same ? "alike" : "UNLIKE");
  return same && logits.size() == tiny.vocab_size ? 0 : 1;
}
