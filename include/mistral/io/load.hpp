#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/io/checkpoint_config.hpp>
#include <mistral/io/tensor_files.hpp>
#include <mistral/nn/transformer.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/lanes.hpp>

namespace mistral::inline MISTRAL_ABI {

/// What `load` lets pass.
struct LoadOptions {
  bool allow_different_window = false;  ///< the type's window counts, whatever the checkpoint says of its own
};

namespace detail {

inline std::string number_text(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.7g", x);
  return text;
}

}  // namespace detail

/// Holds what a checkpoint says of itself against a type's config. Throws Error `[checkpoint] file: field: ...` for the
/// first field that differs; context_len alone may be smaller in the type.
inline void check_config(const CheckpointConfig& file, const ModelConfig& type, const std::string& path,
                         const LoadOptions& options = {}) {
  const auto differs = [&](std::string_view field, const std::string& expected, const std::string& found) {
    return Error("checkpoint", path + ": " + std::string(field), expected, found);
  };
  const auto hold = [&](std::string_view field, std::size_t expected, std::int64_t found) {
    if (static_cast<std::int64_t>(expected) != found)
      throw differs(field, std::to_string(expected), std::to_string(found));
  };
  const auto hold_float = [&](std::string_view field, float expected, double found) {
    if (expected != static_cast<float>(found)) {
      throw differs(field, detail::number_text(static_cast<double>(expected)), detail::number_text(found));
    }
  };
  hold("dim", type.dim, file.dim);
  hold("n_layers", type.n_layers, file.n_layers);
  hold("head_dim", type.head_dim, file.head_dim);
  hold("hidden_dim", type.hidden_dim, file.hidden_dim);
  hold("n_heads", type.n_heads, file.n_heads);
  hold("n_kv_heads", type.n_kv_heads, file.n_kv_heads);
  hold("vocab_size", type.vocab_size, file.vocab_size);
  hold_float("rope_theta", type.rope_theta, file.rope_theta);
  hold_float("norm_eps", type.norm_eps, file.norm_eps);
  if (!options.allow_different_window && static_cast<std::int64_t>(type.window_size) != file.window) {
    throw differs("window_size", std::to_string(type.window_size),
                  std::to_string(file.window) + " (allow_different_window loads it all the same)");
  }
  if (file.context_len && static_cast<std::int64_t>(type.context_len) > *file.context_len) {
    throw differs("context_len", "at least " + std::to_string(type.context_len), std::to_string(*file.context_len));
  }
}

namespace detail {

/// Hugging Face's name of a weight, from Mistral's: `layers.0.attention.wq.weight` is
/// `model.layers.0.self_attn.q_proj.weight`.
inline std::string hugging_face_name(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> names[] = {
      {"attention_norm.weight", "input_layernorm.weight"}, {"attention.wq.weight", "self_attn.q_proj.weight"},
      {"attention.wk.weight", "self_attn.k_proj.weight"},  {"attention.wv.weight", "self_attn.v_proj.weight"},
      {"attention.wo.weight", "self_attn.o_proj.weight"},  {"ffn_norm.weight", "post_attention_layernorm.weight"},
      {"feed_forward.w1.weight", "mlp.gate_proj.weight"},  {"feed_forward.w2.weight", "mlp.down_proj.weight"},
      {"feed_forward.w3.weight", "mlp.up_proj.weight"},
  };
  if (name == "tok_embeddings.weight") return "model.embed_tokens.weight";
  if (name == "norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  for (const auto& [ours, theirs] : names) {
    if (name.ends_with(ours))
      return std::string("model.").append(name.substr(0, name.size() - ours.size())).append(theirs);
  }
  return std::string(name);
}

/// Row of a tensor that holds output `row` of wq or wk. Hugging Face holds a head's rows as the first of all pairs,
/// then the second of all (rotate-half RoPE); ours, as Mistral's own, lie pair by pair.
constexpr std::size_t hugging_face_row(std::size_t row, std::size_t head_dim) noexcept {
  const std::size_t in_head = row % head_dim;
  return row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
}

/// Widens elements at any address to floats.
template <class T>
void widen(const std::byte* from, std::span<float> out) noexcept {
  for (std::size_t i = 0; i < out.size(); i += simd::lanes) {
    T elements[simd::lanes] = {};
    const std::size_t count = std::min(simd::lanes, out.size() - i);
    std::memcpy(elements, from + i * sizeof(T), count * sizeof(T));
    simd::Lanes::load(elements).store_some(out.data() + i, count);
  }
}

/// A visitor of a model's weights over a checkpoint's tensors: holds each against its shape, or packs it.
class CheckpointReader {
 public:
  enum class Step { check, pack };

