// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/checkpoint/dequantize.hpp>
#include <mistral/checkpoint/held_weights.hpp>
#include <mistral/core/element.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/progress.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/format/f16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/io/gguf/writer.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The outcome of writing a GGUF file.
struct GgufWritten {
  std::uint64_t bytes = 0;               ///< of the tensors' data
  std::vector<std::string> in_f16 = {};  ///< the matrices whose rows are no whole blocks of the format
};

namespace detail {

/// Which type of GGUF's holds a format.
template <class F>
constexpr GgmlType ggml_type_of() noexcept {
  static_assert(GgufFormat<F>, "GGUF has no type for this format");
  return GgmlType{F::file_type};
}

/// Encodes up to 16 rows of floats, one after the other, as rows of a file.
using RowEncoder = void (*)(const float* rows, std::size_t count, std::size_t cols, std::byte* out);

template <class T>
void encode_elements(const float* rows, std::size_t count, std::size_t cols, std::byte* out) {
  for (std::size_t i = 0; i < count * cols; ++i) {
    const T element = from_float<T>(rows[i]);
    std::memcpy(out + i * sizeof element, &element, sizeof element);
  }
}

/// By way of a panel: what is written is what loading the floats in that format holds.
template <FileFormat F>
void encode_blocks(const float* rows, std::size_t count, std::size_t cols, std::byte* out) {
  Panels<F> panel(count, cols);
  const float* from[panel_rows];
  std::byte* to[panel_rows];
  for (std::size_t r = 0; r < count; ++r) {
    from[r] = rows + r * cols;
    to[r] = out + r * panel.file_row_bytes();
  }
  panel.pack(0, std::span<const float* const>(from, count));
  panel.unpack_file(0, std::span<std::byte* const>(to, count));
}

template <class F>
constexpr RowEncoder encoder_of() noexcept {
  if constexpr (FileFormat<F>) {
    return encode_blocks<F>;
  } else {
    return encode_elements<typename F::Element>;
  }
}

/// The metadata of a model that comes from a folder, by the keys of llama.cpp's own files.
inline GgufMetadataWriter gguf_metadata_of(const CheckpointConfig& c, std::string_view name) {
  GgufMetadataWriter metadata;
  const auto u32 = [&](std::string_view key, std::int64_t value) {
    metadata.u32(std::string("llama.").append(key), static_cast<std::uint32_t>(value));
  };
  metadata.string("general.architecture", "llama");
  metadata.string("general.name", name);
  // which a params.json doesn't say; Hugging Face's configs of Mistral's models do
  u32("context_length", c.context_len.value_or(32768));
  u32("embedding_length", c.dim);
  u32("block_count", c.n_layers);
  u32("feed_forward_length", c.hidden_dim);
  u32("vocab_size", c.vocab_size);
  u32("rope.dimension_count", c.head_dim);
  metadata.f32("llama.rope.freq_base", static_cast<float>(c.rope_theta));
  u32("attention.head_count", c.n_heads);
  u32("attention.head_count_kv", c.n_kv_heads);
  u32("attention.key_length", c.head_dim);
  u32("attention.value_length", c.head_dim);
  metadata.f32("llama.attention.layer_norm_rms_epsilon", static_cast<float>(c.norm_eps));
  if (c.window > 0) u32("attention.sliding_window", c.window);
  return metadata;
}

/// Whether an entry of a file's metadata still says the truth about what is made of it.
inline bool survives_quantizing(std::string_view key) noexcept {
  return key != "general.file_type" && key != "general.quantization_version" && key != "general.alignment" &&
         !key.starts_with("quantize.imatrix.") && !key.starts_with("split.");
}

/// A change to the rows of a checkpoint while they are written: none.
struct NoChange {
  static constexpr bool changes(std::string_view) noexcept { return false; }
};

/// Writes a checkpoint's tensors to a GGUF file; independent of the format but for `encode`. A Change other than
/// NoChange has the members of AdapterChange (checkpoint/merge.hpp).
template <class Change>
class GgufQuantizer {
 public:
  GgufQuantizer(const Checkpoint& source, GgmlType type, RowEncoder encode, ProgressHook progress, Change& change)
      : source_(source), type_(type), encode_(encode), progress_(progress), change_(change) {
    if (source.packed() != nullptr) {
      throw Error("packed", printable(source.config_file(), 1000), "a checkpoint to quantize",
                  "a packed file, which is made from one");
    }
  }

