// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/safetensors/writer.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "../support/data.hpp"
#include "../support/scratch.hpp"

namespace {

using mistral::DType;
using mistral::Safetensors;
using mistral::SafetensorsTensor;
using mistral::SafetensorsWriter;
using mistral::test::error_of;
using mistral::test::Scratch;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

}  // namespace

TEST_CASE("what is written reads back, data at a multiple of 8") {
  const Scratch scratch;
  const std::string data = "0123456789abcdef";
  for (const std::string& name : {std::string("a"), std::string("ab"), std::string("quo\"te\n")}) {
    const std::vector<SafetensorsTensor> tensors{{name, DType::f32, {2, 1}, bytes_of(data).first(8)},
                                                 {"other", DType::bf16, {4}, bytes_of(data).last(8)},
                                                 {"empty", DType::f16, {0, 3}, {}}};
    write_safetensors(scratch.path("f"), tensors, {{"format", "pt"}, {"k\\", "v\""}});
    const Safetensors file = Safetensors::open(scratch.path("f"));
    REQUIRE(file.tensors().size() == 3);
    for (const SafetensorsTensor& tensor : tensors) {
      const SafetensorsTensor& back = file.get(tensor.name);
      CHECK(back.dtype == tensor.dtype);
      CHECK(back.shape == tensor.shape);
      CHECK(std::equal(back.data.begin(), back.data.end(), tensor.data.begin(), tensor.data.end()));
    }
    CHECK(file.metadata()[1] == std::pair<std::string, std::string>("k\\", "v\""));
    CHECK(reinterpret_cast<std::uintptr_t>(file.tensors()[0].data.data()) % 8 == 0);
  }
}

TEST_CASE("no tensors make a file too") {
  const Scratch scratch;
  mistral::write_safetensors(scratch.path("f"), {});
  CHECK(scratch.read("f") == std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
}

TEST_CASE("a golden checkpoint written again holds the same tensors") {
  const std::filesystem::path path = mistral::test::golden("forward/odd_w5_bf16/hf/model.safetensors");
  if (path.empty()) return;
  const Scratch scratch;
  const Safetensors golden = Safetensors::open(path.string());
  mistral::write_safetensors(scratch.path("f"), golden.tensors());
  const Safetensors copy = Safetensors::open(scratch.path("f"));
  REQUIRE(copy.tensors().size() == golden.tensors().size());
  for (const SafetensorsTensor& tensor : golden.tensors()) {
    const SafetensorsTensor& back = copy.get(tensor.name);
    CHECK(back.shape == tensor.shape);
    CHECK(std::equal(back.data.begin(), back.data.end(), tensor.data.begin(), tensor.data.end()));
  }
}

TEST_CASE("a writer refuses what would make a bad file, and leaves none") {
  const Scratch scratch;
  const std::string path = scratch.path("f");
  const std::string data = "0123";
  const auto writing = [&](const std::vector<SafetensorsTensor>& tensors) {
    return error_of([&] { write_safetensors(path, tensors); });
  };
  CHECK(writing({{"a", DType::u8, {2}, bytes_of(data)}}) ==
        "[safetensors] " + path + ": tensor 'a': expected 2 bytes, got 4");
  CHECK(writing({{"a", DType::u8, {4}, bytes_of(data)}, {"a", DType::u8, {4}, bytes_of(data)}}) ==
        "[safetensors] " + path + ": cannot write: tensor 'a': the name is taken");
  CHECK(writing({{"__metadata__", DType::u8, {4}, bytes_of(data)}}) ==
        "[safetensors] " + path + ": cannot write: tensor '__metadata__': the name is taken");
  CHECK(writing({{"a", DType::f32, {1ull << 40, 1ull << 40}, {}}}) ==
        "[safetensors] " + path + ": cannot write: tensor 'a': cannot have the shape [1099511627776, 1099511627776]");
  const std::vector<SafetensorsTensor> declared{{"a", DType::u8, {6}, {}}};
  CHECK(error_of([&] {
          SafetensorsWriter writer(path, declared);
          writer.write(bytes_of(data));
          writer.commit();
        }) == "[safetensors] " + path + ": cannot write: expected 6 bytes of data, got 4");
  CHECK(error_of([&] {
          SafetensorsWriter writer(path, declared);
          writer.write(bytes_of(data));
          writer.write(bytes_of(data));
        }) == "[safetensors] " + path + ": cannot write: more data than the tensors declared");
  CHECK(std::filesystem::is_empty(scratch.path("")));
  CHECK(error_of([&] { mistral::write_safetensors("/dev/full", {}); }) ==
        "[safetensors] /dev/full: cannot write: No space left on device");
}
