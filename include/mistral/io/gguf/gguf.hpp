// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/once.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/file_kind.hpp>
#include <mistral/io/gguf/ggml_types.hpp>
#include <mistral/io/gguf/metadata.hpp>
#include <mistral/io/os/mapped_file.hpp>
#include <mistral/io/safetensors/safetensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A tensor of a GGUF file, in row-major order as everywhere in this library: the outermost size first, the reverse of
/// the file's. A row is a whole number of blocks of its type. The data stand at an address of any alignment.
struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::f32;
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> data;  ///< as many bytes as type and shape ask for
};

/// Whether bytes start as a GGUF file does.
inline bool starts_as_gguf(std::span<const std::byte> bytes) noexcept {
  static constexpr std::byte magic[] = {std::byte{'G'}, std::byte{'G'}, std::byte{'U'}, std::byte{'F'}};
  return bytes.size() >= sizeof magic && std::equal(std::begin(magic), std::end(magic), bytes.begin());
}

/// Whether the file at `path` can be read and starts as a GGUF file does.
inline bool is_gguf_file(const std::string& path) noexcept { return file_starts_with(path, "GGUF"); }

/// A GGUF file of version 2 or 3, little-endian, checked whole when it is opened
/// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Every error is an Error `[gguf] file: ...`.
class Gguf {
 public:
  static constexpr std::uint64_t default_alignment = 32;
  static constexpr std::size_t max_name_bytes = 64;
  static constexpr std::size_t max_dimensions = 4;

  /// Maps the file. Its metadata's strings and its tensors' data live as long as this object.
  static Gguf open(const std::string& path) {
    MappedFile mapping = MappedFile::open(path, where);
    Gguf file(mapping.bytes(), path);
    file.mapping_.emplace(std::move(mapping));
    return file;
  }

  /// Reads a file that is in memory already; `bytes` must outlive this object. Errors call it `file`.
  static Gguf from_bytes(std::span<const std::byte> bytes, std::string file) { return Gguf(bytes, std::move(file)); }

  const GgufMetadata& metadata() const noexcept { return metadata_; }

  /// 2 or 3.
  std::uint32_t version() const noexcept { return version_; }

  /// Returns the number that the offsets of the tensors' data are multiples of.
  std::uint64_t alignment() const noexcept { return alignment_; }

  /// All tensors in the order of their data.
  std::span<const GgufTensor> tensors() const noexcept { return tensors_; }

  /// The tensor of that name, null where there is none.
  const GgufTensor* find(std::string_view name) const noexcept {
    const auto found = std::lower_bound(
        by_name_.begin(), by_name_.end(), name,
        [this](std::size_t i, std::string_view wanted) { return std::string_view(tensors_[i].name) < wanted; });
    return found != by_name_.end() && tensors_[*found].name == name ? &tensors_[*found] : nullptr;
  }

  /// The tensor of that name; throws where there is none.
  const GgufTensor& get(std::string_view name) const {
    if (const GgufTensor* const tensor = find(name)) return *tensor;
    throw Error(where, what(name) + " is missing");
  }

  /// The path, or the name that the bytes came with.
  const std::string& file() const noexcept { return file_; }

  /// Gives back the memory of a tensor's pages, for a loader that has converted it; see MappedFile::release.
  void release(const GgufTensor& tensor) const noexcept {
    if (mapping_) mapping_->release(tensor.data);
  }

 private:
  static constexpr std::string_view where = "gguf";
  // the least that an entry of the metadata takes, a tensor's description: names of one byte, one dimension
  static constexpr std::uint64_t smallest_entry = 8 + 1 + 4 + 1;
  static constexpr std::uint64_t smallest_tensor = 8 + 1 + 4 + 8 + 4 + 8;

  struct Description {
    GgufTensor tensor;
    std::uint64_t offset;  // of the data, from where they begin
    std::uint64_t bytes;
  };

  Gguf(std::span<const std::byte> bytes, std::string file) : file_(std::move(file)), metadata_({}, "") { read(bytes); }

  // a template, so that a program may compile it in one unit for all
  template <class = detail::Once>
  void read(std::span<const std::byte> bytes);

  void read_alignment() {
    constexpr std::string_view key = "general.alignment";
    if (!metadata_.has(key)) return;
    alignment_ = static_cast<std::uint64_t>(metadata_.integer(key, 1, (std::numeric_limits<std::uint32_t>::max)()));
    if (!std::has_single_bit(alignment_)) throw metadata_.unexpected(key, "a power of two");
  }

