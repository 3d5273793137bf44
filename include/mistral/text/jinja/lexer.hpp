// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/jinja/budget.hpp>
#include <mistral/text/jinja/characters.hpp>
#include <mistral/text/jinja/place.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The smallest part of a template that means something.
struct Token {
  enum class Kind { data, block_begin, block_end, output_begin, output_end, name, string, integer, real, sign, end };
  Kind kind = Kind::end;
  std::string_view text{};  ///< in the source; of a string, what stands between its quotes
  std::size_t at = 0;       ///< where it begins in the source
};

/// A template's source as Jinja reads it: line ends are `\n`, and one at the end of the file is left out.
inline std::string normalized_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

/// Cuts a template into tokens, with white space around blocks as Hugging Face has Jinja treat it: a line that ends
/// with a block doesn't end there (trim_blocks), and what stands before a block in its line goes where it is white
/// space (lstrip_blocks). `-` and `+` in the tags say otherwise.
class Lexer {
 public:
  /// A source, which must outlive the tokens, and what it is called in messages.
  Lexer(std::string_view source, std::string_view name) : source_(source), name_(name) {}

  /// All tokens, `end` last. Throws Error `[template] name:line:column: ...` for what is no template.
  std::vector<Token> tokens() {
    while (at_ < source_.size()) {
      const std::size_t tag = next_tag();
      const char kind = tag == source_.size() ? '\0' : source_[tag + 1];
      const bool raw = kind == '%' && raw_end(tag) != 0;
      add_data(tag, kind);
      if (kind == '\0') break;
      at_ = tag;
      if (raw) {
        take_raw();
      } else if (kind == '#') {
        take_comment();
      } else {
        take_code(kind);
      }
    }
    tokens_.push_back({Token::Kind::end, {}, source_.size()});
    return std::move(tokens_);
  }

 private:
  using Kind = Token::Kind;

  [[noreturn]] void fail(std::size_t at, std::string_view what) const {
    throw template_error(name_, place_in(source_, at), what);
  }

