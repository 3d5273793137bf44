// SPDX-License-Identifier: Apache-2.0
// seeds: *.safetensors
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include <mistral/io/safetensors/safetensors.hpp>

#include "../support/clean_message.hpp"

namespace {

// what a reader promises: the tensors lie in the data, one after the other, and each is found by its name
void check(const mistral::Safetensors& file, std::span<const std::byte> bytes) {
  const std::byte* end = nullptr;
  unsigned sum = 0;
  for (const mistral::SafetensorsTensor& tensor : file.tensors()) {
    if (end != nullptr && tensor.data.data() != end) std::abort();
    end = tensor.data.data() + tensor.data.size();
    if (mistral::tensor_bytes(tensor.dtype, tensor.shape) != tensor.data.size()) std::abort();
    if (file.find(tensor.name) != &tensor) std::abort();
    for (const std::byte byte : tensor.data) sum += std::to_integer<unsigned>(byte);
  }
  if (end != nullptr && end != bytes.data() + bytes.size()) std::abort();
  [[maybe_unused]] static volatile unsigned sink;
  sink = sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    check(mistral::Safetensors::from_bytes(bytes, "input"), bytes);
  } catch (const mistral::Error& error) {
    mistral::test::check_message(error);
  }
  return 0;
}
