// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mistral::test {

/// The bytes of an integer or a float, as GGUF holds it.
template <class T>
std::string le(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// A string of GGUF: its length, then its characters.
inline std::string gguf_string(std::string_view text) { return le(std::uint64_t{text.size()}).append(text); }

/// An entry of GGUF's metadata: the number of a type, then the value's bytes.
inline std::string gguf_entry(std::string_view key, std::uint32_t type, std::string_view value) {
  return gguf_string(key).append(le(type)).append(value);
}
inline std::string gguf_entry(std::string_view key, std::string_view text) {
  return gguf_entry(key, 8, gguf_string(text));
}
inline std::string gguf_u32(std::string_view key, std::uint32_t value) { return gguf_entry(key, 4, le(value)); }
inline std::string gguf_f32(std::string_view key, float value) { return gguf_entry(key, 6, le(value)); }

/// An array of GGUF, as the value of an entry of type 9: the elements' type, their number, their bytes.
inline std::string gguf_array(std::uint32_t element, std::uint64_t count, std::string_view bytes) {
  return le(element).append(le(count)).append(bytes);
}

/// A GGUF file put together by hand, each part of which a test may get wrong.
struct GgufBuilder {
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> sizes;  // as the file holds them: the innermost first
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
  };

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::vector<std::string> entries;
  std::vector<Tensor> tensors;
  std::optional<std::uint64_t> entry_count;   // none: the number there are
  std::optional<std::uint64_t> tensor_count;  // the same
  std::uint64_t alignment = 32;               // of the data; the entry that says so is the test's
  std::string data;

  static std::string description(const Tensor& tensor) {
    std::string bytes = gguf_string(tensor.name).append(le(static_cast<std::uint32_t>(tensor.sizes.size())));
    for (const std::uint64_t size : tensor.sizes) bytes += le(size);
    return bytes.append(le(tensor.type)).append(le(tensor.offset));
  }

  std::string bytes() const {
    std::string file =
        magic + le(version) + le(tensor_count.value_or(tensors.size())) + le(entry_count.value_or(entries.size()));
    for (const std::string& entry : entries) file += entry;
    for (const Tensor& tensor : tensors) file += description(tensor);
    if (!data.empty()) file.append((alignment - file.size() % alignment) % alignment, '\0');
    return file + data;
  }
};

}  // namespace mistral::test
