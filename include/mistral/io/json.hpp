#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/io/printable.hpp>

namespace mistral::inline MISTRAL_ABI {

/// An object of a JSON file that is not trusted: typed fields, and errors that name the file and the field. Every error
/// is an Error `[where] file: field 'name': expected ..., got ...`. A copy is cheap and shares the document.
///
/// The JSON library shows in nothing but the private parts: to compile its machinery is dear, and few use few parts.
class JsonObject {
 public:
  /// Reads a document whose outermost value is an object. Refuses what is not JSON (RFC 8259), an object that has a
  /// field twice, nesting beyond `max_depth`, and more than `max_values` values, which bounds the memory that a small
  /// file can cost.
  static JsonObject parse(std::span<const std::byte> bytes, std::string_view where, std::string_view file);

  static constexpr int max_depth = 64;
  static constexpr std::size_t max_values = 1'000'000;

  /// Whether the field is there and is not null.
  bool has(const std::string& name) const {
    const Json* const value = find(name);
    return value != nullptr && !value->is_null();
  }

  /// The names of all fields, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& field : *fields_) all.push_back(field.first);
    return all;
  }

  /// The field's integer, which must lie in [low, high].
  std::int64_t integer(const std::string& name, std::int64_t low, std::int64_t high) const {
    return integer_in(get(name), name, low, high);
  }

  /// The field's integers, each in [low, high].
  std::vector<std::int64_t> integers(const std::string& name, std::int64_t low, std::int64_t high) const {
    const Json& value = get(name);
    const auto* const array = value.get_ptr<const Json::array_t*>();
    if (array == nullptr) throw unexpected(name, "an array of integers", value);
    std::vector<std::int64_t> all;
    for (const Json& element : *array) all.push_back(integer_in(element, name, low, high));
    return all;
  }

  /// The field's number, with a fraction or without.
  double number(const std::string& name) const {
    const Json& value = get(name);
    if (const auto* const real = value.get_ptr<const double*>()) return *real;
    // an unsigned integer answers to both names, so the order matters
    if (const auto* const natural = value.get_ptr<const std::uint64_t*>()) return static_cast<double>(*natural);
    if (const auto* const integer = value.get_ptr<const std::int64_t*>()) return static_cast<double>(*integer);
    throw unexpected(name, "a number", value);
  }

  bool boolean(const std::string& name) const {
    const Json& value = get(name);
    const auto* const boolean = value.get_ptr<const bool*>();
    if (boolean == nullptr) throw unexpected(name, "true or false", value);
    return *boolean;
  }

  const std::string& string(const std::string& name) const {
    const Json& value = get(name);
    const auto* const text = value.get_ptr<const std::string*>();
    if (text == nullptr) throw unexpected(name, "a string", value);
    return *text;
  }

  std::vector<std::string> strings(const std::string& name) const {
    const Json& value = get(name);
    const auto* const array = value.get_ptr<const Json::array_t*>();
    if (array == nullptr) throw unexpected(name, "an array of strings", value);
    std::vector<std::string> all;
    for (const Json& element : *array) {
      const auto* const text = element.get_ptr<const std::string*>();
      if (text == nullptr) throw unexpected(name, "an array of strings", element);
      all.push_back(*text);
    }
    return all;
  }

  /// The field's object; its own errors call it `<kind> 'name'`.
  JsonObject object(const std::string& name, std::string_view kind = "field") const {
    const Json& value = get(name);
    const auto* const fields = value.get_ptr<const Json::object_t*>();
    if (fields == nullptr) throw unexpected(name, "an object", value);
    return {document_, fields, where_,
            subject_ + ": " + std::string(kind).append(" '").append(printable(name)).append("'")};
  }

  /// For the caller's own checks: `[where] file: field 'name': expected ..., got <the value>`.
  Error unexpected(const std::string& name, std::string_view expected) const {
    const Json* const value = find(name);
    if (value == nullptr) return Error(where_, field(name), expected, "nothing");
    return unexpected(name, expected, *value);
  }

  /// `[where] file: what`
  Error error(std::string_view what) const { return Error(where_, subject_ + ": " + std::string(what)); }

 private:
  using Json = nlohmann::json;
  class Guard;

  JsonObject(std::shared_ptr<const Json> document, const Json::object_t* fields, std::string where, std::string subject)
      : document_(std::move(document)), fields_(fields), where_(std::move(where)), subject_(std::move(subject)) {}

  const Json* find(const std::string& name) const {
    const auto found = fields_->find(name);
    return found == fields_->end() ? nullptr : &found->second;
  }

  const Json& get(const std::string& name) const {
    const Json* const value = find(name);
    if (value == nullptr) throw Error(where_, field(name) + " is missing");
    return *value;
  }

