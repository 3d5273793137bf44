// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/checkpoint/config.hpp>
#include <mistral/checkpoint/held_weights.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/once.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/progress.hpp>
#include <mistral/core/stop_token.hpp>
#include <mistral/io/os/memory.hpp>
#include <mistral/io/packed/packed_file.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/nn/transformer.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Options of `load`: what it lets pass, and whom it tells of its progress.
struct LoadOptions {
  bool allow_different_window = false;  ///< the type's window counts, whatever the checkpoint says of its own
  bool allow_longer_context = false;    ///< the type's context counts, whatever the checkpoint names for its own
  bool check_memory = true;             ///< refuse what doesn't fit in memory; false: try all the same
  std::uint64_t max_memory = 0;         ///< bytes that it must fit in; 0: what the system has available
  /// Bytes that must fit in memory beside the weights: what the caller's sessions take at most, such as
  /// Session<Model>::memory_bytes. They are counted before anything is loaded, since sessions take theirs only later,
  /// as it is written.
  std::uint64_t session_bytes = 0;
  ProgressHook progress = {};        ///< counts the bytes of the model's weights
  bool refuse_not_finite = false;    ///< refuse NaN and infinite weights also where the format holds such
  StopToken stop = {};               ///< asks to stop: `load` throws Cancelled, and nothing is left of the model
  MemoryResource* memory = nullptr;  ///< where the weights' memory is taken from; null: the standard's default
};

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
      throw differs(field, number_text(expected), number_text(found));
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
  if (!options.allow_longer_context && file.context_len &&
      static_cast<std::int64_t>(type.context_len) > *file.context_len) {
    throw differs("context_len", "at least " + std::to_string(type.context_len), std::to_string(*file.context_len));
  }
}

namespace detail {

/// Refuses a model that would not fit: its weights, and beside them what is larger of the sessions that are made later
/// and of the largest tensor of a file that is converted, whose pages are in memory meanwhile.
inline void check_memory(const Checkpoint& checkpoint, std::uint64_t weights, std::string_view format,
                         const LoadOptions& options) {
  if (!options.check_memory) return;
  const std::optional<std::uint64_t> available =
      options.max_memory != 0 ? std::optional(options.max_memory) : available_memory();
  if (!available) return;
  std::uint64_t largest = 0;
  for (std::size_t i = 0; checkpoint.packed() == nullptr && i < checkpoint.size(); ++i) {
    largest = (std::max<std::uint64_t>)(largest, checkpoint[i].data.size());
  }
  const std::uint64_t beside = (std::max)(largest, options.session_bytes);
  if (weights <= *available && beside <= *available - weights) return;
  std::string what = printable(checkpoint.path(), 1000) + ": the weights in " + std::string(format);
  if (options.session_bytes > 0) what += " and sessions of " + std::to_string(options.session_bytes) + " bytes";
  const bool countable = beside <= (std::numeric_limits<std::uint64_t>::max)() - weights;
  throw Error("memory", what, "at most " + std::to_string(*available) + " bytes of memory",
              (countable ? std::to_string(weights + beside) : "more than can be counted") + " needed");
}

/// Holds a packed file's panels against those of a format.
inline void check_layout(const PackedFile& file, const PackedLayout& expected) {
  const PackedLayout& found = file.layout();
  if (found == expected) return;
  const std::string what = printable(file.file(), 1000) + ": the weights";
  if (found.format != expected.format) throw Error("packed", what, expected.format, printable(found.format, 40));
  const auto text = [](const PackedLayout& layout) {
    return std::to_string(layout.panel_rows) + " rows x " + std::to_string(layout.block_inputs) + " inputs in " +
           std::to_string(layout.block_bytes) + " bytes, fingerprint " + printable(layout.fingerprint, 40);
  };
  throw Error("packed", what + " in " + expected.format, text(expected) + " (pack the checkpoint again)", text(found));
}

/// A visitor of a model's weights over a checkpoint's tensors: holds each against its shape, or packs it, or takes it
/// as it stands in a packed file.
class CheckpointReader {
 public:
  enum class Step { check, pack };

  CheckpointReader(const Checkpoint& checkpoint, const LoadOptions& options, std::uint64_t total,
                   MemoryResource* memory)
      : checkpoint_(checkpoint),
        progress_(options.progress),
        refuse_(options.refuse_not_finite ? HeldWeights::Refuse::not_finite : HeldWeights::Refuse::nothing),
        stop_(options.stop),
        total_(total),
        memory_(memory) {}

