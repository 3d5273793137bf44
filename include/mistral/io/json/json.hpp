// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/file_kind.hpp>
#include <mistral/io/json/document.hpp>
#include <mistral/io/json/parser.hpp>
#include <mistral/io/json/python.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// An object of a JSON file that is not trusted: typed fields, and errors that name the file and the field. Every error
/// is an Error `[where] file: field 'name': expected ..., got ...`. A copy is cheap and shares the document.
class JsonObject {
 public:
  /// Reads a document whose outermost value is an object. Refuses what is not JSON (RFC 8259), an object that has a
  /// field twice, nesting beyond `max_depth`, and more than `most_values` values, which bounds the memory that a small
  /// file can cost.
  static JsonObject parse(std::span<const std::byte> bytes, std::string_view where, std::string_view file,
                          std::size_t most_values = max_values) {
    std::string subject = printable(file, 1000);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (const std::optional<FileKind> kind = file_kind(bytes);
        kind && *kind != FileKind::json && *kind != FileKind::text && *kind != FileKind::sentencepiece) {
      throw foreign_file(bytes, *kind, where, subject, "a JSON object");
    }
    auto document =
        std::make_shared<const JsonDocument>(parse_json(text, where, subject, JsonDialect::standard, most_values));
    const JsonValue& root = document->root;
    if (root.type != Type::object) throw Error(where, subject, "a JSON object", describe(*document, root));
    return {std::move(document), root, std::string(where), std::move(subject)};
  }

  static constexpr int max_depth = JsonDocument::max_depth;
  static constexpr std::size_t max_values = JsonDocument::max_values;

  /// Whether the field is there and is not null.
  bool has(const std::string& name) const {
    const JsonValue* const value = find(name);
    return value != nullptr && value->type != Type::null;
  }

