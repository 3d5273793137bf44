// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/io/json/parser.hpp>
#include <mistral/text/jinja/arguments.hpp>
#include <mistral/text/jinja/arithmetic.hpp>
#include <mistral/text/jinja/json_text.hpp>
#include <mistral/text/jinja/methods.hpp>
#include <mistral/text/jinja/sequence_filters.hpp>
#include <mistral/text/jinja/text_operations.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The number that a text writes as Python's float() reads it; none where it is no number.
inline std::optional<double> parse_real(Budget& budget, const Text& text) {
  std::string digits = strip(budget, text).bytes();
  bool negative = false;
  if (digits.starts_with('-') || digits.starts_with('+')) {
    negative = digits[0] == '-';
    digits.erase(0, 1);
  }
  for (char& c : digits) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  double value = 0.0;
  if (digits == "inf" || digits == "infinity") {
    value = std::numeric_limits<double>::infinity();
  } else if (digits == "nan") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    // what Python writes otherwise than JSON: 1_000, .5, 5., 007
    for (std::size_t i = 1; i + 1 < digits.size(); ++i) {
      if (digits[i] == '_' && std::isdigit(static_cast<unsigned char>(digits[i - 1])) != 0 &&
          std::isdigit(static_cast<unsigned char>(digits[i + 1])) != 0)
        digits.erase(i, 1);
    }
    const std::size_t digit = digits.find_first_of("0123456789");
    if (digits.empty() || digit > 1 || (digit == 1 && digits[0] != '.') || digits.size() > 1000) return std::nullopt;
    if (digits[0] == '.') digits.insert(0, "0");
    while (digits.size() > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9') digits.erase(0, 1);
    if (const std::size_t point = digits.find('.'); point != std::string::npos) {
      const char next = point + 1 < digits.size() ? digits[point + 1] : 'e';
      if (next == 'e') digits.insert(point + 1, "0");
    }
    try {
      const JsonValue json = parse_json(digits, "template", "a number").root;
      if (json.type == JsonValue::Type::real) {
        value = json.real;
      } else if (json.type == JsonValue::Type::integer) {
        value = static_cast<double>(json.integer);
      } else if (json.type == JsonValue::Type::natural) {
        value = static_cast<double>(json.natural);
      } else {
        return std::nullopt;
      }
    } catch (const Error&) {
      return std::nullopt;
    }
  }
  return negative ? -value : value;
}

