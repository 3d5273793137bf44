// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/once.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/io/json/document.hpp>

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// The grammar of RFC 8259, by recursive descent: a function a rule, no deeper than JsonDocument::max_depth. Each
/// function starts at the first byte of what it reads and leaves `at_` behind the last.
class JsonParser {
 public:
  JsonParser(std::string_view text, std::string_view where, std::string_view subject, bool python,
             std::size_t most_values)
      : text_(text), where_(where), subject_(subject), python_(python), most_values_(most_values) {}

  // a template, so that a program may compile it in one unit for all
  template <class = Once>
  JsonDocument document();

 private:
  using Type = JsonValue::Type;

  JsonValue value() {
    if (++values_ > most_values_) fail("more than " + std::to_string(most_values_) + " values");
    switch (peek()) {
      case '{':
        return object();
      case '[':
        return array();
      case '"':
        return string_value();
      case 't':
        return boolean("true", true);
      case 'f':
        return boolean("false", false);
      case 'n':
        word("null");
        return {};
      default:
        return number();
    }
  }

  JsonValue object() {
    const std::size_t begin = open();
    while (peek() != '}') {
      if (peek() != '"') refuse();
      const std::uint32_t name = string();
      skip_space();
      expect(':');
      skip_space();
      JsonValue field = value();
      field.name = name;
      pending_.push_back(field);
      if (!comma('}')) break;
    }
    sort_fields(begin);
    return close(Type::object, begin);
  }

  JsonValue array() {
    const std::size_t begin = open();
    while (peek() != ']') {
      pending_.push_back(value());
      if (!comma(']')) break;
    }
    return close(Type::array, begin);
  }

  // The children of whatever is open wait in `pending_`, the innermost last: an object or array that ends takes its
  // own, which are complete, from the back.
  std::size_t open() {
    if (++depth_ > JsonDocument::max_depth) {
      fail("nested deeper than " + std::to_string(JsonDocument::max_depth) + " levels");
    }
    ++at_;
    skip_space();
    return pending_.size();
  }

  JsonValue close(Type type, std::size_t begin) {
    ++at_;
    --depth_;
    JsonValue parent;
    parent.type = type;
    parent.children = {static_cast<std::uint32_t>(document_.values.size()),
                       static_cast<std::uint32_t>(pending_.size() - begin)};
    const auto first = pending_.begin() + static_cast<std::ptrdiff_t>(begin);
    document_.values.insert(document_.values.end(), first, pending_.end());
    pending_.erase(first, pending_.end());
    return parent;
  }

  // After a child: passes over a comma, which another child must follow; false at the end of the object or array.
  bool comma(char end) {
    skip_space();
    if (peek() == end) return false;
    expect(',');
    skip_space();
    if (peek() == end) refuse();
    return true;
  }

  void sort_fields(std::size_t begin) {
    const auto first = pending_.begin() + static_cast<std::ptrdiff_t>(begin);
    std::sort(first, pending_.end(), [this](const JsonValue& a, const JsonValue& b) {
      const int order = document_.name_of(a).compare(document_.name_of(b));
      return order < 0 || (order == 0 && a.name < b.name);
    });
    const auto same_name = [this](const JsonValue& a, const JsonValue& b) {
      return document_.name_of(a) == document_.name_of(b);
    };
    const auto twice = std::adjacent_find(first, pending_.end(), same_name);
    if (twice == pending_.end()) return;
    if (!python_) fail("the field '" + printable(document_.name_of(*twice)) + "' is there twice");
    auto kept = twice;
    for (auto field = twice + 1; field != pending_.end(); ++field) {
      const std::uint32_t name = same_name(*kept, *field) ? kept->name : field->name;
      if (!same_name(*kept, *field)) ++kept;
      *kept = *field;
      kept->name = name;
    }
    pending_.erase(kept + 1, pending_.end());
  }

  JsonValue string_value() {
    JsonValue value;
    value.type = Type::string;
    value.string = string();
    return value;
  }