  /// The names of all fields, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const JsonValue& field : document_->children(*object_)) all.push_back(document_->name_of(field));
    return all;
  }

  /// The field's integer, which must lie in [low, high]. A whole number that was written as 3.0, as programs do that
  /// hold all numbers as doubles, is one.
  std::int64_t integer(const std::string& name, std::int64_t low, std::int64_t high) const {
    return integer_in(get(name), name, low, high);
  }

  /// The field's integers, each in [low, high].
  std::vector<std::int64_t> integers(const std::string& name, std::int64_t low, std::int64_t high) const {
    std::vector<std::int64_t> all;
    for (const JsonValue& element : document_->children(get(name, Type::array, "an array of integers"))) {
      all.push_back(integer_in(element, name, low, high));
    }
    return all;
  }

  /// The field's number, with a fraction or without.
  double number(const std::string& name) const {
    const JsonValue& value = get(name);
    if (value.type == Type::real) return value.real;
    if (value.type == Type::integer) return static_cast<double>(value.integer);
    if (value.type == Type::natural) return static_cast<double>(value.natural);
    throw unexpected(name, "a number", value);
  }

  /// Whether the field is there and is a string.
  bool is_string(const std::string& name) const {
    const JsonValue* const value = find(name);
    return value != nullptr && value->type == Type::string;
  }

  /// Whether the field is there and says nothing: null, false, 0, or an empty string, array or object.
  bool is_empty(const std::string& name) const {
    const JsonValue* const value = find(name);
    if (value == nullptr) return false;
    switch (value->type) {
      case Type::null:
        return true;
      case Type::boolean:
        return !value->boolean;
      case Type::integer:
        return value->integer == 0;
      case Type::natural:
        return value->natural == 0;
      case Type::real:
        return value->real == 0.0;
      case Type::string:
        return document_->text_of(*value).empty();
      default:
        return document_->children(*value).empty();
    }
  }

  /// Whether the field is there and is an array, an object, or true or false.
  ///@{
  bool is_array(const std::string& name) const { return is(name, Type::array); }
  bool is_object(const std::string& name) const { return is(name, Type::object); }
  bool is_boolean(const std::string& name) const { return is(name, Type::boolean); }
  ///@}

  /// Whether the field is there and is an array that begins with a string.
  bool holds_strings(const std::string& name) const {
    const JsonValue* const value = find(name);
    if (value == nullptr || value->type != Type::array) return false;
    const std::span<const JsonValue> elements = document_->children(*value);
    return !elements.empty() && elements.front().type == Type::string;
  }

  bool boolean(const std::string& name) const { return get(name, Type::boolean, "true or false").boolean; }

  const std::string& string(const std::string& name) const {
    return document_->text_of(get(name, Type::string, "a string"));
  }

  std::vector<std::string> strings(const std::string& name) const {
    constexpr std::string_view expected = "an array of strings";
    std::vector<std::string> all;
    for (const JsonValue& element : document_->children(get(name, Type::array, expected))) {
      if (element.type != Type::string) throw unexpected(name, expected, element);
      all.push_back(document_->text_of(element));
    }
    return all;
  }

  /// The field's arrays of strings, such as pairs.
  std::vector<std::vector<std::string>> string_lists(const std::string& name) const {
    constexpr std::string_view expected = "an array of arrays of strings";
    std::vector<std::vector<std::string>> all;
    for (const JsonValue& list : document_->children(get(name, Type::array, expected))) {
      if (list.type != Type::array) throw unexpected(name, expected, list);
      all.emplace_back();
      for (const JsonValue& element : document_->children(list)) {
        if (element.type != Type::string) throw unexpected(name, expected, element);
        all.back().push_back(document_->text_of(element));
      }
    }
    return all;
  }

  /// Returns the field's value as JSON: its fields in the order that they were written in, with a space behind each
  /// comma and colon, spelt as python_json spells it.
  std::string json(const std::string& name) const { return python_json(*document_, get(name)); }

  /// The field's object; its own errors call it `<kind> 'name'`.
  JsonObject object(const std::string& name, std::string_view kind = "field") const {
    return {document_, get(name, Type::object, "an object"), where_,
            subject_ + ": " + std::string(kind).append(" '").append(printable(name)).append("'")};
  }

  /// The field's array of objects; the errors of each call it `name[i]`.
  std::vector<JsonObject> objects(const std::string& name) const {
    constexpr std::string_view expected = "an array of objects";
    std::vector<JsonObject> all;
    for (const JsonValue& element : document_->children(get(name, Type::array, expected))) {
      if (element.type != Type::object) throw unexpected(name, expected, element);
      all.push_back(
          {document_, element, where_, subject_ + ": " + printable(name) + "[" + std::to_string(all.size()) + "]"});
    }
    return all;
  }

  /// The document that the object stands in, and the object there.
  ///@{
  const JsonDocument& document() const noexcept { return *document_; }
  const JsonValue& value() const noexcept { return *object_; }
  ///@}

  /// For the caller's own checks: `[where] file: field 'name': expected ..., got <the value>`.
  Error unexpected(const std::string& name, std::string_view expected) const {
    const JsonValue* const value = find(name);
    if (value == nullptr) return Error(where_, field(name), expected, "nothing");
    return unexpected(name, expected, *value);
  }

  /// `[where] file: what`
  Error error(std::string_view what) const { return Error(where_, subject_ + ": " + std::string(what)); }

 private:
  using Type = JsonValue::Type;

  JsonObject(std::shared_ptr<const JsonDocument> document, const JsonValue& object, std::string where,
             std::string subject)
      : document_(std::move(document)), object_(&object), where_(std::move(where)), subject_(std::move(subject)) {}

  bool is(const std::string& name, Type type) const {
    const JsonValue* const value = find(name);
    return value != nullptr && value->type == type;
  }

  const JsonValue* find(const std::string& name) const { return document_->find(*object_, name); }

  const JsonValue& get(const std::string& name) const {
    const JsonValue* const value = find(name);
    if (value == nullptr) throw Error(where_, field(name) + " is missing");
    return *value;
  }

  const JsonValue& get(const std::string& name, Type type, std::string_view expected) const {
    const JsonValue& value = get(name);
    if (value.type != type) throw unexpected(name, expected, value);
    return value;
  }

  std::string field(const std::string& name) const { return subject_ + ": field '" + printable(name) + "'"; }

  Error unexpected(const std::string& name, std::string_view expected, const JsonValue& value) const {
    return Error(where_, field(name), expected, describe(*document_, value));
  }

  /// A whole number that was written as a float, 1.0, is one too: Python writes so whatever went through NumPy.
  std::int64_t integer_in(const JsonValue& value, const std::string& name, std::int64_t low, std::int64_t high) const {
    constexpr double exact = 9007199254740992.0;  // 2^53: up to here each double is the number that was written
    const bool whole =
        value.type == Type::real && std::abs(value.real) <= exact && std::trunc(value.real) == value.real;
    const std::int64_t integer = whole ? static_cast<std::int64_t>(value.real) : value.integer;
    if ((!whole && value.type != Type::integer) || integer < low || integer > high) {
      throw unexpected(name, "an integer from " + std::to_string(low) + " to " + std::to_string(high), value);
    }
    return integer;
  }

  static std::string describe(const JsonDocument& document, const JsonValue& value) {
    switch (value.type) {
      case Type::null:
        return "null";
      case Type::boolean:
        return value.boolean ? "true" : "false";
      case Type::integer:
        return std::to_string(value.integer);
      case Type::natural:
        return std::to_string(value.natural);
      case Type::real:
        return number_text(value.real);
      case Type::string:
        return "'" + printable(document.text_of(value), 60) + "'";
      case Type::array:
        return "an array";
      case Type::object:
        return "an object";
    }
    return "something else";
  }

  std::shared_ptr<const JsonDocument> document_;
  const JsonValue* object_;  // in *document_
  std::string where_;
  std::string subject_;
};

}}  // namespace mistral
