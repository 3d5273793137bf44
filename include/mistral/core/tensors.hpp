// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The one table of the tensors that a model has: what each is called in every file layout, its shape, how its rows
/// lie, and whether it is trained and may carry an adapter. Loading, saving, merging, GGUF, adapters, gradients and
/// memory follow from it. A new tensor is a role, a row, and the member of a layer that holds it (nn/tensors.hpp says
/// where it stands); whatever else was forgotten does not compile.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The part that a tensor plays in a model, in the order of a forward. Those of layers stand once in each.
enum class TensorRole : std::uint8_t {
  tok_embeddings,  ///< a row for each token
  attention_norm,  ///< before attention
  wq,              ///< gives the queries
  wk,              ///< gives the keys
  wv,              ///< gives the values
  wo,              ///< takes what the heads give
  ffn_norm,        ///< before the feed-forward
  w1,              ///< gives what goes through silu
  w2,              ///< takes the product of the two others
  w3,              ///< gives what it is multiplied with
  norm,            ///< before the head
  output,          ///< the head: a row for each token
};

/// How a tensor is held, trained and called upon.
enum class TensorKind : std::uint8_t {
  embedding,  ///< a matrix whose rows are looked up
  norm,       ///< a vector, in float whatever the model's format
  matrix,     ///< a matrix that is multiplied with
};

/// A number of rows or columns, as a config gives it.
enum class TensorExtent : std::uint8_t {
  one,         ///< 1: the rows of a vector
  dim,         ///< width of the residual stream
  hidden_dim,  ///< width inside the feed-forward
  query_dim,   ///< width of all query heads
  kv_dim,      ///< width of all key heads
  vocab_size,  ///< number of token ids
};

/// The heads whose rows RoPE turns in pairs. Hugging Face's layout holds these rows permuted, for rotate-half.
enum class TurnedHeads : std::uint8_t {
  none,     ///< its rows are in order in every layout
  queries,  ///< n_heads
  keys,     ///< n_kv_heads
};

/// A layout's way of naming tensors.
enum class TensorNaming : std::uint8_t {
  mistral,       ///< `layers.0.attention.wq.weight`
  hugging_face,  ///< `model.layers.0.self_attn.q_proj.weight`
  gguf,          ///< `blk.0.attn_q.weight`
};

/// A row of the table of tensors.
struct TensorRow {
  TensorRole role;                ///< what it is
  TensorKind kind;                ///< how it is held
  bool in_layer;                  ///< whether each layer has one, or the model
  std::string_view mistral;       ///< its name in Mistral's layout, without `layers.0.`
  std::string_view hugging_face;  ///< its name in Hugging Face's layout, without `model.layers.0.`
  std::string_view gguf;          ///< its name in GGUF files, without `blk.0.`
  TensorExtent rows;              ///< outputs, or tokens
  TensorExtent cols;              ///< inputs, or the length of a vector
  TurnedHeads turned;             ///< whose rows are permuted in Hugging Face's layout
  bool trained;                   ///< whether it has a gradient where all parameters are trained
  bool adapter;                   ///< whether an adapter may stand beside it

  /// Returns its name in a layout, without what says the layer.
  constexpr std::string_view name(TensorNaming naming) const noexcept {
    if (naming == TensorNaming::gguf) return gguf;
    return naming == TensorNaming::hugging_face ? hugging_face : mistral;
  }
};

namespace detail {

/// A row of a vector, which every norm is.
constexpr TensorRow norm_row(TensorRole role, bool in_layer, std::string_view mistral, std::string_view hugging_face,
                             std::string_view gguf, TensorExtent size) noexcept {
  return {role, TensorKind::norm,  in_layer, mistral, hugging_face, gguf, TensorExtent::one,
          size, TurnedHeads::none, true,     false};
}

/// A row of a layer's matrix, beside which an adapter may stand.
constexpr TensorRow matrix_row(TensorRole role, std::string_view mistral, std::string_view hugging_face,
                               std::string_view gguf, TensorExtent rows, TensorExtent cols,
                               TurnedHeads turned = TurnedHeads::none) noexcept {
  return {role, TensorKind::matrix, true, mistral, hugging_face, gguf, rows, cols, turned, true, true};
}

}  // namespace detail

