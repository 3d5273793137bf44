// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/checkpoint/adapter_folder.hpp>
#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/checkpoint/dequantize.hpp>
#include <mistral/checkpoint/held_weights.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/checkpoint/write_gguf.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/element.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/progress.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/folders.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/nn/adapter.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

namespace detail {

/// Adds an adapter of a PEFT folder, scale B A, to the rows of a checkpoint's matrices on their way into another file,
/// one matrix after the other, and measures what is lost there.
class AdapterChange {
 public:
  /// Throws Error where the folder holds no plain LoRA, or one of another model's shapes.
  AdapterChange(const std::string& folder, const Checkpoint& base)
      : base_(base),
        model_(base.config()),
        config_(PeftConfig::read_folder(folder)),
        reader_(path_in(folder, std::string(adapter_tensors_name)), config_) {
    for (const std::string& weight : weight_names(model_)) {
      const bool carries = find_tensor(TensorNaming::mistral, weight).row->adapter;
      if (carries && read(weight).rank() > 0) changed_.push_back(weight);
    }
    reader_.finish();
  }
  AdapterChange(const AdapterChange&) = delete;
  AdapterChange& operator=(const AdapterChange&) = delete;

  /// Whether the adapter stands beside a weight, `layers.0.attention.wq.weight`.
  bool changes(std::string_view weight) const noexcept {
    return std::find(changed_.begin(), changed_.end(), weight) != changed_.end();
  }

  /// Makes a weight that is changed the one whose rows are added to.
  void open(const std::string& weight) {
    close();
    matrices_ = read(weight);
    if (config_.olora) matrices_ = take_out_olora(matrices_, weight, rows_of(weight));
    const std::size_t cols = matrices_.a.cols();
    a_.resize(matrices_.rank() * cols);
    for (std::size_t k = 0; k < matrices_.rank(); ++k) {
      matrices_.a.unpack_row(k, std::span<float>(a_).subspan(k * cols, cols));
    }
    squares_.assign(matrices_.b.rows(), {});
  }

  /// Adds to row `row`, of this library's order. Several threads may call it, for other rows each.
  void add(std::size_t row, std::span<float> values) {
    const std::size_t cols = values.size();
    std::vector<float> b(matrices_.rank());
    std::vector<float> change(cols, 0.0f);
    matrices_.b.unpack_row(row, b);
    for (std::size_t k = 0; k < b.size(); ++k) {
      const float scaled = matrices_.scale * b[k];
      simd::add_products(change.data(), scaled, a_.data() + k * cols, cols);
    }
    double added = 0.0;
    for (std::size_t i = 0; i < cols; ++i) {
      values[i] += change[i];
      added += static_cast<double>(change[i]) * static_cast<double>(change[i]);
    }
    squares_[row].added = added;
  }

  /// Is told what row `row` became in the file: `bytes` of that type stand for `wanted`.
  void written(std::size_t row, std::span<const float> wanted, GgmlType type, const std::byte* bytes) {
    std::vector<float> found(wanted.size());
    dequantize_row(type, bytes, found);
    double lost = 0.0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double off = static_cast<double>(found[i]) - static_cast<double>(wanted[i]);
      lost += off * off;
    }
    squares_[row].lost = lost;
  }

  /// Of all that was written.
  MergeLoss loss() {
    close();
    return {added_ > 0.0 ? std::sqrt(lost_ / added_) : 0.0};
  }

 private:
  struct Squares {
    double lost = 0.0, added = 0.0;
  };

  LoraMatrices read(const std::string& weight) {
    const std::vector<std::uint64_t> shape = model_.shape_of(weight);
    return reader_.read(std::string(module_of(weight)), static_cast<std::size_t>(shape[0]),
                        static_cast<std::size_t>(shape[1]), turned_heads(model_, weight), 0);
  }