  GgufWritten write(const std::string& path, std::string_view name, const GgufMetadataWriter& tokenizer) {
    for (const std::string& weight : weight_names(source_.config())) {
      const bool tied = weight == head_weight && source_.config().tied_embeddings;
      if (!tied || change_.changes(weight)) add(weight);
    }

    GgufMetadataWriter metadata;
    if (const Gguf* const file = source_.gguf()) {
      for (const GgufEntry& entry : file->metadata().entries()) {
        // what is said of texts is the tokenizer's, with keys of this library's own among it
        const bool of_tokenizer = entry.key.starts_with("tokenizer.") || entry.key.starts_with("mistral.");
        if (survives_quantizing(entry.key) && !(of_tokenizer && !tokenizer.empty())) metadata.copy(entry);
      }
      metadata.append(tokenizer);
    } else {
      metadata = gguf_metadata_of(source_.config(), name);
      metadata.append(tokenizer);
      if (tokenizer.empty()) metadata.string("tokenizer.ggml.model", "no_vocab");
    }
    check_tokenizer(metadata);
    metadata.u32("general.file_type", info(type_).model);
    metadata.u32("general.quantization_version", 2);

    GgufWriter file(path, metadata, tensors_);
    for (std::size_t i = 0; i < tensors_.size(); ++i) write(file, tensors_[i], sources_[i]);
    file.commit();
    return std::move(written_);
  }

 private:
  /// Readers of GGUF, this library's too, refuse a file whose tokenizer has another number of pieces than its
  /// embedding.
  void check_tokenizer(const GgufMetadataWriter& metadata) const {
    const std::string header = metadata.header({});
    const Gguf written = Gguf::from_bytes(std::as_bytes(std::span(header)), "the tokenizer");
    constexpr std::string_view tokens = "tokenizer.ggml.tokens";
    const auto vocab_size = static_cast<std::uint64_t>(source_.config().vocab_size);
    if (!written.metadata().has(tokens) || written.metadata().array_size(tokens) == vocab_size) return;
    throw Error("gguf", "the tokenizer's pieces", "as many as the model's vocabulary, " + std::to_string(vocab_size),
                std::to_string(written.metadata().array_size(tokens)));
  }

  void add(const std::string& weight) {
    const CheckpointTensor from = source_.get_readable(weight);
    const std::vector<std::uint64_t> shape(from.shape.begin(), from.shape.end());
    const bool matrix = shape.size() == 2;
    GgufTensor to{weight_name(CheckpointLayout::gguf, weight), matrix ? type_ : GgmlType::f32, shape, {}};
    if (matrix && shape[1] % info(type_).block != 0) {
      to.type = GgmlType::f16;
      written_.in_f16.push_back(to.name);
    }
    written_.bytes += GgufMetadataWriter::bytes_of(to);
    total_ += from.data.size();
    const CheckpointConfig& c = source_.config();
    const bool turned = c.layout == CheckpointLayout::hugging_face && turned_heads(c, weight) != 0;
    tensors_.push_back(std::move(to));
    sources_.push_back({weight, from, turned ? static_cast<std::size_t>(c.head_dim) : 0});
  }

  struct Source {
    std::string weight;
    CheckpointTensor tensor;
    std::size_t head_dim;  // of rows that are permuted; 0: in order
  };

