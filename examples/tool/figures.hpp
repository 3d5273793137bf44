// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/evaluate/estimators.hpp>

/// \file
/// How measures of a model are shown: as a table, and as JSON.

namespace mistral::tool {

using Json = nlohmann::ordered_json;

/// A figure, its standard error, and how many trials both are from.
struct Figure {
  std::string name;
  double value;
  double error;
  std::size_t total;
};

Figure figure(std::string name, const Proportion& proportion);
Figure figure(std::string name, const Mean& mean);

/// A line each, below a heading. What there are no trials for is shown as -.
std::string table(const std::vector<Figure>& figures);

/// A field each, null where there are no trials.
void add_figures(Json& json, const std::vector<Figure>& figures);

/// As text, whatever bytes its strings hold.
std::string dump(const Json& json);

}  // namespace mistral::tool
