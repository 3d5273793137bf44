// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace mistral::test {

/// What becomes of a field: docs/fields.md.
enum class Outcome { used, refused, without_effect };

/// A field of a file, and a value for it that isn't the usual one: JSON, or what the test of its file says.
struct Field {
  std::string file;  // the heading in docs/fields.md
  std::string name;
  std::string value;
  Outcome outcome;
};

inline bool operator==(const Field& a, const Field& b) {
  return a.file == b.file && a.name == b.name && a.outcome == b.outcome;
}

/// The fields of docs/fields.md in the order of the page, without values.
inline std::vector<Field> documented_fields() {
  std::vector<Field> all;
  std::ifstream page(std::filesystem::path(MISTRAL_SOURCE_DIR) / "docs" / "fields.md");
  std::string file;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("## ")) file = line.substr(3);
    if (!line.starts_with("| `") || file == "Tensors") continue;
    const std::size_t end = line.find("` | ");
    if (end == std::string::npos) continue;
    const std::string outcome = line.substr(end + 4, line.find(" |", end + 4) - end - 4);
    all.push_back({file, line.substr(3, end - 3), "",
                   outcome == "used"      ? Outcome::used
                   : outcome == "refused" ? Outcome::refused
                                          : Outcome::without_effect});
  }
  return all;
}

}  // namespace mistral::test