  void write(GgufWriter& file, const GgufTensor& to, const Source& from) {
    const CheckpointTensor& tensor = from.tensor;
    const bool changed = change_.changes(from.weight);
    HeldWeights held(HeldWeights::Refuse::not_finite);
    if (tensor.type == to.type && from.head_dim == 0 && !changed) {
      check_copied(tensor, held);
      // in pieces, so that who waits sees how far it is
      for (std::size_t at = 0; at < tensor.data.size(); at += piece_bytes) {
        const auto bytes = tensor.data.subspan(at, (std::min)(piece_bytes, tensor.data.size() - at));
        file.write(bytes);
        progress_(done_ += bytes.size(), total_);
      }
      return source_.release(tensor);
    }
    if constexpr (!std::is_same_v<Change, NoChange>) {
      if (changed) change_.open(from.weight);
    }
    const bool matrix = to.shape.size() == 2;
    const auto rows = static_cast<std::size_t>(matrix ? to.shape[0] : 1);
    const auto cols = static_cast<std::size_t>(to.shape.back());
    const std::size_t row_bytes = cols / info(to.type).block * info(to.type).bytes;
    const std::size_t source_row_bytes = tensor.data.size() / rows;
    const RowEncoder encode = to.type == type_           ? encode_
                              : to.type == GgmlType::f16 ? encode_elements<f16>
                                                         : encode_elements<float>;
    const std::size_t piece_panels = (std::max<std::size_t>)(1, piece_bytes / (panel_rows * source_row_bytes));
    const std::size_t piece_rows = (std::min)(rows, piece_panels * panel_rows);
    std::vector<std::byte> out(piece_rows * row_bytes);
    for (std::size_t begin = 0; begin < rows; begin += piece_rows) {
      const std::size_t end = (std::min)(rows, begin + piece_rows);
      parallel::for_ranges((end - begin + panel_rows - 1) / panel_rows, 1, [&](std::size_t first, std::size_t last) {
        std::vector<float> values(panel_rows * cols);
        for (std::size_t panel = first; panel < last; ++panel) {
          const std::size_t row = begin + panel * panel_rows;
          const std::size_t count = (std::min)(panel_rows, end - row);
          const auto value_row = [&](std::size_t r) { return std::span(values).subspan(r * cols, cols); };
          std::byte* const encoded = out.data() + (row - begin) * row_bytes;
          for (std::size_t r = 0; r < count; ++r) {
            tensor.read_row(from.head_dim != 0 ? hugging_face_row(row + r, from.head_dim) : row + r, value_row(r));
            if constexpr (!std::is_same_v<Change, NoChange>) {
              if (changed) change_.add(row + r, value_row(r));
            }
          }
          encode(values.data(), count, cols, encoded);
          for (std::size_t r = 0; r < count; ++r) {
            held.add(row + r, value_row(r),
                     [&](std::span<float> found) { dequantize_row(to.type, encoded + r * row_bytes, found); });
          }
          if constexpr (!std::is_same_v<Change, NoChange>) {
            for (std::size_t r = 0; changed && r < count; ++r) {
              change_.written(row + r, value_row(r), to.type, encoded + r * row_bytes);
            }
          }
        }
      });
      held.check(source_, tensor, info(to.type).name);
      file.write(std::span(out).first((end - begin) * row_bytes));
      progress_(done_ += (end - begin) * source_row_bytes, total_);
    }
    source_.release(tensor);
  }

  /// Of a tensor whose bytes are copied, what its rows stand for.
  void check_copied(const CheckpointTensor& tensor, HeldWeights& held) const {
    const auto cols = static_cast<std::size_t>(tensor.shape.back());
    const auto rows = static_cast<std::size_t>(tensor.elements() / cols);
    parallel::for_ranges(rows, panel_rows, [&](std::size_t begin, std::size_t end) {
      std::vector<float> values(cols);
      for (std::size_t row = begin; row < end; ++row) {
        tensor.read_row(row, values);
        held.add(row, values, [&](std::span<float> found) { std::copy(values.begin(), values.end(), found.begin()); });
      }
    });
    held.check(source_, tensor, tensor.type_name);
  }

  static constexpr std::size_t piece_bytes = std::size_t{1} << 25;

  const Checkpoint& source_;
  GgmlType type_;
  RowEncoder encode_;
  ProgressHook progress_;
  Change& change_;
  std::vector<GgufTensor> tensors_;
  std::vector<Source> sources_;
  GgufWritten written_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace detail

/// Writes a checkpoint, a folder or a GGUF file, as a GGUF file whose matrices are in the format F: tensor by tensor,
/// each released when it is written, so that a model larger than the memory passes through. Norms are F32; a matrix
/// whose rows are no whole blocks is F16, as llama.cpp does it. Blocks that are in the format already are copied. The
/// file appears whole or not at all.
///   name       general.name, where the source has none of its own
///   tokenizer  tokenizer.* (see gguf_tokenizer_metadata of text/gguf_tokenizer_writer.hpp); empty: a GGUF file's own
///   progress   counts the bytes of the source's tensors
/// Throws Error where the checkpoint lacks a tensor or has one of another shape, or the tokenizer has another number of
/// pieces than the embedding has rows (gguf_tokenizer_metadata pads it), before anything is written, and where a weight
/// is no finite number or larger than the format holds.
template <WeightFormat F>
GgufWritten write_gguf(const Checkpoint& source, const std::string& path, std::string_view name = "",
                       const GgufMetadataWriter& tokenizer = {}, ProgressHook progress = {}) {
  detail::NoChange change;
  return detail::GgufQuantizer<detail::NoChange>(source, detail::ggml_type_of<F>(), detail::encoder_of<F>(), progress,
                                                 change)
      .write(path, name, tokenizer);
}

}}  // namespace mistral