  /// The place of the text in the document.
  std::uint32_t string() {
    ++at_;
    std::string text;
    for (;;) {
      const std::size_t begin = at_;
      while (plain(byte())) ++at_;
      text.append(text_.substr(begin, at_ - begin));
      if (peek() == '"') break;
      if (peek() == '\\') {
        escape(text);
      } else {
        multibyte_character(text);  // refuses a control character, and the end
      }
    }
    ++at_;
    document_.strings.push_back(std::move(text));
    return static_cast<std::uint32_t>(document_.strings.size() - 1);
  }

  static constexpr bool plain(unsigned c) noexcept { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

  void multibyte_character(std::string& text) {
    const std::string_view rest = text_.substr(at_);
    if (rest.empty() || byte_at(rest, 0) < 0x80) refuse();
    const std::size_t length = utf8_length(byte_at(rest, 0));
    const std::size_t good = utf8_well_formed(rest);
    at_ += good;
    if (good != length || length == 1) refuse();
    text.append(rest.substr(0, length));
  }

  void escape(std::string& text) {
    constexpr std::string_view names = "\"\\/bfnrt";
    constexpr std::string_view meanings = "\"\\/\b\f\n\r\t";
    const std::size_t begin = at_++;
    if (peek() != 'u') {
      const std::size_t which = names.find(peek());
      if (which == std::string_view::npos) refuse();
      text += meanings[which];
      ++at_;
      return;
    }
    std::uint32_t code = hex_digits();
    if (code >= 0xd800 && code < 0xe000) {  // half a pair of UTF-16; alone it means nothing
      std::uint32_t second = 0;
      if (code < 0xdc00 && text_.substr(at_).starts_with("\\u")) {
        ++at_;
        second = hex_digits();
      }
      if (second < 0xdc00 || second >= 0xe000) {
        at_ = begin;
        if (python_) fail("half a pair of UTF-16 at byte " + std::to_string(at_ + 1));
        refuse();
      }
      code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
    }
    append_utf8(text, code);
  }

  // u and four digits
  std::uint32_t hex_digits() {
    ++at_;
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      if (c >= '0' && c <= '9') {
        code = code * 16 + static_cast<std::uint32_t>(c - '0');
      } else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
        code = code * 16 + static_cast<std::uint32_t>((c | 0x20) - 'a' + 10);
      } else {
        refuse();
      }
    }
    return code;
  }

  static void append_utf8(std::string& text, std::uint32_t code) {
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr unsigned leads[] = {0, 0xc0, 0xe0, 0xf0};
    text += static_cast<char>(leads[more] | code >> (6 * more));
    for (int i = more; i-- > 0;) text += static_cast<char>(0x80 | (code >> (6 * i) & 0x3f));
  }

  JsonValue number() {
    const std::size_t begin = at_;
    if (python_ && peek() == 'N') return named("NaN", std::numeric_limits<double>::quiet_NaN());
    if (peek() == '-') ++at_;
    if (python_ && peek() == 'I') {
      const double infinity = std::numeric_limits<double>::infinity();
      return named("Infinity", at_ > begin ? -infinity : infinity);
    }
    if (peek() == '0') {
      ++at_;
    } else {
      digits();
    }
    bool whole = true;
    if (peek() == '.') {
      whole = false;
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    return number_value(text_.substr(begin, at_ - begin), whole);
  }

  void digits() {
    if (!is_digit(peek())) refuse();
    while (is_digit(peek())) ++at_;
  }

  static constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

  JsonValue named(std::string_view name, double meaning) {
    word(name);
    JsonValue value;
    value.type = Type::real, value.real = meaning;
    return value;
  }

  JsonValue number_value(std::string_view token, bool whole) {
    JsonValue value;
    if (whole && convert(token, value.integer)) {
      value.type = Type::integer;
    } else if (std::uint64_t natural = 0; whole && convert(token, natural)) {
      value.type = Type::natural;
      value.natural = natural;
    } else {
      value.type = Type::real;
      double real = token.front() == '-' ? -0.0 : 0.0;  // what stays where the number is too small for a double
      if (!convert(token, real) && is_huge(token)) {
        if (!python_) fail("holds a number that is too large");
        real = std::copysign(std::numeric_limits<double>::infinity(), real);
      }
      value.real = real;
      if (whole) {
        if (python_ && token.size() > max_digits) {
          fail("holds a whole number of more than " + std::to_string(max_digits) + " digits");
        }
        document_.whole.emplace_back(token);
        value.digits = static_cast<std::uint32_t>(document_.whole.size()) & 0xffffff;  // at most max_values
      }
    }
    return value;
  }

  template <class Number>
  static bool convert(std::string_view token, Number& number) noexcept {
    const char* const end = token.data() + token.size();
    const auto [stopped, error] = std::from_chars(token.data(), end, number);
    return error == std::errc{} && stopped == end;
  }

  // Of a number that no double comes near: whether it is above 1 rather than below, by the place of its first digit.
  static bool is_huge(std::string_view token) noexcept {
    const std::string_view digits = token.substr(0, token.find_first_of("eE"));
    const std::size_t first = digits.find_first_of("123456789");
    const std::size_t point = (std::min)(digits.find('.'), digits.size());
    const bool before_point = first < point;
    const std::uint64_t places = before_point ? point - first : first - point;
    if (digits.size() == token.size()) return before_point;

    std::string_view exponent = token.substr(digits.size() + 1);
    const bool negative = exponent.front() == '-';
    if (!is_digit(exponent.front())) exponent.remove_prefix(1);
    std::uint64_t power = 0;
    if (!convert(exponent, power)) return !negative;  // beyond 64 bits, and so beyond any number of places
    return before_point ? !negative || places > power : !negative && power > places;
  }

  JsonValue boolean(std::string_view name, bool meaning) {
    word(name);
    JsonValue value;
    value.type = Type::boolean;
    value.boolean = meaning;
    return value;
  }

  void word(std::string_view name) {
    for (const char c : name) expect(c);
  }

  void expect(char c) {
    if (peek() != c) refuse();
    ++at_;
  }

  void skip_space() noexcept {
    while (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t') ++at_;
  }

  // zero at the end, which no rule takes, since none takes a zero byte
  char peek() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }

  unsigned byte() const noexcept { return static_cast<unsigned char>(peek()); }

  /// For what is not JSON: names the place, counted from 1, one past the end where something is missing.
  [[noreturn]] void refuse() const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const std::size_t column = at_ - (before.rfind('\n') + 1);  // npos + 1 is 0
    throw NotJson(where_, std::string(subject_) + ": not valid JSON at byte " + std::to_string(at_ + 1) + " (line " +
                              std::to_string(line) + ", column " + std::to_string(column + 1) + ")");
  }

  [[noreturn]] void fail(const std::string& what) const { throw Error(where_, std::string(subject_) + ": " + what); }

  static constexpr std::size_t max_digits = 4300;  // as many as Python makes a number of

  std::string_view text_, where_, subject_;
  bool python_;
  std::size_t most_values_;
  std::size_t at_ = 0, values_ = 0;
  int depth_ = 0;
  std::vector<JsonValue> pending_;
  JsonDocument document_;
};

template <class>
JsonDocument JsonParser::document() {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";  // the RFC lets a reader pass over it
  if (!python_ && text_.starts_with(byte_order_mark)) at_ = byte_order_mark.size();
  skip_space();
  document_.root = value();
  skip_space();
  if (at_ != text_.size()) refuse();
  return std::move(document_);
}

}  // namespace detail

/// Reads a JSON text (RFC 8259) in linear time, but for the sorting of names. Throws Error `[where] subject: ...` for
/// what is not JSON, ill-formed UTF-8 and unpaired surrogates among it, numbers beyond a double, an object that has a
/// field twice, nesting beyond JsonDocument::max_depth, and more than `most_values` values, which bounds the memory
/// that a small file can cost. A byte order mark in front is passed over. Another dialect takes more.
inline JsonDocument parse_json(std::string_view text, std::string_view where, std::string_view subject,
                               JsonDialect dialect = JsonDialect::standard,
                               std::size_t most_values = JsonDocument::max_values) {
  return detail::JsonParser(text, where, subject, dialect == JsonDialect::python, most_values).document();
}

}}  // namespace mistral
