// SPDX-License-Identifier: Apache-2.0
#include <mistral/io/npy.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../support/scratch.hpp"

namespace {

using mistral::NpyMatrix;
using mistral::test::error_of;
using mistral::test::Scratch;

std::string npy(const std::string& header, const std::string& data) {
  const char length[] = {static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  return std::string("\x93NUMPY\x01\x00", 8) + std::string(length, 2) + header + data;
}

}  // namespace

TEST_CASE("a matrix is written byte for byte as numpy.save writes it") {
  const Scratch scratch;
  const std::vector<float> values{1.0f, -2.5f, 0.0f, 3.0f, 1e-30f, 65504.0f};
  mistral::write_npy(scratch.path("a.npy"), values, 2, 3);
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  header.append(128 - 10 - header.size() - 1, ' ').append("\n");
  const std::string data(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  CHECK(scratch.read("a.npy") == npy(header, data));
}

TEST_CASE("a written matrix reads back, whatever its shape") {
  const Scratch scratch;
  const std::size_t shapes[][2] = {{1, 1}, {3, 97}, {97, 3}, {0, 5}, {5, 0}, {1, 12345}};
  for (const auto& shape : shapes) {
    std::vector<float> values(shape[0] * shape[1]);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.25f;
    mistral::write_npy(scratch.path("a.npy"), values, shape[0], shape[1]);
    const NpyMatrix matrix = mistral::read_npy(scratch.path("a.npy"));
    CHECK(matrix.rows == shape[0]);
    CHECK(matrix.cols == shape[1]);
    CHECK(matrix.values == values);
  }
}

TEST_CASE("values that do not fill the shape are refused") {
  const Scratch scratch;
  const std::string path = scratch.path("a.npy");
  const std::vector<float> values(6);
  CHECK(error_of([&] { mistral::write_npy(path, values, 2, 2); }) ==
        "[npy] " + path + ": expected 2 * 2 values, got 6");
  CHECK(error_of([&] { mistral::write_npy(path, values, 0, 6); }) ==
        "[npy] " + path + ": expected 0 * 6 values, got 6");
  CHECK(error_of([&] { mistral::write_npy(path, {}, SIZE_MAX, 2); }).starts_with("[npy] " + path + ": expected "));
  CHECK(error_of([&] { mistral::write_npy("/dev/full", values, 2, 3); }) ==
        "[npy] /dev/full: cannot write: No space left on device");
}

TEST_CASE("a file that is no matrix of floats is refused") {
  const Scratch scratch;
  const auto reading = [&](const std::string& content) {
    const std::string path = scratch.write("a.npy", content);
    const std::string error = error_of([&] { mistral::read_npy(path); });
    const std::string prefix = "[npy] " + path + ": ";
    return error.starts_with(prefix) ? error.substr(prefix.size()) : error;
  };
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n";
  CHECK(reading(npy(good, "01234567")) == "no error");
  CHECK(reading("") == "the file is empty");
  CHECK(reading("PK") == "not a .npy file of version 1.0");
  CHECK(reading(std::string("\x93NUMPY\x01\x00\x40", 9)) == "not a .npy file of version 1.0");
  CHECK(reading(npy(good, "").substr(0, 30)) == "the header is cut short");
  CHECK(reading(npy(good, "0123456")) == "the data: expected 1 * 2 floats, got 7 bytes");
  CHECK(reading(npy(good, "012345678")) == "the data: expected 1 * 2 floats, got 9 bytes");
  CHECK(reading(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }\n", "01234567")) ==
        "expected elements '<f4'");
  CHECK(reading(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }\n", "01234567")) == "expected C order");
  for (const char* shape : {"(2,)", "(1, 2, 1)", "()", "(-1, 2)", "(99999999999999999999, 2)", "(1, "}) {
    CHECK(reading(npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + std::string(shape), "01234567")) ==
          "expected a shape of two dimensions");
  }
  CHECK(reading(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775809, 2)}", "01234567")) ==
        "the data: expected 9223372036854775809 * 2 floats, got 8 bytes");
}
