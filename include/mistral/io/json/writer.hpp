// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/utf8.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How a JsonWriter sets its text.
enum class JsonStyle {
  compact,  ///< without white space, for programs
  lines     ///< a line for each field of the outermost object, what is in it in that line: for people
};

/// Writes one JSON text (RFC 8259), piece by piece and in order, the same in every locale. A text that doesn't nest (an
/// end without its begin, a value in an object without a name, a second outermost value) is an assertion. What JSON
/// can't hold, a string that is not UTF-8 or a number that is not finite, is an Error `[json] ...`.
///
///   JsonWriter json;
///   json.begin_object().field("rank", 8).name("targets").values(targets).end_object();
///   file.write(json.text());
class JsonWriter {
 public:
  explicit JsonWriter(JsonStyle style = JsonStyle::compact) noexcept : style_(style) {}

  /// Opens an object, whose fields follow.
  JsonWriter& begin_object() { return begin('{', '}'); }

  /// Closes the innermost object.
  JsonWriter& end_object() { return end('}'); }

  /// Opens an array, whose elements follow.
  JsonWriter& begin_array() { return begin('[', ']'); }

  /// Closes the innermost array.
  JsonWriter& end_array() { return end(']'); }

  /// Writes the name of the innermost object's next field; its value must follow. That no name comes twice is the
  /// caller's business.
  JsonWriter& name(std::string_view name) {
    assert(!open_.empty() && open_.back() == '}' && !named_);
    separate();
    append_string(name);
    text_.append(style_ == JsonStyle::compact ? ":" : ": ");
    named_ = true;
    return *this;
  }

  /// Writes a value: a string, an integer, a float (as the shortest text that reads as the same number of its type),
  /// true or false, or null.
  ///@{
  JsonWriter& value(std::string_view text) {
    before_value();
    append_string(text);
    return *this;
  }
  template <std::integral T>
  JsonWriter& value(T x) {
    if constexpr (std::same_as<T, bool>) {
      return literal(x ? "true" : "false");
    } else {
      return literal(std::to_string(x));
    }
  }
  template <std::floating_point T>
  JsonWriter& value(T x) {
    if (!std::isfinite(x)) throw Error("json", "a number to write", "a finite one", number_text(x));
    return literal(number_text(x));
  }
  JsonWriter& value(std::nullptr_t) { return literal("null"); }
  ///@}

  /// Writes a value whose text, which must be JSON, the caller has.
  JsonWriter& literal(std::string_view json) {
    before_value();
    text_.append(json);
    return *this;
  }

  /// Writes an array of a range's elements.
  template <class Range>
  JsonWriter& values(const Range& range) {
    begin_array();
    for (const auto& element : range) value(element);
    return end_array();
  }

  /// Writes a field: its name and its value.
  template <class T>
  JsonWriter& field(std::string_view name, const T& x) {
    return this->name(name).value(x);
  }

  /// The text so far, which is JSON once the outermost value is closed.
  const std::string& text() const& noexcept {
    assert(is_complete());
    return text_;
  }
  std::string text() && noexcept {
    assert(is_complete());
    return std::move(text_);
  }

  /// Whether the outermost value is there, and closed.
  bool is_complete() const noexcept { return open_.empty() && !text_.empty(); }

 private:
  JsonWriter& begin(char bracket, char closing) {
    before_value();
    text_ += bracket;
    open_ += closing;
    first_ = true;
    return *this;
  }

  JsonWriter& end(char closing) {
    assert(!open_.empty() && open_.back() == closing && !named_);
    if (on_lines() && !first_) text_ += '\n';
    open_.pop_back();
    text_ += closing;
    if (open_.empty() && style_ == JsonStyle::lines) text_ += '\n';
    first_ = false;
    return *this;
  }

  bool on_lines() const noexcept { return style_ == JsonStyle::lines && open_.size() == 1; }

  void before_value() {
    assert(open_.empty() ? text_.empty() : named_ == (open_.back() == '}'));
    if (!open_.empty() && !named_) separate();
    named_ = false;
  }

  // what stands before a field or an element
  void separate() {
    if (!first_) text_ += ',';
    if (on_lines()) {
      text_.append("\n  ");
    } else if (!first_ && style_ == JsonStyle::lines) {
      text_ += ' ';
    }
    first_ = false;
  }

  void append_string(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string quoted = "\"";
    while (!text.empty()) {
      const std::size_t length = detail::utf8_character(text);
      if (length == 0) throw Error("json", "a string to write", "UTF-8", "the byte " + printable(text.substr(0, 1)));
      const char c = text[0];
      if (c == '"' || c == '\\') {
        quoted.append(1, '\\').append(1, c);
      } else if (detail::byte_at(text, 0) < 0x20) {
        quoted.append("\\u00").append(1, c < 0x10 ? '0' : '1').append(1, digits[static_cast<std::size_t>(c & 0x0f)]);
      } else {
        quoted.append(text.substr(0, length));
      }
      text.remove_prefix(length);
    }
    text_.append(quoted += '"');
  }

  JsonStyle style_;
  std::string text_;
  std::string open_;   // what closes each object and array that is open, the innermost last
  bool first_ = true;  // whether nothing stands in the innermost yet
  bool named_ = false;
};

}}  // namespace mistral
