// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <mistral/core/abi.hpp>
#include <mistral/core/tensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The hyperparameters of a model, as a value that a template takes: the names and the order of table 1 of the Mistral
/// 7B paper, then the two that its code adds.
struct ModelConfig {
  std::size_t dim;          ///< width of the residual stream
  std::size_t n_layers;     ///< number of blocks
  std::size_t head_dim;     ///< width of a head of queries, keys or values; even
  std::size_t hidden_dim;   ///< width inside the feed-forward layer
  std::size_t n_heads;      ///< number of query heads
  std::size_t n_kv_heads;   ///< number of key and value heads; divides n_heads
  std::size_t window_size;  ///< keys that a query sees, itself included; 0: all of them, up to context_len
  std::size_t context_len;  ///< tokens the model was made for; a bound only where there is no window
  std::size_t vocab_size;   ///< number of token ids
  /// Theta of RoPE (arXiv 2104.09864): pair i of a head turns by position x theta^(-2i / head_dim).
  float rope_theta = 10000.0f;
  float norm_eps = 1e-5f;  ///< what RMSNorm adds to the mean square

  /// Field by field.
  friend constexpr bool operator==(const ModelConfig&, const ModelConfig&) = default;

  /// Width of all query heads together: what wq gives and wo takes.
  constexpr std::size_t query_dim() const noexcept { return n_heads * head_dim; }

  /// Width of all key (or value) heads together: what wk and wv give.
  constexpr std::size_t kv_dim() const noexcept { return n_kv_heads * head_dim; }

  /// Query heads that share one head of keys and values (grouped-query attention, section 2 of the paper).
  constexpr std::size_t group_size() const noexcept { return n_heads / n_kv_heads; }

  /// Positions that a cache keeps for each layer: the window, or the whole context where there is none.
  constexpr std::size_t cache_len() const noexcept { return window_size != 0 ? window_size : context_len; }

  /// Number of weights, the embedding and the output head included.
  constexpr std::uint64_t parameter_count() const noexcept {
    return sum_over_tensors(
        *this, [this](const TensorRow& row) { return extent_of(row.rows, *this) * extent_of(row.cols, *this); });
  }
};

/// Mistral 7B v0.1 (table 1 of the paper): a window of 4096.
inline constexpr ModelConfig mistral_7b_v0_1{.dim = 4096,
                                             .n_layers = 32,
                                             .head_dim = 128,
                                             .hidden_dim = 14336,
                                             .n_heads = 32,
                                             .n_kv_heads = 8,
                                             .window_size = 4096,
                                             .context_len = 8192,
                                             .vocab_size = 32000,
                                             .rope_theta = 10000.0f,
                                             .norm_eps = 1e-5f};

/// Mistral 7B v0.2: no window, a context of 32768, theta 1e6.
inline constexpr ModelConfig mistral_7b_v0_2{.dim = 4096,
                                             .n_layers = 32,
                                             .head_dim = 128,
                                             .hidden_dim = 14336,
                                             .n_heads = 32,
                                             .n_kv_heads = 8,
                                             .window_size = 0,
                                             .context_len = 32768,
                                             .vocab_size = 32000,
                                             .rope_theta = 1e6f,
                                             .norm_eps = 1e-5f};

/// Mistral 7B v0.3: as v0.2, with a vocabulary of 32768 that holds the control tokens of chats and tools.
inline constexpr ModelConfig mistral_7b_v0_3{.dim = 4096,
                                             .n_layers = 32,
                                             .head_dim = 128,
                                             .hidden_dim = 14336,
                                             .n_heads = 32,
                                             .n_kv_heads = 8,
                                             .window_size = 0,
                                             .context_len = 32768,
                                             .vocab_size = 32768,
                                             .rope_theta = 1e6f,
                                             .norm_eps = 1e-5f};

/// Llama 2 7B (arXiv 2307.09288), which the paper compares with: as many key heads as query heads.
inline constexpr ModelConfig llama_2_7b{.dim = 4096,
                                        .n_layers = 32,
                                        .head_dim = 128,
                                        .hidden_dim = 11008,
                                        .n_heads = 32,
                                        .n_kv_heads = 32,
                                        .window_size = 0,
                                        .context_len = 4096,
                                        .vocab_size = 32000,
                                        .rope_theta = 10000.0f,
                                        .norm_eps = 1e-5f};

/// Llama 2 13B (arXiv 2307.09288), the paper's larger comparator.
inline constexpr ModelConfig llama_2_13b{.dim = 5120,
                                         .n_layers = 40,
                                         .head_dim = 128,
                                         .hidden_dim = 13824,
                                         .n_heads = 40,
                                         .n_kv_heads = 40,
                                         .window_size = 0,
                                         .context_len = 4096,
                                         .vocab_size = 32000,
                                         .rope_theta = 10000.0f,
                                         .norm_eps = 1e-5f};

/// Code Llama 7B (arXiv 2308.12950), the paper's comparator on code.
inline constexpr ModelConfig code_llama_7b{.dim = 4096,
                                           .n_layers = 32,
                                           .head_dim = 128,
                                           .hidden_dim = 11008,
                                           .n_heads = 32,
                                           .n_kv_heads = 32,
                                           .window_size = 0,
                                           .context_len = 16384,
                                           .vocab_size = 32016,
                                           .rope_theta = 1e6f,
                                           .norm_eps = 1e-5f};

/// The widest head that the attention kernel keeps in its fixed scratch memory.
inline constexpr std::size_t max_head_dim = 256;

/// Holds a config against what a transformer needs; an impossible one doesn't compile, and the message names the field.
template <ModelConfig C>
struct CheckedConfig {
  static_assert(C.dim > 0, "ModelConfig::dim must not be 0");
  static_assert(C.n_layers > 0, "ModelConfig::n_layers must not be 0");
  static_assert(C.head_dim > 0, "ModelConfig::head_dim must not be 0");
  static_assert(C.head_dim % 2 == 0, "ModelConfig::head_dim must be even: RoPE turns pairs");
  static_assert(C.head_dim <= max_head_dim, "ModelConfig::head_dim must be at most max_head_dim (256)");
  static_assert(C.hidden_dim > 0, "ModelConfig::hidden_dim must not be 0");
  static_assert(C.n_heads > 0, "ModelConfig::n_heads must not be 0");
  static_assert(C.n_kv_heads > 0, "ModelConfig::n_kv_heads must not be 0");
  static_assert(C.n_heads % (std::max<std::size_t>)(C.n_kv_heads, 1) == 0,
                "ModelConfig::n_heads must be divisible by ModelConfig::n_kv_heads");
  static_assert(C.context_len > 0, "ModelConfig::context_len must not be 0");
  static_assert(C.vocab_size > 0, "ModelConfig::vocab_size must not be 0");
  static_assert(C.vocab_size <= 0x7fffffff, "ModelConfig::vocab_size must fit a TokenId");
  static_assert(C.rope_theta > 0.0f, "ModelConfig::rope_theta must be positive");
  static_assert(C.norm_eps > 0.0f, "ModelConfig::norm_eps must be positive");
  static constexpr bool value = true;  ///< or fails to compile
};

}}  // namespace mistral
