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
#include <mistral/io/checkpoint.hpp>
#include <mistral/io/checkpoint_config.hpp>
#include <mistral/io/safetensors.hpp>
#include <mistral/nn/transformer.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/parallel/parallel.hpp>

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

/// Row of a tensor that holds output `row` of wq or wk. Hugging Face holds a head's rows as the first of all pairs,
/// then the second of all (rotate-half RoPE); ours, as Mistral's own and GGUF's, lie pair by pair.
constexpr std::size_t hugging_face_row(std::size_t row, std::size_t head_dim) noexcept {
  const std::size_t in_head = row % head_dim;
  return row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
}

/// A visitor of a model's weights over a checkpoint's tensors: holds each against its shape, or packs it.
class CheckpointReader {
 public:
  enum class Step { check, pack };

  explicit CheckpointReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  CheckpointReader& in(Step step) noexcept {
    step_ = step;
    return *this;
  }

  template <WeightFormat F>
  void operator()(const std::string& name, Panels<F>& matrix, std::size_t heads) const {
    const CheckpointTensor tensor = checkpoint_.get(name);
    if (step_ == Step::check) return check(tensor, {matrix.rows(), matrix.cols()});
    const bool permuted = heads != 0 && checkpoint_.config().layout == CheckpointLayout::hugging_face;
    const std::size_t head_dim = permuted ? matrix.rows() / heads : 0;
    parallel::for_ranges(matrix.view().panel_count(), 1, [&](std::size_t begin, std::size_t end) {
      std::vector<float> values(panel_rows * matrix.cols());
      for (std::size_t panel = begin; panel < end; ++panel) {
        const float* rows[panel_rows];
        const std::size_t count = std::min(panel_rows, matrix.rows() - panel * panel_rows);
        for (std::size_t r = 0; r < count; ++r) {
          const std::size_t row = panel * panel_rows + r;
          const std::span<float> out(values.data() + r * matrix.cols(), matrix.cols());
          tensor.read_row(permuted ? hugging_face_row(row, head_dim) : row, out);
          rows[r] = out.data();
        }
        matrix.pack(panel, std::span<const float* const>(rows, count));
      }
    });
    checkpoint_.release(tensor);
  }

  void operator()(const std::string& name, Buffer<float>& norm) const {
    const CheckpointTensor tensor = checkpoint_.get(name);
    if (step_ == Step::check) return check(tensor, {norm.size()});
    tensor.read_row(0, norm.span());
  }

 private:
  void check(const CheckpointTensor& tensor, std::vector<std::uint64_t> shape) const {
    if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
      throw checkpoint_.error(tensor, shape_text(shape), shape_text(tensor.shape));
    }
    if (!tensor.type) throw checkpoint_.error(tensor, "F32, BF16 or F16", tensor.type_name);
  }

  const Checkpoint& checkpoint_;
  Step step_ = Step::check;
};

}  // namespace detail

/// Loads a checkpoint into a model: a folder in Hugging Face's layout (config.json, model.safetensors or its shards) or
/// Mistral's (params.json, consolidated.safetensors), or a GGUF file. Tensors of any type that is read (F32, BF16, F16;
/// GGUF's blocks) go into any format, by way of floats.
/// Throws Error where the checkpoint doesn't hold what the type's config asks for, field by field and tensor by tensor,
/// before any weight is read.
template <class Model>
Model load(const std::string& path, const LoadOptions& options = {}) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  check_config(checkpoint.config(), Model::config, checkpoint.config_file(), options);
  Model model;
  detail::CheckpointReader reader(checkpoint);
  visit_weights(model, reader.in(detail::CheckpointReader::Step::check));
  visit_weights(model, reader.in(detail::CheckpointReader::Step::pack));
  return model;
}

}  // namespace mistral::inline MISTRAL_ABI
