// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/checkpoint/fields.hpp>
#include <mistral/checkpoint/layout.hpp>
#include <mistral/checkpoint/tensor_files.hpp>
#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/os/mapped_file.hpp>
#include <mistral/io/packed/packed_file.hpp>
#include <mistral/io/safetensors/safetensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The configuration of a checkpoint, checked: all sizes are positive, head_dim is even, n_heads is a multiple of
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

  /// The shape of a weight, by Mistral's name (`layers.0.attention.wq.weight`); empty for a name that there isn't.
  std::vector<std::uint64_t> shape_of(std::string_view weight) const {
    const TensorRow* const row = find_tensor(TensorNaming::mistral, weight).row;
    return row != nullptr ? shape_of(*row) : std::vector<std::uint64_t>{};
  }

  /// Returns the shape of a row of the table of tensors: [rows, cols], or [size] of a norm.
  std::vector<std::uint64_t> shape_of(const TensorRow& row) const {
    if (row.kind == TensorKind::norm) return {extent_of(row.cols, *this)};
    return {extent_of(row.rows, *this), extent_of(row.cols, *this)};
  }

  /// Reads the configuration of a folder, or of a GGUF or a packed file.
  static CheckpointConfig read(const std::string& path) {
    const CheckpointLayout layout = detect_layout(path);
    if (layout == CheckpointLayout::gguf) return from_gguf(Gguf::open(path));
    if (layout == CheckpointLayout::packed) return from_packed(PackedFile::open(path));
    const std::string file = path_in(path, files_of(layout).config);
    return parse(MappedFile::open(file, where, JsonDocument::max_file_bytes).bytes(), layout, file);
  }

  /// Reads the metadata of a GGUF file and holds the names and shapes of its tensors against them; whether all tensors
  /// are there shows when they are asked for. The architecture is llama, mistral or mistral3: one model, as long as
  /// nothing is asked for that is refused.
  static CheckpointConfig from_gguf(const Gguf& file) {
    const GgufMetadata& metadata = file.metadata();
    refuse_other_kinds(metadata);
    const std::string_view architecture = metadata.string("general.architecture");
    if (architecture != "llama" && architecture != "mistral" && architecture != "mistral3") {
      throw metadata.unexpected("general.architecture", "'llama', 'mistral' or 'mistral3'");
    }
    const auto key = [&](std::string_view name) { return std::string(architecture).append(".").append(name); };
    refuse_unsupported(metadata, key);

    CheckpointConfig config;
    config.layout = CheckpointLayout::gguf;
    config.dim = size(metadata, key("embedding_length"));
    config.n_layers = size(metadata, key("block_count"));
    config.hidden_dim = size(metadata, key("feed_forward_length"));
    config.n_heads = size(metadata, key("attention.head_count"));
    const std::string kv_heads = key("attention.head_count_kv");
    config.n_kv_heads = metadata.has(kv_heads) ? size(metadata, kv_heads) : config.n_heads;
    if (config.n_heads % config.n_kv_heads != 0) {
      throw metadata.unexpected(kv_heads, "a divisor of attention.head_count " + std::to_string(config.n_heads));
    }
    const std::string width = key("attention.key_length");
    if (metadata.has(width)) {
      config.head_dim = size(metadata, width);
      if (config.head_dim % 2 != 0) throw metadata.unexpected(width, "an even number");
    } else if (config.dim % (2 * config.n_heads) == 0) {
      config.head_dim = config.dim / config.n_heads;
    } else {
      throw metadata.unexpected(key("embedding_length"),
                                "an even multiple of attention.head_count " + std::to_string(config.n_heads));
    }
    for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
      if (metadata.has(key(name)) && size(metadata, key(name)) != config.head_dim) {
        throw metadata.unexpected(key(name), "the width of a head, " + std::to_string(config.head_dim));
      }
    }
    const std::string scale = key("attention.scale");
    if (metadata.has(scale) && metadata.number(scale) != 0.0) {
      const double usual = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
      if (std::abs(metadata.number(scale) / usual - 1.0) > 1e-6) {
        throw metadata.unexpected(scale, "1 / sqrt(the width of a head), for another is not supported");
      }
    }
    const std::string window = key("attention.sliding_window");
    if (metadata.has(window)) config.window = metadata.uniform_integer(window, 0, max_size);
    if (metadata.has(key("context_length"))) config.context_len = size(metadata, key("context_length"));
    config.rope_theta = metadata.has(key("rope.freq_base")) ? positive(metadata, key("rope.freq_base")) : 10000.0;
    config.norm_eps = positive(metadata, key("attention.layer_norm_rms_epsilon"));
    config.tied_embeddings = file.find(row_of(TensorRole::output).gguf) == nullptr;
    config.vocab_size = gguf_vocab_size(file, key("vocab_size"));
    for (const GgufTensor& tensor : file.tensors()) config.check_gguf_tensor(tensor, metadata.file());
    return config;
  }

  /// Reads the config of a packed file, whose fields are ModelConfig's.
  static CheckpointConfig from_packed(const PackedFile& file) {
    const JsonObject& json = file.config();
    CheckpointConfig config;
    config.layout = CheckpointLayout::packed;
    config.read_sizes(json);
    config.window = json.integer("window_size", 0, max_size);
    config.context_len = size(json, "context_len");
    config.vocab_size = size(json, "vocab_size");
    config.rope_theta = positive(json, "rope_theta");
    config.norm_eps = positive(json, "norm_eps");
    check_heads(json, config, "head_dim", "n_heads", "n_kv_heads");
    return config;
  }

  /// Reads a configuration that is in memory; errors call it `file`.
  static CheckpointConfig parse(std::span<const std::byte> bytes, CheckpointLayout layout, std::string_view file) {
    const JsonObject json = JsonObject::parse(bytes, where, file);
    return layout == CheckpointLayout::hugging_face ? from_hugging_face(json) : from_mistral(json);
  }

 private:
  /// The sizes that Mistral's params.json and packed files name alike.
  void read_sizes(const JsonObject& json) {
    dim = size(json, "dim");
    n_layers = size(json, "n_layers");
    head_dim = size(json, "head_dim");
    hidden_dim = size(json, "hidden_dim");
    n_heads = size(json, "n_heads");
    n_kv_heads = size(json, "n_kv_heads");
  }

  static constexpr std::string_view where = "config";
  static constexpr std::int64_t max_size = INT32_MAX;

  static CheckpointConfig from_hugging_face(const JsonObject& json) {
    const std::string& type = json.string("model_type");
    if (type != "mistral" && type != "llama") throw json.unexpected("model_type", "'mistral' or 'llama'");
    if (json.has("hidden_act") && json.string("hidden_act") != "silu" && json.string("hidden_act") != "swish") {
      throw json.unexpected("hidden_act", "'silu'");
    }
    for (const detail::RefusedField& field : detail::hugging_face_refused) detail::refuse(json, field);
    if (json.has("architectures")) check_architectures(json);

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
    config.rope_theta = hugging_face_theta(json, config.window > 0);
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
    for (const detail::RefusedField& field : detail::mistral_refused) detail::refuse(json, field);

    CheckpointConfig config;
    config.layout = CheckpointLayout::mistral;
    config.read_sizes(json);
    config.vocab_size = size(json, "vocab_size");
    config.window = window_of(json);
    for (const char* name : {"max_seq_len", "max_position_embeddings"}) {
      if (!config.context_len && json.has(name)) config.context_len = size(json, name);
    }
    // v0.1's params.json holds no theta and means 1e4. Without a window too, one reader takes it for 1e4 (the
    // conversion script of transformers), another for 1e6 (mistral-inference): a guess would be wrong for somebody.
    config.rope_theta = !json.has("rope_theta") && config.window > 0 ? 10000.0 : positive(json, "rope_theta");
    config.norm_eps = positive(json, "norm_eps");
    config.tied_embeddings = json.has("tied_embeddings") && json.boolean("tied_embeddings");
    check_heads(json, config, "head_dim", "n_heads", "n_kv_heads");
    return config;
  }

  template <class Key>
  static void refuse_unsupported(const GgufMetadata& metadata, const Key& key) {
    const std::string scaling = key("rope.scaling.type");
    if (metadata.has(scaling)) {
      // a factor of 1, which is asked for below, changes no angle of these
      const std::string_view type = metadata.string(scaling);
      const bool stretches = (type == "linear" || type == "yarn") &&
                             (metadata.has(key("rope.scaling.factor")) || metadata.has(key("rope.scale_linear")));
      if (type != "none" && !stretches) {
        throw metadata.unexpected(scaling, "'none', for scaled RoPE is not supported");
      }
    }
    for (const detail::RefusedField& field : detail::gguf_refused) detail::refuse(metadata, field, key(field.name));
    const std::string activation = key("hidden_activation");
    if (metadata.has(activation) && metadata.string(activation) != "silu") {
      throw metadata.unexpected(activation, "'silu'");
    }
  }

  /// A GGUF file that holds something else than a whole model.
  static void refuse_other_kinds(const GgufMetadata& metadata) {
    constexpr std::string_view parts = "split.count";
    if (metadata.has(parts) && metadata.integer(parts, 0, max_size) > 1) {
      const std::int64_t count = metadata.integer(parts, 0, max_size);
      const std::int64_t part = metadata.has("split.no") ? metadata.integer("split.no", 0, max_size) + 1 : 0;
      throw Error("gguf",
                  metadata.file() + ": join the parts first (llama-gguf-split --merge, with the first of the " +
                      std::to_string(count) + " files)",
                  "a whole model", "part " + std::to_string(part) + " of " + std::to_string(count));
    }
    constexpr std::string_view kind = "general.type";
    if (metadata.has(kind) && metadata.string(kind) != "model") throw metadata.unexpected(kind, "'model'");
  }

  /// The rows of the embedding, which the metadata must agree with where they say something.
  static std::int64_t gguf_vocab_size(const Gguf& file, const std::string& key) {
    const GgufMetadata& metadata = file.metadata();
    const GgufTensor& embedding = file.get(row_of(TensorRole::tok_embeddings).gguf);
    if (embedding.shape.size() != 2 || embedding.shape[0] > static_cast<std::uint64_t>(max_size)) {
      throw Error("gguf", metadata.file() + ": tensor '" + embedding.name + "'", "[vocabulary, embedding_length]",
                  shape_text(embedding.shape));
    }
    const auto vocab_size = static_cast<std::int64_t>(embedding.shape[0]);
    const std::string expected = "as many as " + embedding.name + " has rows, " + std::to_string(vocab_size);
    if (metadata.has(key) && size(metadata, key) != vocab_size) throw metadata.unexpected(key, expected);
    constexpr std::string_view tokens = "tokenizer.ggml.tokens";
    if (metadata.has(tokens) && metadata.array_size(tokens) != embedding.shape[0]) {
      throw metadata.unexpected(tokens, expected);
    }
    return vocab_size;
  }

  /// Holds a tensor's name and shape against the configuration. A tensor that has no place in it (a bias, an expert,
  /// factors of RoPE) would change what the model computes.
  void check_gguf_tensor(const GgufTensor& tensor, const std::string& file) const {
    const std::string what = file + ": tensor '" + printable(tensor.name) + "'";
    const TensorName found = find_tensor(TensorNaming::gguf, tensor.name);
    if (found.row == nullptr) throw Error("gguf", what + " is not supported");
    if (found.row->in_layer) {
      const std::string_view number = found.layer;
      const bool decimal = !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos &&
                           (number[0] != '0' || number.size() == 1);
      if (!decimal) throw Error("gguf", what + " is not supported");
      std::int64_t layer = 0;
      for (const char c : number.substr(0, 11)) layer = layer * 10 + (c - '0');
      if (layer >= n_layers) throw Error("gguf", what, "a layer of 0 ... " + std::to_string(n_layers - 1), number);
    }
    const std::vector<std::uint64_t> expected = shape_of(*found.row);
    if (tensor.shape != expected) {
      throw Error("gguf", what, shape_text(expected) + " by the metadata", shape_text(tensor.shape));
    }
  }

  /// transformers 5 writes {"rope_parameters": {"rope_theta", "rope_type"}}, older ones "rope_theta", and
  /// "rope_scaling" where RoPE is scaled, or a theta in there too; without: 1e4.
  static double hugging_face_theta(const JsonObject& json, bool windowed) {
    std::optional<double> theta;
    if (json.has("rope_theta")) theta = positive(json, "rope_theta");
    for (const char* const name : {"rope_parameters", "rope_scaling"}) {
      if (!json.has(name) ||
          (json.is_object(name) && json.is_empty(name) && std::string_view(name) == "rope_scaling")) {
        continue;
      }
      const JsonObject rope = json.object(name);
      detail::refuse_scaled_rope(rope, windowed);
      if (!rope.has("rope_theta")) {
        if (!theta && std::string_view(name) == "rope_parameters") (void)positive(rope, "rope_theta");  // is missing
        continue;
      }
      const double inner = positive(rope, "rope_theta");
      if (theta && *theta != inner) {
        throw json.unexpected("rope_theta", "the rope_theta of " + std::string(name));
      }
      theta = inner;
    }
    return theta.value_or(10000.0);
  }

  /// A model with another head than the output's logits, or none, says so by its class alone.
  static void check_architectures(const JsonObject& json) {
    for (const std::string& name : json.strings("architectures")) {
      if (name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel")) return;
    }
    const std::vector<std::string> names = json.strings("architectures");
    if (names.empty()) return;
    throw json.error("field 'architectures': expected a causal language model, '...ForCausalLM', got '" +
                     printable(names[0], 60) + "'");
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
  static std::int64_t size(const GgufMetadata& metadata, const std::string& key) {
    return metadata.uniform_integer(key, 1, max_size);
  }

  static std::int64_t window_of(const JsonObject& json) {
    for (const char* const name : {"sliding_window", "_sliding_window"}) {  // the second in some of params.json
      if (json.has(name)) return json.integer(name, 0, max_size);
    }
    return 0;
  }

  /// Of a JsonObject's fields or of GGUF's metadata.
  template <class Source>
  static double positive(const Source& source, const std::string& name) {
    const double number = source.number(name);
    // it will be a float, and must be neither zero nor infinite there
    if (!(static_cast<float>(number) > 0.0f && number < 1e30)) throw source.unexpected(name, "a positive number");
    return number;
  }
};

}}  // namespace mistral