/// All tensors of a model, one row for each role, in the order of a forward.
inline constexpr TensorRow tensor_table[] = {
    {TensorRole::tok_embeddings, TensorKind::embedding, false, "tok_embeddings.weight", "model.embed_tokens.weight",
     "token_embd.weight", TensorExtent::vocab_size, TensorExtent::dim, TurnedHeads::none, true, false},
    detail::norm_row(TensorRole::attention_norm, true, "attention_norm.weight", "input_layernorm.weight",
                     "attn_norm.weight", TensorExtent::dim),
    detail::matrix_row(TensorRole::wq, "attention.wq.weight", "self_attn.q_proj.weight", "attn_q.weight",
                       TensorExtent::query_dim, TensorExtent::dim, TurnedHeads::queries),
    detail::matrix_row(TensorRole::wk, "attention.wk.weight", "self_attn.k_proj.weight", "attn_k.weight",
                       TensorExtent::kv_dim, TensorExtent::dim, TurnedHeads::keys),
    detail::matrix_row(TensorRole::wv, "attention.wv.weight", "self_attn.v_proj.weight", "attn_v.weight",
                       TensorExtent::kv_dim, TensorExtent::dim),
    detail::matrix_row(TensorRole::wo, "attention.wo.weight", "self_attn.o_proj.weight", "attn_output.weight",
                       TensorExtent::dim, TensorExtent::query_dim),
    detail::norm_row(TensorRole::ffn_norm, true, "ffn_norm.weight", "post_attention_layernorm.weight",
                     "ffn_norm.weight", TensorExtent::dim),
    detail::matrix_row(TensorRole::w1, "feed_forward.w1.weight", "mlp.gate_proj.weight", "ffn_gate.weight",
                       TensorExtent::hidden_dim, TensorExtent::dim),
    detail::matrix_row(TensorRole::w2, "feed_forward.w2.weight", "mlp.down_proj.weight", "ffn_down.weight",
                       TensorExtent::dim, TensorExtent::hidden_dim),
    detail::matrix_row(TensorRole::w3, "feed_forward.w3.weight", "mlp.up_proj.weight", "ffn_up.weight",
                       TensorExtent::hidden_dim, TensorExtent::dim),
    detail::norm_row(TensorRole::norm, false, "norm.weight", "model.norm.weight", "output_norm.weight",
                     TensorExtent::dim),
    {TensorRole::output, TensorKind::matrix, false, "output.weight", "lm_head.weight", "output.weight",
     TensorExtent::vocab_size, TensorExtent::dim, TurnedHeads::none, true, true},
};

/// The matrices that an adapter stands beside.
struct LoraTargets {
  /// Whether an adapter stands beside it.
  ///@{
  bool wq = true, wk = true, wv = true, wo = true, w1 = true, w2 = true, w3 = true;
  bool output = true;  ///< the head
  ///@}

  /// Returns whether a matrix is one of them: `layers.0.attention.wq`, `output`.
  constexpr bool holds(std::string_view name) const noexcept;

  /// Returns whether there is any.
  constexpr bool any() const noexcept;
};

/// A field of LoraTargets, and the matrix that it stands for.
struct LoraTarget {
  TensorRole role;            ///< of the matrix
  bool LoraTargets::*chosen;  ///< whether an adapter stands beside it

  /// Returns what the matrix is called in a layout: `wq`, `q_proj`, `attn_q`.
  constexpr std::string_view name(TensorNaming naming = TensorNaming::mistral) const noexcept;
};

/// The fields of LoraTargets: one for each row of the table that may carry an adapter.
inline constexpr LoraTarget lora_targets[] = {
    {TensorRole::wq, &LoraTargets::wq}, {TensorRole::wk, &LoraTargets::wk},         {TensorRole::wv, &LoraTargets::wv},
    {TensorRole::wo, &LoraTargets::wo}, {TensorRole::w1, &LoraTargets::w1},         {TensorRole::w2, &LoraTargets::w2},
    {TensorRole::w3, &LoraTargets::w3}, {TensorRole::output, &LoraTargets::output},
};

