// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/operators.hpp>
#include <mistral/text/jinja/python_text.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// A number with so many digits behind the point.
inline std::string fixed_text(double x, int digits) {
  if (!std::isfinite(x)) return float_text(x);
  char buffer[512];  // the largest double has 309 digits before the point
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::fixed, digits).ptr);
}

/// Python's `format % values` for %s, %r, %d, %i, %f with a precision, and %%. `values` is one, or a tuple of them.
/// Throws Fault for other formats, and for too few or too many values.
inline Text percent_format(Budget& budget, const Text& format, const Value& values) {
  const bool many = values.list() != nullptr && values.list()->kind == List::Kind::tuple;
  std::size_t used = 0;
  const auto next = [&]() -> const Value& {
    if (many ? used == values.list()->items.size() : used == 1) throw Fault("not enough arguments for format string");
    return many ? values.list()->items[used++] : (++used, values);
  };
  const std::string& bytes = format.bytes();
  Text out;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t percent = find_in(budget, bytes, "%", at);
    out.append(format, at, (std::min)(percent, bytes.size()));
    if (percent == std::string::npos) break;
    at = percent + 1;
    int digits = 6;
    if (at < bytes.size() && bytes[at] == '.') {
      digits = 0;
      for (++at; at < bytes.size() && bytes[at] >= '0' && bytes[at] <= '9' && digits < 100; ++at) {
        digits = digits * 10 + (bytes[at] - '0');
      }
    }
    const char kind = at < bytes.size() ? bytes[at++] : '\0';
    if (kind == '%') {
      out.append("%", format.mark_at(percent));
    } else if (kind == 's') {
      append_text(budget, out, next());
    } else if (kind == 'r') {
      append_repr(budget, out, next());
    } else if (kind == 'd' || kind == 'i' || kind == 'f') {
      const Value& value = next();
      const auto number = number_of(value);
      if (!number)
        throw Fault(std::string("%") + kind + " format: a number is required, not " + std::string(type_name(value)));
      const Mark mark = value.is_data() ? data_mark : Mark{};
      if (kind == 'f') {
        out.append(fixed_text(*number, (std::min)(digits, 100)), mark);
      } else {
        out.append(is_whole(value) && !value.is<bool>() ? scalar_text(value) : fixed_text(std::trunc(*number), 0),
                   mark);
      }
    } else {
      throw Fault(kind == '\0' ? std::string("incomplete format")
                               : "the format %" + std::string(1, kind) + " is not supported");
    }
  }
  const std::size_t given = many ? values.list()->items.size() : 1;
  const bool may_be_left = values.dict() != nullptr || (values.list() != nullptr && !many);  // as Python has it
  if (used < given && !may_be_left) throw Fault("not all arguments converted during string formatting");
  return out;
}

/// Python's `format.format(values...)` for fields without a format of their own: {}, {0}, {name}, {{ and }}. Throws
/// Fault for others, and where a value is missing.
inline Text brace_format(Budget& budget, const Text& format, const std::vector<Value>& values,
                         const std::vector<std::pair<std::string, Value>>& named) {
  const std::string& bytes = format.bytes();
  Text out;
  std::size_t used = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    budget.look(bytes.size() - at);
    const std::size_t brace = (std::min)(bytes.find_first_of("{}", at), bytes.size());
    out.append(format, at, brace);
    if (brace == bytes.size()) break;
    if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
      out.append(format, brace, brace + 1);
      at = brace + 2;
      continue;
    }
    const std::size_t end = bytes[brace] == '{' ? bytes.find('}', brace) : std::string::npos;
    if (end == std::string::npos) throw Fault("a single brace in a format string");
    const std::string field = bytes.substr(brace + 1, end - brace - 1);
    at = end + 1;
    const Value* value = nullptr;
    std::size_t index = used;
    const auto [stopped, error] = std::from_chars(field.data(), field.data() + field.size(), index);
    const bool is_index = error == std::errc{} && stopped == field.data() + field.size();
    if (field.empty()) ++used;
    if (field.empty() || is_index) {
      if (index < values.size()) value = &values[index];
    } else {
      for (const auto& [name, candidate] : named) {
        if (name == field) value = &candidate;
      }
    }
    if (value == nullptr) throw Fault("format: no value for the field '{" + printable(field, 40) + "}'");
    append_text(budget, out, *value);
  }
  return out;
}

}}}  // namespace mistral::jinja
