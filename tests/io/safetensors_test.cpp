// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/safetensors/safetensors.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../support/data.hpp"
#include "../support/scratch.hpp"

namespace {

using mistral::DType;
using mistral::Safetensors;
using mistral::test::error_of;
using mistral::test::Scratch;

std::string length_of(std::uint64_t length) {
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(length >> shift & 0xff);
  return bytes;
}

std::string file_of(std::string_view header, std::string_view data) {
  return length_of(header.size()).append(header).append(data);
}

Safetensors read(std::string_view file) { return Safetensors::from_bytes(std::as_bytes(std::span(file)), "f"); }

std::string reading(std::string_view file) {
  return error_of([&] { read(file); });
}

std::string reading(std::string_view header, std::size_t data_bytes) {
  return reading(file_of(header, std::string(data_bytes, '\0')));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("tensors are found by name and listed in the order of their data") {
  const std::string file = file_of(
      R"({"b":{"dtype":"U8","shape":[2,3],"data_offsets":[4,10]},"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("empty":{"dtype":"BF16","shape":[0,7],"data_offsets":[10,10]},"__metadata__":{"format":"pt","a":"b"}}   )",
      "0123456789");
  const Safetensors tensors = read(file);
  REQUIRE(tensors.tensors().size() == 3);
  CHECK(tensors.tensors()[0].name == "scalar");
  CHECK(tensors.tensors()[1].name == "b");
  CHECK(tensors.tensors()[2].name == "empty");
  CHECK(text_of(tensors.get("scalar").data) == "0123");
  CHECK(tensors.get("scalar").dtype == DType::f32);
  CHECK(tensors.get("scalar").shape.empty());
  CHECK(text_of(tensors.get("b").data) == "456789");
  CHECK(tensors.get("b").shape == std::vector<std::uint64_t>{2, 3});
  CHECK(tensors.get("empty").data.empty());
  CHECK(tensors.find("c") == nullptr);
  CHECK(tensors.find("") == nullptr);
  CHECK(error_of([&] { tensors.get("c"); }) == "[safetensors] f: tensor 'c' is missing");
  REQUIRE(tensors.metadata().size() == 2);
  CHECK(tensors.metadata()[1] == std::pair<std::string, std::string>("format", "pt"));
}

TEST_CASE("a file without tensors is a file") { CHECK(read(file_of("{}", "")).tensors().empty()); }

TEST_CASE("every element type of the format is known by its name and size") {
  CHECK(mistral::info(DType::boolean).name == "BOOL");
  CHECK(mistral::info(DType::bf16).name == "BF16");
  CHECK(mistral::info(DType::u64).name == "U64");
  CHECK(std::size(mistral::dtype_infos) == static_cast<std::size_t>(DType::u64) + 1);
  for (const auto& dtype : mistral::dtype_infos) CHECK(&mistral::info(*mistral::dtype_of(dtype.name)) == &dtype);
  CHECK(!mistral::dtype_of("f32"));
  CHECK(reading(R"({"a":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]}})", 3) == "no error");
  CHECK(reading(R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3) == "no error");
}

TEST_CASE("a header that is cut or too long is refused") {
  CHECK(reading("") == "[safetensors] f: the file: expected at least 8 bytes, got 0");
  CHECK(reading("1234567") == "[safetensors] f: the file: expected at least 8 bytes, got 7");
  CHECK(reading(length_of(3) + "{}") == "[safetensors] f: the header: expected at most 2 bytes, got 3");
  CHECK(reading(length_of(~std::uint64_t{0}) + "{}") ==
        "[safetensors] f: the header: expected at most 2 bytes, got 18446744073709551615");
  CHECK(reading(file_of(std::string(100'000'001, ' '), "")) ==
        "[safetensors] f: the header: expected at most 100000000 bytes, got 100000001");
  CHECK(reading("", 0) == "[safetensors] f: the header does not start with '{'");
  CHECK(reading(" {}", 0) == "[safetensors] f: the header does not start with '{'");
  CHECK(reading("[]", 0) == "[safetensors] f: the header does not start with '{'");
  CHECK(reading("{\"a\":", 0) == "[safetensors] f: not valid JSON at byte 6 (line 1, column 6)");
}

TEST_CASE("every cut of a good file is refused") {
  const std::string file = file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "01234567");
  CHECK(reading(file) == "no error");
  for (std::size_t size = 0; size < file.size(); ++size) {
    CHECK(reading(std::string_view(file).substr(0, size)).starts_with("[safetensors] f: "));
  }
}

