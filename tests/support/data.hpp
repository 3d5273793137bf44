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

/// The path of a golden file or folder, or an empty path and one loud line where it is missing: the test then returns.
inline std::filesystem::path golden(const std::string& name) {
  std::filesystem::path path = data_root() / name;
  if (std::filesystem::exists(path)) return path;
  std::fprintf(stderr, "SKIPPED: golden data %s is missing (set MISTRAL_DATA to the folder that holds it)\n",
               path.string().c_str());
  return {};
}

}  // namespace mistral::test
