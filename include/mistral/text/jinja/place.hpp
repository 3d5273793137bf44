// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/text/jinja/characters.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// Where something stands in a template, both counted from 1.
struct Place {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
};

/// Where a byte of a source stands.
inline Place place_in(std::string_view source, std::size_t at) {
  const std::string_view before = source.substr(0, at);
  const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  return {static_cast<std::uint32_t>(1 + std::count(before.begin(), before.end(), '\n')),
          static_cast<std::uint32_t>(1 + character_count(before.substr(line_begin)))};
}

/// `name:line:column`
inline std::string place_text(std::string_view name, Place place) {
  return std::string(name)
      .append(":")
      .append(std::to_string(place.line))
      .append(":")
      .append(std::to_string(place.column));
}

/// The Error of a template: `[template] name:line:column: what`.
inline Error template_error(std::string_view name, Place place, std::string_view what) {
  return Error("template", place_text(name, place).append(": ").append(what));
}

}}}  // namespace mistral::jinja