  std::string field(const std::string& name) const { return subject_ + ": field '" + printable(name) + "'"; }

  Error unexpected(const std::string& name, std::string_view expected, const Json& value) const {
    return Error(where_, field(name), expected, describe(value));
  }

  std::int64_t integer_in(const Json& value, const std::string& name, std::int64_t low, std::int64_t high) const {
    const auto* const natural = value.get_ptr<const std::uint64_t*>();
    const auto* const integer = value.get_ptr<const std::int64_t*>();
    const bool representable = natural != nullptr ? *natural <= std::uint64_t{INT64_MAX} : integer != nullptr;
    if (!representable || *integer < low || *integer > high) {
      throw unexpected(name, "an integer from " + std::to_string(low) + " to " + std::to_string(high), value);
    }
    return *integer;
  }

  static std::string describe(const Json& value) {
    switch (value.type()) {
      case Json::value_t::null:
        return "null";
      case Json::value_t::object:
        return "an object";
      case Json::value_t::array:
        return "an array";
      case Json::value_t::string:
        return "'" + printable(*value.get_ptr<const std::string*>(), 60) + "'";
      case Json::value_t::boolean:
        return *value.get_ptr<const bool*>() ? "true" : "false";
      case Json::value_t::number_integer:
        return std::to_string(*value.get_ptr<const std::int64_t*>());
      case Json::value_t::number_unsigned:
        return std::to_string(*value.get_ptr<const std::uint64_t*>());
      case Json::value_t::number_float: {
        char text[40];
        std::snprintf(text, sizeof text, "%.9g", *value.get_ptr<const double*>());
        return text;
      }
      default:
        return "something else";
    }
  }

  std::shared_ptr<const Json> document_;
  const Json::object_t* fields_;
  std::string where_;
  std::string subject_;
};

/// Watches the parser's events: throws at the first value that is too deep, too many, or a field for the second time.
class JsonObject::Guard {
 public:
  Guard(std::string_view where, std::string_view subject) : where_(where), subject_(subject) {}

  bool operator()(int depth, nlohmann::json::parse_event_t event, const Json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::key) {
      const auto& name = *parsed.get_ptr<const std::string*>();
      if (!open_.back().insert(name).second) fail("the field '" + printable(name) + "' is there twice");
    } else if (event == Event::object_end || event == Event::array_end) {
      open_.pop_back();
    } else {
      if (++values_ > max_values) fail("more than " + std::to_string(max_values) + " values");
      if (event == Event::object_start || event == Event::array_start) {
        if (depth >= max_depth) fail("nested deeper than " + std::to_string(max_depth) + " levels");
        open_.emplace_back();
      }
    }
    return true;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(where_, subject_ + ": " + what); }

  std::string where_;
  std::string subject_;
  std::vector<std::set<std::string>> open_;  // the fields so far of each object or array that is open
  std::size_t values_ = 0;
};

inline JsonObject JsonObject::parse(std::span<const std::byte> bytes, std::string_view where, std::string_view file) {
  std::string subject = printable(file, 1000);
  const auto* const text = reinterpret_cast<const char*>(bytes.data());
  const auto not_json = [&](std::size_t place) {  // counted from 1; one past the end where something is missing
    std::size_t line = 1;
    std::size_t line_start = 0;
    for (std::size_t i = 0; i < bytes.size() && i + 1 < place; ++i) {
      if (text[i] != '\n') continue;
      ++line;
      line_start = i + 1;
    }
    return Error(where, subject + ": not valid JSON at byte " + std::to_string(place) + " (line " +
                            std::to_string(line) + ", column " + std::to_string(place - line_start) + ")");
  };
  // the parser would take a zero byte for the end, and never look at what follows
  const std::size_t zero = std::string_view(text, bytes.size()).find('\0');
  if (zero != std::string_view::npos) throw not_json(zero + 1);

  std::shared_ptr<const Json> document;
  try {
    Guard guard(where, subject);
    document = std::make_shared<const Json>(Json::parse(
        text, text + bytes.size(),
        [&guard](int depth, Json::parse_event_t event, const Json& parsed) { return guard(depth, event, parsed); }));
  } catch (const Json::parse_error& error) {
    throw not_json(error.byte);
  } catch (const Json::exception&) {
    throw Error(where, subject + ": holds a number that is too large");
  }
  const auto* const fields = document->get_ptr<const Json::object_t*>();
  if (fields == nullptr) throw Error(where, subject, "a JSON object", describe(*document));
  return {std::move(document), fields, std::string(where), std::move(subject)};
}

/// `text` as a JSON string, quotes included.
inline std::string json_quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted.append(1, '\\').append(1, c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      quoted += escape;
    } else {
      quoted += c;
    }
  }
  return quoted += '"';
}

}  // namespace mistral::inline MISTRAL_ABI
