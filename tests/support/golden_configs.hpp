// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/core/config.hpp>

namespace mistral::test {

/// The configs of the golden data's checkpoints: forward/<name>, gguf/kmix, stories260k.
inline constexpr ModelConfig odd_w5{.dim = 108,
                                    .n_layers = 2,
                                    .head_dim = 18,
                                    .hidden_dim = 131,
                                    .n_heads = 6,
                                    .n_kv_heads = 2,
                                    .window_size = 5,
                                    .context_len = 512,
                                    .vocab_size = 101,
                                    .rope_theta = 1e6f};
inline constexpr ModelConfig full_w64{.dim = 64,
                                      .n_layers = 3,
                                      .head_dim = 8,
                                      .hidden_dim = 96,
                                      .n_heads = 8,
                                      .n_kv_heads = 8,
                                      .window_size = 64,
                                      .context_len = 512,
                                      .vocab_size = 89};
inline constexpr ModelConfig nowin_mqa{.dim = 72,
                                       .n_layers = 2,
                                       .head_dim = 20,
                                       .hidden_dim = 130,
                                       .n_heads = 5,
                                       .n_kv_heads = 1,
                                       .window_size = 0,
                                       .context_len = 512,
                                       .vocab_size = 67,
                                       .rope_theta = 1e6f};
inline constexpr ModelConfig long_w16{.dim = 32,
                                      .n_layers = 4,
                                      .head_dim = 8,
                                      .hidden_dim = 48,
                                      .n_heads = 4,
                                      .n_kv_heads = 1,
                                      .window_size = 16,
                                      .context_len = 512,
                                      .vocab_size = 61};
inline constexpr ModelConfig w1{.dim = 16,
                                .n_layers = 2,
                                .head_dim = 8,
                                .hidden_dim = 24,
                                .n_heads = 2,
                                .n_kv_heads = 1,
                                .window_size = 1,
                                .context_len = 512,
                                .vocab_size = 31};

inline constexpr ModelConfig kmix{.dim = 256,
                                  .n_layers = 2,
                                  .head_dim = 64,
                                  .hidden_dim = 256,
                                  .n_heads = 4,
                                  .n_kv_heads = 1,
                                  .window_size = 0,
                                  .context_len = 512,
                                  .vocab_size = 300,
                                  .rope_theta = 1e6f};
inline constexpr ModelConfig stories_260k{.dim = 64,
                                          .n_layers = 5,
                                          .head_dim = 8,
                                          .hidden_dim = 172,
                                          .n_heads = 8,
                                          .n_kv_heads = 4,
                                          .window_size = 0,
                                          .context_len = 512,
                                          .vocab_size = 512};

}  // namespace mistral::test
