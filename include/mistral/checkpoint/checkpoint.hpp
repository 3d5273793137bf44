// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <mistral/checkpoint/config.hpp>
#include <mistral/checkpoint/dequantize.hpp>
#include <mistral/checkpoint/layout.hpp>
#include <mistral/checkpoint/tensor_files.hpp>
#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/once.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/io/gguf/ggml_types.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/io/packed/packed_file.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A tensor of a checkpoint, whatever file it stands in. It lives as long as the checkpoint.
struct CheckpointTensor {
  std::string_view name;                 ///< as the file calls it
  std::string_view type_name;            ///< `BF16`, `Q4_K`: as the file's format calls it
  std::optional<GgmlType> type;          ///< how its rows are read, none where this library cannot read them
  std::span<const std::uint64_t> shape;  ///< the outermost first
  std::span<const std::byte> data;

  std::uint64_t elements() const noexcept {
    std::uint64_t count = 1;
    for (const std::uint64_t size : shape) count *= size;
    return count;
  }

  /// Decodes row `row` of a matrix, or a vector as its row 0, into `out`, as long as a row. `type` must be there.
  void read_row(std::size_t row, std::span<float> out) const noexcept {
    const GgmlTypeInfo& blocks = info(*type);
    dequantize_row(*type, data.data() + row * (out.size() / blocks.block) * blocks.bytes, out);
  }
};

/// A model on the disk, opened and checked: a folder of Hugging Face's or Mistral's layout, or a GGUF or packed file.
class Checkpoint {
 public:
  /// Throws Error where the path holds no checkpoint, or one that contradicts itself.
  static Checkpoint open(const std::string& path) { return open_path(path); }

  const CheckpointConfig& config() const noexcept { return config_; }

  /// Returns the path that was opened.
  const std::string& path() const noexcept { return path_; }

  /// The file that the configuration comes from, for messages.
  const std::string& config_file() const noexcept { return config_file_; }

  /// The GGUF file, null where the checkpoint is none.
  const Gguf* gguf() const noexcept { return std::get_if<Gguf>(&source_); }

  /// The packed file, null where the checkpoint is none. Its matrices are no rows to be read, but panels.
  const PackedFile* packed() const noexcept { return std::get_if<PackedFile>(&source_); }

  std::size_t size() const noexcept {
    return std::visit([](const auto& source) { return tensors_of(source).size(); }, source_);
  }

  /// The i-th tensor, in an order of the file's.
  CheckpointTensor operator[](std::size_t i) const noexcept {
    return std::visit([&](const auto& source) { return tensor(source, tensors_of(source)[i]); }, source_);
  }

  /// The tensor of a weight, by Mistral's name (`layers.0.attention.wq.weight`) whatever the layout; the output's is
  /// the embedding's where they are tied. Throws Error where there is none.
  CheckpointTensor get(std::string_view weight) const {
    if (weight == head_weight && config_.tied_embeddings) weight = embedding_weight;
    const std::string name = weight_name(config_.layout, weight);
    return std::visit([&](const auto& source) { return tensor(source, source.get(name)); }, source_);
  }

  /// The same, held against the shape that the config gives it. Throws Error where that differs, and where the tensor
  /// is of a type whose rows can't be read.
  CheckpointTensor get_readable(std::string_view weight) const {
    const CheckpointTensor found = get(weight);
    if (!found.type) throw error(found, "F32, BF16 or F16", found.type_name);
    const std::vector<std::uint64_t> expected = config_.shape_of(weight);
    if (!std::equal(expected.begin(), expected.end(), found.shape.begin(), found.shape.end())) {
      throw error(found, shape_text(expected), shape_text(found.shape));
    }
    return found;
  }

  /// `[gguf] file: tensor 'name': expected ..., got ...`
  Error error(const CheckpointTensor& of, std::string_view expected, std::string_view found) const {
    const TensorFiles* const files = std::get_if<TensorFiles>(&source_);
    const std::string& file = files != nullptr ? files->file_of(of.name) : config_file_;
    const std::string_view where = std::visit([](const auto& source) { return format_of(source); }, source_);
    return Error(where, printable(file, 1000) + ": tensor '" + printable(of.name) + "'", expected, found);
  }

  /// Gives back the memory of a tensor's pages; see MappedFile::release.
  void release(const CheckpointTensor& of) const noexcept {
    std::visit(
        [&](const auto& source) {
          // what a packed file holds is the model's weights themselves, and isn't given back
          if constexpr (!std::is_same_v<decltype(source), const PackedFile&>) {
            if (const auto* const found = source.find(of.name)) source.release(*found);
          }
        },
        source_);
  }

