// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
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
#include <mistral/io/json/json.hpp>
#include <mistral/io/os/mapped_file.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The element types of the safetensors format (https://github.com/huggingface/safetensors, `Dtype`).
enum class DType : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

/// An element type: what the format calls it, and its size in bits.
struct DTypeInfo {
  std::string_view name;
  std::uint64_t bits;
};

inline constexpr DTypeInfo dtype_infos[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},   {"I8", 8},    {"F8_E5M2", 8},
    {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16}, {"BF16", 16}, {"I32", 32},
    {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},    {"I64", 64}, {"U64", 64},
};

constexpr const DTypeInfo& info(DType dtype) noexcept { return dtype_infos[static_cast<std::size_t>(dtype)]; }

/// The element type of a name, none for a name that the format does not know.
constexpr std::optional<DType> dtype_of(std::string_view name) noexcept {
  for (std::size_t i = 0; i < std::size(dtype_infos); ++i) {
    if (dtype_infos[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

/// How many bytes a tensor takes, none where that is no whole number of bytes or more than 64 bits hold.
constexpr std::optional<std::uint64_t> tensor_bytes(DType dtype, std::span<const std::uint64_t> shape) noexcept {
  std::uint64_t bits = info(dtype).bits;
  for (const std::uint64_t size : shape) {
    if (size != 0 && bits > (std::numeric_limits<std::uint64_t>::max)() / size) return std::nullopt;
    bits *= size;
  }
  return bits % 8 == 0 ? std::optional(bits / 8) : std::nullopt;
}

/// `[14336, 4096]`, for messages.
inline std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string text = "[";
  for (const std::uint64_t size : shape) text.append(text.size() > 1 ? ", " : "").append(std::to_string(size));
  return text += "]";
}

/// A tensor of a file: its elements in row-major order, little-endian, at an address of any alignment (use memcpy).
struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> data;  // as many bytes as dtype and shape ask for
};

/// A safetensors file, checked whole when it is opened: the tensors cover the data exactly, without hole or overlap.
/// Every error is an Error `[safetensors] file: ...`.
class Safetensors {
 public:
  static constexpr std::uint64_t max_header_bytes = 100'000'000;  // the reference implementation's limit

  /// Maps the file. Its tensors' data live as long as this object.
  static Safetensors open(const std::string& path) {
    MappedFile mapping = MappedFile::open(path, where);
    Safetensors file(mapping.bytes(), path);
    file.mapping_.emplace(std::move(mapping));
    return file;
  }

  /// Reads a file that is in memory already; `bytes` must outlive this object. Errors call it `file`.
  static Safetensors from_bytes(std::span<const std::byte> bytes, std::string file) {
    return Safetensors(bytes, std::move(file));
  }

  /// All tensors in the order of their data.
  std::span<const SafetensorsTensor> tensors() const noexcept { return tensors_; }

  /// The tensor of that name, null where there is none.
  const SafetensorsTensor* find(std::string_view name) const noexcept {
    const auto found = std::lower_bound(
        by_name_.begin(), by_name_.end(), name,
        [this](std::size_t i, std::string_view wanted) { return std::string_view(tensors_[i].name) < wanted; });
    return found != by_name_.end() && tensors_[*found].name == name ? &tensors_[*found] : nullptr;
  }

  /// The tensor of that name; throws where there is none.
  const SafetensorsTensor& get(std::string_view name) const {
    if (const SafetensorsTensor* const tensor = find(name)) return *tensor;
    throw error("tensor '" + printable(name) + "' is missing");
  }

  /// The text-to-text map that a file may carry, sorted by key.
  std::span<const std::pair<std::string, std::string>> metadata() const noexcept { return metadata_; }

  /// The path, or the name that the bytes came with.
  const std::string& file() const noexcept { return file_; }

  /// Gives back the memory of a tensor's pages, for a loader that has converted it; see MappedFile::release.
  void release(const SafetensorsTensor& tensor) const noexcept {
    if (mapping_) mapping_->release(tensor.data);
  }

 private:
  static constexpr std::string_view where = "safetensors";
  static constexpr std::size_t length_bytes = 8;

  Safetensors(std::span<const std::byte> bytes, std::string file) : file_(std::move(file)) { read(bytes); }

  // a template, so that a program may compile it in one unit for all
  template <class = detail::Once>
  void read(std::span<const std::byte> bytes);

  void read_header(const JsonObject& header, std::span<const std::byte> data) {
    for (const std::string& name : header.names()) {
      if (name == "__metadata__") {
        if (!header.has(name)) continue;
        const JsonObject map = header.object(name);
        for (const std::string& key : map.names()) metadata_.emplace_back(key, map.string(key));
      } else {
        tensors_.push_back(read_tensor(header.object(name, "tensor"), name, data));
      }
    }
  }

  static SafetensorsTensor read_tensor(const JsonObject& entry, const std::string& name,
                                       std::span<const std::byte> data) {
    const std::optional<DType> dtype = dtype_of(entry.string("dtype"));
    if (!dtype) throw entry.unexpected("dtype", "an element type of the format");
    std::vector<std::uint64_t> shape;
    for (const std::int64_t size : entry.integers("shape", 0, (std::numeric_limits<std::int64_t>::max)())) {
      shape.push_back(static_cast<std::uint64_t>(size));
    }
    const auto offsets = entry.integers("data_offsets", 0, static_cast<std::int64_t>(data.size()));
    if (offsets.size() != 2 || offsets[0] > offsets[1]) throw entry.unexpected("data_offsets", "[begin, end]");
    const auto begin = static_cast<std::size_t>(offsets[0]);
    const auto size = static_cast<std::size_t>(offsets[1] - offsets[0]);
    const std::optional<std::uint64_t> expected = tensor_bytes(*dtype, shape);
    if (expected != size) {
      throw entry.error(std::string(info(*dtype).name) + " " + printable(shape_text(shape)) + ": expected " +
                        (expected ? std::to_string(*expected) : "another number of") + " bytes, got " +
                        std::to_string(size));
    }
    return {name, *dtype, std::move(shape), data.subspan(begin, size)};
  }

  /// Sorts the tensors by their place and holds them against the data, which they must cover exactly.
  void check_coverage(std::span<const std::byte> data) {
    std::sort(tensors_.begin(), tensors_.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
      const auto key = [](const SafetensorsTensor& t) { return std::pair(t.data.data(), t.data.size()); };
      return key(a) != key(b) ? key(a) < key(b) : a.name < b.name;
    });
    std::size_t covered = 0;
    for (const SafetensorsTensor& tensor : tensors_) {
      const auto begin = static_cast<std::size_t>(tensor.data.data() - data.data());
      if (begin != covered) {
        throw Error(where,
                    printable(file_, 1000) + ": tensor '" + printable(tensor.name) + "' " +
                        (begin < covered ? "overlaps another" : "comes after a hole"),
                    "begin " + std::to_string(covered), std::to_string(begin));
      }
      covered += tensor.data.size();
    }
    if (covered != data.size()) {
      throw Error(where, printable(file_, 1000) + ": the data after the header", std::to_string(covered) + " bytes",
                  std::to_string(data.size()));
    }
  }

  Error error(std::string_view what) const { return Error(where, printable(file_, 1000).append(": ").append(what)); }

  std::string file_;
  std::optional<MappedFile> mapping_;
  std::vector<SafetensorsTensor> tensors_;
  std::vector<std::size_t> by_name_;  // places in tensors_, sorted by name
  std::vector<std::pair<std::string, std::string>> metadata_;
};

template <class>
void Safetensors::read(std::span<const std::byte> bytes) {
  refuse_foreign(bytes, FileKind::safetensors, where, printable(file_, 1000), "a safetensors file");
  if (bytes.size() < length_bytes) {
    throw Error(where, printable(file_, 1000) + ": the file", "at least 8 bytes", std::to_string(bytes.size()));
  }
  std::uint64_t header_bytes = 0;
  for (std::size_t i = length_bytes; i-- > 0;) {
    header_bytes = header_bytes << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  }
  bytes = bytes.subspan(length_bytes);
  const std::uint64_t limit = (std::min<std::uint64_t>)(bytes.size(), max_header_bytes);
  if (header_bytes > limit) {
    throw Error(where, printable(file_, 1000) + ": the header", "at most " + std::to_string(limit) + " bytes",
                std::to_string(header_bytes));
  }
  const auto header = bytes.first(static_cast<std::size_t>(header_bytes));
  const auto data = bytes.subspan(header.size());
  if (header.empty() || header[0] != std::byte{'{'}) throw error("the header does not start with '{'");
  read_header(JsonObject::parse(header, where, file_), data);
  check_coverage(data);

  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
  std::sort(by_name_.begin(), by_name_.end(),
            [this](std::size_t a, std::size_t b) { return tensors_[a].name < tensors_[b].name; });
}

}}  // namespace mistral
