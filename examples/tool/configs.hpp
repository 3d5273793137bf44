// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/core/config.hpp>

namespace mistral::tool {

/// The config of the documentation's first snippet.
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

/// The 260K-parameter model of https://huggingface.co/karpathy/tinyllamas.
inline constexpr ModelConfig stories_260k{.dim = 64,
                                          .n_layers = 5,
                                          .head_dim = 8,
                                          .hidden_dim = 172,
                                          .n_heads = 8,
                                          .n_kv_heads = 4,
                                          .window_size = 0,
                                          .context_len = 512,
                                          .vocab_size = 512,
                                          .rope_theta = 10000.0f,
                                          .norm_eps = 1e-5f};

/// Configs over the same weights that see no further than some tokens, and so go on for ever.
constexpr ModelConfig stories_260k_through(std::size_t window) {
  ModelConfig config = stories_260k;
  config.window_size = window;
  return config;
}
inline constexpr ModelConfig stories_260k_w24 = stories_260k_through(24);
inline constexpr ModelConfig stories_260k_w64 = stories_260k_through(64);

/// The model of our own, trained from nothing by examples/own_model/make.sh: its window is a sixteenth of its context.
inline constexpr ModelConfig breeze{.dim = 128,
                                    .n_layers = 4,
                                    .head_dim = 32,
                                    .hidden_dim = 384,
                                    .n_heads = 4,
                                    .n_kv_heads = 2,
                                    .window_size = 64,
                                    .context_len = 1024,
                                    .vocab_size = 2048,
                                    .rope_theta = 10000.0f,
                                    .norm_eps = 1e-5f};

/// A model of 1.1 billion parameters: large enough that no cache holds its weights, small enough to be made in seconds.
inline constexpr ModelConfig shape_1_1b{.dim = 2048,
                                        .n_layers = 22,
                                        .head_dim = 64,
                                        .hidden_dim = 5632,
                                        .n_heads = 32,
                                        .n_kv_heads = 4,
                                        .window_size = 4096,
                                        .context_len = 4096,
                                        .vocab_size = 32000,
                                        .rope_theta = 10000.0f,
                                        .norm_eps = 1e-5f};

}  // namespace mistral::tool
