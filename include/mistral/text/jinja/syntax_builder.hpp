// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/jinja/budget.hpp>
#include <mistral/text/jinja/lexer.hpp>
#include <mistral/text/jinja/place.hpp>
#include <mistral/text/jinja/syntax.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// Where a parser is among a template's tokens, and the syntax that it has made so far.
class SyntaxBuilder {
 protected:
  SyntaxBuilder(std::string_view source, std::string_view name)
      : source_(source), name_(name), tokens_(Lexer(source, name).tokens()) {}

  const Token& current() const noexcept { return tokens_[next_]; }
  const Token& behind() const noexcept { return tokens_[(std::min)(next_ + 1, tokens_.size() - 1)]; }
  void advance() noexcept { next_ += next_ + 1 < tokens_.size(); }

  // Tokens are asked for in order, so each place is counted on from the one before it.
  Place place() const {
    for (; counted_ < current().at; ++counted_) {
      if (source_[counted_] == '\n') {
        counted_place_ = {counted_place_.line + 1, 1};
      } else {
        counted_place_.column += (detail::byte_at(source_, counted_) & 0xC0) != 0x80;
      }
    }
    return counted_place_;
  }

  [[noreturn]] void fail(std::string_view what) const { throw template_error(name_, place(), what); }

  [[noreturn]] void unexpected(std::string_view expected) const {
    fail("expected " + std::string(expected) + ", got " + described(current()));
  }

  static std::string described(const Token& token) {
    switch (token.kind) {
      case Token::Kind::end:
        return "the end of the template";
      case Token::Kind::block_end:
      case Token::Kind::output_end:
        return "the end of the tag";
      case Token::Kind::data:
        return "text";
      case Token::Kind::string:
        return "a string";
      default:
        return "'" + printable(token.text, 40) + "'";
    }
  }

  bool at_sign(std::string_view sign) const noexcept {
    return current().kind == Token::Kind::sign && current().text == sign;
  }
  bool at_name(std::string_view name) const noexcept {
    return current().kind == Token::Kind::name && current().text == name;
  }
  bool skip_sign(std::string_view sign) {
    const bool there = at_sign(sign);
    if (there) advance();
    return there;
  }
  bool skip_name(std::string_view name) {
    const bool there = at_name(name);
    if (there) advance();
    return there;
  }
  void expect_sign(std::string_view sign) {
    if (!skip_sign(sign)) unexpected("'" + std::string(sign) + "'");
  }
  std::string expect_name() {
    if (current().kind != Token::Kind::name) unexpected("a name");
    std::string name(current().text);
    advance();
    return name;
  }

  // Counts levels that the parser itself is in.
  class Nested {
   public:
    explicit Nested(SyntaxBuilder& parser) : parser_(parser) {
      if (++parser_.nested_ > Limits::syntax)
        parser_.fail("nested deeper than " + std::to_string(Limits::syntax) + " levels");
    }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    ~Nested() { --parser_.nested_; }

   private:
    SyntaxBuilder& parser_;
  };

  const Expression* make(Expression expression) {
    std::size_t depth = 0;
    for (const Expression* const operand : expression.operands) {
      if (operand != nullptr) depth = (std::max)(depth, operand->depth);
    }
    for (const auto& argument : expression.named) depth = (std::max)(depth, argument.second->depth);
    expression.depth = depth + 1;
    if (expression.depth > Limits::syntax) {
      throw template_error(name_, expression.place,
                           "an expression nested deeper than " + std::to_string(Limits::syntax) + " levels");
    }
    syntax_.expressions.push_back(std::move(expression));
    return &syntax_.expressions.back();
  }

  bool at_end_of_tag() const noexcept {
    const Token::Kind kind = current().kind;
    return kind == Token::Kind::block_end || kind == Token::Kind::output_end || kind == Token::Kind::end;
  }

  Syntax syntax_;
  std::string_view source_;
  std::string_view name_;

 private:
  std::vector<Token> tokens_;
  std::size_t next_ = 0;
  std::size_t nested_ = 0;
  mutable std::size_t counted_ = 0;  // up to here, counted_place_ is right
  mutable Place counted_place_{};
};

}}}  // namespace mistral::jinja
