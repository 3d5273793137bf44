// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/buffer.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/progress.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/io/checksum.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/packed/packed_file.hpp>
#include <mistral/nn/weights.hpp>

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// A visitor that notes where a model's weights lie.
struct WeightList {
  std::vector<PackedTensor> tensors;

  template <WeightFormat F>
  void operator()(std::string name, const Panels<F>& matrix, std::size_t) {
    tensors.push_back({std::move(name), {matrix.rows(), matrix.cols()}, matrix.bytes(), 0, matrix.digest()});
  }
  void operator()(std::string name, const Buffer<float>& norm) {
    tensors.push_back({std::move(name), {norm.size()}, std::as_bytes(norm.span())});
  }
};

/// Calls visit(name, value) for each field of a config: an integer or a float.
template <class Visitor>
void for_each_field(const ModelConfig& c, const Visitor& visit) {
  visit("dim", c.dim);
  visit("n_layers", c.n_layers);
  visit("head_dim", c.head_dim);
  visit("hidden_dim", c.hidden_dim);
  visit("n_heads", c.n_heads);
  visit("n_kv_heads", c.n_kv_heads);
  visit("window_size", c.window_size);
  visit("context_len", c.context_len);
  visit("vocab_size", c.vocab_size);
  visit("rope_theta", c.rope_theta);
  visit("norm_eps", c.norm_eps);
}

/// Writes the field `config` of the header of a packed file, or of a session's.
inline void write_config(JsonWriter& json, const ModelConfig& config) {
  json.name("config").begin_object();
  for_each_field(config, [&](std::string_view name, auto value) { json.field(name, value); });
  json.end_object();
}

/// Writes the fields of the header's object that say where a part of the data lies; moves `offset` behind it.
inline void write_place(JsonWriter& json, const PackedTensor& part, std::uint64_t& offset) {
  json.field("offset", offset).field("bytes", part.data.size());
  json.field("checksum", checksum_text(checksum(part.data)));
  if (part.digest) json.field("digest", checksum_text(*part.digest));
  offset = PackedFile::aligned(offset + part.data.size());
}

inline void write_packed(const std::string& path, const ModelConfig& config, const PackedLayout& layout,
                         std::span<const std::byte> tokenizer, std::span<const PackedTensor> tensors,
                         ProgressHook progress) {
  AtomicFile file(path, "packed");
  std::uint64_t total = 0;
  std::uint64_t done = 0;
  for (const PackedTensor& tensor : tensors) total += 2 * tensor.data.size();  // read for the sum, then to be written
  const auto advance = [&](std::uint64_t bytes) { progress(done += bytes, total); };

  JsonWriter json;
  json.begin_object();
  write_config(json, config);
  json.name("layout").begin_object().field("format", layout.format).field("panel_rows", layout.panel_rows);
  json.field("block_inputs", layout.block_inputs).field("block_bytes", layout.block_bytes);
  json.field("fingerprint", layout.fingerprint).end_object();
  std::uint64_t offset = 0;
  if (!tokenizer.empty()) {
    json.name("tokenizer").begin_object();
    write_place(json, {{}, {}, tokenizer}, offset);
    json.end_object();
  }
  json.name("tensors").begin_object();
  for (const PackedTensor& tensor : tensors) {
    json.name(tensor.name).begin_object().name("shape").literal(shape_text(tensor.shape));
    write_place(json, tensor, offset);
    json.end_object();
    advance(tensor.data.size());
  }
  const std::string header = std::move(json.end_object().end_object()).text();

  PackedFile::head.write(file, header);
  std::uint64_t position = PackedFile::preamble_bytes + header.size();
  const auto write = [&](std::span<const std::byte> data) {
    const std::uint64_t start = PackedFile::aligned(position);
    file.write(std::string(static_cast<std::size_t>(start - position), '\0'));
    file.write(data);
    position = start + data.size();
  };
  if (!tokenizer.empty()) write(tokenizer);
  for (const PackedTensor& tensor : tensors) {
    write(tensor.data);
    advance(tensor.data.size());
  }
  file.commit();
}

}  // namespace detail

/// Writes a model as it lies in memory to a file that `load` uses where it is mapped (see PackedFile): the second start
/// of a large model then takes no conversion, and processes that run the same file share its memory. The file appears
/// whole or not at all.
///   tokenizer  what Tokenizer::from_bytes takes: the bytes of a tokenizer.model, say; none unless given
///   progress   counts each byte twice: it is summed, then written
/// Throws Error `[packed] path: cannot write: ...`.
template <class Model>
void save_packed(const Model& model, const std::string& path, std::span<const std::byte> tokenizer = {},
                 ProgressHook progress = {}) {
  detail::WeightList weights;
  visit_weights(model, weights);
  detail::write_packed(path, Model::config, packed_layout<typename Model::Format>(), tokenizer, weights.tensors,
                       progress);
}

}}  // namespace mistral