/// The integer that a text writes; none where it is none of at most 64 bits.
inline std::optional<std::int64_t> parse_whole(Budget& budget, const Text& text, std::int64_t base) {
  std::string digits = strip(budget, text).bytes();
  if (digits.starts_with('+')) digits.erase(0, 1);
  const bool negative = digits.starts_with('-');
  if (base == 16 && digits.substr(negative ? 1 : 0).starts_with("0x")) digits.erase(negative ? 1 : 0, 2);
  for (std::size_t i = 1; i + 1 < digits.size(); ++i) {
    if (digits[i] == '_' && digits[i - 1] != '_' && digits[i - 1] != '-') digits.erase(i, 1);
  }
  std::int64_t value = 0;
  const auto [stopped, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (error != std::errc{} || stopped != digits.data() + digits.size() || digits.empty()) return std::nullopt;
  return value;
}

/// The filters.
class Filters {
 public:
  explicit Filters(Budget& budget) : budget_(budget), sequences_(budget, *this) {}

  /// Returns the value of `value|name(arguments)`. Throws Fault for a filter that isn't known, or doesn't fit.
  Value apply(const std::string& name, const Value& value, const Arguments& arguments) {
    budget_.step();
    const auto parameters = [&](std::vector<std::string_view> names) {
      return Parameters(arguments, "the filter '" + name + "'", std::move(names));
    };
    if (name == "tojson") return to_json(value, parameters({"ensure_ascii", "indent", "separators", "sort_keys"}));
    if (name == "default" || name == "d") {
      const Parameters p = parameters({"default_value", "boolean"});
      const bool lacking = value.is_undefined() || (p.truth(1, false) && !is_true(value));
      return lacking ? p.get(0, Value(Text())) : value;
    }
    if (name == "length" || name == "count") {
      (void)parameters({});
      return length_of(budget_, value);
    }
    if (name == "int") return to_int(value, parameters({"default", "base"}));
    if (name == "float") return to_float(value, parameters({"default"}));
    if (name == "round") return rounded(value, parameters({"precision", "method"}));
    if (name == "abs") {
      (void)parameters({});
      const auto number = number_of(value);
      if (!number) throw Fault("bad operand type for abs(): " + quoted_type(value));
      return signed_value(value, *number < 0);
    }
    if (name == "safe" || name == "string") {
      (void)parameters({});
      return made(text_of(budget_, value));
    }
    if (name == "items") {
      (void)parameters({});
      if (value.is_undefined()) return make_list(budget_, {});
      if (value.dict() == nullptr) throw Fault("Can only get item pairs from a mapping.");
      return pairs_of(budget_, *value.dict());
    }
    if (const auto text = text_filter(name, value, arguments)) return *text;
    return sequences_.apply(name, value, arguments);
  }

 private:
  Value made(Text text) const { return make_text(budget_, std::move(text)); }

  // The filters that take a value for its text.
  std::optional<Value> text_filter(const std::string& name, const Value& value, const Arguments& arguments) {
    const auto parameters = [&](std::vector<std::string_view> names) {
      return Parameters(arguments, "the filter '" + name + "'", std::move(names));
    };
    const auto text = [&] { return text_of(budget_, value); };
    if (name == "trim") {
      const Parameters p = parameters({"chars"});
      return made(strip(budget_, text(), p.optional_text(0)));
    }
    if (name == "replace") {
      const Parameters p = parameters({"old", "new", "count"});
      const bool all = !p.has(2) || p.required(2).is_none();
      return made(replace(budget_, text(), text_of(budget_, p.required(0)), text_of(budget_, p.required(1)),
                          all ? -1 : p.integer(2)));
    }
    if (name == "indent") {
      const Parameters p = parameters({"width", "first", "blank"});
      Text indention(std::string(4, ' '));
      if (p.has(0) && p.required(0).text() != nullptr) {
        indention = *p.required(0).text();
      } else if (p.has(0)) {
        const auto width = static_cast<std::size_t>((std::max<std::int64_t>)(p.integer(0), 0));
        budget_.take_text(width);
        indention = Text(std::string(width, ' '));
      }
      return made(indent(budget_, text(), indention, p.truth(1, false), p.truth(2, false)));
    }
    if (name == "truncate") {
      const Parameters p = parameters({"length", "killwords", "end", "leeway"});
      const Text end = p.has(2) ? p.text(2) : Text("...");
      const bool no_leeway = !p.has(3) || p.required(3).is_none();
      return made(truncate(budget_, text(), p.integer(0, 255), p.truth(1, false), end, no_leeway ? 5 : p.integer(3)));
    }
    if (name == "center") {
      const std::int64_t width = parameters({"width"}).integer(0, 80);
      const Text inner = text();
      const std::int64_t free =
          (std::max<std::int64_t>)(width - static_cast<std::int64_t>(character_count(inner.bytes())), 0);
      budget_.take_text(static_cast<std::size_t>(free));
      const std::int64_t left = free / 2 + (free & width & 1);  // as Python shares an odd number out
      Text out(std::string(static_cast<std::size_t>(left), ' '));
      out.append(inner);
      out.append(std::string(static_cast<std::size_t>(free - left), ' '), {});
      return made(std::move(out));
    }
    if (name == "format") {
      if (!arguments.named.empty()) throw Fault("the filter 'format' with names is not supported");
      return made(percent_format(budget_, text(), make_list(budget_, arguments.positional, List::Kind::tuple)));
    }
    const bool plain = name == "upper" || name == "lower" || name == "capitalize" || name == "title" ||
                       name == "escape" || name == "e" || name == "forceescape" || name == "wordcount";
    if (!plain) return std::nullopt;
    (void)parameters({});
    if (name == "upper") return made(upper_text(budget_, text()));
    if (name == "lower") return made(lower_text(budget_, text()));
    if (name == "capitalize") return made(capitalize(budget_, text()));
    if (name == "title") return made(title_of_words(budget_, text()));
    if (name == "wordcount") return word_count(text());
    return made(escape_html(budget_, text()));
  }

  Value word_count(const Text& text) const {
    budget_.look(text.size());
    std::int64_t count = 0;
    bool in_word = false;
    for (const char c : text.bytes()) {
      const bool letter =
          std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || static_cast<unsigned char>(c) >= 0x80;
      count += letter && !in_word;
      in_word = letter;
    }
    return count;
  }

  Value to_json(const Value& value, const Parameters& p) const {
    JsonFormat format{.ascii = p.truth(0, false), .sorted = p.truth(3, false)};
    if (p.has(1) && !p.required(1).is_none()) {
      format.lines = true;
      format.item = Text(",");
      if (p.required(1).text() != nullptr) {
        format.indent = *p.required(1).text();
      } else {
        const auto width = static_cast<std::size_t>((std::max<std::int64_t>)(p.integer(1), 0));
        budget_.take_text(width);
        format.indent = Text(std::string(width, ' '));
      }
    }
    if (p.has(2) && !p.required(2).is_none()) {
      const List* const both = p.required(2).list();
      if (both == nullptr || both->items.size() != 2 || both->items[0].text() == nullptr ||
          both->items[1].text() == nullptr) {
        throw Fault("tojson: separators: expected two strings");
      }
      format.item = *both->items[0].text();
      format.key = *both->items[1].text();
    }
    Text out;
    JsonText(budget_, format).append(out, value);
    return made(std::move(out));
  }

  Value to_int(const Value& value, const Parameters& p) const {
    const Value otherwise = p.get(0, std::int64_t{0});
    const std::int64_t base = p.integer(1, 10);
    if (base < 2 || base > 36) throw Fault("int: expected a base from 2 to 36, got " + std::to_string(base));
    require_defined(value);
    if (is_whole(value)) return value.is<bool>() ? Value::scalar(*integer_of(value), value.is_data()) : value;
    std::optional<double> real = number_of(value);
    bool data = value.is_data();
    if (const Text* const text = value.text()) {
      data = is_data(*text);
      if (const auto whole = parse_whole(budget_, *text, base)) return Value::scalar(*whole, data);
      real = parse_real(budget_, *text);
    }
    if (!real || !std::isfinite(*real)) return otherwise;
    if (std::abs(*real) >= 9.2e18) throw Fault("an integer beyond 64 bits");
    return Value::scalar(static_cast<std::int64_t>(*real), data);
  }

  Value to_float(const Value& value, const Parameters& p) const {
    require_defined(value);
    if (const auto number = number_of(value)) return Value::scalar(*number, value.is_data());
    if (const Text* const text = value.text()) {
      if (const auto real = parse_real(budget_, *text)) return Value::scalar(*real, is_data(*text));
    }
    return p.get(0, 0.0);
  }

  // Whether data brought in any of a text.
  static bool is_data(const Text& text) {
    return std::any_of(text.runs().begin(), text.runs().end(),
                       [](const Text::Run& run) { return run.mark.origin != 0; });
  }

  Value rounded(const Value& value, const Parameters& p) const {
    const std::int64_t precision = p.integer(0, 0);
    const std::string method = p.has(1) ? p.text(1).bytes() : "common";
    if (method != "common" && method != "ceil" && method != "floor")
      throw Fault("method must be common, ceil or floor");
    const auto number = number_of(value);
    if (!number) throw Fault("round: expected a number, got " + std::string(type_name(value)));
    if (precision < -300 || precision > 300) throw Fault("round: expected a precision of at most 300 digits");
    if (method == "common" && value.is<bool>()) return Value::scalar(*integer_of(value), value.is_data());
    if (method == "common" && is_whole(value) && precision >= 0) return value;
    double result = *number;
    if (std::isfinite(result)) {
      const double scale = std::pow(10.0, static_cast<double>(precision));
      if (method != "common") {
        const double scaled = *number * scale;
        result = (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
      } else if (precision < 0) {
        result = std::nearbyint(*number * scale) / scale;
      } else {
        result = parse_real(budget_, Text(fixed_text(*number, static_cast<int>(precision)))).value_or(*number);
      }
    }
    if (method == "common" && is_whole(value)) return Value::scalar(static_cast<std::int64_t>(result), value.is_data());
    return Value::scalar(result, value.is_data());
  }

  Budget& budget_;
  SequenceFilters<Filters> sequences_;
};

}}}  // namespace mistral::jinja
