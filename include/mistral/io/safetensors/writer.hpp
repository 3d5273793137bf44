// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/safetensors/safetensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Writes a safetensors file piece by piece, so that a model larger than the memory can be written: the tensors are
/// declared first, then their bytes follow in that order. The file appears with commit(), whole or not at all.
class SafetensorsWriter {
 public:
  using Metadata = std::vector<std::pair<std::string, std::string>>;

  /// Declares the tensors (their `data` is not looked at). Throws Error where two have one name, a name is the format's
  /// own `__metadata__`, or a size is beyond 64 bits.
  SafetensorsWriter(const std::string& path, std::span<const SafetensorsTensor> tensors, const Metadata& metadata = {})
      : file_(path, where), path_(path) {
    JsonWriter json;
    json.begin_object();
    if (!metadata.empty()) {
      json.name("__metadata__").begin_object();
      for (const auto& [key, value] : metadata) json.field(key, value);
      json.end_object();
    }
    std::vector<std::string_view> names{"__metadata__"};
    for (const SafetensorsTensor& tensor : tensors) {
      const auto size = tensor_bytes(tensor.dtype, tensor.shape);
      const std::uint64_t begin = total_;
      if (!size || *size > static_cast<std::uint64_t>(INT64_MAX) - begin) {
        throw error("tensor '" + printable(tensor.name) + "': cannot have the shape " + shape_text(tensor.shape));
      }
      total_ += *size;
      names.push_back(tensor.name);
      json.name(tensor.name).begin_object().field("dtype", info(tensor.dtype).name);
      json.name("shape").literal(shape_text(tensor.shape));
      json.name("data_offsets").values(std::array{begin, total_}).end_object();
    }
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) throw error("tensor '" + printable(*twice) + "': the name is taken");
    std::string header = std::move(json.end_object()).text();
    header.append((8 - header.size() % 8) % 8, ' ');  // the data start at a multiple of 8
    if (header.size() > Safetensors::max_header_bytes) throw error("too many tensors for one file");

    std::string length;
    for (int shift = 0; shift < 64; shift += 8) length += static_cast<char>(header.size() >> shift & 0xff);
    file_.write(length);
    file_.write(header);
  }

  /// The next bytes of the tensors' data, in pieces of any size.
  void write(std::span<const std::byte> bytes) {
    if (bytes.size() > total_ - written_) throw error("more data than the tensors declared");
    file_.write(bytes);
    written_ += bytes.size();
  }

  /// Brings the file to the disk; see AtomicFile::finish. Throws Error where bytes are missing or the disk refuses.
  void finish() {
    if (written_ != total_) {
      throw Error(where, printable(path_, 1000) + ": cannot write", std::to_string(total_) + " bytes of data",
                  std::to_string(written_));
    }
    file_.finish();
  }

  /// Puts the file in its place. Throws Error as finish() does.
  void commit() {
    finish();
    file_.commit();
  }

 private:
  static constexpr std::string_view where = "safetensors";

  Error error(const std::string& what) const {
    return Error(where, printable(path_, 1000) + ": cannot write: " + what);
  }

  AtomicFile file_;
  std::string path_;
  std::uint64_t total_ = 0;
  std::uint64_t written_ = 0;
};

/// Writes a whole file: tensors with their data, in the given order.
inline void write_safetensors(const std::string& path, std::span<const SafetensorsTensor> tensors,
                              const SafetensorsWriter::Metadata& metadata = {}) {
  SafetensorsWriter writer(path, tensors, metadata);
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.data.size() != tensor_bytes(tensor.dtype, tensor.shape)) {
      throw Error("safetensors", printable(path, 1000) + ": tensor '" + printable(tensor.name) + "'",
                  std::to_string(*tensor_bytes(tensor.dtype, tensor.shape)) + " bytes",
                  std::to_string(tensor.data.size()));
    }
    writer.write(tensor.data);
  }
  writer.commit();
}

}}  // namespace mistral
