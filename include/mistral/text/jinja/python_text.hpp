// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/text/jinja/characters.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// A number as Python writes it: the shortest text that reads as the same one, "1e+16", "0.1", "3.0", "nan".
inline std::string float_text(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::scientific).ptr;
  std::string text(buffer, end);
  const int exponent = std::stoi(text.substr(text.find('e') + 1));
  if (exponent < -4 || exponent >= 16) return text;
  text.assign(buffer, std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::fixed).ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

/// The text of a number, true, false or None; empty for a value that is none of these.
inline std::string scalar_text(const Value& value) {
  if (value.is_none()) return "None";
  if (const bool* const truth = value.get<bool>()) return *truth ? "True" : "False";
  if (const auto* const integer = value.get<std::int64_t>()) return std::to_string(*integer);
  if (const auto* const natural = value.get<std::uint64_t>()) return std::to_string(*natural);
  if (const auto* const real = value.get<double>()) return float_text(*real);
  return {};
}

/// Appends a string as Python's repr() shows it. Escapes, as all that is quoted, are the text's own.
inline void append_quoted(Text& out, const Text& text) {
  const std::string_view bytes = text.bytes();
  const bool has_single = bytes.find('\'') != std::string_view::npos;
  const char quote = has_single && bytes.find('"') == std::string_view::npos ? '"' : '\'';
  out.append(std::string_view(&quote, 1), {});
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = character_length(bytes, at);
    const char c = bytes[at];
    const Mark mark = text.mark_at(at);
    if (c == quote || c == '\\') {
      out.append(std::string{'\\', c}, mark);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out.append(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", mark);
    } else {
      const auto escaped = detail::shown(bytes.substr(at, length), [](char32_t code) {
        return detail::controls_text(code) || detail::invisible(code) || (code > 0x20 && is_space(code));
      });
      // what is below 256 has two digits
      std::string_view shown_text(escaped.text, escaped.size);
      std::string narrow;
      if (shown_text.starts_with("\\u00")) {
        narrow.append("\\x").append(shown_text.substr(4));
        shown_text = narrow;
      }
      out.append(shown_text, mark);
    }
    at += length;
  }
  out.append(std::string_view(&quote, 1), {});
}

/// Appends what Python's repr() gives.
inline void append_repr(Budget& budget, Text& out, const Value& value) {
  budget.step();
  if (const Text* const text = value.text()) {
    budget.take_text(out.size() + 4 * text->size());
    append_quoted(out, *text);
  } else if (const List* const list = value.list()) {
    const bool tuple = list->kind == List::Kind::tuple || list->kind == List::Kind::group;
    if (!tuple && list->kind != List::Kind::list)
      throw Fault("a " + std::string(type_name(value)) + " has no text: make a list of it by |list");
    out.append(tuple ? "(" : "[", {});
    for (std::size_t i = 0; i < list->items.size(); ++i) {
      if (i > 0) out.append(", ", {});
      append_repr(budget, out, list->items[i]);
    }
    out.append(tuple ? list->items.size() == 1 ? ",)" : ")" : "]", {});
  } else if (const Dict* const dict = value.dict()) {
    out.append("{", {});
    for (std::size_t i = 0; i < dict->items.size(); ++i) {
      if (i > 0) out.append(", ", {});
      append_repr(budget, out, dict->items[i].first);
      out.append(": ", {});
      append_repr(budget, out, dict->items[i].second);
    }
    out.append("}", {});
  } else if (value.is_undefined()) {
    out.append("Undefined", {});
  } else {
    const std::string scalar = scalar_text(value);
    if (scalar.empty()) throw Fault("a value of type " + quoted_type(value) + " has no text");
    out.append(scalar, value.is_data() ? data_mark : Mark{});
  }
}

/// Appends what Python's str() gives: the text of a string, nothing for what is undefined, and else its repr().
inline void append_text(Budget& budget, Text& out, const Value& value) {
  if (const Text* const text = value.text()) {
    if (text->size() > budget.limits().output - (std::min)(out.size(), budget.limits().output)) {
      budget.take_text(out.size() + text->size());
    }
    budget.take(text->size());
    out.append(*text);
  } else if (!value.is_undefined()) {
    const std::size_t before = out.size();
    append_repr(budget, out, value);
    budget.take(out.size() - before);
    if (out.size() > budget.limits().output) budget.take_text(out.size());
  }
}

/// Returns the text that Python's str() gives.
inline Text text_of(Budget& budget, const Value& value) {
  if (const Text* const text = value.text()) {
    budget.look(text->size());
    return *text;
  }
  Text out;
  append_text(budget, out, value);
  return out;
}

}}}  // namespace mistral::jinja
