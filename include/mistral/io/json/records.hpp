// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/os/line_reader.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Reads a file of JSON objects one after the other: an object a line (JSONL), or the elements of one array, over any
/// number of lines, which is what a file is that begins with `[`. Memory for one object, whatever the file's size.
class JsonRecords {
 public:
  /// Objects of more than `max_bytes` are passed over: see object(). Throws Error `[where] path: ...` where the file
  /// can't be opened.
  JsonRecords(const std::string& path, std::string_view where, std::size_t max_bytes)
      : lines_(path, where, max_bytes), file_(printable(path, 1000)), where_(where), max_bytes_(max_bytes) {}

  /// Reads a file that is open and stays open, such as standard input; `name` stands for the path in messages.
  JsonRecords(int descriptor, const std::string& name, std::string_view where, std::size_t max_bytes)
      : lines_(descriptor, name, where, max_bytes), file_(name), where_(where), max_bytes_(max_bytes) {}

  /// Goes to the next object, over blank lines; false at the end of the file. Throws Error where the file can't be
  /// read.
  bool next() {
    if (kind_ == Kind::unknown) kind_ = skip_space() == '[' ? Kind::array : Kind::lines;
    if (kind_ == Kind::array) return next_element();
    while (lines_.next()) {
      if (lines_.line().find_first_not_of(space) != std::string::npos || lines_.too_long()) return true;
    }
    return false;
  }

  /// The object that `next` went to. Throws Error `[where] file:line: ...`, of an array's element `[where] file:line
  /// (element n): ...`, where it is none, is larger than max_bytes, or where an array isn't ended.
  JsonObject object() const {
    if (!fault_.empty()) throw Error(where_, place() + ": " + fault_);
    if (too_long()) {
      const std::string what = is_array() ? "an element" : "a line";
      throw Error(where_, place(), what + " of at most " + std::to_string(max_bytes_) + " bytes", "a longer one");
    }
    const std::string& text = is_array() ? element_ : lines_.line();
    if (!is_array() && text.find_first_not_of(space) == text.find_last_not_of(space) && text.find('{') != text.npos) {
      throw Error(where_, place() + ": write each object on a line of its own (jq -c . FILE)", "a JSON object a line",
                  "an object over several lines");
    }
    return JsonObject::parse(std::as_bytes(std::span(text)), where_, place());
  }

  /// The number of the object's line, or of an array's element, from 1 on.
  std::size_t number() const noexcept { return is_array() ? elements_ : lines_.number(); }

 private:
  enum class Kind { unknown, lines, array };
  enum class Array { begins, goes_on, closed, over };

  static constexpr std::string_view space = " \t\r\n";

  bool is_array() const noexcept { return kind_ == Kind::array; }
  bool too_long() const noexcept { return is_array() ? element_too_long_ : lines_.too_long(); }

  std::string place() const {
    if (!is_array()) return file_ + ":" + std::to_string(lines_.number());
    return file_ + ":" + std::to_string(line_) + " (element " + std::to_string(elements_) + ")";
  }

  // The first byte behind white space, which stays; zero at the end of the file.
  char skip_space() {
    for (;;) {
      const std::string_view block = lines_.ahead();
      if (block.empty()) return '\0';
      const std::size_t begin = block.find_first_not_of(space);
      if (begin != std::string_view::npos) {
        lines_.pass(begin);
        return block[begin];
      }
      lines_.pass(block.size());
    }
  }

  bool next_element() {
    if (array_ == Array::over) return false;
    if (array_ == Array::begins) lines_.pass(1);  // [
    const char first = skip_space();
    const bool empty = array_ == Array::begins && first == ']';
    if (empty) {
      lines_.pass(1);
      array_ = Array::closed;
    }
    element_.clear();
    element_too_long_ = false;
    if (array_ == Array::closed) {
      array_ = Array::over;
      if (skip_space() == '\0') return false;
      fault_ = "expected the end of the file behind the array, got more";
    } else {
      array_ = Array::goes_on;
    }
    line_ = lines_.number() + 1;
    ++elements_;
    if (array_ == Array::over) return true;
    const char end = take_element();
    if (end == ']') array_ = Array::closed;
    if (end != '\0') return true;
    array_ = Array::over;
    fault_ = "expected ] at the end of the array, got the end of the file";
    return true;
  }

  // Takes what stands before a comma or ] outside of all strings and brackets. Returns which it is, and zero where the
  // file ends first. Whether that is JSON is the parser's matter.
  char take_element() {
    std::size_t depth = 0;
    bool in_string = false;
    bool escaped = false;
    for (;;) {
      const std::string_view block = lines_.ahead();
      if (block.empty()) return '\0';
      for (std::size_t i = 0; i < block.size(); ++i) {
        const char c = block[i];
        if (in_string) {
          in_string = escaped || c != '"';
          escaped = !escaped && c == '\\';
        } else if (c == '"') {
          in_string = true;
        } else if (c == '{' || c == '[') {
          ++depth;
        } else if (depth > 0) {
          if (c == '}' || c == ']') --depth;
        } else if (c == ',' || c == ']') {
          append(block.substr(0, i));
          lines_.pass(i + 1);
          return c;
        }
      }
      append(block);
      lines_.pass(block.size());
    }
  }

  void append(std::string_view part) {
    if (part.size() > max_bytes_ - element_.size()) element_too_long_ = true;
    if (element_too_long_) {
      element_.clear();
    } else {
      element_.append(part);
    }
  }

  LineReader lines_;
  std::string file_;
  std::string where_;
  std::size_t max_bytes_;
  Kind kind_ = Kind::unknown;
  Array array_ = Array::begins;
  std::string element_;
  bool element_too_long_ = false;
  std::size_t elements_ = 0;
  std::size_t line_ = 0;  // that the element begins in
  std::string fault_;     // of the array as such
};

}}  // namespace mistral
