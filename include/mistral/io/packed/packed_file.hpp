// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/format/layout.hpp>
#include <mistral/io/checksum.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/os/mapped_file.hpp>
#include <mistral/io/packed/file_head.hpp>
#include <mistral/io/safetensors/safetensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The facts that tell whether panels in a file are the panels of a format in memory.
struct PackedLayout {
  std::string format;  ///< `Q4_0`
  std::uint64_t panel_rows = 0;
  std::uint64_t block_inputs = 0;
  std::uint64_t block_bytes = 0;
  std::string fingerprint;  ///< see layout_fingerprint

  friend bool operator==(const PackedLayout&, const PackedLayout&) = default;
};

/// How this library lays out the panels of a format.
template <WeightFormat F>
PackedLayout packed_layout() {
  return {std::string(F::name), panel_rows, F::block_inputs, F::block_bytes, checksum_text(layout_fingerprint<F>())};
}

/// A weight of a packed file, by Mistral's name: a matrix's panels, or a norm's floats.
struct PackedTensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> data;
  std::uint64_t checksum = 0;
  std::optional<std::uint64_t> digest = {};  ///< a matrix's, as Panels has it
};

/// A model as it lies in memory, in a file of this library's own, so that it can be used where the file is mapped. The
/// same file serves every instruction set: panels are the same bytes on all of them. Little-endian:
///
///   32 bytes  what FileHead says, of the magic "MISTRAL\x1a"
///   header    JSON: {"config": {...}, "layout": {...}, "tokenizer": {"offset", "bytes", "checksum"},
///             "tensors": {name: {"shape", "offset", "bytes", "checksum", "digest"}}}; a file may lack the tokenizer,
///             norms have no digest, and nor have matrices of files of before it was written
///   data      from the next multiple of 4096, which offsets count from, and are multiples of
///
/// Opening checks everything but the data's checksums, which verify() does: they take as long as reading the file.
/// Every error is an Error `[packed] file: ...`.
class PackedFile {
 public:
  static constexpr std::string_view magic{"MISTRAL\x1a", 8};
  static constexpr std::size_t preamble_bytes = FileHead::preamble_bytes;
  static constexpr std::uint64_t alignment = 4096;  // a page of most machines
  static constexpr FileHead head{.where = "packed",
                                 .magic = magic,
                                 .version = 1,
                                 .max_header_bytes = 100'000'000,
                                 .remedy = "pack the checkpoint again"};

  /// The next multiple of the alignment.
  static constexpr std::uint64_t aligned(std::uint64_t offset) noexcept {
    return (offset + alignment - 1) / alignment * alignment;
  }

  /// Maps the file. Its data live as long as owner().
  static PackedFile open(const std::string& path) {
    auto mapping = std::make_shared<const MappedFile>(MappedFile::open(path, where));
    PackedFile file(mapping->bytes(), path);
    file.mapping_ = std::move(mapping);
    return file;
  }

  /// Reads a file that is in memory already; `bytes` must outlive this object. Errors call it `file`.
  static PackedFile from_bytes(std::span<const std::byte> bytes, std::string file) {
    return PackedFile(bytes, std::move(file));
  }

  /// The fields of the model's config.
  const JsonObject& config() const noexcept { return config_; }

  const PackedLayout& layout() const noexcept { return layout_; }

  /// All weights in the order of their data.
  std::span<const PackedTensor> tensors() const noexcept { return tensors_; }

