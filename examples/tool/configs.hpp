// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

/// The configs that `mistral bench` and `mistral compile` know by name.
inline constexpr std::pair<std::string_view, ModelConfig> known_configs[] = {
    {"mistral-7b-v0.1", mistral_7b_v0_1}, {"mistral-7b-v0.2", mistral_7b_v0_2},
    {"mistral-7b-v0.3", mistral_7b_v0_3}, {"llama-2-7b", llama_2_7b},
    {"llama-2-13b", llama_2_13b},         {"code-llama-7b", code_llama_7b},
    {"shape-1.1b", shape_1_1b},           {"breeze", breeze},
    {"stories-260k", stories_260k},       {"tiny", tiny}};

/// The config of that name; none where there isn't one.
inline std::optional<ModelConfig> config_named(std::string_view name) {
  for (const auto& [known, config] : known_configs) {
    if (known == name) return config;
  }
  return std::nullopt;
}

/// `mistral-7b-v0.1`, ...
inline std::vector<std::string> config_names() {
  std::vector<std::string> names;
  for (const auto& [name, config] : known_configs) names.emplace_back(name);
  return names;
}

/// All of them in a line, for messages.
inline std::string config_names_text() {
  std::string text;
  for (const auto& [name, config] : known_configs) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

}  // namespace mistral::tool