  CheckpointReader& in(Step step) noexcept {
    step_ = step;
    return *this;
  }

  void operator()(const std::string& name, Buffer<float>& norm) { read(name, norm); }
  template <WeightFormat F>
  void operator()(const std::string& name, Panels<F>& matrix, std::size_t heads) {
    read(name, matrix, heads);
  }

  template <class = Once>
  void read(const std::string& name, Buffer<float>& norm);
  template <WeightFormat F>
  void read(const std::string& name, Panels<F>& matrix, std::size_t heads);

 private:
  template <WeightFormat F>
  void pack(const CheckpointTensor& tensor, Panels<F>& matrix, std::size_t heads) const {
    if constexpr (FileFormat<F>) {
      if (tensor.type == GgmlType{F::file_type}) return keep_blocks(tensor, matrix);
    }
    const bool permuted = heads != 0 && checkpoint_.config().layout == CheckpointLayout::hugging_face;
    const std::size_t head_dim = permuted ? matrix.rows() / heads : 0;
    HeldWeights held(refuse_);
    parallel::for_ranges(matrix.view().panel_count(), 1, [&](std::size_t begin, std::size_t end) {
      std::vector<float> values(panel_rows * matrix.cols());
      for (std::size_t panel = begin; panel < end && !stopped(); ++panel) {
        const float* rows[panel_rows];
        const std::size_t count = (std::min)(panel_rows, matrix.rows() - panel * panel_rows);
        for (std::size_t r = 0; r < count; ++r) {
          const std::size_t row = panel * panel_rows + r;
          const std::span<float> out(values.data() + r * matrix.cols(), matrix.cols());
          tensor.read_row(permuted ? hugging_face_row(row, head_dim) : row, out);
          rows[r] = out.data();
        }
        matrix.pack(panel, std::span<const float* const>(rows, count));
        for (std::size_t r = 0; r < count; ++r) {
          const std::size_t row = panel * panel_rows + r;
          held.add(row, {rows[r], matrix.cols()}, [&](std::span<float> found) { matrix.unpack_row(row, found); });
        }
      }
    });
    held.check(checkpoint_, tensor, F::name);
    checkpoint_.release(tensor);
    end_if_stopped();
  }

  /// Takes the blocks of a GGUF file that has the format's own type, bit by bit.
  template <FileFormat F>
  void keep_blocks(const CheckpointTensor& tensor, Panels<F>& matrix) const {
    static_assert(info(GgmlType{F::file_type}).block == F::block_inputs);
    static_assert(info(GgmlType{F::file_type}).bytes == F::file_block_bytes);
    parallel::for_ranges(matrix.view().panel_count(), 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t panel = begin; panel < end && !stopped(); ++panel) {
        const std::byte* rows[panel_rows];
        const std::size_t count = (std::min)(panel_rows, matrix.rows() - panel * panel_rows);
        for (std::size_t r = 0; r < count; ++r) {
          rows[r] = tensor.data.data() + (panel * panel_rows + r) * matrix.file_row_bytes();
        }
        matrix.pack_file(panel, std::span<const std::byte* const>(rows, count));
      }
    });
    end_if_stopped();
    if (refuse_ == HeldWeights::Refuse::not_finite) check_kept(tensor, matrix);
    checkpoint_.release(tensor);
  }

  /// Whether the work is to stop: once it has, a tensor may have holes, whatever the caller's flag says later.
  bool stopped() const noexcept {
    if (stop_.requested()) stopped_.store(true, std::memory_order_relaxed);
    return stopped_.load(std::memory_order_relaxed);
  }
  void end_if_stopped() const {
    if (stopped())
      throw Cancelled("load",
                      "cancelled on request, at " + std::to_string(done_) + " of " + std::to_string(total_) + " bytes");
  }

  template <FileFormat F>
  void check_kept(const CheckpointTensor& tensor, const Panels<F>& matrix) const {
    HeldWeights held(refuse_);
    parallel::for_ranges(matrix.rows(), panel_rows, [&](std::size_t begin, std::size_t end) {
      std::vector<float> values(matrix.cols());
      for (std::size_t row = begin; row < end; ++row) {
        matrix.unpack_row(row, values);
        held.add(row, values, [&](std::span<float> found) { std::copy(values.begin(), values.end(), found.begin()); });
      }
    });
    held.check(checkpoint_, tensor, F::name);
  }

  void check(const CheckpointTensor& tensor, std::vector<std::uint64_t> shape) const {
    if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
      throw checkpoint_.error(tensor, shape_text(shape), shape_text(tensor.shape));
    }
    if (!tensor.type && checkpoint_.packed() == nullptr)
      throw checkpoint_.error(tensor, "F32, BF16 or F16", tensor.type_name);
  }

  const Checkpoint& checkpoint_;
  ProgressHook progress_;
  HeldWeights::Refuse refuse_;
  StopToken stop_;
  mutable std::atomic<bool> stopped_ = false;
  std::uint64_t total_;
  MemoryResource* memory_;  // of norms that have none yet
  std::uint64_t done_ = 0;
  Step step_ = Step::check;
};

