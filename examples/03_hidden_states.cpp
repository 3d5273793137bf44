// SPDX-License-Identifier: Apache-2.0
// Reads the residual stream after every layer, and writes to it:  03_hidden_states
//
// A tape watches a forward. `ResidualHook` is one that hands each layer's residual stream to a function; what the
// function writes there goes on into the next block. A forward without a tape has no trace of this in its code.
#include <cmath>
#include <cstdio>
#include <vector>

#include <mistral/model.hpp>
#include <mistral/nn/weights.hpp>

inline constexpr mistral::ModelConfig tiny{.dim = 64,
                                           .n_layers = 3,
                                           .head_dim = 16,
                                           .hidden_dim = 160,
                                           .n_heads = 4,
                                           .n_kv_heads = 2,
                                           .window_size = 8,
                                           .context_len = 64,
                                           .vocab_size = 97};

float length(std::span<const float> x) {
  float squares = 0.0f;
  for (const float v : x) squares += v * v;
  return std::sqrt(squares);
}

int main() {
  using Model = mistral::Transformer<tiny, mistral::F32>;
  Model model;
  mistral::randomize(model, 1);
  mistral::Session<Model, float> session{model};
  const std::vector<mistral::TokenId> prompt{1, 20, 30, 40};

  // Layer 0 is the embedding, layer n_layers what the last block leaves.
  session.prefill(prompt, mistral::ResidualHook{[](const mistral::Residual& residual) {
                    std::printf("into layer %zu:", residual.layer);
                    for (std::size_t i = 0; i < residual.x.rows(); ++i) {
                      std::printf("  position %lld: |x| = %.3f",
                                  static_cast<long long>(residual.position) + static_cast<long long>(i),
                                  static_cast<double>(length(residual.x.row(i))));
                    }
                    std::printf("\n");
                  }});

  // The same prompt with the last block's input scaled: an intervention, and what it does to the logits.
  session.clear();
  const auto plain = session.prefill(prompt);
  const std::vector<float> before(plain.begin(), plain.end());
  session.clear();
  const auto after = session.prefill(prompt, mistral::ResidualHook{[](const mistral::Residual& residual) {
                                       if (residual.layer != 2) return;
                                       for (std::size_t i = 0; i < residual.x.rows(); ++i) {
                                         for (float& x : residual.x.row(i)) x *= 0.5f;
                                       }
                                     }});
  float change = 0.0f;
  for (std::size_t i = 0; i < after.size(); ++i) change = std::max(change, std::abs(after[i] - before[i]));
  std::printf("halving the stream into layer 2 moves a logit by up to %.3f\n", static_cast<double>(change));
}