  CheckpointReader(const CheckpointConfig& config, const TensorFiles& files) : config_(config), files_(files) {}

  CheckpointReader& in(Step step) noexcept {
    step_ = step;
    return *this;
  }

  template <WeightFormat F>
  void operator()(const std::string& name, Panels<F>& matrix, std::size_t heads) const {
    const SafetensorsTensor& tensor = find(name);
    if (step_ == Step::check) return check(tensor, {matrix.rows(), matrix.cols()});
    const bool permuted = heads != 0 && config_.layout == CheckpointLayout::hugging_face;
    const std::size_t head_dim = permuted ? matrix.rows() / heads : 0;
    parallel::for_ranges(matrix.view().panel_count(), 1, [&](std::size_t begin, std::size_t end) {
      std::vector<float> values(panel_rows * matrix.cols());
      for (std::size_t panel = begin; panel < end; ++panel) {
        const float* rows[panel_rows];
        const std::size_t count = std::min(panel_rows, matrix.rows() - panel * panel_rows);
        for (std::size_t r = 0; r < count; ++r) {
          const std::size_t row = panel * panel_rows + r;
          const std::span<float> out(values.data() + r * matrix.cols(), matrix.cols());
          read_row(tensor, permuted ? hugging_face_row(row, head_dim) : row, out);
          rows[r] = out.data();
        }
        matrix.pack(panel, std::span<const float* const>(rows, count));
      }
    });
    files_.release(tensor);
  }

  void operator()(const std::string& name, Buffer<float>& norm) const {
    const SafetensorsTensor& tensor = find(name);
    if (step_ == Step::check) return check(tensor, {norm.size()});
    read_row(tensor, 0, norm.span());
  }

 private:
  const SafetensorsTensor& find(const std::string& name) const {
    const bool tied = name == "output.weight" && config_.tied_embeddings;
    const std::string ours = tied ? "tok_embeddings.weight" : name;
    return files_.get(config_.layout == CheckpointLayout::hugging_face ? hugging_face_name(ours) : ours);
  }

  void check(const SafetensorsTensor& tensor, std::vector<std::uint64_t> shape) const {
    const std::string what = files_.file_of(tensor) + ": tensor '" + tensor.name + "'";
    if (tensor.shape != shape) throw Error("safetensors", what, shape_text(shape), shape_text(tensor.shape));
    if (tensor.dtype != DType::f32 && tensor.dtype != DType::bf16 && tensor.dtype != DType::f16) {
      throw Error("safetensors", what, "F32, BF16 or F16", info(tensor.dtype).name);
    }
  }

  static void read_row(const SafetensorsTensor& tensor, std::size_t row, std::span<float> out) noexcept {
    const std::byte* from = tensor.data.data() + row * out.size() * (info(tensor.dtype).bits / 8);
    if (tensor.dtype == DType::f32) return widen<float>(from, out);
    if (tensor.dtype == DType::bf16) return widen<bf16>(from, out);
    widen<f16>(from, out);
  }

  const CheckpointConfig& config_;
  const TensorFiles& files_;
  Step step_ = Step::check;
};

}  // namespace detail

/// Loads a checkpoint folder in Hugging Face's layout (config.json, model.safetensors or its shards) or Mistral's
/// (params.json, consolidated.safetensors) into a model; F32, BF16 and F16 tensors go into any format.
/// Throws Error where the folder doesn't hold what the type's config asks for, field by field and tensor by tensor,
/// before any weight is read.
template <class Model>
Model load(const std::string& path, const LoadOptions& options = {}) {
  const CheckpointConfig config = CheckpointConfig::read(path);
  const LayoutFiles names = files_of(config.layout);
  check_config(config, Model::config, path_in(path, names.config), options);
  const TensorFiles files = TensorFiles::open(path, names.tensors);
  Model model;
  detail::CheckpointReader reader(config, files);
  visit_weights(model, reader.in(detail::CheckpointReader::Step::check));
  visit_weights(model, reader.in(detail::CheckpointReader::Step::pack));
  return model;
}

}  // namespace mistral::inline MISTRAL_ABI
