// SPDX-License-Identifier: Apache-2.0
// seeds: *.mistral
// The project holds one in tests/fuzz/packed.
// Reads the input as a packed file, once as it is and once with a preamble that is right: few inputs would pass the
// header's checksum otherwise.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>

#include <mistral/checkpoint/config.hpp>
#include <mistral/io/packed/packed_file.hpp>
#include <mistral/text/tokenizer.hpp>

#include "../support/clean_message.hpp"

namespace {

using mistral::PackedFile;

// runs what may throw an Error, and nothing else
template <class Read>
void attempt(Read&& read) {
  try {
    read();
  } catch (const mistral::Error& error) {
    mistral::test::check_message(error);
  }
}

// what a reader promises: tensors that lie in the file, aligned, each for itself, as large as their shapes
void check(const PackedFile& file, std::span<const std::byte> bytes) {
  const std::byte* end = bytes.data();
  for (const mistral::PackedTensor& tensor : file.tensors()) {
    if (tensor.data.data() < end || tensor.data.data() + tensor.data.size() > bytes.data() + bytes.size()) std::abort();
    end = tensor.data.data() + tensor.data.size();
    if (static_cast<std::size_t>(tensor.data.data() - bytes.data()) % PackedFile::alignment != 0) std::abort();
    if (file.find(tensor.name) != &tensor) std::abort();
    if (tensor.shape.size() == 1 && tensor.data.size() != tensor.shape[0] * sizeof(float)) std::abort();
  }
  attempt([&] { file.verify(); });
  attempt([&] { mistral::CheckpointConfig::from_packed(file); });
  attempt([&] { mistral::Tokenizer::from_bytes(bytes, "input").encode("a b  <s>"); });
}

void read(std::span<const std::byte> bytes) {
  attempt([&] { check(PackedFile::from_bytes(bytes, "input"), bytes); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  read(std::as_bytes(std::span(bytes)));
  if (size < PackedFile::preamble_bytes) return 0;
  const auto put = [&](std::size_t at, auto value) { std::memcpy(bytes.data() + at, &value, sizeof value); };
  std::memcpy(bytes.data(), PackedFile::magic.data(), PackedFile::magic.size());
  put(8, std::uint64_t{PackedFile::head.version});
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data() + 16, sizeof header);
  header = std::min<std::uint64_t>(header, size - PackedFile::preamble_bytes);
  put(16, header);
  put(24, mistral::checksum(
              std::as_bytes(std::span(bytes)).subspan(PackedFile::preamble_bytes, static_cast<std::size_t>(header))));
  read(std::as_bytes(std::span(bytes)));
  return 0;
}
