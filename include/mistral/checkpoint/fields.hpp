// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/io/gguf/metadata.hpp>
#include <mistral/io/json/json.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The only value of a field that a model of this library can have.
enum class OnlyValue : std::uint8_t {
  none,      // null, or no such field
  false_,    // or none
  true_,     // or none
  zero,      // or none
  one,       // or none
  one_or_0,  // or none: 0 says "not set"
  empty,     // no element, or none
};

/// A field that would change what a model computes.
struct RefusedField {
  const char* name;
  OnlyValue only;
};

/// The other fields that Hugging Face's config.json may have for a model of its types 'mistral' and 'llama'.
/// docs/fields.md has the whole list, with those that are read and those without effect.
inline constexpr RefusedField hugging_face_refused[] = {
    {"quantization_config", OnlyValue::none},
    {"quantization", OnlyValue::none},  // MLX
    {"compression_config", OnlyValue::none},
    {"attention_bias", OnlyValue::false_},
    {"mlp_bias", OnlyValue::false_},
    {"is_encoder_decoder", OnlyValue::false_},
    {"add_cross_attention", OnlyValue::false_},
    {"use_bidirectional_attention", OnlyValue::false_},
    {"is_causal", OnlyValue::true_},
    {"partial_rotary_factor", OnlyValue::one},
    {"pruned_heads", OnlyValue::empty},
    {"num_local_experts", OnlyValue::zero},
};

/// Of Mistral's params.json.
inline constexpr RefusedField mistral_refused[] = {
    {"moe", OnlyValue::none},
    {"yarn", OnlyValue::none},
    {"rope_scaling", OnlyValue::none},
    {"llama_4_scaling", OnlyValue::none},
    {"quantization", OnlyValue::none},
    {"lora", OnlyValue::none},
    {"vision_encoder", OnlyValue::none},
    {"multimodal", OnlyValue::none},
    {"audio", OnlyValue::none},
    {"q_lora_rank", OnlyValue::none},
    {"kv_lora_rank", OnlyValue::none},
    {"use_biases", OnlyValue::false_},
    {"use_scaled_rope", OnlyValue::false_},
    {"causal", OnlyValue::true_},
};

/// Of GGUF's metadata, behind the architecture's name and a dot.
inline constexpr RefusedField gguf_refused[] = {
    {"rope.scaling.factor", OnlyValue::one_or_0},
    {"rope.scale_linear", OnlyValue::one_or_0},
    {"rope.scaling.attn_factor", OnlyValue::one_or_0},
    {"rope.dimension_sections", OnlyValue::none},
    {"expert_count", OnlyValue::zero},
    {"nextn_predict_layers", OnlyValue::zero},
    {"embedding_length_per_layer_input", OnlyValue::zero},
    {"use_parallel_residual", OnlyValue::false_},
    {"logit_scale", OnlyValue::one_or_0},
    {"residual_scale", OnlyValue::one_or_0},
    {"embedding_scale", OnlyValue::one_or_0},
    {"attn_logit_softcapping", OnlyValue::zero},
    {"final_logit_softcapping", OnlyValue::zero},
    {"attention.causal", OnlyValue::true_},
    {"attention.max_alibi_bias", OnlyValue::zero},
    {"attention.clamp_kqv", OnlyValue::zero},
    {"attention.temperature_scale", OnlyValue::none},
    {"attention.sliding_window_pattern", OnlyValue::none},
    {"attention.shared_kv_layers", OnlyValue::zero},
};

inline std::string_view expected_of(OnlyValue only) noexcept {
  switch (only) {
    case OnlyValue::none:
      return "null, for it is not supported";
    case OnlyValue::false_:
      return "false, for it is not supported";
    case OnlyValue::true_:
      return "true, for it is not supported";
    case OnlyValue::zero:
      return "0, for it is not supported";
    case OnlyValue::one:
    case OnlyValue::one_or_0:
      return "1, for it is not supported";
    case OnlyValue::empty:
      break;
  }
  return "nothing in it, for it is not supported";
}

inline bool is_only(OnlyValue only, double number) noexcept {
  return (only != OnlyValue::one && number == 0.0) || (only != OnlyValue::zero && number == 1.0);
}

/// Throws Error where a field of a JSON file has another value than the only one.
inline void refuse(const JsonObject& json, const RefusedField& field) {
  if (!json.has(field.name)) return;
  bool right = false;
  switch (field.only) {
    case OnlyValue::none:
      break;
    case OnlyValue::false_:
      right = !json.boolean(field.name);
      break;
    case OnlyValue::true_:
      right = json.boolean(field.name);
      break;
    case OnlyValue::empty:
      right = json.is_empty(field.name);
      break;
    default:
      right = is_only(field.only, json.number(field.name));
  }
  if (!right) throw json.unexpected(field.name, expected_of(field.only));
}

/// Throws Error where a key of GGUF's metadata, whose name is `key`, has another value than the field's only one.
inline void refuse(const GgufMetadata& metadata, const RefusedField& field, const std::string& key) {
  if (!metadata.has(key)) return;
  bool right = false;
  if (field.only == OnlyValue::false_ || field.only == OnlyValue::true_) {
    right = metadata.boolean(key) == (field.only == OnlyValue::true_);
  } else if (field.only != OnlyValue::none) {
    right = is_only(field.only, metadata.number(key));
  }
  if (right) return;
  throw metadata.unexpected(
      key, field.only == OnlyValue::none ? "nothing, for it is not supported" : expected_of(field.only));
}

/// Throws Error where Hugging Face's description of RoPE's scaling, `rope_scaling` or `rope_parameters`, changes any
/// angle. A factor of 1 does not, in any of the kinds that stretch by it.
///   windowed  the model has a window: it goes on past its context, where the kind 'dynamic' changes angles even so
inline void refuse_scaled_rope(const JsonObject& rope, bool windowed) {
  constexpr std::string_view plain = "'default', or a factor of 1, for scaled RoPE is not supported";
  std::string type = "default";
  for (const char* const name : {"type", "rope_type"}) {
    if (rope.has(name)) type = rope.string(name);
  }
  const char* const named = rope.has("rope_type") || !rope.has("type") ? "rope_type" : "type";
  if (rope.has("partial_rotary_factor") && rope.number("partial_rotary_factor") != 1.0) {
    throw rope.unexpected("partial_rotary_factor", "1");
  }
  if (type == "default" || type == "none") {
    if (rope.has("type") || rope.has("rope_type") || !rope.has("factor")) return;
    if (rope.number("factor") != 1.0) throw rope.unexpected("factor", "1, for scaled RoPE is not supported");
    return;
  }
  const bool stretches = type == "linear" || type == "yarn" || type == "llama3" || (type == "dynamic" && !windowed);
  if (!stretches) throw rope.unexpected(named, plain);
  if (!rope.has("factor") || rope.number("factor") != 1.0) throw rope.unexpected(named, plain);
  if (rope.has("attention_factor") && rope.number("attention_factor") != 1.0) {
    throw rope.unexpected("attention_factor", "1, for scaled RoPE is not supported");
  }
}

}}}  // namespace mistral::detail
