// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/io/json/document.hpp>

namespace mistral::test {

/// What nlohmann-json makes of a text, and whether that is beyond what this library reads.
struct JsonOracle {
  nlohmann::json value;  // discarded where the text is not JSON, or holds a number that is beyond a double
  bool beyond_limits = false;

  static JsonOracle read(std::string_view text) {
    JsonOracle oracle;
    std::vector<std::set<std::string>> open;  // the fields so far of each object or array that is open
    std::size_t values = 0;
    using Event = nlohmann::json::parse_event_t;
    const auto watch = [&](int depth, Event event, const nlohmann::json& parsed) {
      if (event == Event::key) {
        if (!open.back().insert(parsed.get<std::string>()).second) oracle.beyond_limits = true;
      } else if (event == Event::object_end || event == Event::array_end) {
        open.pop_back();
      } else {
        if (++values > JsonDocument::max_values) oracle.beyond_limits = true;
        if (event == Event::value) return true;
        if (depth >= JsonDocument::max_depth) oracle.beyond_limits = true;
        open.emplace_back();
      }
      return true;
    };
    // it takes a zero byte for the end; no text that holds one is JSON
    if (text.find('\0') != std::string_view::npos) {
      oracle.value = nlohmann::json(nlohmann::json::value_t::discarded);
    } else {
      oracle.value = nlohmann::json::parse(text.data(), text.data() + text.size(), watch, false);
    }
    return oracle;
  }

  bool accepts() const { return !value.is_discarded() && !beyond_limits; }
};

/// Whether a value that we read is that of nlohmann-json, with the same type of number, bit for bit.
inline bool same_json(const JsonDocument& document, const JsonValue& ours, const nlohmann::json& theirs) {
  using Type = JsonValue::Type;
  switch (ours.type) {
    case Type::null:
      return theirs.is_null();
    case Type::boolean:
      return theirs.is_boolean() && ours.boolean == theirs.get<bool>();
    case Type::integer:
      return theirs.is_number_integer() && theirs == nlohmann::json(ours.integer);
    case Type::natural:
      return theirs.is_number_unsigned() && ours.natural > std::uint64_t{INT64_MAX} &&
             theirs.get<std::uint64_t>() == ours.natural;
    case Type::real:
      return theirs.is_number_float() &&
             std::bit_cast<std::uint64_t>(ours.real) == std::bit_cast<std::uint64_t>(theirs.get<double>());
    case Type::string:
      return theirs.is_string() && document.text_of(ours) == theirs.get_ref<const std::string&>();
    case Type::array: {
      const auto elements = document.children(ours);
      if (!theirs.is_array() || theirs.size() != elements.size()) return false;
      for (std::size_t i = 0; i < elements.size(); ++i) {
        if (!same_json(document, elements[i], theirs[i])) return false;
      }
      return true;
    }
    case Type::object: {
      const auto fields = document.children(ours);
      if (!theirs.is_object() || theirs.size() != fields.size()) return false;
      auto field = fields.begin();
      for (auto item = theirs.begin(); item != theirs.end(); ++item, ++field) {  // sorted by name, as ours
        if (document.name_of(*field) != item.key() || document.find(ours, item.key()) != &*field) return false;
        if (!same_json(document, *field, item.value())) return false;
      }
      return true;
    }
  }
  return false;
}

}  // namespace mistral::test