/// The number of rows of the table.
inline constexpr std::size_t tensor_row_count = std::size(tensor_table);

/// Returns the row of a role.
constexpr const TensorRow& row_of(TensorRole role) noexcept { return tensor_table[static_cast<std::size_t>(role)]; }

/// Returns the name of a tensor without its ending: the matrix's, `attention.wq` of `attention.wq.weight`.
constexpr std::string_view module_of(std::string_view name) noexcept {
  constexpr std::string_view ending = ".weight";
  return name.ends_with(ending) ? name.substr(0, name.size() - ending.size()) : name;
}

/// Returns the last part of a matrix's name, `wq` of `layers.0.attention.wq`.
constexpr std::string_view last_part(std::string_view module) noexcept { return module.substr(module.rfind('.') + 1); }

namespace detail {

/// The rows of the layers: `begin` ... `end` - 1 of the table.
struct LayerRowsOfTable {
  std::size_t begin = 0, end = tensor_row_count;
};
constexpr LayerRowsOfTable layer_rows() noexcept {
  LayerRowsOfTable rows;
  while (rows.begin < tensor_row_count && !tensor_table[rows.begin].in_layer) ++rows.begin;
  while (rows.end > rows.begin && !tensor_table[rows.end - 1].in_layer) --rows.end;
  return rows;
}

constexpr bool rows_are_in_order() noexcept {
  for (std::size_t i = 0; i < tensor_row_count; ++i) {
    if (tensor_table[i].role != static_cast<TensorRole>(i)) return false;
  }
  return true;
}

constexpr bool layers_are_together() noexcept {
  for (std::size_t i = layer_rows().begin; i < layer_rows().end; ++i) {
    if (!tensor_table[i].in_layer) return false;
  }
  return true;
}

constexpr bool names_differ() noexcept {
  for (const TensorRow& a : tensor_table) {
    for (const TensorRow& b : tensor_table) {
      if (a.role == b.role || a.in_layer != b.in_layer) continue;
      if (a.mistral == b.mistral || a.hugging_face == b.hugging_face || a.gguf == b.gguf) return false;
    }
  }
  return true;
}

/// Whether a role is a field of LoraTargets, and that once.
constexpr bool is_lora_target(TensorRole role) noexcept {
  std::size_t count = 0;
  for (const LoraTarget& target : lora_targets) count += target.role == role ? 1 : 0;
  return count == 1;
}

constexpr bool lora_targets_are_all() noexcept {
  for (const TensorRow& row : tensor_table) {
    if (is_lora_target(row.role) != row.adapter) return false;
  }
  return true;
}

}  // namespace detail

static_assert(detail::rows_are_in_order() && tensor_table[tensor_row_count - 1].role == TensorRole::output,
              "core/tensors.hpp: the table of tensors has one row for each TensorRole, in the same order");
static_assert(detail::layers_are_together(), "core/tensors.hpp: the rows of the layers stand together in the table");
static_assert(detail::names_differ(), "core/tensors.hpp: two rows of the table have one name");
static_assert(detail::lora_targets_are_all() && sizeof(LoraTargets) == std::size(lora_targets) * sizeof(bool),
              "core/tensors.hpp: LoraTargets and lora_targets have one field for each row that may carry an adapter");

constexpr std::string_view LoraTarget::name(TensorNaming naming) const noexcept {
  return last_part(module_of(row_of(role).name(naming)));
}

constexpr bool LoraTargets::holds(std::string_view name) const noexcept {
  for (const LoraTarget& target : lora_targets) {
    if (last_part(name) == target.name()) return this->*target.chosen;
  }
  return false;
}

constexpr bool LoraTargets::any() const noexcept {
  for (const LoraTarget& target : lora_targets) {
    if (this->*target.chosen) return true;
  }
  return false;
}

