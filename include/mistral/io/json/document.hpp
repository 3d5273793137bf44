// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A value of a JsonDocument, which holds the texts and the children.
struct JsonValue {
  enum class Type : std::uint8_t {
    null,
    boolean,
    integer,  // written without fraction and exponent, and within std::int64_t
    natural,  // the same above that, and within std::uint64_t
    real,     // any other number
    string,
    array,
    object,
  };

  /// Where the children stand in JsonDocument::values, one after the other.
  struct Children {
    std::uint32_t begin;
    std::uint32_t count;
  };

  Type type = Type::null;
  std::uint32_t digits : 24 = 0;  // of a real that was written as a whole number: 1 + its place in JsonDocument::whole
  std::uint32_t name = 0;         // of an object's field: its place in JsonDocument::strings
  union {                         // which one, `type` says
    std::int64_t integer = 0;
    std::uint64_t natural;
    double real;
    bool boolean;
    std::uint32_t string;  // its place in JsonDocument::strings
    Children children;
  };
};

/// Which texts are JSON.
enum class JsonDialect : std::uint8_t {
  standard,  ///< RFC 8259, of objects that have no field twice and numbers that a double comes near
  /// The texts that Python's json.loads takes: NaN, Infinity and -Infinity too, numbers of any size (those beyond a
  /// double are infinite), and of a field that is there twice the last value, in the first one's place. No byte order
  /// mark.
  python
};

/// A JSON text as plain data: 16 bytes a value and one std::string a text, whatever the nesting.
struct JsonDocument {
  static constexpr int max_depth = 64;
  static constexpr std::size_t max_values = 1'000'000;
  static constexpr std::size_t max_file_bytes = std::size_t{64} << 20;  // of a file that is one text

  JsonValue root;
  std::vector<JsonValue> values;     // all but the root; siblings side by side, fields sorted by their names' bytes
  std::vector<std::string> strings;  // in the order of the text: fields sorted by JsonValue::name stand as written
  std::vector<std::string> whole;    // the digits of whole numbers beyond 64 bits, which are reals

  /// The elements of an array, or the fields of an object sorted by name.
  std::span<const JsonValue> children(const JsonValue& parent) const noexcept {
    return std::span(values).subspan(parent.children.begin, parent.children.count);
  }

  const std::string& text_of(const JsonValue& string) const noexcept { return strings[string.string]; }

  const std::string& name_of(const JsonValue& field) const noexcept { return strings[field.name]; }

  /// The object's field of that name, null where there is none.
  const JsonValue* find(const JsonValue& object, std::string_view name) const noexcept {
    const std::span<const JsonValue> fields = children(object);
    const auto found = std::lower_bound(
        fields.begin(), fields.end(), name,
        [this](const JsonValue& field, std::string_view wanted) { return std::string_view(name_of(field)) < wanted; });
    return found != fields.end() && name_of(*found) == name ? &*found : nullptr;
  }
};

namespace detail {

/// The error that parse_json throws for a text that is not JSON, rather than for one beyond its limits.
class NotJson : public Error {
 public:
  using Error::Error;
};

}  // namespace detail

}}  // namespace mistral