  // Where the next tag begins; the source's size where there is none.
  std::size_t next_tag() const noexcept {
    for (std::size_t at = at_; (at = source_.find('{', at)) != std::string_view::npos; ++at) {
      const char next = at + 1 < source_.size() ? source_[at + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return at;
    }
    return source_.size();
  }

  std::size_t skip_space(std::size_t at) const noexcept {
    while (at < source_.size() && is_space(character_at(source_, at))) at += character_length(source_, at);
    return at;
  }

  bool starts(std::size_t at, std::string_view text) const noexcept { return source_.substr(at).starts_with(text); }

  static bool is_sign(char c) noexcept { return c == '-' || c == '+'; }

  char byte(std::size_t at) const noexcept { return at < source_.size() ? source_[at] : '\0'; }

  // Behind `{% raw %}`, where that begins at `tag`; else 0.
  std::size_t raw_end(std::size_t tag) const noexcept {
    std::size_t at = skip_space(tag + (is_sign(byte(tag + 2)) ? 3 : 2));
    if (!starts(at, "raw")) return 0;
    at = skip_space(at + 3);
    if (starts(at, "-%}")) return skip_space(at + 3);
    return starts(at, "%}") ? at + 2 : 0;
  }

  // The text before a tag, without the white space that goes with it.
  void add_data(std::size_t tag, char kind) {
    std::string_view text = source_.substr(at_, tag - at_);
    const char sign = byte(tag + 2);
    if (kind != '\0' && sign == '-') {
      while (!text.empty()) {
        const std::size_t last = character_before(text, text.size());
        if (!is_space(character_at(text, last))) break;
        text = text.substr(0, last);
      }
    } else if (kind != '\0' && sign != '+' && kind != '{') {
      const std::size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
      const auto blank = [&] {
        for (std::size_t at = line; at < text.size(); at += character_length(text, at)) {
          if (!is_space(character_at(text, at))) return false;
        }
        return true;
      };
      if ((line > 0 || line_starts_) && blank()) text = text.substr(0, line);
    }
    if (!text.empty()) tokens_.push_back({Kind::data, text, at_});
  }

  // Goes behind a tag that ended at `end`.
  void go_on(std::size_t end) noexcept {
    line_starts_ = end > 0 && source_[end - 1] == '\n';
    at_ = end;
  }

  std::size_t behind_newline(std::size_t at) const noexcept { return byte(at) == '\n' ? at + 1 : at; }

  void take_comment() {
    const std::size_t begin = at_ + (is_sign(byte(at_ + 2)) ? 3 : 2);
    const std::size_t end = source_.find("#}", begin);
    if (end == std::string_view::npos) fail(at_, "a comment that doesn't end: expected #}");
    const char sign = end > begin ? source_[end - 1] : '\0';
    go_on(sign == '-' ? skip_space(end + 2) : sign == '+' ? end + 2 : behind_newline(end + 2));
  }

  void take_raw() {
    const std::size_t tag = at_;
    at_ = raw_end(tag);
    line_starts_ = at_ > 0 && source_[at_ - 1] == '\n';
    for (std::size_t end = at_; (end = source_.find("{%", end)) != std::string_view::npos; ++end) {
      std::size_t at = skip_space(end + (is_sign(byte(end + 2)) ? 3 : 2));
      if (!starts(at, "endraw")) continue;
      at = skip_space(at + 6);
      const bool minus = starts(at, "-%}"), plus = starts(at, "+%}");
      if (!minus && !plus && !starts(at, "%}")) continue;
      add_data(end, '%');
      go_on(minus ? skip_space(at + 3) : plus ? at + 3 : behind_newline(at + 2));
      return;
    }
    fail(tag, "raw text that doesn't end: expected {% endraw %}");
  }

  void take_code(char kind) {
    const bool block = kind == '%';
    const std::size_t tag = at_;
    tokens_.push_back({block ? Kind::block_begin : Kind::output_begin, source_.substr(at_, 2), at_});
    at_ += is_sign(byte(at_ + 2)) ? 3 : 2;
    brackets_.clear();
    for (;;) {
      at_ = skip_space(at_);
      if (at_ >= source_.size())
        fail(tag, block ? "a block that doesn't end: expected %}" : "an output that doesn't end: expected }}");
      if (brackets_.empty() && take_end(block)) return;
      take_token();
    }
  }

  bool take_end(bool block) {
    const std::string_view end = block ? "%}" : "}}";
    const bool minus = byte(at_) == '-' && starts(at_ + 1, end);
    const bool plus = block && byte(at_) == '+' && starts(at_ + 1, end);
    if (!minus && !plus && !starts(at_, end)) return false;
    tokens_.push_back({block ? Kind::block_end : Kind::output_end, source_.substr(at_, minus || plus ? 3 : 2), at_});
    const std::size_t behind = at_ + (minus || plus ? 3 : 2);
    go_on(minus ? skip_space(behind) : plus || !block ? behind : behind_newline(behind));
    return true;
  }

  static bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

  static bool is_name(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c) ||
           static_cast<unsigned char>(c) >= 0x80;
  }