  Description read_description(detail::GgufCursor& cursor) const {
    const std::string_view name = cursor.string("a tensor's name");
    if (name.empty() || name.size() > max_name_bytes) {
      throw Error(where, what(name) + ": the name", "1 ... " + std::to_string(max_name_bytes) + " bytes",
                  std::to_string(name.size()));
    }
    const auto fail = [&](std::string_view expected, std::string_view found) {
      return Error(where, what(name), expected, found);
    };
    const auto dimensions = cursor.number<std::uint32_t>("a tensor's number of dimensions");
    if (dimensions == 0 || dimensions > max_dimensions) {
      throw fail("1 ... " + std::to_string(max_dimensions) + " dimensions", std::to_string(dimensions));
    }
    std::vector<std::uint64_t> shape(dimensions);
    for (std::size_t i = shape.size(); i-- > 0;) shape[i] = cursor.number<std::uint64_t>("a tensor's dimensions");
    const auto number = cursor.number<std::uint32_t>("a tensor's type");
    if (!is_ggml_type(number)) throw fail("a type of " + ggml_type_names(), ggml_type_text(number));
    const auto type = static_cast<GgmlType>(number);
    const auto offset = cursor.number<std::uint64_t>("a tensor's offset");

    std::uint64_t elements = 1;
    for (const std::uint64_t size : shape) {
      if (size == 0 || elements > static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)()) / size) {
        throw fail("sizes that are positive and fit 63 bits together", shape_text(shape));
      }
      elements *= size;
    }
    if (shape.back() % info(type).block != 0) {
      throw fail("rows of a multiple of " + std::to_string(info(type).block) + " for " + std::string(info(type).name),
                 shape_text(shape));
    }
    // at most 4 bytes an element, so that 63 bits of elements may overflow here
    const std::uint64_t blocks = elements / info(type).block;
    if (blocks > (std::numeric_limits<std::uint64_t>::max)() / info(type).bytes) {
      throw fail("sizes that are positive and fit 63 bits together", shape_text(shape));
    }
    return {{std::string(name), type, std::move(shape), {}}, offset, blocks * info(type).bytes};
  }

  /// Gives each tensor its part of the data: aligned, inside, and nobody else's.
  void place(std::vector<Description> descriptions, std::span<const std::byte> data) {
    std::sort(descriptions.begin(), descriptions.end(), [](const Description& a, const Description& b) {
      return a.offset != b.offset ? a.offset < b.offset : a.tensor.name < b.tensor.name;
    });
    std::uint64_t taken = 0;
    for (Description& d : descriptions) {
      const std::string name = what(d.tensor.name);
      if (d.offset % alignment_ != 0) {
        throw Error(where, name + ": the offset", "a multiple of " + std::to_string(alignment_),
                    std::to_string(d.offset));
      }
      if (d.offset > data.size() || d.bytes > data.size() - d.offset) {
        throw Error(where, name + ": " + std::to_string(d.bytes) + " bytes at offset " + std::to_string(d.offset),
                    "at most " + std::to_string(data.size()) + " bytes of data", "a tensor past their end");
      }
      if (d.offset < taken) {
        throw Error(where, name + " overlaps another", "an offset of at least " + std::to_string(taken),
                    std::to_string(d.offset));
      }
      taken = d.offset + d.bytes;
      d.tensor.data = data.subspan(static_cast<std::size_t>(d.offset), static_cast<std::size_t>(d.bytes));
      tensors_.push_back(std::move(d.tensor));
    }
  }

  void check_names() {
    by_name_.resize(tensors_.size());
    std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
    std::sort(by_name_.begin(), by_name_.end(),
              [this](std::size_t a, std::size_t b) { return tensors_[a].name < tensors_[b].name; });
    for (std::size_t i = 1; i < by_name_.size(); ++i) {
      const std::string& name = tensors_[by_name_[i]].name;
      if (tensors_[by_name_[i - 1]].name == name) throw Error(where, what(name) + " is there twice");
    }
  }

  std::string what(std::string_view tensor) const {
    return printable(file_, 1000).append(": tensor '").append(printable(tensor)).append("'");
  }

  std::string file_;
  std::optional<MappedFile> mapping_;
  GgufMetadata metadata_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = default_alignment;
  std::vector<GgufTensor> tensors_;
  std::vector<std::size_t> by_name_;  // places in tensors_, sorted by name
};

template <class>
void Gguf::read(std::span<const std::byte> bytes) {
  const std::string name = printable(file_, 1000);
  detail::GgufCursor cursor(bytes, name);
  if (!starts_as_gguf(bytes)) {
    refuse_foreign(bytes, FileKind::gguf, where, name, "a GGUF file");
    const auto start = bytes.first(std::min<std::size_t>(bytes.size(), 4));
    throw Error(where, name + ": the magic", "'GGUF'",
                "'" + printable({reinterpret_cast<const char*>(start.data()), start.size()}) + "'");
  }
  cursor.take(4, "the magic");
  version_ = cursor.number<std::uint32_t>("the version");
  if (version_ != 2 && version_ != 3) {
    const bool swapped = (version_ & 0xffffu) == 0 && version_ != 0;
    throw Error(where, name + ": the version", "2 or 3, little-endian",
                swapped ? "a big-endian file" : std::to_string(version_));
  }
  const std::uint64_t tensor_count = cursor.count(smallest_tensor, "the number of tensors");
  const std::uint64_t entry_count = cursor.count(smallest_entry, "the number of keys");
  std::vector<GgufEntry> entries;
  for (std::uint64_t i = 0; i < entry_count; ++i) entries.push_back(cursor.entry());
  metadata_ = GgufMetadata(std::move(entries), name);
  read_alignment();

  std::vector<Description> descriptions;
  for (std::uint64_t i = 0; i < tensor_count; ++i) descriptions.push_back(read_description(cursor));
  const std::uint64_t padding = (alignment_ - cursor.position() % alignment_) % alignment_;
  if (tensor_count > 0) {
    cursor.take(padding, "the padding in front of the data");
    place(std::move(descriptions), bytes.subspan(cursor.position()));
  }
  check_names();
}

}}  // namespace mistral
