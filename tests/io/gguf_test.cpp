// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/gguf/gguf.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../support/data.hpp"
#include "../support/gguf_builder.hpp"
#include "../support/scratch.hpp"

namespace {

using mistral::GgmlType;
using mistral::Gguf;
using mistral::GgufMetadata;
using mistral::test::error_of;
using mistral::test::gguf_array;
using mistral::test::gguf_entry;
using mistral::test::gguf_f32;
using mistral::test::gguf_string;
using mistral::test::gguf_u32;
using mistral::test::GgufBuilder;
using mistral::test::le;
using mistral::test::Scratch;

Gguf read(std::string_view file) { return Gguf::from_bytes(std::as_bytes(std::span(file)), "f"); }

std::string reading(std::string_view file) {
  return error_of([&] { read(file); });
}
std::string reading(const GgufBuilder& file) { return reading(file.bytes()); }

// what is wrong with a file of these entries, without the "[gguf] f: " in front
std::string reading_entries(std::vector<std::string> entries) {
  GgufBuilder file;
  file.entries = std::move(entries);
  const std::string error = reading(file);
  return error.starts_with("[gguf] f: ") ? error.substr(10) : error;
}

// the same for a file of these tensors and so many bytes of data
std::string reading_tensors(std::vector<GgufBuilder::Tensor> tensors, std::size_t bytes) {
  GgufBuilder file;
  file.tensors = std::move(tensors);
  file.data.assign(bytes, '\0');
  const std::string error = reading(file);
  return error.starts_with("[gguf] f: ") ? error.substr(10) : error;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

constexpr std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();

}  // namespace

TEST_CASE("tensors are found by name, listed in the order of their data, and their shapes begin with the outermost") {
  GgufBuilder file;
  file.entries = {gguf_u32("general.alignment", 8)};
  file.alignment = 8;
  file.tensors = {{"b", {2, 3}, 30, 8}, {"a", {2}, 0, 0}, {"c", {32, 2, 1, 1}, 8, 24}};
  file.data = "01234567abcdefghijkl----" + std::string(68, 'q');
  const std::string bytes = file.bytes();
  const Gguf gguf = read(bytes);
  CHECK(gguf.version() == 3);
  CHECK(gguf.alignment() == 8);
  REQUIRE(gguf.tensors().size() == 3);
  CHECK(gguf.tensors()[0].name == "a");
  CHECK(gguf.tensors()[1].name == "b");
  CHECK(text_of(gguf.get("a").data) == "01234567");
  CHECK(text_of(gguf.get("b").data) == "abcdefghijkl");
  CHECK(gguf.get("b").shape == std::vector<std::uint64_t>{3, 2});
  CHECK(gguf.get("b").type == GgmlType::bf16);
  CHECK(gguf.get("c").shape == std::vector<std::uint64_t>{1, 1, 2, 32});
  CHECK(gguf.get("c").data.size() == 68);
  CHECK(gguf.find("d") == nullptr);
  CHECK(gguf.find("") == nullptr);
  CHECK(error_of([&] { gguf.get("d\n"); }) == "[gguf] f: tensor 'd\\x0a' is missing");
}

TEST_CASE("versions 2 and 3 are read; others, other files and the other byte order are refused") {
  GgufBuilder file;
  CHECK(reading(file) == "no error");
  file.version = 2;
  CHECK(reading(file) == "no error");
  file.version = 1;
  CHECK(reading(file) == "[gguf] f: the version: expected 2 or 3, little-endian, got 1");
  file.version = 4;
  CHECK(reading(file) == "[gguf] f: the version: expected 2 or 3, little-endian, got 4");
  file.version = 0;
  CHECK(reading(file) == "[gguf] f: the version: expected 2 or 3, little-endian, got 0");
  file.version = 0x03000000;
  CHECK(reading(file) == "[gguf] f: the version: expected 2 or 3, little-endian, got a big-endian file");
  file.magic = "GGJT";
  CHECK(reading(file) == "[gguf] f: the magic: expected 'GGUF', got 'GGJT'");
  CHECK(reading("") == "[gguf] f: the magic: expected 'GGUF', got ''");
  CHECK(reading("GGU") == "[gguf] f: the magic: expected 'GGUF', got 'GGU'");
  CHECK(reading("\x80\x02}q") ==
        "[gguf] f: convert it to safetensors (transformers: save_pretrained): expected a GGUF file, got a PyTorch "
        "pickle");
}

TEST_CASE("every value of the metadata is read by its key, in any width") {
  const auto array = [](std::uint32_t type, std::uint64_t count, std::string bytes) {
    return gguf_array(type, count, bytes);
  };
  GgufBuilder file;
  file.entries = {gguf_entry("u8", 0, le(std::uint8_t{200})),
                  gguf_entry("i8", 1, le(std::int8_t{-100})),
                  gguf_entry("u16", 2, le(std::uint16_t{60000})),
                  gguf_entry("i16", 3, le(std::int16_t{-30000})),
                  gguf_u32("u32", 4'000'000'000),
                  gguf_entry("i32", 5, le(std::int32_t{-2'000'000'000})),
                  gguf_f32("f32", 0.5f),
                  gguf_entry("yes", 7, "\x01"),
                  gguf_entry("no", 7, std::string(1, '\0')),
                  gguf_entry("text", "a\nb"),
                  gguf_entry("u64", 10, le(std::uint64_t{huge})),
                  gguf_entry("i64", 11, le(std::int64_t{-5})),
                  gguf_entry("f64", 12, le(0.25)),
                  gguf_entry("texts", 9, array(8, 2, gguf_string("x") + gguf_string(""))),
                  gguf_entry("floats", 9, array(6, 2, le(1.5f) + le(2.5f))),
                  gguf_entry("integers", 9, array(3, 2, le(std::int16_t{-1}) + le(std::int16_t{7}))),
                  gguf_entry("empty", 9, array(6, 0, "")),
                  gguf_entry("nested", 9, array(9, 2, array(0, 1, "z") + array(8, 1, gguf_string("y"))))};
  const std::string bytes = file.bytes();
  const Gguf gguf = read(bytes);
  const GgufMetadata& m = gguf.metadata();
  CHECK(m.entries().size() == file.entries.size());
  constexpr std::int64_t low = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t high = std::numeric_limits<std::int64_t>::max();
  CHECK(m.integer("u8", low, high) == 200);
  CHECK(m.integer("i8", low, high) == -100);
  CHECK(m.integer("u16", low, high) == 60000);
  CHECK(m.integer("i16", low, high) == -30000);
  CHECK(m.integer("u32", low, high) == 4'000'000'000);
  CHECK(m.integer("i32", low, high) == -2'000'000'000);
  CHECK(m.integer("i64", low, high) == -5);
  CHECK(m.number("f32") == 0.5);
  CHECK(m.number("f64") == 0.25);
  CHECK(m.boolean("yes"));
  CHECK(!m.boolean("no"));
  CHECK(m.string("text") == "a\nb");
  CHECK(m.strings("texts") == std::vector<std::string_view>{"x", ""});
  CHECK(m.floats("floats") == std::vector<float>{1.5f, 2.5f});
  CHECK(m.floats("empty").empty());
  CHECK(m.integers("integers", -1, 7) == std::vector<std::int64_t>{-1, 7});
  CHECK(m.array_size("nested") == 2);
  CHECK(m.has("u8"));
  CHECK(!m.has("u9"));

  const auto error = [](auto&& action) { return error_of(action).substr(std::string_view("[gguf] f: key ").size()); };
  CHECK(error([&] { m.integer("x", 0, 1); }) == "'x' is missing");
  CHECK(error([&] { m.integer("u8", 0, 199); }) == "'u8': expected an integer from 0 to 199, got 200");
  CHECK(error([&] { m.integer("u64", 0, high); }) ==
        "'u64': expected an integer from 0 to 9223372036854775807, got 18446744073709551615");
  CHECK(error([&] { m.integer("f32", 0, 1); }) == "'f32': expected an integer from 0 to 1, got 0.5");
  CHECK(error([&] { m.integer("yes", 0, 1); }) == "'yes': expected an integer from 0 to 1, got true");
  CHECK(m.number("i8") == -100.0);
  CHECK(error([&] { m.boolean("u8"); }) == "'u8': expected true or false, got 200");
  CHECK(error([&] { m.string("texts"); }) == "'texts': expected a string, got an array of 2 string");
  CHECK(error([&] { m.strings("text"); }) == "'text': expected an array of strings, got 'a\\x0ab'");
  CHECK(error([&] { m.strings("nested"); }) == "'nested': expected an array of strings, got an array of 2 array");
  CHECK(error([&] { m.floats("integers"); }) == "'integers': expected an array of f32, got an array of 2 i16");
  CHECK(error([&] { m.integers("floats", 0, 1); }) == "'floats': expected an array of integers, got an array of 2 f32");
  CHECK(error([&] { m.integers("integers", 0, 7); }) == "'integers': expected an integer from 0 to 7, got -1");
  CHECK(error([&] { m.array_size("u8"); }) == "'u8': expected an array, got 200");
}

TEST_CASE("every cut of a good file is refused") {
  GgufBuilder file;
  file.entries = {gguf_entry("text", "hello"), gguf_entry("array", 9, gguf_array(8, 1, gguf_string("x")))};
  file.tensors = {{"a", {2}, 0, 0}};
  file.data = "01234567";
  const std::string bytes = file.bytes();
  CHECK(reading(bytes) == "no error");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK(reading(std::string_view(bytes).substr(0, size)).starts_with("[gguf] f: "));
  }
}

TEST_CASE("counts and lengths beyond the file are refused before they are used") {
  GgufBuilder file;
  file.tensor_count = huge;
  CHECK(reading(file) == "[gguf] f: the number of tensors: expected at most 0, got 18446744073709551615");
  file.tensor_count = 0;
  file.entries = {gguf_u32("k", 1)};
  file.entry_count = huge / 14;
  CHECK(reading(file) == "[gguf] f: the number of keys: expected at most 1, got 1317624576693539401");

  CHECK(reading_entries({le(huge) + "a long enough key"}) ==
        "a key at byte 32: expected 18446744073709551615 bytes, got 17 up to the end");
  CHECK(reading_entries({gguf_string("") + "123456"}) == "a key at byte 32: expected 1 ... 65535 bytes, got 0");
  CHECK(reading_entries({gguf_entry(std::string(65536, 'k'), "x")}) ==
        "a key at byte 65568: expected 1 ... 65535 bytes, got 65536");
  CHECK(reading_entries({gguf_entry("k", 8, le(huge))}) ==
        "the value of 'k' at byte 45: expected 18446744073709551615 bytes, got 0 up to the end");
  CHECK(reading_entries({gguf_entry("k", 4, "123")}) ==
        "the value of 'k' at byte 37: expected 4 bytes, got 3 up to the end");
  CHECK(reading_entries({gguf_entry("k", 9, gguf_array(10, huge / 8 + 1, "12345678"))}) ==
        "the value of 'k' at byte 49: expected an array of at most 1 elements, got 2305843009213693952");
  CHECK(reading_entries({gguf_entry("k", 9, gguf_array(8, huge, "12345678"))}) ==
        "the value of 'k' at byte 49: expected an array of at most 1 elements, got 18446744073709551615");
  CHECK(reading_entries({gguf_entry("k", 9, gguf_array(9, huge, "123456789012"))}) ==
        "the value of 'k' at byte 49: expected an array of at most 1 elements, got 18446744073709551615");
}

TEST_CASE("a type that the metadata doesn't know, a deep array and a third truth value are refused") {
  CHECK(reading_entries({gguf_entry("k", 13, "12345678")}) ==
        "the value of 'k' at byte 37: expected a type of 0 ... 12, got 13");
  CHECK(reading_entries({gguf_entry("k\n", 9, gguf_array(77, 1, "12345678"))}) ==
        "the value of 'k\\x0a' at byte 42: expected a type of 0 ... 12, got 77");
  CHECK(reading_entries({gguf_entry("k", 7, "\x02")}) == "the value of 'k' at byte 38: expected 0 or 1, got 2");
  CHECK(reading_entries({gguf_entry("k", 9, gguf_array(7, 2, "\x01\x03"))}) ==
        "the value of 'k' at byte 51: expected 0 or 1, got 3");
  std::string nested = gguf_array(0, 1, "x");
  for (int depth = 1; depth < 4; ++depth) nested = gguf_array(9, 1, nested);
  CHECK(reading_entries({gguf_entry("k", 9, nested)}) == "no error");
  CHECK(reading_entries({gguf_entry("k", 9, gguf_array(9, 1, nested))}) ==
        "the value of 'k' at byte 85: expected at most 4 arrays in each other, got more");
  for (int depth = 0; depth < 100'000; ++depth) nested.insert(0, gguf_array(9, 1, ""));
  CHECK(reading_entries({gguf_entry("k", 9, nested)}) ==
        "the value of 'k' at byte 85: expected at most 4 arrays in each other, got more");
}

TEST_CASE("a key or a tensor that is there twice is refused") {
  CHECK(reading_entries({gguf_u32("b", 1), gguf_u32("a", 1), gguf_u32("b", 2)}) == "key 'b' is there twice");
  CHECK(reading_tensors({{"a", {2}, 0, 0}, {"a", {2}, 0, 32}}, 40) == "tensor 'a' is there twice");
}

TEST_CASE("an alignment that is no power of two is refused") {
  const auto reading_alignment = [](std::string entry) { return reading_entries({std::move(entry)}); };
  CHECK(reading_alignment(gguf_u32("general.alignment", 0)) ==
        "key 'general.alignment': expected an integer from 1 to 4294967295, got 0");
  CHECK(reading_alignment(gguf_u32("general.alignment", 48)) ==
        "key 'general.alignment': expected a power of two, got 48");
  CHECK(reading_alignment(gguf_entry("general.alignment", "32")) ==
        "key 'general.alignment': expected an integer from 1 to 4294967295, got '32'");
  CHECK(reading_alignment(gguf_u32("general.alignment", 0x80000000u)) == "no error");
  GgufBuilder file;
  file.entries = {gguf_u32("general.alignment", 0x80000000u)};
  file.tensors = {{"a", {2}, 0, 0}};
  CHECK(reading(file) ==
        "[gguf] f: the padding in front of the data at byte 90: expected 2147483558 bytes, got 0 up "
        "to the end");
}

TEST_CASE("a tensor's name, dimensions and type are checked") {
  constexpr std::size_t bytes = 4096;
  CHECK(reading_tensors({{"", {2}, 0, 0}}, bytes) == "tensor '': the name: expected 1 ... 64 bytes, got 0");
  CHECK(reading_tensors({{std::string(65, 'n'), {2}, 0, 0}}, bytes) ==
        "tensor '" + std::string(65, 'n') + "': the name: expected 1 ... 64 bytes, got 65");
  CHECK(reading_tensors({{"a", {}, 0, 0}}, bytes) == "tensor 'a': expected 1 ... 4 dimensions, got 0");
  CHECK(reading_tensors({{"a", {1, 1, 1, 1, 1}, 0, 0}}, bytes) == "tensor 'a': expected 1 ... 4 dimensions, got 5");
  CHECK(reading_tensors({{"a", {2, 0}, 0, 0}}, bytes) ==
        "tensor 'a': expected sizes that are positive and fit 63 bits together, got [0, 2]");
  CHECK(reading_tensors({{"a", {1ull << 32, 1ull << 32}, 0, 0}}, bytes) ==
        "tensor 'a': expected sizes that are positive and fit 63 bits together, got [4294967296, 4294967296]");
  CHECK(reading_tensors({{"a", {huge}, 0, 0}}, bytes) ==
        "tensor 'a': expected sizes that are positive and fit 63 bits together, got [18446744073709551615]");
  CHECK(reading_tensors({{"a", {1ull << 62}, 0, 0}}, bytes) ==
        "tensor 'a': expected sizes that are positive and fit 63 bits together, got [4611686018427387904]");
  CHECK(reading_tensors({{"a", {48, 32}, 2, 0}}, bytes) ==
        "tensor 'a': expected rows of a multiple of 32 for Q4_0, got [32, 48]");
  CHECK(reading_tensors({{"a", {128, 2}, 12, 0}}, bytes) ==
        "tensor 'a': expected rows of a multiple of 256 for Q4_K, got [2, 128]");
  const std::string types = "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, BF16, got ";
  CHECK(reading_tensors({{"a", {256}, 16, 0}}, bytes) == "tensor 'a': expected a type of " + types + "IQ2_XXS");
  CHECK(reading_tensors({{"a", {256}, 24, 0}}, bytes) == "tensor 'a': expected a type of " + types + "I8");
  CHECK(reading_tensors({{"a", {256}, 4, 0}}, bytes) == "tensor 'a': expected a type of " + types + "type 4");
  CHECK(reading_tensors({{"a", {256}, 99, 0}}, bytes) == "tensor 'a': expected a type of " + types + "type 99");
  CHECK(reading_tensors({{"a", {256}, 0xffffffffu, 0}}, bytes) ==
        "tensor 'a': expected a type of " + types + "type 4294967295");
}

TEST_CASE("a tensor's data must be aligned, inside of the file and its own") {
  CHECK(reading_tensors({{"a", {2}, 0, 0}, {"b", {2}, 0, 32}}, 40) == "no error");
  CHECK(reading_tensors({{"a", {2}, 0, 32}, {"b", {2}, 0, 96}}, 104) == "no error");
  CHECK(reading_tensors({{"a", {2}, 0, 16}}, 40) == "tensor 'a': the offset: expected a multiple of 32, got 16");
  CHECK(reading_tensors({{"a", {2}, 0, 32}}, 39) ==
        "tensor 'a': 8 bytes at offset 32: expected at most 39 bytes of data, got a tensor past their end");
  CHECK(reading_tensors({{"a", {2}, 0, 64}}, 40) ==
        "tensor 'a': 8 bytes at offset 64: expected at most 40 bytes of data, got a tensor past their end");
  CHECK(reading_tensors({{"a", {2}, 0, huge - 31}}, 40) ==
        "tensor 'a': 8 bytes at offset 18446744073709551584: expected at most 40 bytes of data, got a tensor past "
        "their end");
  CHECK(reading_tensors({{"a", {1ull << 61}, 1, 32}}, 40) ==
        "tensor 'a': 4611686018427387904 bytes at offset 32: expected at most 40 bytes of data, got a tensor past "
        "their end");
  CHECK(reading_tensors({{"a", {9}, 0, 0}, {"b", {2}, 0, 32}}, 40) ==
        "tensor 'b' overlaps another: expected an offset of at least 36, got 32");
  CHECK(reading_tensors({{"b", {2}, 0, 0}, {"a", {2}, 0, 0}}, 40) ==
        "tensor 'b' overlaps another: expected an offset of at least 8, got 0");
}

TEST_CASE("a GGUF file on the disk is mapped, and its path stands in errors") {
  const Scratch scratch;
  GgufBuilder file;
  file.tensors = {{"a", {1}, 0, 0}};
  file.data = "abcd";
  const std::string path = scratch.write("m.gguf", file.bytes());
  Gguf opened = Gguf::open(path);
  const Gguf moved = std::move(opened);
  CHECK(text_of(moved.get("a").data) == "abcd");
  moved.release(moved.get("a"));
  CHECK(text_of(moved.get("a").data) == "abcd");
  CHECK(error_of([&] { moved.get("b"); }) == "[gguf] " + path + ": tensor 'b' is missing");
  CHECK(error_of([&] { moved.metadata().string("general.architecture"); }) ==
        "[gguf] " + path + ": key 'general.architecture' is missing");
  CHECK(error_of([&] { Gguf::open(scratch.path("x")); }) ==
        "[gguf] " + scratch.path("x") + ": cannot open: No such file or directory");
}
