#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/io/json.hpp>
#include <mistral/io/mapped_file.hpp>
#include <mistral/io/printable.hpp>
#include <mistral/io/tensor_files.hpp>

namespace mistral::inline MISTRAL_ABI {

/// The two ways in which a folder holds a model. They differ in the names of files, fields and tensors, and in the
/// order of the rows of wq and wk: Hugging Face's are permuted for rotate-half RoPE, Mistral's are interleaved.
enum class CheckpointLayout : std::uint8_t {
  hugging_face,  // config.json, model.safetensors
  mistral,       // params.json, consolidated.safetensors
};

/// What the files of a layout are called.
struct LayoutFiles {
  std::string config;
  std::string tensors;  // for TensorFiles::open
};

inline LayoutFiles files_of(CheckpointLayout layout) {
  if (layout == CheckpointLayout::hugging_face) return {"config.json", "model"};
  return {"params.json", "consolidated"};
}

/// Which layout a folder has. Where it holds both configurations (Mistral's own releases do), the one that has its
/// tensors too, Hugging Face's first. Throws Error where it holds neither.
inline CheckpointLayout detect_layout(const std::string& folder) {
  const LayoutFiles hugging_face = files_of(CheckpointLayout::hugging_face);
  const LayoutFiles mistral = files_of(CheckpointLayout::mistral);
  const bool has_hugging_face = path_exists(path_in(folder, hugging_face.config));
  const bool has_mistral = path_exists(path_in(folder, mistral.config));
  if (has_hugging_face && has_mistral) {
    return !has_tensor_files(folder, hugging_face.tensors) && has_tensor_files(folder, mistral.tensors)
               ? CheckpointLayout::mistral
               : CheckpointLayout::hugging_face;
  }
  if (has_hugging_face) return CheckpointLayout::hugging_face;
  if (has_mistral) return CheckpointLayout::mistral;
  throw Error("checkpoint", printable(folder, 1000),
              "a folder with config.json and model.safetensors (Hugging Face) or params.json and "
              "consolidated.safetensors (Mistral)",
              path_exists(folder) ? "neither config.json nor params.json in it" : "nothing at that path");
}

/// What a checkpoint says of itself, checked: all sizes are positive, head_dim is even, n_heads is a multiple of
/// n_kv_heads. Whatever this library does not compute (scaled RoPE, biases, experts, quantised weights) is refused.
struct CheckpointConfig {
  CheckpointLayout layout = CheckpointLayout::hugging_face;
  std::int64_t dim = 0;
  std::int64_t n_layers = 0;
  std::int64_t head_dim = 0;
  std::int64_t hidden_dim = 0;
  std::int64_t n_heads = 0;
  std::int64_t n_kv_heads = 0;
  std::int64_t window = 0;                  // 0: full attention
  std::optional<std::int64_t> context_len;  // none: the file does not say
  std::int64_t vocab_size = 0;
  double rope_theta = 0;
  double norm_eps = 0;
  bool tied_embeddings = false;  // the output's weights are the embedding's
  std::string dtype;             // as the file calls it ("bfloat16"), empty where it does not say

  /// Reads the configuration of a folder.
  static CheckpointConfig read(const std::string& folder) {
    const CheckpointLayout layout = detect_layout(folder);
    const std::string path = path_in(folder, files_of(layout).config);
    return parse(MappedFile::open(path, where).bytes(), layout, path);
  }

  /// Reads a configuration that is in memory; errors call it `file`.
  static CheckpointConfig parse(std::span<const std::byte> bytes, CheckpointLayout layout, std::string_view file) {
    const JsonObject json = JsonObject::parse(bytes, where, file);
    return layout == CheckpointLayout::hugging_face ? from_hugging_face(json) : from_mistral(json);
  }

 private:
  static constexpr std::string_view where = "config";
  static constexpr std::int64_t max_size = INT32_MAX;

  static CheckpointConfig from_hugging_face(const JsonObject& json) {
    const std::string& type = json.string("model_type");
    if (type != "mistral" && type != "llama") throw json.unexpected("model_type", "'mistral' or 'llama'");
    if (json.has("hidden_act") && json.string("hidden_act") != "silu") throw json.unexpected("hidden_act", "'silu'");
    for (const char* name : {"rope_scaling", "quantization_config"}) refuse(json, name);
    for (const char* name : {"attention_bias", "mlp_bias"}) refuse_true(json, name);

    CheckpointConfig config;
    config.layout = CheckpointLayout::hugging_face;
    config.dim = size(json, "hidden_size");
    config.n_layers = size(json, "num_hidden_layers");
    config.hidden_dim = size(json, "intermediate_size");
    config.n_heads = size(json, "num_attention_heads");
    config.n_kv_heads = json.has("num_key_value_heads") ? size(json, "num_key_value_heads") : config.n_heads;
    config.vocab_size = size(json, "vocab_size");
    if (json.has("head_dim")) {
      config.head_dim = size(json, "head_dim");
    } else if (config.dim % config.n_heads == 0) {
      config.head_dim = config.dim / config.n_heads;
    } else {
      throw json.unexpected("hidden_size", "a multiple of num_attention_heads " + std::to_string(config.n_heads));
    }
    config.window = window_of(json);
    if (json.has("use_sliding_window") && !json.boolean("use_sliding_window")) config.window = 0;
    check_layer_types(json, config.window);
    if (json.has("max_position_embeddings")) config.context_len = size(json, "max_position_embeddings");
    config.rope_theta = hugging_face_theta(json);
    config.norm_eps = positive(json, "rms_norm_eps");
    config.tied_embeddings = json.has("tie_word_embeddings") && json.boolean("tie_word_embeddings");
    for (const char* name : {"dtype", "torch_dtype"}) {
      if (config.dtype.empty() && json.has(name)) config.dtype = json.string(name);
    }
    check_heads(json, config, "head_dim", "num_attention_heads", "num_key_value_heads");
    return config;
  }

