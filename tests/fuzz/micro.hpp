// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/core/config.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/nn/transformer.hpp>

namespace mistral::fuzz {

/// As small as a model can be that has all parts.
inline constexpr ModelConfig micro{.dim = 16,
                                   .n_layers = 1,
                                   .head_dim = 8,
                                   .hidden_dim = 24,
                                   .n_heads = 2,
                                   .n_kv_heads = 1,
                                   .window_size = 4,
                                   .context_len = 16,
                                   .vocab_size = 29};

}  // namespace mistral::fuzz
