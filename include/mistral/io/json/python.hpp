// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/io/json/document.hpp>
#include <mistral/io/json/parser.hpp>

/// \file
/// JSON to the letter as Python's json.dumps(..., ensure_ascii=False) writes it: what models were trained on whose
/// prompts a Python program put together.

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// Appends a text as a JSON string: quotes, backslashes and the controls of ASCII are escaped, all else stays.
inline void append_python_string(std::string& json, std::string_view text) {
  constexpr std::string_view escaped = "\"\\\b\f\n\r\t";
  constexpr std::string_view letters = "\"\\bfnrt";
  constexpr std::string_view digits = "0123456789abcdef";
  json += '"';
  for (const char c : text) {
    if (const std::size_t which = escaped.find(c); which != std::string_view::npos) {
      json.append(1, '\\').append(1, letters[which]);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      json.append("\\u00").append(1, c < 0x10 ? '0' : '1').append(1, digits[static_cast<std::size_t>(c & 0x0f)]);
    } else {
      json += c;
    }
  }
  json += '"';
}

/// Appends a number as Python's repr writes a float: the fewest digits that read as the same number, always with a
/// point or an exponent, the latter below 1e-4 and from 1e16 on.
inline void append_python_float(std::string& json, double x) {
  if (std::isnan(x)) {
    json += "NaN";
    return;
  }
  if (std::isinf(x)) {
    json += x < 0 ? "-Infinity" : "Infinity";
    return;
  }
  char text[32];  // the longest is -2.2250738585072014e-308
  const double magnitude = std::abs(x);
  const bool plain = magnitude == 0.0 || (magnitude >= 1e-4 && magnitude < 1e16);
  char* const end =
      std::to_chars(text, text + sizeof text, x, plain ? std::chars_format::fixed : std::chars_format::scientific).ptr;
  const std::string_view written(text, static_cast<std::size_t>(end - text));
  json += written;
  if (plain && written.find('.') == std::string_view::npos) json += ".0";
}

/// Appends a value of a document. No deeper than the parser has gone.
inline void append_python_json(std::string& json, const JsonDocument& document, const JsonValue& value) {
  using Type = JsonValue::Type;
  switch (value.type) {
    case Type::null:
      json += "null";
      return;
    case Type::boolean:
      json += value.boolean ? "true" : "false";
      return;
    case Type::integer:
      json += std::to_string(value.integer);
      return;
    case Type::natural:
      json += std::to_string(value.natural);
      return;
    case Type::real:
      if (value.digits > 0) {
        json += document.whole[value.digits - 1];
      } else {
        append_python_float(json, value.real);
      }
      return;
    case Type::string:
      append_python_string(json, document.text_of(value));
      return;
    case Type::array: {
      json += '[';
      std::string_view between;
      for (const JsonValue& element : document.children(value)) {
        json += between;
        append_python_json(json, document, element);
        between = ", ";
      }
      json += ']';
      return;
    }
    case Type::object: {
      const std::span<const JsonValue> sorted = document.children(value);
      std::vector<JsonValue> fields(sorted.begin(), sorted.end());
      std::sort(fields.begin(), fields.end(), [](const JsonValue& a, const JsonValue& b) { return a.name < b.name; });
      json += '{';
      std::string_view between;
      for (const JsonValue& field : fields) {
        json += between;
        append_python_string(json, document.name_of(field));
        json += ": ";
        append_python_json(json, document, field);
        between = ", ";
      }
      json += '}';
      return;
    }
  }
}

}  // namespace detail

/// Returns a value as Python writes it: fields in the order of the text that was read, a space behind each comma and
/// colon, characters beyond ASCII as they are, floats as Python's repr has them (22.5, 100000.0, 1e-07, NaN), and whole
/// numbers of any size to the digit.
inline std::string python_json(const JsonDocument& document, const JsonValue& value) {
  std::string json;
  detail::append_python_json(json, document, value);
  return json;
}

/// Returns a JSON text as Python would write it again after reading it; nothing where Python holds it for no JSON.
/// Throws Error `[where] subject: ...` for JSON beyond the limits of parse_json.
inline std::optional<std::string> python_json(std::string_view text, std::string_view where, std::string_view subject) {
  try {
    const JsonDocument document = parse_json(text, where, subject, JsonDialect::python);
    return python_json(document, document.root);
  } catch (const detail::NotJson&) {
    return std::nullopt;
  }
}

}}  // namespace mistral