  /// The base's rows, in this library's order.
  RowSource rows_of(const std::string& weight) const {
    const CheckpointTensor tensor = base_.get_readable(weight);
    const bool permuted = model_.layout == CheckpointLayout::hugging_face && turned_heads(model_, weight) != 0;
    const std::size_t head_dim = permuted ? static_cast<std::size_t>(model_.head_dim) : 0;
    return [tensor, head_dim](std::size_t row, std::span<float> out) {
      tensor.read_row(head_dim != 0 ? hugging_face_row(row, head_dim) : row, out);
    };
  }

  /// In the order of the rows, for any number of threads.
  void close() noexcept {
    for (const Squares& row : squares_) {
      lost_ += row.lost;
      added_ += row.added;
    }
    squares_.clear();
  }

  const Checkpoint& base_;
  const CheckpointConfig& model_;
  PeftConfig config_;
  AdapterReader reader_;
  std::vector<std::string> changed_;
  LoraMatrices matrices_{Panels<F32>(0, 0), Panels<F32>(0, 0)};  // of the weight that is open
  std::vector<float> a_;                                         // row-major
  std::vector<Squares> squares_;                                 // of its rows
  double lost_ = 0.0;
  double added_ = 0.0;
};

/// Writes a checkpoint's tensors, changed, as a safetensors file of Hugging Face's layout.
class MergedWriter {
 public:
  MergedWriter(const Checkpoint& source, AdapterChange& change, DType type, ProgressHook progress)
      : source_(source), change_(change), type_(type), progress_(progress) {}

  void write(const std::string& path) {
    const std::vector<std::string> weights = weight_names(source_.config());
    std::vector<SafetensorsTensor> tensors;
    for (const std::string& weight : weights) {
      const CheckpointTensor from = source_.get_readable(weight);
      total_ += from.data.size();
      tensors.push_back({weight_name(CheckpointLayout::hugging_face, weight),
                         from.shape.size() == 2 ? type_ : DType::f32,
                         {from.shape.begin(), from.shape.end()},
                         {}});
    }
    SafetensorsWriter file(path, tensors, {{"format", "pt"}});
    for (std::size_t i = 0; i < weights.size(); ++i) write(file, weights[i], tensors[i]);
    file.commit();
  }

 private:
  static constexpr std::size_t piece_elements = std::size_t{1} << 22;

  void write(SafetensorsWriter& file, const std::string& weight, const SafetensorsTensor& to) {
    const CheckpointTensor from = source_.get_readable(weight);
    const auto rows = static_cast<std::size_t>(to.shape.size() == 2 ? to.shape[0] : 1);
    const auto cols = static_cast<std::size_t>(to.shape.back());
    const bool changed = change_.changes(weight);
    if (changed) change_.open(weight);
    const bool narrow = to.dtype == DType::bf16;
    const std::size_t bytes = narrow ? sizeof(bf16) : sizeof(float);
    const std::size_t heads = turned_heads(source_.config(), weight);
    const bool permuted = heads != 0 && source_.config().layout == CheckpointLayout::hugging_face;
    // whole heads at a time, since their rows change places
    const std::size_t unit = heads != 0 ? rows / heads : panel_rows;
    const std::size_t piece = (std::min)(rows, unit * (std::max<std::size_t>)(1, piece_elements / (unit * cols)));
    std::vector<std::byte> out(piece * cols * bytes);
    HeldWeights held(HeldWeights::Refuse::not_finite);
    for (std::size_t begin = 0; begin < rows; begin += piece) {
      const std::size_t count = (std::min)(piece, rows - begin);
      parallel::for_ranges(count, panel_rows, [&](std::size_t first, std::size_t last) {
        std::vector<float> values(cols);
        for (std::size_t row = begin + first; row < begin + last; ++row) {
          from.read_row(permuted ? hugging_face_row(row, unit) : row, values);
          if (changed) change_.add(row, values);
          const std::size_t place = heads != 0 ? hugging_face_row(row, unit) : row;
          std::byte* const encoded = out.data() + (place - begin) * cols * bytes;
          const RowEncoder encode = narrow ? encode_elements<bf16> : encode_elements<float>;
          encode(values.data(), 1, cols, encoded);
          held.add(row, values, [&](std::span<float> found) {
            dequantize_row(narrow ? GgmlType::bf16 : GgmlType::f32, encoded, found);
          });
          if (changed) change_.written(row, values, narrow ? GgmlType::bf16 : GgmlType::f32, encoded);
        }
      });
      held.check(source_, from, info(to.dtype).name);
      file.write(std::span<const std::byte>(out).first(count * cols * bytes));
      progress_(done_ += from.data.size() / rows * count, total_);
    }
    source_.release(from);
  }

