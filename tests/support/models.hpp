// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/core/token.hpp>
#include <mistral/nn/weights.hpp>

namespace mistral::test {

/// The config of the snippets in DESIGN and README, and of the golden case gqa_w8.
inline constexpr ModelConfig tiny{.dim = 64,
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

/// Odd in every size that may be odd.
inline constexpr ModelConfig odd{.dim = 51,
                                 .n_layers = 2,
                                 .head_dim = 18,
                                 .hidden_dim = 131,
                                 .n_heads = 3,
                                 .n_kv_heads = 3,
                                 .window_size = 37,
                                 .context_len = 40,
                                 .vocab_size = 101};

/// No window, one key head, and heads that together are wider than the model.
inline constexpr ModelConfig full{.dim = 40,
                                  .n_layers = 2,
                                  .head_dim = 20,
                                  .hidden_dim = 70,
                                  .n_heads = 5,
                                  .n_kv_heads = 1,
                                  .window_size = 0,
                                  .context_len = 200,
                                  .vocab_size = 67,
                                  .rope_theta = 1e6f};

/// A window of one key: each token sees itself.
inline constexpr ModelConfig alone{.dim = 16,
                                   .n_layers = 1,
                                   .head_dim = 8,
                                   .hidden_dim = 24,
                                   .n_heads = 2,
                                   .n_kv_heads = 1,
                                   .window_size = 1,
                                   .context_len = 16,
                                   .vocab_size = 29};

template <class Model>
Model random_model(std::uint64_t seed) {
  Model model;
  randomize(model, seed);
  return model;
}

inline std::vector<TokenId> random_tokens(std::size_t count, std::size_t vocab_size, Random& random) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random.next() % vocab_size);
  return tokens;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace mistral::test
