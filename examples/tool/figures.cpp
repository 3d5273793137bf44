// SPDX-License-Identifier: Apache-2.0
#include "figures.hpp"

#include <cstdio>
#include <utility>

#include "console.hpp"

namespace mistral::tool {

Figure figure(std::string name, const Proportion& proportion) {
  return {std::move(name), proportion.value(), proportion.standard_error(), proportion.total};
}

Figure figure(std::string name, const Mean& mean) {
  return {std::move(name), mean.value(), mean.standard_error(), mean.count()};
}

std::string table(const std::vector<Figure>& figures) {
  std::string text = "figure                       value   standard error     over\n";
  for (const Figure& f : figures) {
    char line[160];
    if (f.total > 0) {
      std::snprintf(line, sizeof line, "%-22s %11.6f %16.6f %8zu\n", f.name.c_str(), f.value, f.error, f.total);
    } else {
      std::snprintf(line, sizeof line, "%-22s %11s %16s %8d\n", f.name.c_str(), "-", "-", 0);
    }
    text += line;
  }
  return text;
}

void add_figures(Json& json, const std::vector<Figure>& figures) {
  for (const Figure& f : figures) {
    Json& field = json[f.name];
    if (f.total > 0) field = {{"value", f.value}, {"standard_error", f.error}, {"over", f.total}};
  }
}

std::string dump(const Json& json) { return json_text(json, 2); }

}  // namespace mistral::tool
