// SPDX-License-Identifier: Apache-2.0
// seeds: *.gguf
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include <mistral/checkpoint/config.hpp>
#include <mistral/checkpoint/dequantize.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/text/gguf_tokenizer.hpp>
#include <mistral/text/tokenizer.hpp>

#include "../support/clean_message.hpp"

namespace {

// runs what may throw an Error, and nothing else
template <class Read>
void attempt(Read&& read) {
  try {
    read();
  } catch (const mistral::Error& error) {
    mistral::test::check_message(error);
  }
}

// what a reader promises: aligned tensors that lie in the file, each for itself, and values that stay readable
void check(const mistral::Gguf& file, std::span<const std::byte> bytes) {
  const std::byte* end = bytes.data();
  for (const mistral::GgufTensor& tensor : file.tensors()) {
    if (tensor.data.data() < end || tensor.data.data() + tensor.data.size() > bytes.data() + bytes.size()) std::abort();
    end = tensor.data.data() + tensor.data.size();
    if (static_cast<std::size_t>(tensor.data.data() - bytes.data()) % file.alignment() != 0) std::abort();
    if (file.find(tensor.name) != &tensor) std::abort();
    const mistral::GgmlTypeInfo& type = info(tensor.type);
    std::vector<float> row(static_cast<std::size_t>(tensor.shape.back()));
    if (row.size() % type.block != 0 || tensor.data.size() % (row.size() / type.block * type.bytes) != 0) std::abort();
    dequantize_row(tensor.type, tensor.data.data(), row);
  }
  const mistral::GgufMetadata& metadata = file.metadata();
  for (const mistral::GgufEntry& entry : metadata.entries()) {
    if (metadata.find(entry.key) != &entry) std::abort();
    attempt([&] { metadata.integer(entry.key, -1, 100); });
    attempt([&] { metadata.number(entry.key); });
    attempt([&] { metadata.boolean(entry.key); });
    attempt([&] { metadata.string(entry.key); });
    attempt([&] { metadata.strings(entry.key); });
    attempt([&] { metadata.floats(entry.key); });
    attempt([&] { metadata.integers(entry.key, INT64_MIN, INT64_MAX); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const mistral::Gguf file = mistral::Gguf::from_bytes(bytes, "input");
    check(file, bytes);
    attempt([&] {
      const mistral::CheckpointConfig config = mistral::CheckpointConfig::from_gguf(file);
      if (config.n_heads % config.n_kv_heads != 0 || config.head_dim % 2 != 0 || config.head_dim <= 0) std::abort();
    });
    attempt([&] { mistral::Tokenizer(mistral::gguf_tokenizer(file), "input").encode("a b  <s>"); });
  } catch (const mistral::Error& error) {
    mistral::test::check_message(error);
  }
  return 0;
}
