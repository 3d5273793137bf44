// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <stdlib.h>

#include <mistral/core/error.hpp>

namespace mistral::fuzz {

/// What every error promises: one line, which drives no terminal.
inline void check_line(const Error& error) {
  for (const char* c = error.what(); *c != '\0'; ++c) {
    if (static_cast<unsigned char>(*c) < 0x20 || *c == 0x7f) std::abort();
  }
}

/// Runs what may throw an Error, and nothing else. Whether it didn't.
template <class Run>
bool attempt(Run&& run) {
  try {
    run();
    return true;
  } catch (const Error& error) {
    check_line(error);
    return false;
  }
}

inline void require(bool good) {
  if (!good) std::abort();
}

/// A folder of this process's own, in memory where the system has that, for readers that take a path.
class Folder {
 public:
  Folder() {
    for (const char* const place : {"/dev/shm", "/tmp"}) {
      std::string name = std::string(place) + "/mistral-fuzz-XXXXXX";
      if (::mkdtemp(name.data()) != nullptr) {
        path_ = name;
        return;
      }
    }
    std::abort();
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string path(std::string_view name = "") const { return name.empty() ? path_ : path_ + "/" + std::string(name); }

  std::string write(std::string_view name, std::string_view content) const {
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }

  std::string read(std::string_view name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::string path_;
};

/// Changes good files as an input says, so that a target needs no seeds that are files of a format of our own, which
/// changes. The input is a list of edits, each [what, file, at (2 bytes), count, count bytes]: to overwrite, to insert,
/// to erase, to end a file there, or to put all that is left of the input in a file's place.
inline std::vector<std::string> edited(std::vector<std::string> files, std::span<const std::uint8_t> input) {
  while (input.size() >= 5) {
    std::string& file = files[input[1] % files.size()];
    const std::size_t at = (input[2] | std::size_t{input[3]} << 8) % (file.size() + 1);
    const unsigned what = input[0] % 5;
    std::size_t count = input[4];
    input = input.subspan(5);
    if (what == 2) {
      file.erase(at, count);
      continue;
    }
    if (what == 3) {
      file.resize(at);
      continue;
    }
    if (what == 4) count = input.size();
    const auto taken = input.first(std::min(count, input.size()));
    const std::string bytes(taken.begin(), taken.end());
    input = input.subspan(taken.size());
    if (what == 0) file.replace(at, bytes.size(), bytes);
    if (what == 1) file.insert(at, bytes);
    if (what == 4) file = bytes;
  }
  return files;
}

}  // namespace mistral::fuzz
