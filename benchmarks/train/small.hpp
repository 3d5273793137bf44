// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/core/config.hpp>

namespace mistral::bench {

/// A shape that PyTorch can train in floats on a machine of 24 GB.
inline constexpr ModelConfig small{.dim = 1024,
                                   .n_layers = 12,
                                   .head_dim = 64,
                                   .hidden_dim = 3584,
                                   .n_heads = 16,
                                   .n_kv_heads = 4,
                                   .window_size = 4096,
                                   .context_len = 4096,
                                   .vocab_size = 32000};

}  // namespace mistral::bench
