// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <mistral/io/checksum.hpp>

namespace mistral::tool {

/// A text that changes with each byte of each header below a folder, and with their names. Empty where there are none.
inline std::string fingerprint_of(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code failure;
  for (std::filesystem::recursive_directory_iterator entry(folder + "/mistral", failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (entry->path().extension() == ".hpp" || entry->path().extension() == ".h")
      files.push_back(entry->path().string());
  }
  if (failure || files.empty()) return {};
  std::sort(files.begin(), files.end());
  std::string sums;
  for (const std::string& path : files) {
    std::ifstream file(path, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    sums.append(path.substr(folder.size())).append(" ");
    sums.append(checksum_text(checksum(std::as_bytes(std::span(content))))).append("\n");
  }
  return checksum_text(checksum(std::as_bytes(std::span(sums))));
}

}  // namespace mistral::tool
