// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/io/json/document.hpp>
#include <mistral/io/json/parser.hpp>
#include <mistral/text/jinja/characters.hpp>
#include <mistral/text/jinja/operators.hpp>
#include <mistral/text/jinja/python_text.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// How `tojson` writes, as the templates' filter lets them choose.
struct JsonFormat {
  bool ascii = false;   ///< characters beyond ASCII are escaped
  bool lines = false;   ///< a line for each element, indented
  Text indent{};        ///< of one level, where there are lines
  Text item{", "};      ///< what stands between elements
  Text key{": "};       ///< what stands behind a key
  bool sorted = false;  ///< keys in order
};

/// Writes values as Python's json.dumps does.
class JsonText {
 public:
  JsonText(Budget& budget, const JsonFormat& format) : budget_(budget), format_(format) {}

  /// Appends a value. Throws Fault for what JSON has no form of.
  void append(Text& out, const Value& value, std::size_t level = 0) {
    budget_.step();
    if (const Text* const text = value.text()) {
      append_string(out, *text);
    } else if (const List* const list = value.list(); list != nullptr && list->kind <= List::Kind::group) {
      sequence(out, "[", "]", list->items.size(), level,
               [&](std::size_t i) { append(out, list->items[i], level + 1); });
    } else if (const Dict* const dict = value.dict()) {
      append_dict(out, *dict, level);
    } else if (value.is_none()) {
      out.append("null", {});
    } else if (const bool* const truth = value.get<bool>()) {
      out.append(*truth ? "true" : "false", mark_of(value));
    } else if (number_of(value)) {
      out.append(number(value), mark_of(value));
    } else {
      throw Fault("Object of type " + std::string(type_name(value)) + " is not JSON serializable");
    }
    if (out.size() > budget_.limits().output) budget_.take_text(out.size());
  }

 private:
  static Mark mark_of(const Value& value) { return value.is_data() ? data_mark : Mark{}; }

  static std::string number(const Value& value) {
    const double* const real = value.get<double>();
    if (real == nullptr || std::isfinite(*real)) return scalar_text(value);
    return std::isnan(*real) ? "NaN" : *real < 0 ? "-Infinity" : "Infinity";
  }

  template <class Element>
  void sequence(Text& out, std::string_view open, std::string_view close, std::size_t count, std::size_t level,
                const Element& element) {
    out.append(open, {});
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) out.append(format_.item);
      new_line(out, level + 1);
      element(i);
    }
    if (count > 0) new_line(out, level);
    out.append(close, {});
  }

  void new_line(Text& out, std::size_t level) {
    if (!format_.lines) return;
    budget_.take(1 + level * format_.indent.size());
    out.append("\n", {});
    for (std::size_t i = 0; i < level; ++i) out.append(format_.indent);
  }

  void append_dict(Text& out, const Dict& dict, std::size_t level) {
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (format_.sorted) {
      std::stable_sort(items.begin(), items.end(),
                       [&](auto* a, auto* b) { return compare(budget_, a->first, b->first, "<") < 0; });
    }
    sequence(out, "{", "}", items.size(), level, [&](std::size_t i) {
      const auto& [key, value] = *items[i];
      append_key(out, key);
      out.append(format_.key);
      append(out, value, level + 1);
    });
  }

  void append_key(Text& out, const Value& key) {
    if (key.text() != nullptr) return append_string(out, *key.text());
    if (key.list() != nullptr || key.dict() != nullptr) {
      throw Fault("keys must be str, int, float, bool or None, not " + std::string(type_name(key)));
    }
    Text text;
    append(text, key);
    out.append("\"", {});
    out.append(text);
    out.append("\"", {});
  }

  void append_string(Text& out, const Text& text) {
    budget_.take(text.size() + 2);
    out.append("\"", {});
    const std::string_view bytes = text.bytes();
    std::size_t plain = 0;  // from here on nothing was appended yet
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t length = character_length(bytes, at);
      const std::string escaped = escape(character_at(bytes, at));
      if (!escaped.empty()) {
        out.append(text, plain, at);
        out.append(escaped, text.mark_at(at));
        plain = at + length;
      }
      at += length;
    }
    out.append(text, plain, bytes.size());
    out.append("\"", {});
  }

  // Empty where a character stands for itself.
  std::string escape(char32_t c) const {
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\b':
        return "\\b";
      case '\f':
        return "\\f";
      default:
        break;
    }
    if (c >= 0x20 && (c < 0x7F || !format_.ascii)) return {};
    if (c < 0x10000) return unit(c);
    return unit(0xD800 + ((c - 0x10000) >> 10)) + unit(0xDC00 + ((c - 0x10000) & 0x3FF));
  }

  static std::string unit(char32_t c) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text = "\\u";
    for (unsigned shift = 16; shift > 0;) text += digits[c >> (shift -= 4) & 0xF];
    return text;
  }

  Budget& budget_;
  const JsonFormat& format_;
};

namespace parts {

inline Value from_json(Budget& budget, const JsonDocument& document, const JsonValue& json, Mark mark) {
  using Type = JsonValue::Type;
  switch (json.type) {
    case Type::null:
      return Value::NoneType{};
    case Type::boolean:
      return Value::scalar(json.boolean, true);
    case Type::integer:
      return Value::scalar(json.integer, true);
    case Type::natural:
      return Value::scalar(json.natural, true);
    case Type::real:
      return Value::scalar(json.real, true);
    case Type::string:
      return data_text(document.text_of(json), mark);
    case Type::array: {
      std::vector<Value> items;
      for (const JsonValue& element : document.children(json)) {
        items.push_back(from_json(budget, document, element, mark));
      }
      return make_list(budget, std::move(items));
    }
    case Type::object: {
      std::vector<const JsonValue*> fields;
      for (const JsonValue& field : document.children(json)) fields.push_back(&field);
      // the document sorts them by name; their names' places are in the order of the text
      std::sort(fields.begin(), fields.end(), [](auto* a, auto* b) { return a->name < b->name; });
      std::vector<std::pair<Value, Value>> items;
      for (const JsonValue* const field : fields) {
        items.emplace_back(data_text(document.name_of(*field), mark), from_json(budget, document, *field, mark));
      }
      return make_dict(budget, std::move(items));
    }
  }
  return {};
}

}  // namespace parts

/// Returns a JSON value of a document as data of a template, fields in the order of the file. Its texts have the mark
/// given.
inline Value from_json(const JsonDocument& document, const JsonValue& json, Mark mark = data_mark) {
  // the document is within limits of its own
  Budget budget({.steps = UINT64_MAX, .bytes = SIZE_MAX, .output = SIZE_MAX});
  return parts::from_json(budget, document, json, mark);
}

/// Returns a JSON text as data of a template. Throws Error `[template] name: ...` for what is not JSON.
inline Value from_json(std::string_view json, std::string_view name, Mark mark = data_mark) {
  const JsonDocument document = parse_json(json, "template", name);
  return from_json(document, document.root, mark);
}

}}}  // namespace mistral::jinja