TEST_CASE("a tensor that lacks or misuses a field is refused") {
  CHECK(reading(R"({"a":3})", 0) == "[safetensors] f: field 'a': expected an object, got 3");
  CHECK(reading(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'dtype' is missing");
  CHECK(reading(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'shape' is missing");
  CHECK(reading(R"({"a":{"dtype":"F32","shape":[1]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'data_offsets' is missing");
  CHECK(reading(R"({"a":{"dtype":"Q4_0","shape":[1],"data_offsets":[0,4]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'dtype': expected an element type of the format, got 'Q4_0'");
  CHECK(reading(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'dtype': expected a string, got 7");
  CHECK(reading(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'shape': expected an integer from 0 to 9223372036854775807, got -1");
  CHECK(reading(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'shape': expected an integer from 0 to 9223372036854775807, got 1.5");
  CHECK(reading(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'data_offsets': expected [begin, end], got an array");
  CHECK(reading(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'data_offsets': expected [begin, end], got an array");
  CHECK(reading(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4) ==
        "[safetensors] f: tensor 'a': field 'data_offsets': expected an integer from 0 to 4, got 8");
  CHECK(reading(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4) ==
        "[safetensors] f: tensor 'a': F32 [2]: expected 8 bytes, got 4");
  CHECK(reading(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}})", 4) ==
        "[safetensors] f: tensor 'a': F32 [4294967296, 4294967296, 4]: expected another number of bytes, got 4");
  CHECK(reading(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1) ==
        "[safetensors] f: tensor 'a': F4 [3]: expected another number of bytes, got 1");
  CHECK(reading(R"({"__metadata__":{"a":1}})", 0) ==
        "[safetensors] f: field '__metadata__': field 'a': expected a string, got 1");
  CHECK(reading(R"({"a\n":{}})", 0) == "[safetensors] f: tensor 'a\\x0a': field 'dtype' is missing");
}

TEST_CASE("the tensors must cover the data without hole, overlap or rest") {
  const auto two = [](const char* a, const char* b) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(a) +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
  };
  CHECK(reading(two("[0,4]", "[4,8]"), 8) == "no error");
  CHECK(reading(two("[4,8]", "[0,4]"), 8) == "no error");
  CHECK(reading(two("[0,4]", "[0,4]"), 4) == "[safetensors] f: tensor 'b' overlaps another: expected begin 4, got 0");
  CHECK(reading(two("[0,4]", "[2,6]"), 6) == "[safetensors] f: tensor 'b' overlaps another: expected begin 4, got 2");
  CHECK(reading(two("[0,4]", "[5,9]"), 9) == "[safetensors] f: tensor 'b' comes after a hole: expected begin 4, got 5");
  CHECK(reading(two("[1,5]", "[5,9]"), 9) == "[safetensors] f: tensor 'a' comes after a hole: expected begin 0, got 1");
  CHECK(reading(two("[0,4]", "[4,8]"), 9) == "[safetensors] f: the data after the header: expected 8 bytes, got 9");
  CHECK(reading("{}", 1) == "[safetensors] f: the data after the header: expected 0 bytes, got 1");
}

TEST_CASE("a header that nests too deep or names a tensor twice is refused") {
  CHECK(reading("{\"a\":" + std::string(1'000'000, '['), 0) == "[safetensors] f: nested deeper than 64 levels");
  CHECK(reading(R"({"a":{},"a":{}})", 0) == "[safetensors] f: the field 'a' is there twice");
}

TEST_CASE("a file on the disk is mapped, and its path stands in errors") {
  const Scratch scratch;
  const std::string path =
      scratch.write("m.safetensors", file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "abcd"));
  Safetensors opened = Safetensors::open(path);
  const Safetensors moved = std::move(opened);
  CHECK(text_of(moved.get("a").data) == "abcd");
  moved.release(moved.get("a"));
  CHECK(text_of(moved.get("a").data) == "abcd");
  CHECK(error_of([&] { moved.get("b"); }) == "[safetensors] " + path + ": tensor 'b' is missing");
  CHECK(error_of([&] { Safetensors::open(scratch.path("x")); }) ==
        "[safetensors] " + scratch.path("x") + ": cannot open: No such file or directory");
}

TEST_CASE("every golden safetensors file opens") {
  const std::filesystem::path root = mistral::test::golden("forward");
  if (root.empty()) return;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root.parent_path())) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    const Safetensors file = Safetensors::open(entry.path().string());
    CHECK(!file.tensors().empty());
    for (const auto& tensor : file.tensors()) CHECK(file.find(tensor.name) == &tensor);
  }
  CHECK(files > 20);
}
