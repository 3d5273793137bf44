// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/mapped_file.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Writes a (rows, cols) matrix of floats as NumPy's .npy (version 1.0, `<f4`, row-major), a part at a time, so that it
/// need not fit the memory. The file appears with commit(), whole or not at all.
class NpyWriter {
 public:
  /// Errors begin with `[where] path`.
  NpyWriter(const std::string& path, std::size_t rows, std::size_t cols, std::string_view where = "npy")
      : file_(path, where) {
    constexpr std::size_t preamble = 10;  // the magic word, the version, the header's length
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
    header.append(std::to_string(rows)).append(", ").append(std::to_string(cols)).append("), }");
    header.append(63 - (preamble + header.size()) % 64, ' ').append(1, '\n');  // the values start at a multiple of 64
    file_.write(std::string_view("\x93NUMPY\x01\x00", 8));
    const char length[] = {static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
    file_.write(std::string_view(length, 2));
    file_.write(header);
  }

  /// The next values, row after row; rows * cols in all.
  void write(std::span<const float> values) { file_.write(std::as_bytes(values)); }
  void commit() { file_.commit(); }

 private:
  AtomicFile file_;
};

/// The same at once. Throws Error where there are not rows * cols values, or the file cannot be written.
inline void write_npy(const std::string& path, std::span<const float> values, std::size_t rows, std::size_t cols) {
  // in this form it cannot overflow: rows * cols == size
  const bool fits = rows == 0 || cols == 0 ? values.empty() : values.size() / cols == rows && values.size() % cols == 0;
  if (!fits) {
    throw Error("npy", printable(path, 1000), std::to_string(rows) + " * " + std::to_string(cols) + " values",
                std::to_string(values.size()));
  }
  NpyWriter file(path, rows, cols);
  file.write(values);
  file.commit();
}

/// A matrix read from a file: (rows, cols), row-major.
struct NpyMatrix {
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::vector<float> values;
};

/// Reads what write_npy and `numpy.save` write for a two-dimensional float32 array in C order; throws Error for
/// whatever else.
inline NpyMatrix read_npy(const std::string& path) {
  const MappedFile file = MappedFile::open(path, "npy");
  const auto bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto fail = [&](std::string_view what) {
    return Error("npy", printable(path, 1000).append(": ").append(what));
  };
  if (!text.starts_with(std::string_view("\x93NUMPY\x01\x00", 8)) || text.size() < 10) {
    throw fail("not a .npy file of version 1.0");
  }
  const auto length =
      static_cast<std::size_t>(std::to_integer<unsigned>(bytes[8]) | std::to_integer<unsigned>(bytes[9]) << 8);
  if (length > text.size() - 10) throw fail("the header is cut short");
  const std::string_view header = text.substr(10, length);
  if (header.find("'descr': '<f4'") == std::string_view::npos) throw fail("expected elements '<f4'");
  if (header.find("'fortran_order': False") == std::string_view::npos) throw fail("expected C order");

  constexpr std::string_view key = "'shape': (";
  const std::size_t shape = header.find(key);
  NpyMatrix matrix;
  const char* at = shape == std::string_view::npos ? header.end() : header.data() + shape + key.size();
  const auto number = [&](std::size_t& value, std::string_view then) {
    const auto [stop, failure] = std::from_chars(at, header.end(), value);
    const bool good = failure == std::errc() && std::string_view(stop, header.end()).starts_with(then);
    at = good ? stop + then.size() : stop;
    return good;
  };
  if (!number(matrix.rows, ", ") || !number(matrix.cols, ")")) throw fail("expected a shape of two dimensions");

  const auto data = bytes.subspan(10 + length);
  const std::size_t count = data.size() / sizeof(float);
  const bool fits = matrix.rows == 0 || matrix.cols == 0
                        ? data.empty()
                        : count / matrix.cols == matrix.rows && count % matrix.cols == 0 && data.size() % 4 == 0;
  if (!fits) {
    throw Error("npy", printable(path, 1000) + ": the data",
                std::to_string(matrix.rows) + " * " + std::to_string(matrix.cols) + " floats",
                std::to_string(data.size()) + " bytes");
  }
  matrix.values.resize(count);
  if (count > 0) std::memcpy(matrix.values.data(), data.data(), count * sizeof(float));
  return matrix;
}

}}  // namespace mistral
