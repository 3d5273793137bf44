// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace mistral::test {

/// The folder of golden data: $MISTRAL_DATA, or ../shared/data beside the project.
inline std::filesystem::path data_root() {
  if (const char* root = std::getenv("MISTRAL_DATA"); root != nullptr && *root != '\0') return root;
  return std::filesystem::path(MISTRAL_SOURCE_DIR).parent_path() / "shared" / "data";
}

/// The path of a golden file or folder: of all the data where it stands, else of the few that the project holds. Where
/// neither has it: an empty path and one loud line, and the test then returns.
inline std::filesystem::path golden(const std::string& name) {
  for (const auto& root : {data_root(), std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests" / "data"}) {
    if (std::filesystem::exists(root / name)) return root / name;
  }
  std::fprintf(stderr, "SKIPPED: golden data %s is missing (set MISTRAL_DATA to the folder that holds it)\n",
               (data_root() / name).string().c_str());
  return {};
}

}  // namespace mistral::test