  const Checkpoint& source_;
  AdapterChange& change_;
  DType type_;
  ProgressHook progress_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

inline ModelConfig model_config_of(const CheckpointConfig& c) noexcept {
  const auto size = [](std::int64_t x) { return static_cast<std::size_t>(x); };
  return {.dim = size(c.dim),
          .n_layers = size(c.n_layers),
          .head_dim = size(c.head_dim),
          .hidden_dim = size(c.hidden_dim),
          .n_heads = size(c.n_heads),
          .n_kv_heads = size(c.n_kv_heads),
          .window_size = size(c.window),
          .context_len = size(c.context_len.value_or(32768)),  // which a params.json doesn't say
          .vocab_size = size(c.vocab_size),
          .rope_theta = static_cast<float>(c.rope_theta),
          .norm_eps = static_cast<float>(c.norm_eps)};
}

}  // namespace detail

/// Adds an adapter (a PEFT folder) to a checkpoint's weights, W + scale B A, and writes the sum as a folder of Hugging
/// Face's layout: tensor by tensor, so that a model larger than the memory passes through; whatever layout or GGUF type
/// the checkpoint has, and without its config being a type of the program. The output is a tensor of its own, also
/// where the checkpoint's is tied to the embedding. Returns what rounding to `options.type` lost: nothing for F32.
/// Throws Error before anything is written where the adapter is of another model's shapes or no plain LoRA, the
/// checkpoint lacks a tensor or is a packed file, and for a type other than f32 and bf16; and where the folder can't be
/// written, or a weight is no finite number. Each of its files appears whole or not at all, and a folder that was made
/// and can't be filled goes again.
inline MergeLoss merge_checkpoint(const Checkpoint& source, const std::string& adapter, const std::string& folder,
                                  const SaveCheckpointOptions& options = {}) {
  if (options.type != DType::f32 && options.type != DType::bf16) {
    throw Error("checkpoint", "the type of a model to be saved", "F32 or BF16", info(options.type).name);
  }
  if (source.packed() != nullptr) {
    throw Error("packed", printable(source.config_file(), 1000), "a checkpoint to merge",
                "a packed file, which is made from one");
  }
  detail::AdapterChange change(adapter, source);
  for (const std::string& weight : weight_names(source.config())) (void)source.get_readable(weight);
  FolderToFill out(folder, "checkpoint");
  const LayoutFiles names = files_of(CheckpointLayout::hugging_face);
  AtomicFile config(out.file(names.config), "checkpoint");
  config.write(detail::hugging_face_config(detail::model_config_of(source.config()), options));
  config.finish();
  detail::MergedWriter(source, change, options.type, options.progress).write(out.file(names.tensors + ".safetensors"));
  config.commit();
  out.keep();
  return change.loss();
}

/// The outcome of merging into a GGUF file.
struct GgufMerged {
  GgufWritten written;
  MergeLoss loss;
};

/// The same to a GGUF file whose matrices are in the format F, re-quantised: see write_gguf for the arguments.
template <WeightFormat F>
GgufMerged merge_gguf(const Checkpoint& source, const std::string& adapter, const std::string& path,
                      std::string_view name = "", const GgufMetadataWriter& tokenizer = {},
                      ProgressHook progress = {}) {
  detail::AdapterChange change(adapter, source);
  GgufWritten written = detail::GgufQuantizer<detail::AdapterChange>(source, detail::ggml_type_of<F>(),
                                                                     detail::encoder_of<F>(), progress, change)
                            .write(path, name, tokenizer);
  return {std::move(written), change.loss()};
}

}}  // namespace mistral