template <WeightFormat F>  // out of the class, and so no inline function: a program may compile it in one unit for all
void CheckpointReader::read(const std::string& name, Panels<F>& matrix, std::size_t heads) {
  end_if_stopped();
  const CheckpointTensor tensor = checkpoint_.get(name);
  if (step_ == Step::check) return check(tensor, {matrix.rows(), matrix.cols()});
  if (const PackedFile* const file = checkpoint_.packed()) {
    matrix.adopt(tensor.data.data(), file->owner(), file->get(name).digest);
  } else {
    pack(tensor, matrix, heads);
  }
  progress_(done_ += matrix.bytes().size(), total_);
}

template <class>
void CheckpointReader::read(const std::string& name, Buffer<float>& norm) {
  end_if_stopped();
  const CheckpointTensor tensor = checkpoint_.get(name);
  if (step_ == Step::check) return check(tensor, {norm.size()});
  if (norm.memory() == nullptr) norm = Buffer<float>(norm.size(), Uninitialized{}, memory_);
  tensor.read_row(0, norm.span());
  HeldWeights held(refuse_);
  held.add(0, norm.span(), [&](std::span<float> found) { tensor.read_row(0, found); });
  held.check(checkpoint_, tensor, info(GgmlType::f32).name);
  progress_(done_ += norm.size() * sizeof(float), total_);
}

/// The demands of a type of model on a checkpoint.
struct LoadedType {
  ModelConfig config;
  std::uint64_t bytes;       ///< of its weights
  std::string_view format;   ///< of its matrices
  PackedLayout (*layout)();  ///< gives their layout in packed files
};

/// Opens a checkpoint, and throws what `load` throws before a tensor is looked at.
template <class = Once>
Checkpoint open_to_load(const std::string& path, const LoadedType& type, const LoadOptions& options) {
  options.stop.check("load");
  Checkpoint checkpoint = Checkpoint::open(path);
  check_config(checkpoint.config(), type.config, checkpoint.config_file(), options);
  if (const PackedFile* const file = checkpoint.packed()) {
    check_layout(*file, type.layout());
    file->prefetch();
  }
  check_memory(checkpoint, type.bytes, type.format, options);
  return checkpoint;
}

}  // namespace detail

/// Loads a checkpoint into a model: a folder in Hugging Face's layout (config.json, model.safetensors or its shards) or
/// Mistral's (params.json, consolidated.safetensors), or a GGUF file, or a packed one. Tensors of any type that is read
/// (F32, BF16, F16; GGUF's blocks) go into any format, by way of floats; blocks of the format's own type are kept bit
/// by bit. A packed file holds one format, and the model's matrices stay in it, where it is mapped: it must not be
/// changed while the model lives. Throws Error before any weight is read where the checkpoint doesn't hold what the
/// type's config asks for, field by field and tensor by tensor, or doesn't fit in memory: that message names the bytes
/// that it needs. Throws Error, too, for the first tensor with a weight that the format doesn't hold: one that is too
/// large for its scales, or a NaN that would vanish; and Cancelled soon after options.stop asks to stop.
template <class Model>
Model load(const std::string& path, const LoadOptions& options = {}) {
  using F = typename Model::Format;
  const Checkpoint checkpoint =
      detail::open_to_load(path, {Model::config, Model::memory_bytes, F::name, packed_layout<F>}, options);
  MemoryResource* const memory = options.memory != nullptr ? options.memory : std::pmr::get_default_resource();
  Model model(checkpoint.packed() != nullptr ? nullptr : memory);
  detail::CheckpointReader reader(checkpoint, options, Model::memory_bytes, memory);
  visit_weights(model, reader.in(detail::CheckpointReader::Step::check));
  visit_weights(model, reader.in(detail::CheckpointReader::Step::pack));
  return model;
}

}}  // namespace mistral
