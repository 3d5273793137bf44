// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/document.hpp>
#include <mistral/io/json/python.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Holds a JSON Schema against draft 7 (json-schema.org/draft-07/schema): whether each keyword has a value of its kind.
/// The meaning of a keyword's text (a pattern, a format, a reference) is not looked at, as Python's jsonschema doesn't.
class ToolSchema {
 public:
  ///   path  what errors call the schema
  ToolSchema(const JsonDocument& document, std::string path) : document_(document), path_(std::move(path)) {}

  /// Throws Error `[chat] path.properties.x.type: expected ..., got ...` for the first keyword whose value is wrong.
  void check() { schema(document_.root); }

 private:
  using Type = JsonValue::Type;

  enum class Kind {
    any,
    text,
    boolean,
    number,
    positive,  // a number above 0
    count,     // a whole number from 0 on
    array,
    texts,            // distinct strings
    type,             // the name of a type, or distinct names
    schema,           // an object or a boolean
    schemas,          // an array of at least one schema
    items,            // a schema or an array of them
    by_name,          // an object of schemas
    by_name_or_texts  // an object of schemas or arrays of distinct strings
  };

  static Kind kind_of(std::string_view keyword) noexcept {
    struct Known {
      std::string_view keyword;
      Kind kind;
    };
    constexpr std::array known{Known{"$comment", Kind::text},
                               Known{"$id", Kind::text},
                               Known{"$ref", Kind::text},
                               Known{"$schema", Kind::text},
                               Known{"additionalItems", Kind::schema},
                               Known{"additionalProperties", Kind::schema},
                               Known{"allOf", Kind::schemas},
                               Known{"anyOf", Kind::schemas},
                               Known{"contains", Kind::schema},
                               Known{"contentEncoding", Kind::text},
                               Known{"contentMediaType", Kind::text},
                               Known{"definitions", Kind::by_name},
                               Known{"dependencies", Kind::by_name_or_texts},
                               Known{"description", Kind::text},
                               Known{"else", Kind::schema},
                               Known{"enum", Kind::array},
                               Known{"examples", Kind::array},
                               Known{"exclusiveMaximum", Kind::number},
                               Known{"exclusiveMinimum", Kind::number},
                               Known{"format", Kind::text},
                               Known{"if", Kind::schema},
                               Known{"items", Kind::items},
                               Known{"maxItems", Kind::count},
                               Known{"maxLength", Kind::count},
                               Known{"maxProperties", Kind::count},
                               Known{"maximum", Kind::number},
                               Known{"minItems", Kind::count},
                               Known{"minLength", Kind::count},
                               Known{"minProperties", Kind::count},
                               Known{"minimum", Kind::number},
                               Known{"multipleOf", Kind::positive},
                               Known{"not", Kind::schema},
                               Known{"oneOf", Kind::schemas},
                               Known{"pattern", Kind::text},
                               Known{"patternProperties", Kind::by_name},
                               Known{"properties", Kind::by_name},
                               Known{"propertyNames", Kind::schema},
                               Known{"readOnly", Kind::boolean},
                               Known{"required", Kind::texts},
                               Known{"then", Kind::schema},
                               Known{"title", Kind::text},
                               Known{"type", Kind::type},
                               Known{"uniqueItems", Kind::boolean}};
    for (const Known& each : known) {
      if (each.keyword == keyword) return each.kind;
    }
    return Kind::any;
  }

  void schema(const JsonValue& value) {
    if (value.type == Type::boolean) return;
    if (value.type != Type::object) refuse("a schema, which is an object or a boolean", value);
    for (const JsonValue& field : document_.children(value)) {
      at(document_.name_of(field), [&] { keyword(kind_of(document_.name_of(field)), field); });
    }
  }

  void keyword(Kind kind, const JsonValue& value) {
    switch (kind) {
      case Kind::any:
        return;
      case Kind::text:
        return need(value, value.type == Type::string, "a string");
      case Kind::boolean:
        return need(value, value.type == Type::boolean, "true or false");
      case Kind::number:
        return need(value, is_number(value), "a number");
      case Kind::positive:
        return need(value, is_number(value) && number(value) > 0.0, "a number above 0");
      case Kind::count:
        return need(value, is_whole(value) && number(value) >= 0.0, "a whole number from 0 on");
      case Kind::array:
        return need(value, value.type == Type::array, "an array");
      case Kind::texts:
        return need(value, distinct_strings(value), "an array of distinct strings");
      case Kind::type:
        return type(value);
      case Kind::schema:
        return schema(value);
      case Kind::schemas:
        return schemas(value);
      case Kind::items:
        return value.type == Type::array ? schemas(value) : schema(value);
      case Kind::by_name:
      case Kind::by_name_or_texts:
        need(value, value.type == Type::object, "an object of schemas");
        for (const JsonValue& field : document_.children(value)) {
          if (kind == Kind::by_name_or_texts && distinct_strings(field)) continue;
          at(document_.name_of(field), [&] { schema(field); });
        }
        return;
    }
  }

  void type(const JsonValue& value) {
    constexpr std::array<std::string_view, 7> names{"array",  "boolean", "integer", "null",
                                                    "number", "object",  "string"};
    const auto is_name = [&](const JsonValue& each) {
      return each.type == Type::string && std::find(names.begin(), names.end(), document_.text_of(each)) != names.end();
    };
    if (is_name(value)) return;
    constexpr std::string_view expected = "one of array, boolean, integer, null, number, object, string, or several";
    need(value, distinct_strings(value) && !document_.children(value).empty(), expected);
    for (const JsonValue& each : document_.children(value)) need(value, is_name(each), expected);
  }

  void schemas(const JsonValue& value) {
    need(value, value.type == Type::array && !document_.children(value).empty(), "an array of schemas");
    for (const JsonValue& each : document_.children(value)) schema(each);
  }

  static bool is_number(const JsonValue& value) noexcept {
    return value.type == Type::integer || value.type == Type::natural || value.type == Type::real;
  }

  static double number(const JsonValue& value) noexcept {
    if (value.type == Type::integer) return static_cast<double>(value.integer);
    if (value.type == Type::natural) return static_cast<double>(value.natural);
    return value.type == Type::real ? value.real : 0.0;
  }

  static bool is_whole(const JsonValue& value) noexcept {
    const double x = number(value);
    return is_number(value) && (value.digits > 0 || (std::isfinite(x) && std::trunc(x) == x));
  }

  bool distinct_strings(const JsonValue& value) const {
    if (value.type != Type::array) return false;
    std::vector<std::string_view> all;
    for (const JsonValue& each : document_.children(value)) {
      if (each.type != Type::string) return false;
      all.push_back(document_.text_of(each));
    }
    std::sort(all.begin(), all.end());
    return std::adjacent_find(all.begin(), all.end()) == all.end();
  }

  template <class Check>
  void at(std::string_view name, const Check& check) {
    const std::size_t size = path_.size();
    path_.append(".").append(printable(name, 60));
    check();
    path_.resize(size);
  }

  void need(const JsonValue& value, bool right, std::string_view expected) const {
    if (!right) refuse(expected, value);
  }

  [[noreturn]] void refuse(std::string_view expected, const JsonValue& value) const {
    throw Error("chat", path_, std::string(expected) + " (JSON Schema, draft 7)",
                printable(python_json(document_, value), 60));
  }

  const JsonDocument& document_;
  std::string path_;
};

}}}  // namespace mistral::detail