  static CheckpointConfig from_mistral(const JsonObject& json) {
    if (json.has("model_type") && json.string("model_type") != "transformer") {
      throw json.unexpected("model_type", "'transformer'");
    }
    for (const char* name :
         {"moe", "yarn", "rope_scaling", "llama_4_scaling", "quantization", "lora", "vision_encoder"}) {
      refuse(json, name);
    }
    refuse_true(json, "use_biases");

    CheckpointConfig config;
    config.layout = CheckpointLayout::mistral;
    config.dim = size(json, "dim");
    config.n_layers = size(json, "n_layers");
    config.head_dim = size(json, "head_dim");
    config.hidden_dim = size(json, "hidden_dim");
    config.n_heads = size(json, "n_heads");
    config.n_kv_heads = size(json, "n_kv_heads");
    config.vocab_size = size(json, "vocab_size");
    config.window = window_of(json);
    if (json.has("max_seq_len")) config.context_len = size(json, "max_seq_len");
    // v0.1's params.json holds no theta and means 1e4. Without a window too, one reader takes it for 1e4 (the
    // conversion script of transformers), another for 1e6 (mistral-inference): a guess would be wrong for somebody.
    config.rope_theta = !json.has("rope_theta") && config.window > 0 ? 10000.0 : positive(json, "rope_theta");
    config.norm_eps = positive(json, "norm_eps");
    config.tied_embeddings = json.has("tied_embeddings") && json.boolean("tied_embeddings");
    check_heads(json, config, "head_dim", "n_heads", "n_kv_heads");
    return config;
  }

  /// transformers 5 writes {"rope_parameters": {"rope_theta", "rope_type"}}, older ones "rope_theta"; without: 1e4.
  static double hugging_face_theta(const JsonObject& json) {
    if (!json.has("rope_parameters")) return json.has("rope_theta") ? positive(json, "rope_theta") : 10000.0;
    const JsonObject rope = json.object("rope_parameters");
    for (const char* name : {"rope_type", "type"}) {
      if (rope.has(name) && rope.string(name) != "default") throw rope.unexpected(name, "'default'");
    }
    if (rope.has("partial_rotary_factor") && rope.number("partial_rotary_factor") != 1.0) {
      throw rope.unexpected("partial_rotary_factor", "1");
    }
    const double theta = positive(rope, "rope_theta");
    if (json.has("rope_theta") && json.number("rope_theta") != theta) {
      throw json.unexpected("rope_theta", "the rope_theta of rope_parameters");
    }
    return theta;
  }

  static void check_layer_types(const JsonObject& json, std::int64_t window) {
    if (!json.has("layer_types")) return;
    const std::string_view expected = window > 0 ? "sliding_attention" : "full_attention";
    for (const std::string& type : json.strings("layer_types")) {
      if (type != expected) {
        throw json.error("field 'layer_types': expected '" + std::string(expected) + "' in every layer, got '" +
                         printable(type, 60) + "'");
      }
    }
  }

  static void check_heads(const JsonObject& json, const CheckpointConfig& config, const char* head_dim,
                          const char* n_heads, const char* n_kv_heads) {
    if (config.n_heads % config.n_kv_heads != 0) {
      throw json.unexpected(n_kv_heads, "a divisor of " + std::string(n_heads) + " " + std::to_string(config.n_heads));
    }
    if (config.head_dim % 2 == 0) return;  // RoPE turns pairs
    if (json.has(head_dim)) throw json.unexpected(head_dim, "an even number");
    throw json.error("hidden_size / num_attention_heads: expected an even number, got " +
                     std::to_string(config.head_dim));
  }

  static std::int64_t size(const JsonObject& json, const char* name) { return json.integer(name, 1, max_size); }

  static std::int64_t window_of(const JsonObject& json) {
    return json.has("sliding_window") ? json.integer("sliding_window", 0, max_size) : 0;
  }

  static double positive(const JsonObject& json, const char* name) {
    const double number = json.number(name);
    // it will be a float, and must be neither zero nor infinite there
    if (!(static_cast<float>(number) > 0.0f && number < 1e30)) throw json.unexpected(name, "a positive number");
    return number;
  }

  static void refuse(const JsonObject& json, const char* name) {
    if (json.has(name)) throw json.unexpected(name, "null, for it is not supported");
  }

  static void refuse_true(const JsonObject& json, const char* name) {
    if (json.has(name) && json.boolean(name)) throw json.unexpected(name, "false, for it is not supported");
  }
};

}  // namespace mistral::inline MISTRAL_ABI
