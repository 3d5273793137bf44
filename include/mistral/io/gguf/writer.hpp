// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/gguf/ggml_types.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/io/gguf/metadata.hpp>
#include <mistral/io/os/atomic_file.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Metadata of a GGUF file to be written: keys and values in the order of the calls. That no key comes twice is up to
/// the caller.
class GgufMetadataWriter {
 public:
  void u32(std::string_view key, std::uint32_t value) { entry(key, GgufType::u32).number(value); }
  void f32(std::string_view key, float value) { entry(key, GgufType::f32).number(value); }
  void boolean(std::string_view key, bool value) { entry(key, GgufType::boolean).number(std::uint8_t{value}); }
  void string(std::string_view key, std::string_view value) { entry(key, GgufType::string).text(value); }

  void strings(std::string_view key, std::span<const std::string_view> values) {
    array(key, GgufType::string, values.size());
    for (const std::string_view value : values) text(value);
  }
  void floats(std::string_view key, std::span<const float> values) {
    array(key, GgufType::f32, values.size());
    for (const float value : values) number(value);
  }
  void integers(std::string_view key, std::span<const std::int32_t> values) {
    array(key, GgufType::i32, values.size());
    for (const std::int32_t value : values) number(value);
  }
  void octets(std::string_view key, std::string_view values) {
    array(key, GgufType::u8, values.size());
    bytes_.append(values);
  }

  /// An entry of another file, as it is.
  void copy(const GgufEntry& from) {
    if (from.type == GgufType::array) {
      array(from.key, from.element, from.count);
    } else {
      entry(from.key, from.type);
    }
    if (from.type == GgufType::string) number(std::uint64_t{from.bytes.size()});
    bytes_.append(reinterpret_cast<const char*>(from.bytes.data()), from.bytes.size());
  }

  /// Takes over what another writer holds.
  void append(const GgufMetadataWriter& other) {
    bytes_ += other.bytes_;
    count_ += other.count_;
  }

  bool empty() const noexcept { return count_ == 0; }

  /// The start of a file of version 3: this metadata, and the tensors at aligned places one after the other.
  std::string header(std::span<const GgufTensor> tensors) const {
    GgufMetadataWriter head;
    head.bytes_ = "GGUF";
    head.number(std::uint32_t{3});
    head.number(std::uint64_t{tensors.size()});
    head.number(std::uint64_t{count_});
    head.bytes_ += bytes_;
    std::uint64_t offset = 0;
    for (const GgufTensor& tensor : tensors) {
      head.text(tensor.name);
      head.number(static_cast<std::uint32_t>(tensor.shape.size()));
      for (std::size_t i = tensor.shape.size(); i-- > 0;) head.number(tensor.shape[i]);
      head.number(static_cast<std::uint32_t>(tensor.type));
      head.number(offset);
      offset += aligned(bytes_of(tensor));
    }
    return std::move(head.bytes_);
  }

  static std::uint64_t aligned(std::uint64_t offset) noexcept {
    return (offset + Gguf::default_alignment - 1) / Gguf::default_alignment * Gguf::default_alignment;
  }

  /// Bytes of a tensor's data. Its rows are whole blocks.
  static std::uint64_t bytes_of(const GgufTensor& tensor) noexcept {
    std::uint64_t elements = 1;
    for (const std::uint64_t size : tensor.shape) elements *= size;
    return elements / info(tensor.type).block * info(tensor.type).bytes;
  }

 private:
  GgufMetadataWriter& entry(std::string_view key, GgufType type) {
    ++count_;
    text(key);
    number(static_cast<std::uint32_t>(type));
    return *this;
  }
  void array(std::string_view key, GgufType element, std::uint64_t count) {
    entry(key, GgufType::array).number(static_cast<std::uint32_t>(element));
    number(count);
  }
  void text(std::string_view value) {
    number(std::uint64_t{value.size()});
    bytes_.append(value);
  }
  template <class T>
  void number(T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    bytes_.append(bytes, sizeof bytes);
  }

  std::string bytes_;
  std::uint64_t count_ = 0;
};

/// Writes a GGUF file piece by piece, so that a model larger than the memory can be written: the tensors are declared
/// first, then their bytes follow in that order. The file appears with commit(), whole or not at all.
class GgufWriter {
 public:
  /// Declares the tensors (their `data` is not looked at): rows of whole blocks. Throws Error where a name is longer
  /// than the format's 64 bytes, or a row isn't whole blocks.
  GgufWriter(const std::string& path, const GgufMetadataWriter& metadata, std::span<const GgufTensor> tensors)
      : file_(path, where), path_(path) {
    for (const GgufTensor& tensor : tensors) {
      const bool whole = !tensor.shape.empty() && tensor.shape.back() % info(tensor.type).block == 0;
      if (!whole || tensor.name.size() > Gguf::max_name_bytes) {
        throw error("tensor '" + printable(tensor.name) + "': a name or a shape that the format doesn't have");
      }
      left_.push_back(GgufMetadataWriter::bytes_of(tensor));
    }
    const std::string header = metadata.header(tensors);
    file_.write(header);
    if (!tensors.empty()) pad(header.size());
  }

  /// The next bytes of the current tensor's data, in pieces of any size.
  void write(std::span<const std::byte> bytes) {
    if (tensor_ == left_.size() || bytes.size() > left_[tensor_]) throw error("more data than the tensor declared");
    file_.write(bytes);
    written_ += bytes.size();
    left_[tensor_] -= bytes.size();
    if (left_[tensor_] > 0) return;
    pad(std::exchange(written_, 0));
    ++tensor_;
  }

  /// Puts the file in its place. Throws Error where bytes are missing or the disk refuses.
  void commit() {
    if (tensor_ != left_.size()) throw error("less data than the tensors declared");
    file_.commit();
  }

 private:
  static constexpr std::string_view where = "gguf";

  void pad(std::uint64_t position) {
    file_.write(std::string(static_cast<std::size_t>(GgufMetadataWriter::aligned(position) - position), '\0'));
  }

  Error error(const std::string& what) const {
    return Error(where, printable(path_, 1000) + ": cannot write: " + what);
  }

  AtomicFile file_;
  std::string path_;
  std::vector<std::uint64_t> left_;  // bytes of each tensor that are still to come
  std::size_t tensor_ = 0;           // the current one
  std::uint64_t written_ = 0;        // of its bytes
};

}}  // namespace mistral
