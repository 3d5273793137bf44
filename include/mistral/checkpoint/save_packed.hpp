// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
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
#include <mistral/core/number_text.hpp>
#include <mistral/core/progress.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/io/checksum.hpp>
#include <mistral/io/json/json.hpp>
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

inline std::string packed_config(const ModelConfig& config) {
  std::string json = "{";
  for_each_field(config, [&](std::string_view name, auto value) {
    json.append(json.size() > 1 ? "," : "").append(json_quoted(name)).append(":");
    if constexpr (std::floating_point<decltype(value)>) {
      json += number_text(value);
    } else {
      json += std::to_string(value);
    }
  });
  return json += "}";
}

/// A part of the data as the header describes it, without the braces; moves `offset` behind it.
inline std::string packed_place(const PackedTensor& part, std::uint64_t& offset) {
  std::string json = R"("offset":)" + std::to_string(offset) + R"(,"bytes":)" + std::to_string(part.data.size()) +
                     R"(,"checksum":)" + json_quoted(checksum_text(checksum(part.data))) +
                     (part.digest ? R"(,"digest":)" + json_quoted(checksum_text(*part.digest)) : "");
  offset = PackedFile::aligned(offset + part.data.size());
  return json;
}

inline void write_packed(const std::string& path, const ModelConfig& config, const PackedLayout& layout,
                         std::span<const std::byte> tokenizer, std::span<const PackedTensor> tensors,
                         ProgressHook progress) {
  AtomicFile file(path, "packed");
  std::uint64_t total = 0;
  std::uint64_t done = 0;
  for (const PackedTensor& tensor : tensors) total += 2 * tensor.data.size();  // read for the sum, then to be written
  const auto advance = [&](std::uint64_t bytes) { progress(done += bytes, total); };

  std::string header = R"({"config":)" + packed_config(config) + R"(,"layout":{"format":)" +
                       json_quoted(layout.format) + R"(,"panel_rows":)" + std::to_string(layout.panel_rows) +
                       R"(,"block_inputs":)" + std::to_string(layout.block_inputs) + R"(,"block_bytes":)" +
                       std::to_string(layout.block_bytes) + R"(,"fingerprint":)" + json_quoted(layout.fingerprint) +
                       "}";
  std::uint64_t offset = 0;
  if (!tokenizer.empty()) header += R"(,"tokenizer":{)" + packed_place({{}, {}, tokenizer}, offset) + "}";
  for (const PackedTensor& tensor : tensors) {
    header += (&tensor == tensors.data() ? R"(,"tensors":{)" : ",") + json_quoted(tensor.name) + R"(:{"shape":)" +
              shape_text(tensor.shape) + "," + packed_place(tensor, offset) + "}";
    advance(tensor.data.size());
  }
  header += "}}";

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