 private:
  /// The files that the tensors stand in.
  using Source = std::variant<TensorFiles, Gguf, PackedFile>;

  Checkpoint(CheckpointConfig config, std::string path, std::string config_file, Source source)
      : config_(std::move(config)),
        path_(std::move(path)),
        config_file_(std::move(config_file)),
        source_(std::move(source)) {}

  // a template, so that a program may compile it in one unit for all
  template <class = detail::Once>
  static Checkpoint open_path(const std::string& path);

  /// Of a folder: a head of its own counts, though the config says that it is the embedding (files say so of old, and
  /// newer readers keep such a head); biases, which no model of this library has, would be left out.
  static void look_at_tensors(const TensorFiles& files, CheckpointConfig& config) {
    const std::string head = weight_name(config.layout, head_weight);
    if (config.tied_embeddings && files.find(head) != nullptr) config.tied_embeddings = false;
    for (std::size_t i = 0; i < files.size(); ++i) {
      const std::string& name = files[i].name;
      if (!name.ends_with(".bias")) continue;
      const std::string weight = name.substr(0, name.size() - std::string_view("bias").size()) + "weight";
      if (files.find(weight) == nullptr) continue;
      throw Error("safetensors", printable(files.file_of(name), 1000) + ": tensor '" + printable(name) + "'",
                  "no biases, for they are not supported", "one");
    }
  }

  // What std::visit needs of each source: its tensors, one of them as a CheckpointTensor, its name in messages.
  static const TensorFiles& tensors_of(const TensorFiles& files) noexcept { return files; }
  static std::span<const GgufTensor> tensors_of(const Gguf& file) noexcept { return file.tensors(); }
  static std::span<const PackedTensor> tensors_of(const PackedFile& file) noexcept { return file.tensors(); }

  static std::string_view format_of(const TensorFiles&) noexcept { return "safetensors"; }
  static std::string_view format_of(const Gguf&) noexcept { return "gguf"; }
  static std::string_view format_of(const PackedFile&) noexcept { return "packed"; }

  static CheckpointTensor tensor(const Gguf&, const GgufTensor& t) noexcept {
    return {t.name, info(t.type).name, t.type, t.shape, t.data};
  }
  static CheckpointTensor tensor(const PackedFile& file, const PackedTensor& t) noexcept {
    if (t.shape.size() == 1) return {t.name, info(GgmlType::f32).name, GgmlType::f32, t.shape, t.data};
    return {t.name, file.layout().format, std::nullopt, t.shape, t.data};
  }
  static CheckpointTensor tensor(const TensorFiles&, const SafetensorsTensor& t) noexcept {
    std::optional<GgmlType> type;
    if (t.dtype == DType::f32) type = GgmlType::f32;
    if (t.dtype == DType::f16) type = GgmlType::f16;
    if (t.dtype == DType::bf16) type = GgmlType::bf16;
    return {t.name, info(t.dtype).name, type, t.shape, t.data};
  }

  CheckpointConfig config_;
  std::string path_;
  std::string config_file_;
  Source source_;
};

template <class>
Checkpoint Checkpoint::open_path(const std::string& path) {
  const CheckpointLayout layout = detect_layout(path);
  if (layout == CheckpointLayout::gguf) {
    Gguf file = Gguf::open(path);
    CheckpointConfig config = CheckpointConfig::from_gguf(file);
    return Checkpoint(std::move(config), path, path, std::move(file));
  }
  if (layout == CheckpointLayout::packed) {
    PackedFile file = PackedFile::open(path);
    CheckpointConfig config = CheckpointConfig::from_packed(file);
    return Checkpoint(std::move(config), path, path, std::move(file));
  }
  CheckpointConfig config = CheckpointConfig::read(path);
  const LayoutFiles names = files_of(config.layout);
  TensorFiles files = TensorFiles::open(path, names.tensors);
  look_at_tensors(files, config);
  return Checkpoint(std::move(config), path, path_in(path, names.config), std::move(files));
}

/// The names of all weights of a model, in the order of its forward: `tok_embeddings.weight`, ..., `output.weight`.
inline std::vector<std::string> weight_names(const CheckpointConfig& config) {
  return tensor_names(static_cast<std::size_t>(config.n_layers));
}

/// The number of heads whose rows RoPE turns in pairs in a weight; 0 where it doesn't.
inline std::size_t turned_heads(const CheckpointConfig& config, std::string_view weight) noexcept {
  const TensorRow* const row = find_tensor(TensorNaming::mistral, weight).row;
  return row != nullptr ? turned_heads(*row, config) : 0;
}

}}  // namespace mistral
