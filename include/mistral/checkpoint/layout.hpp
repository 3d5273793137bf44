// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/checkpoint/tensor_files.hpp>
#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/io/file_kind.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/io/os/folder_content.hpp>
#include <mistral/io/packed/packed_file.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The ways in which a model is kept. They differ in the names of files, fields and tensors, and in the order of the
/// rows of wq and wk: Hugging Face's are permuted for rotate-half RoPE, the others' are interleaved.
enum class CheckpointLayout : std::uint8_t {
  hugging_face,  // config.json, model.safetensors
  mistral,       // params.json, consolidated.safetensors
  gguf,          // one file that holds everything
  packed,        // the same, of this library's own: see PackedFile
};

/// Returns how a layout names its tensors.
constexpr TensorNaming naming_of(CheckpointLayout layout) noexcept {
  if (layout == CheckpointLayout::hugging_face) return TensorNaming::hugging_face;
  return layout == CheckpointLayout::gguf ? TensorNaming::gguf : TensorNaming::mistral;
}

/// The names of the files of a folder's layout; the others have no folder.
struct LayoutFiles {
  std::string config;
  std::string tensors;  // for TensorFiles::open
};

inline LayoutFiles files_of(CheckpointLayout layout) {
  if (layout == CheckpointLayout::hugging_face) return {"config.json", "model"};
  if (layout == CheckpointLayout::mistral) return {"params.json", "consolidated"};
  return {};
}

namespace detail {

/// Returns the error for a path where no checkpoint stands: what stands there, and what to do about it.
inline Error no_checkpoint(const std::string& path, bool exists, bool is_file) {
  std::string remedy;
  std::string found = !exists   ? "nothing at that path"
                      : is_file ? "a file that is neither"
                                : "neither config.json nor params.json in it";
  if (!exists) {
    remedy = hub_remedy(path);
    if (!remedy.empty()) found = "no such folder, but what reads as a name on a hub";
  } else if (is_file) {
    if (const std::optional<FileKind> kind = file_kind_at(path)) {
      remedy = remedy_of(*kind);
      found = name_of(*kind);
      if (*kind == FileKind::safetensors || *kind == FileKind::json) remedy = "give the folder that it stands in";
      if (*kind == FileKind::sentencepiece) remedy = "give the model here, and this as its tokenizer";
      if (*kind == FileKind::session) remedy = "give the model here, and this as the state of a session";
    } else if (file_is_empty(path)) {
      found = "an empty file";
    }
  } else if (path_exists(path_in(path, "adapter_config.json"))) {
    remedy = "give the base's folder here, and this as the adapter";
    found = "the folder of an adapter";
  } else if (path_exists(path_in(path, "lora.safetensors"))) {
    remedy = "give the base's folder here";
    found = "the folder of an adapter, of mistral-finetune's layout";
  } else {
    const std::vector<std::string> names = names_in(path);
    const auto with = [&](std::string_view ending) {
      return std::find_if(names.begin(), names.end(), [&](const std::string& name) { return name.ends_with(ending); });
    };
    for (const std::string_view ending : {".gguf", ".mistral", ".safetensors", ".bin", ".pth", ".pt", ".model"}) {
      const auto name = with(ending);
      if (name == names.end()) continue;
      if (ending == ".gguf" || ending == ".mistral") remedy = "give the file rather than the folder";
      found.append(", but '").append(printable(*name)).append("'");
      break;
    }
  }
  return Error("checkpoint", printable(path, 1000) + (remedy.empty() ? "" : ": " + remedy),
               "a folder with config.json and model.safetensors (Hugging Face) or params.json and "
               "consolidated.safetensors (Mistral), or a .gguf or a packed file",
               found);
}

}  // namespace detail

/// Which layout stands at a path: a packed file is told by its first bytes, GGUF by them or its name, the others by the
/// files in a folder. Where a folder holds both configurations (Mistral's own releases do), the one that has its
/// tensors too, Hugging Face's first. Throws Error where there is nothing of the kind.
inline CheckpointLayout detect_layout(const std::string& path) {
  const bool exists = path_exists(path);
  const bool is_file = is_regular_file(path);
  if (is_file && is_packed_file(path)) return CheckpointLayout::packed;
  if (is_file && (is_gguf_file(path) || path.ends_with(".gguf"))) return CheckpointLayout::gguf;

  const LayoutFiles hugging_face = files_of(CheckpointLayout::hugging_face);
  const LayoutFiles mistral = files_of(CheckpointLayout::mistral);
  const bool has_hugging_face = path_exists(path_in(path, hugging_face.config));
  const bool has_mistral = path_exists(path_in(path, mistral.config));
  if (has_hugging_face && has_mistral) {
    return !has_tensor_files(path, hugging_face.tensors) && has_tensor_files(path, mistral.tensors)
               ? CheckpointLayout::mistral
               : CheckpointLayout::hugging_face;
  }
  if (has_hugging_face) return CheckpointLayout::hugging_face;
  if (has_mistral) return CheckpointLayout::mistral;
  throw detail::no_checkpoint(path, exists, is_file);
}

namespace detail {

/// Row of a tensor that holds output `row` of wq or wk. Hugging Face holds a head's rows as the first of all pairs,
/// then the second of all (rotate-half RoPE); ours, as Mistral's own and GGUF's, lie pair by pair.
constexpr std::size_t hugging_face_row(std::size_t row, std::size_t head_dim) noexcept {
  const std::size_t in_head = row % head_dim;
  return row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
}

}  // namespace detail

/// Returns a layout's name for a weight, from Mistral's name for it: `layers.0.attention.wq.weight` is
/// `model.layers.0.self_attn.q_proj.weight` and `blk.0.attn_q.weight`.
inline std::string weight_name(CheckpointLayout layout, std::string_view name) {
  const TensorName found = find_tensor(TensorNaming::mistral, name);
  const TensorNaming naming = naming_of(layout);
  if (found.row == nullptr || naming == TensorNaming::mistral) return std::string(name);
  if (!found.row->in_layer) return std::string(found.row->name(naming));
  return std::string(layer_prefix(naming)).append(found.layer).append(".").append(found.row->name(naming));
}

/// Mistral's names of the head and of the embedding, which takes its place where the two are tied.
///@{
inline constexpr std::string_view head_weight = row_of(TensorRole::output).mistral;
inline constexpr std::string_view embedding_weight = row_of(TensorRole::tok_embeddings).mistral;
///@}

}}  // namespace mistral
