// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/checkpoint/layout.hpp>
#include <mistral/checkpoint/tensor_files.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/element.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/progress.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/folders.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How save_checkpoint writes a model.
struct SaveCheckpointOptions {
  /// Of the matrices: f32, which holds whatever any format decodes to, or bf16, to which they are rounded to nearest (a
  /// model in BF16 loses nothing by it). Norms are always f32.
  DType type = DType::f32;
  TokenId bos_id = 1;          ///< for readers that ask config.json and not the tokenizer
  TokenId eos_id = 2;          ///< the same
  ProgressHook progress = {};  ///< counts the bytes of the tensors
  /// All ids that end a text, `eos_id` among them; empty: that one alone.
  std::vector<TokenId> eos_ids = {};
};

namespace detail {

/// config.json as transformers writes it for a MistralForCausalLM.
inline std::string hugging_face_config(const ModelConfig& c, const SaveCheckpointOptions& options) {
  JsonWriter json(JsonStyle::lines);
  json.begin_object();
  json.name("architectures").values(std::array{"MistralForCausalLM"});
  json.field("model_type", "mistral");
  json.field("hidden_act", "silu");
  json.field("hidden_size", c.dim);
  json.field("num_hidden_layers", c.n_layers);
  json.field("head_dim", c.head_dim);
  json.field("intermediate_size", c.hidden_dim);
  json.field("num_attention_heads", c.n_heads);
  json.field("num_key_value_heads", c.n_kv_heads);
  if (c.window_size == 0) {
    json.field("sliding_window", nullptr);
  } else {
    json.field("sliding_window", c.window_size);
  }
  json.field("max_position_embeddings", c.context_len);
  json.field("vocab_size", c.vocab_size);
  json.field("rope_theta", c.rope_theta);
  json.field("rms_norm_eps", c.norm_eps);
  json.name("attention_dropout").literal("0.0");  // a float to those that tell 0 from 0.0
  json.field("initializer_range", 0.02f);
  json.field("tie_word_embeddings", false);
  json.field("bos_token_id", options.bos_id);
  if (options.eos_ids.size() > 1) {
    json.name("eos_token_id").values(options.eos_ids);
  } else {
    json.field("eos_token_id", options.eos_id);
  }
  json.field("torch_dtype", options.type == DType::bf16 ? "bfloat16" : "float32");
  return std::move(json.end_object()).text();
}

/// A visitor of a model's weights that first declares the tensors of a file, then writes them.
class CheckpointWriter {
 public:
  CheckpointWriter(DType type, ProgressHook progress) : type_(type), progress_(progress) {}

  /// Returns the tensors, once all weights were visited; from here on a visit writes them.
  std::span<const SafetensorsTensor> declared() const noexcept { return tensors_; }
  CheckpointWriter& to(SafetensorsWriter& file) noexcept {
    file_ = &file;
    return *this;
  }

  template <WeightFormat F>
  void operator()(const std::string& name, const Panels<F>& matrix, std::size_t heads) {
    if (file_ == nullptr) return declare(name, type_, {matrix.rows(), matrix.cols()});
    // whole heads at a time, since their rows change places
    const std::size_t cols = matrix.cols();
    const std::size_t unit = heads != 0 ? matrix.rows() / heads : panel_rows;
    const std::size_t piece = unit * (std::max<std::size_t>)(1, piece_elements / (unit * cols));
    std::vector<float> values((std::min)(piece, matrix.rows()) * cols);
    for (std::size_t begin = 0; begin < matrix.rows(); begin += piece) {
      const std::size_t count = (std::min)(piece, matrix.rows() - begin);
      parallel::for_ranges(count, panel_rows, [&](std::size_t first, std::size_t last) {
        for (std::size_t r = first; r < last; ++r) {
          const std::size_t to = heads != 0 ? hugging_face_row(begin + r, unit) - begin : r;
          matrix.unpack_row(begin + r, std::span<float>(values).subspan(to * cols, cols));
        }
      });
      put(name, std::span<const float>(values).first(count * cols), type_);
    }
  }

  void operator()(const std::string& name, const Buffer<float>& norm) {
    if (file_ == nullptr) return declare(name, DType::f32, {norm.size()});
    put(name, norm.span(), DType::f32);
  }

 private:
  static constexpr std::size_t piece_elements = std::size_t{1} << 22;

  void declare(const std::string& name, DType type, std::vector<std::uint64_t> shape) {
    total_ += tensor_bytes(type, shape).value_or(0);
    tensors_.push_back({weight_name(CheckpointLayout::hugging_face, name), type, std::move(shape), {}});
  }

  void put(const std::string& name, std::span<const float> values, DType type) {
    if (type == DType::bf16) {
      std::vector<bf16> rounded(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        rounded[i] = from_float<bf16>(values[i]);
        if (std::isfinite(values[i]) && !std::isfinite(to_float(rounded[i]))) {
          throw Error("checkpoint", name, "weights that BF16 holds", number_text(values[i]));
        }
      }
      write(std::as_bytes(std::span<const bf16>(rounded)));
    } else {
      write(std::as_bytes(values));
    }
  }

  void write(std::span<const std::byte> bytes) {
    file_->write(bytes);
    progress_(done_ += bytes.size(), total_);
  }

  DType type_;
  ProgressHook progress_;
  std::vector<SafetensorsTensor> tensors_;
  SafetensorsWriter* file_ = nullptr;  // none yet: the visit declares
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace detail

/// Writes a model as a folder of Hugging Face's layout (config.json, model.safetensors; a tokenizer is put beside them
/// by whoever has one), whatever format its weights are held in: `load` gives the same bits back, where `options.type`
/// holds them. The folder is made if need be, and taken away again where it can't be filled; each of the two files
/// appears whole or not at all, the weights first, once both are on the disk.
/// Throws Error for a type other than f32 and bf16, for a model with adapters beside its weights (merge_adapter), which
/// the folder couldn't hold, and where the folder can't be written.
template <class Model>
void save_checkpoint(const Model& model, const std::string& folder, const SaveCheckpointOptions& options = {}) {
  if (options.type != DType::f32 && options.type != DType::bf16) {
    throw Error("checkpoint", "the type of a model to be saved", "F32 or BF16", info(options.type).name);
  }
  if constexpr (requires { model.output.adapters.size(); }) {
    if (!model.output.adapters.empty()) {
      throw Error("checkpoint", "a model to be saved", "no adapters beside its weights (merge_adapter)",
                  std::to_string(model.output.adapters.size()));
    }
  }
  FolderToFill out(folder, "checkpoint");
  const LayoutFiles names = files_of(CheckpointLayout::hugging_face);
  detail::CheckpointWriter weights(options.type, options.progress);
  visit_weights(model, weights);
  SafetensorsWriter file(out.file(names.tensors + ".safetensors"), weights.declared(), {{"format", "pt"}});
  visit_weights(model, weights.to(file));
  AtomicFile config(out.file(names.config), "checkpoint");
  config.write(detail::hugging_face_config(Model::config, options));
  file.finish();
  config.finish();
  file.commit();
  config.commit();
  out.keep();
}

}}  // namespace mistral