  /// The weight of that name, null where there is none.
  const PackedTensor* find(std::string_view name) const noexcept {
    for (const PackedTensor& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }

  /// The weight of that name; throws where there is none.
  const PackedTensor& get(std::string_view name) const {
    if (const PackedTensor* const tensor = find(name)) return *tensor;
    throw Error(where, what(name) + " is missing");
  }

  /// Returns a tokenizer as Tokenizer::from_bytes takes it, a tokenizer.model or GGUF metadata; empty where the file
  /// has none.
  std::span<const std::byte> tokenizer() const noexcept { return tokenizer_.data; }

  /// Keeps the mapped file's bytes alive; null for from_bytes.
  std::shared_ptr<const void> owner() const noexcept { return mapping_; }

  /// Asks the system to bring in the whole file while the caller goes on.
  void prefetch() const noexcept {
    if (mapping_) mapping_->prefetch(mapping_->bytes());
  }

  /// Reads all data and holds them against their checksums. Throws Error for the first that differ.
  void verify() const {
    if (!tokenizer_.data.empty()) verify(tokenizer_, name_ + ": the tokenizer");
    for (const PackedTensor& tensor : tensors_) verify(tensor, what(tensor.name));
  }

  /// The path, or the name that the bytes came with.
  const std::string& file() const noexcept { return file_; }

 private:
  static constexpr std::string_view where = head.where;
  static constexpr std::int64_t max_integer = (std::numeric_limits<std::int64_t>::max)();

  PackedFile(std::span<const std::byte> bytes, std::string file)
      : file_(std::move(file)), name_(printable(file_, 1000)), config_(read(bytes)) {}

  // gives the config, the last member that has no value without a file
  JsonObject read(std::span<const std::byte> bytes) {
    const std::span<const std::byte> header = head.read(bytes, name_);
    const std::uint64_t begin = (std::min<std::uint64_t>)(aligned(preamble_bytes + header.size()), bytes.size());
    return read_header(JsonObject::parse(header, where, file_), bytes.subspan(static_cast<std::size_t>(begin)));
  }

  JsonObject read_header(const JsonObject& header, std::span<const std::byte> data) {
    const JsonObject layout = header.object("layout");
    layout_.format = layout.string("format");
    layout_.panel_rows = static_cast<std::uint64_t>(layout.integer("panel_rows", 1, max_integer));
    layout_.block_inputs = static_cast<std::uint64_t>(layout.integer("block_inputs", 1, max_integer));
    layout_.block_bytes = static_cast<std::uint64_t>(layout.integer("block_bytes", 1, max_integer));
    layout_.fingerprint = layout.string("fingerprint");
    if (header.has("tokenizer")) tokenizer_ = read_part(header.object("tokenizer"), data);
    const JsonObject tensors = header.object("tensors");
    for (const std::string& name : tensors.names()) {
      const JsonObject entry = tensors.object(name, "tensor");
      PackedTensor tensor = read_part(entry, data);
      tensor.name = name;
      for (const std::int64_t size : entry.integers("shape", 1, max_integer)) {
        tensor.shape.push_back(static_cast<std::uint64_t>(size));
      }
      check_bytes(entry, tensor);
      tensors_.push_back(std::move(tensor));
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const PackedTensor& a, const PackedTensor& b) { return a.data.data() < b.data.data(); });
    for (std::size_t i = 1; i < tensors_.size(); ++i) {
      const std::span<const std::byte> before = tensors_[i - 1].data;
      if (tensors_[i].data.data() < before.data() + before.size()) {
        throw Error(where, what(tensors_[i].name) + " overlaps '" + printable(tensors_[i - 1].name) + "'");
      }
    }
    return header.object("config");
  }

  static PackedTensor read_part(const JsonObject& entry, std::span<const std::byte> data) {
    const auto size = static_cast<std::int64_t>(data.size());
    const std::int64_t offset = entry.integer("offset", 0, size);
    if (static_cast<std::uint64_t>(offset) % alignment != 0) {
      throw entry.unexpected("offset", "a multiple of " + std::to_string(alignment));
    }
    // a file that was cut ends here
    const std::int64_t count = entry.integer("bytes", 1, size - offset);
    const auto number = [&](const char* field) {
      const std::string& digits = entry.string(field);
      std::uint64_t sum = 0;
      for (const char c : digits) {
        const std::size_t digit = std::string_view("0123456789abcdef").find(c);
        if (digit == std::string_view::npos || digits.size() != 16) {
          throw entry.unexpected(field, "16 hexadecimal digits");
        }
        sum = sum << 4 | digit;
      }
      return sum;
    };
    PackedTensor part{
        {}, {}, data.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(count)), number("checksum")};
    if (entry.has("digest")) part.digest = number("digest");
    return part;
  }

  /// Holds a tensor's bytes against its shape: a matrix in panels, or a vector of floats.
  void check_bytes(const JsonObject& entry, const PackedTensor& tensor) const {
    const auto& shape = tensor.shape;
    if (shape.empty() || shape.size() > 2) throw entry.unexpected("shape", "one size or two");
    const bool matrix = shape.size() == 2;
    const auto ceil_of = [](std::uint64_t x, std::uint64_t divisor) { return (x - 1) / divisor + 1; };
    std::uint64_t left = tensor.data.size();  // per panel, per block; 0 where they don't come out even
    const std::uint64_t factors[] = {matrix ? ceil_of(shape[0], layout_.panel_rows) : shape[0],
                                     matrix ? ceil_of(shape[1], layout_.block_inputs) : 1};
    for (const std::uint64_t factor : factors) left = left % factor == 0 ? left / factor : 0;
    if (left != (matrix ? layout_.block_bytes : sizeof(float))) {
      throw entry.unexpected("bytes", "what " + shape_text(shape) + " takes in " + printable(layout_.format, 40));
    }
  }

  static void verify(const PackedTensor& part, const std::string& what) {
    FileHead::check_sum(where, what + ": the checksum", part.checksum, part.data);
  }

  std::string what(std::string_view tensor) const { return name_ + ": tensor '" + printable(tensor) + "'"; }

  std::string file_;
  std::string name_;  // the file's, fit for a line
  std::shared_ptr<const MappedFile> mapping_;
  PackedLayout layout_;
  PackedTensor tokenizer_;
  std::vector<PackedTensor> tensors_;
  JsonObject config_;
};

/// Whether bytes start as a packed file does.
inline bool starts_as_packed(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= PackedFile::magic.size() &&
         std::memcmp(bytes.data(), PackedFile::magic.data(), PackedFile::magic.size()) == 0;
}

/// Whether the file at `path` can be read and starts as a packed file does.
inline bool is_packed_file(const std::string& path) noexcept { return file_starts_with(path, PackedFile::magic); }

}}  // namespace mistral