  void take_token() {
    const char c = source_[at_];
    if (is_digit(c)) return take_number();
    if (c == '"' || c == '\'') return take_string(c);
    if (is_name(c)) {
      std::size_t end = at_;
      while (is_name(byte(end))) ++end;
      return add(Kind::name, end);
    }
    static constexpr std::array signs{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (const std::string_view sign : signs) {
      if (!starts(at_, sign)) continue;
      balance(sign[0]);
      return add(Kind::sign, at_ + sign.size());
    }
    fail(at_, "unexpected character '" + std::string(source_.substr(at_, character_length(source_, at_))) + "'");
  }

  void add(Kind kind, std::size_t end) {
    tokens_.push_back({kind, source_.substr(at_, end - at_), at_});
    at_ = end;
  }

  // Between brackets, the end of a tag is none.
  void balance(char c) {
    if (c == '(') brackets_ += ')';
    if (c == '[') brackets_ += ']';
    if (c == '{') brackets_ += '}';
    if (c != ')' && c != ']' && c != '}') return;
    if (brackets_.empty()) fail(at_, std::string("unexpected '") + c + "'");
    if (brackets_.back() != c) fail(at_, std::string("unexpected '") + c + "', expected '" + brackets_.back() + "'");
    brackets_.pop_back();
  }

  std::size_t behind_digits(std::size_t at) const noexcept {
    while (is_digit(byte(at)) || (byte(at) == '_' && is_digit(byte(at + 1)))) ++at;
    return at;
  }

  void take_number() {
    if (byte(at_) == '0' && std::string_view("xXoObB").find(byte(at_ + 1)) != std::string_view::npos) {
      std::size_t end = at_ + 2;
      while (is_name(byte(end))) ++end;
      return add(Kind::integer, end);
    }
    std::size_t end = behind_digits(at_);
    bool real = false;
    const bool behind_point = at_ > 0 && source_[at_ - 1] == '.';  // x.0.5 is an element of an element
    if (!behind_point && byte(end) == '.' && is_digit(byte(end + 1))) {
      real = true;
      end = behind_digits(end + 1);
    }
    if (!behind_point && (byte(end) == 'e' || byte(end) == 'E')) {
      const std::size_t digits = end + (is_sign(byte(end + 1)) ? 2 : 1);
      if (is_digit(byte(digits))) {
        real = true;
        end = behind_digits(digits);
      }
    }
    add(real ? Kind::real : Kind::integer, end);
  }

  void take_string(char quote) {
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail(at_, "a string that doesn't end");
    tokens_.push_back({Kind::string, source_.substr(at_ + 1, end - at_ - 1), at_});
    at_ = end + 1;
  }

  std::string_view source_;
  std::string_view name_;
  std::size_t at_ = 0;
  bool line_starts_ = true;  // whether what comes next begins a line
  std::string brackets_;     // what closes those that are open, the innermost last
  std::vector<Token> tokens_;
};

/// A string literal as it is meant. Throws Fault for an escape that is none.
inline std::string unescaped(std::string_view literal) {
  std::string out;
  const auto number = [&](std::size_t& at, std::size_t most, unsigned base) {
    char32_t code = 0;
    std::size_t count = 0;
    for (; count < most && at < literal.size(); ++count, ++at) {
      const char c = literal[at];
      const unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a' + 10)
                             : c >= 'A' && c <= 'F' ? static_cast<unsigned>(c - 'A' + 10)
                                                    : 99;
      if (digit >= base) break;
      code = code * base + digit;
    }
    if (base == 16 && count < most) throw Fault("an escape of too few digits in a string");
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) throw Fault("an escape for no character in a string");
    return code;
  };
  for (std::size_t at = 0; at < literal.size();) {
    const char c = literal[at++];
    if (c != '\\' || at == literal.size()) {
      out += c;
      continue;
    }
    const char escape = literal[at++];
    constexpr std::string_view plain = "\\'\"abfnrtv";
    constexpr std::string_view meant = "\\'\"\a\b\f\n\r\t\v";
    if (const std::size_t found = plain.find(escape); found != std::string_view::npos) {
      out += meant[found];
    } else if (escape == 'x' || escape == 'u' || escape == 'U') {
      append_utf8(out, number(at, escape == 'x' ? 2 : escape == 'u' ? 4 : 8, 16));
    } else if (escape >= '0' && escape <= '7') {
      append_utf8(out, number(--at, 3, 8));
    } else if (escape == 'N') {
      throw Fault("names of characters in a string, \\N, are not supported");
    } else if (escape != '\n') {
      out.append(1, '\\').append(1, escape);
    }
  }
  return out;
}

}}}  // namespace mistral::jinja