/// A role and the layer it stands in, for a function that is called for each tensor with a type of its own.
template <TensorRole R>
struct TensorAt {
  static constexpr TensorRole role = R;               ///< what it is
  static constexpr const TensorRow& row = row_of(R);  ///< its row of the table
  static constexpr TensorKind kind = row_of(R).kind;  ///< how it is held
  std::size_t layer = 0;                              ///< 0 too where it stands in no layer

  /// Returns its name in Mistral's layout, `layers.0.attention.wq.weight`.
  std::string name() const {
    return (row.in_layer ? "layers." + std::to_string(layer) + "." : std::string()).append(row.mistral);
  }
  /// Returns its name without the ending, `layers.0.attention.wq`.
  std::string module() const { return std::string(module_of(name())); }
};

/// Returns the size that a config gives a number of rows or columns.
///   config  a ModelConfig, or whatever has its sizes by the same names
template <class Config>
constexpr std::uint64_t extent_of(TensorExtent extent, const Config& config) noexcept {
  const auto size = [](auto x) { return static_cast<std::uint64_t>(x); };
  switch (extent) {
    case TensorExtent::one:
      return 1;
    case TensorExtent::dim:
      return size(config.dim);
    case TensorExtent::hidden_dim:
      return size(config.hidden_dim);
    case TensorExtent::query_dim:
      return size(config.n_heads) * size(config.head_dim);
    case TensorExtent::kv_dim:
      return size(config.n_kv_heads) * size(config.head_dim);
    case TensorExtent::vocab_size:
      return size(config.vocab_size);
  }
  return 0;
}

/// Returns the number of heads whose rows RoPE turns in pairs, 0 where it doesn't.
template <class Config>
constexpr std::size_t turned_heads(const TensorRow& row, const Config& config) noexcept {
  if (row.turned == TurnedHeads::none) return 0;
  return static_cast<std::size_t>(row.turned == TurnedHeads::queries ? config.n_heads : config.n_kv_heads);
}

/// Returns the sum of of(row) over all tensors of a model.
template <class Config, class Function>
constexpr std::uint64_t sum_over_tensors(const Config& config, Function of) {
  std::uint64_t sum = 0;
  for (const TensorRow& row : tensor_table) {
    sum += of(row) * (row.in_layer ? static_cast<std::uint64_t>(config.n_layers) : 1);
  }
  return sum;
}

/// Returns the names of all tensors of a model in Mistral's layout, in the order of a forward.
inline std::vector<std::string> tensor_names(std::size_t layers) {
  constexpr detail::LayerRowsOfTable in_layers = detail::layer_rows();
  std::vector<std::string> names;
  const auto add = [&](const std::string& prefix, std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) names.push_back(prefix + std::string(tensor_table[i].mistral));
  };
  add("", 0, in_layers.begin);
  for (std::size_t i = 0; i < layers; ++i) add("layers." + std::to_string(i) + ".", in_layers.begin, in_layers.end);
  add("", in_layers.end, tensor_row_count);
  return names;
}

/// Returns what stands before the number of a layer in a layout's names: `layers.`, `model.layers.`, `blk.`.
constexpr std::string_view layer_prefix(TensorNaming naming) noexcept {
  if (naming == TensorNaming::gguf) return "blk.";
  return naming == TensorNaming::hugging_face ? "model.layers." : "layers.";
}

/// A tensor's name taken apart.
struct TensorName {
  const TensorRow* row = nullptr;  ///< null where no tensor has that name
  std::string_view layer = {};     ///< what stands where the layer's number does; empty where it is in no layer
};

/// Finds the tensor of a name in a layout.
constexpr TensorName find_tensor(TensorNaming naming, std::string_view name) noexcept {
  const std::string_view prefix = layer_prefix(naming);
  const bool in_layer = name.starts_with(prefix);
  std::string_view layer;
  if (in_layer) {
    name.remove_prefix(prefix.size());
    const std::size_t dot = name.find('.');
    if (dot == std::string_view::npos) return {};
    layer = name.substr(0, dot);
    name.remove_prefix(dot + 1);
  }
  for (const TensorRow& row : tensor_table) {
    if (row.in_layer == in_layer && row.name(naming) == name) return {&row, layer};
  }
  return {};
}

}}  // namespace mistral
