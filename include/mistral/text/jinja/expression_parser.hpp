// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/json/parser.hpp>
#include <mistral/text/jinja/lexer.hpp>
#include <mistral/text/jinja/syntax.hpp>
#include <mistral/text/jinja/syntax_builder.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The expressions of a template, by recursive descent: a function a level of precedence, as Jinja has them.
class ExpressionParser : protected SyntaxBuilder {
 protected:
  using SyntaxBuilder::SyntaxBuilder;

  using Kind = Expression::Kind;

  // an expression that isn't followed by `if`
  const Expression* unconditional() { return either(); }

  const Expression* expression() {
    const Nested nested(*this);
    const Expression* chosen = either();
    while (at_name("if")) {
      const Place where = place();
      advance();
      const Expression* const condition = either();
      const Expression* const otherwise = skip_name("else") ? expression() : nullptr;
      chosen = make({.kind = Kind::conditional, .place = where, .operands = {condition, chosen, otherwise}});
    }
    return chosen;
  }

  // Expressions with commas between them are a tuple. `closes` says whether what comes next can begin none.
  template <class Closes>
  const Expression* tuple(bool conditional, bool in_brackets, const Closes& closes) {
    const Place where = place();
    std::vector<const Expression*> items;
    bool is_tuple = false;
    while (!closes()) {
      items.push_back(conditional ? expression() : unconditional());
      if (!at_sign(",")) break;
      advance();
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return items[0];
    if (items.empty() && !in_brackets) unexpected("an expression");
    return make({.kind = Kind::tuple, .place = where, .operands = std::move(items)});
  }

  const Expression* tuple_to_end(bool conditional = true) {
    return tuple(conditional, false, [this] { return at_end_of_tag(); });
  }

  // The filters behind a value, null for what a filter block has; at least one of them, the first without its `|`,
  // where there is no value.
  const Expression* filters(const Expression* value) {
    bool first = value == nullptr;
    while (first || at_sign("|")) {
      if (!first) advance();
      first = false;
      const Place where = place();
      value = make_call({.kind = Kind::filter, .place = where, .name = dotted_name(), .operands = {value}});
    }
    return value;
  }

  // `(...)`, where it stands there, as arguments.
  const Expression* make_call(Expression call) {
    if (!skip_sign("(")) return make(std::move(call));
    while (!at_sign(")")) {
      if (at_sign("*") || at_sign("**")) fail("arguments by * and ** are not supported");
      if (current().kind == Token::Kind::name && behind().kind == Token::Kind::sign && behind().text == "=") {
        std::string name = expect_name();
        advance();
        call.named.emplace_back(std::move(name), expression());
      } else {
        if (!call.named.empty()) fail("an argument without a name behind one with a name");
        call.operands.push_back(expression());
      }
      if (!at_sign(")")) expect_sign(",");
    }
    advance();
    return make(std::move(call));
  }

  std::vector<std::string> used_;  // names that expressions used since a macro began

 private:
  const Expression* either() {
    const Expression* left = both();
    while (at_name("or")) {
      const Place where = place();
      advance();
      const Expression* const right = both();
      left = make({.kind = Kind::either, .place = where, .operands = {left, right}});
    }
    return left;
  }

  const Expression* both() {
    const Expression* left = negation();
    while (at_name("and")) {
      const Place where = place();
      advance();
      const Expression* const right = negation();
      left = make({.kind = Kind::both, .place = where, .operands = {left, right}});
    }
    return left;
  }

  const Expression* negation() {
    if (!at_name("not")) return comparison();
    const Nested nested(*this);
    const Place where = place();
    advance();
    const Expression* const operand = negation();
    return make({.kind = Kind::negation, .place = where, .operands = {operand}});
  }

  std::optional<Comparison> take_comparison() {
    constexpr std::pair<std::string_view, Comparison> signs[] = {
        {"==", Comparison::equal},         {"!=", Comparison::unequal}, {"<=", Comparison::less_equal},
        {">=", Comparison::greater_equal}, {"<", Comparison::less},     {">", Comparison::greater}};
    for (const auto& [sign, meaning] : signs) {
      if (skip_sign(sign)) return meaning;
    }
    if (skip_name("in")) return Comparison::in;
    if (at_name("not") && behind().kind == Token::Kind::name && behind().text == "in") {
      advance();
      advance();
      return Comparison::not_in;
    }
    return std::nullopt;
  }

  const Expression* comparison() {
    const Place where = place();
    const Expression* const first = sum();
    std::vector<const Expression*> operands{first};
    std::vector<Comparison> comparisons;
    while (const auto sign = take_comparison()) {
      comparisons.push_back(*sign);
      operands.push_back(sum());
    }
    if (comparisons.empty()) return first;
    return make({.kind = Kind::comparison,
                 .place = where,
                 .operands = std::move(operands),
                 .comparisons = std::move(comparisons)});
  }

  // Operators of one level of precedence, from left to right.
  template <class Next>
  const Expression* chain(std::initializer_list<std::pair<std::string_view, Operator>> signs, const Next& next) {
    const Expression* left = next();
    for (;;) {
      const auto found =
          std::find_if(signs.begin(), signs.end(), [&](const auto& sign) { return at_sign(sign.first); });
      if (found == signs.end()) return left;
      const Place where = place();
      advance();
      const Expression* const right = next();
      left = make({.kind = Kind::arithmetic, .place = where, .sign = found->second, .operands = {left, right}});
    }
  }

  const Expression* sum() {
    return chain({{"+", Operator::add}, {"-", Operator::subtract}}, [this] { return concatenation(); });
  }

  const Expression* concatenation() {
    const Place where = place();
    std::vector<const Expression*> operands{product()};
    while (skip_sign("~")) operands.push_back(product());
    if (operands.size() == 1) return operands[0];
    return make({.kind = Kind::concat, .place = where, .operands = std::move(operands)});
  }

  const Expression* product() {
    return chain(
        {{"*", Operator::multiply}, {"/", Operator::divide}, {"//", Operator::floor_divide}, {"%", Operator::modulo}},
        [this] { return power(); });
  }

  const Expression* power() {
    return chain({{"**", Operator::power}}, [this] { return unary(true); });
  }

  const Expression* unary(bool with_filters) {
    const Nested nested(*this);
    const Place where = place();
    const Expression* value = nullptr;
    if (at_sign("-") || at_sign("+")) {
      const Kind kind = at_sign("-") ? Kind::minus : Kind::plus;
      advance();
      const Expression* const operand = unary(false);
      value = make({.kind = kind, .place = where, .operands = {operand}});
    } else {
      value = primary();
    }
    value = postfix(value);
    if (!with_filters) return value;
    for (;;) {
      if (at_sign("|")) {
        value = filters(value);
      } else if (at_name("is")) {
        value = test(value);
      } else if (at_sign("(")) {
        value = make_call({.kind = Kind::call, .place = place(), .operands = {value}});
      } else {
        return value;
      }
    }
  }

  const Expression* constant(Place where, Value value) {
    return make({.kind = Kind::constant, .place = where, .value = std::move(value)});
  }

  const Expression* primary() {
    const Place where = place();
    const Token token = current();
    switch (token.kind) {
      case Token::Kind::name:
        advance();
        if (token.text == "true" || token.text == "True") return constant(where, true);
        if (token.text == "false" || token.text == "False") return constant(where, false);
        if (token.text == "none" || token.text == "None") return constant(where, Value::NoneType{});
        used_.emplace_back(token.text);
        return make({.kind = Kind::name, .place = where, .name = std::string(token.text)});
      case Token::Kind::string: {
        std::string text;
        for (; current().kind == Token::Kind::string; advance()) text += literal(current().text);
        return constant(where, Value(Text(std::move(text))));
      }
      case Token::Kind::integer:
      case Token::Kind::real:
        return constant(where, number());
      default:
        break;
    }
    if (skip_sign("(")) {
      const Expression* const inner = tuple(true, true, [this] { return at_sign(")"); });
      expect_sign(")");
      return inner;
    }
    if (skip_sign("[")) {
      std::vector<const Expression*> items;
      while (!at_sign("]")) {
        items.push_back(expression());
        if (!at_sign("]")) expect_sign(",");
      }
      advance();
      return make({.kind = Kind::list, .place = where, .operands = std::move(items)});
    }
    if (!skip_sign("{")) unexpected("an expression");
    std::vector<const Expression*> items;
    while (!at_sign("}")) {
      items.push_back(expression());
      expect_sign(":");
      items.push_back(expression());
      if (!at_sign("}")) expect_sign(",");
    }
    advance();
    return make({.kind = Kind::dict, .place = where, .operands = std::move(items)});
  }

  std::string literal(std::string_view text) const {
    try {
      return unescaped(text);
    } catch (const Fault& fault) {
      fail(fault.what());
    }
  }

  Value number() {
    std::string digits(current().text);
    std::erase(digits, '_');
    unsigned base = 10;
    if (digits.size() > 2 && digits[0] == '0' && digits[1] > '9') {
      base = digits[1] == 'x' || digits[1] == 'X' ? 16 : digits[1] == 'b' || digits[1] == 'B' ? 2 : 8;
      digits.erase(0, 2);
    }
    if (current().kind == Token::Kind::real) {
      // a zero in front, and a point, are JSON's too
      digits.erase(0, (std::min)(digits.find_first_not_of('0'), digits.size() - 1));
      if (digits[0] == '.' || digits[0] == 'e' || digits[0] == 'E') digits.insert(0, "0");
      const JsonValue value =
          parse_json(digits, "template", std::string(name_) + ": the number " + printable(digits, 40)).root;
      advance();
      return value.type == JsonValue::Type::real ? Value(value.real) : Value(static_cast<double>(value.integer));
    }
    std::uint64_t value = 0;
    const auto [stopped, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
    if (error != std::errc{} || stopped != digits.data() + digits.size()) {
      fail("expected an integer of at most 64 bits, got " + printable(current().text, 40));
    }
    if (base == 10 && digits.size() > 1 && digits[0] == '0' && value != 0) fail("an integer that begins with 0");
    advance();
    return value > std::uint64_t{INT64_MAX} ? Value(value) : Value(static_cast<std::int64_t>(value));
  }

  const Expression* postfix(const Expression* value) {
    for (;;) {
      const Place where = place();
      if (skip_sign(".")) {
        if (current().kind == Token::Kind::integer) {
          const Expression* const index = constant(place(), number());
          value = make({.kind = Kind::item, .place = where, .operands = {value, index}});
        } else {
          value = make({.kind = Kind::attribute, .place = where, .name = expect_name(), .operands = {value}});
        }
      } else if (skip_sign("[")) {
        value = subscript(value, where);
      } else if (at_sign("(")) {
        value = make_call({.kind = Kind::call, .place = where, .operands = {value}});
      } else {
        return value;
      }
    }
  }

  const Expression* subscript(const Expression* value, Place where) {
    const Expression* bounds[3] = {};
    std::size_t colons = 0;
    for (; !at_sign("]"); ++colons) {
      if (!at_sign(":")) bounds[colons] = expression();
      if (colons == 2 || !skip_sign(":")) break;
    }
    if (at_sign("]") && colons == 0 && bounds[0] == nullptr) unexpected("an index");
    if (at_sign(",")) fail("an index of several parts is not supported");
    expect_sign("]");
    const bool slice = colons > 0;
    if (!slice) return make({.kind = Kind::item, .place = where, .operands = {value, bounds[0]}});
    return make({.kind = Kind::slice, .place = where, .operands = {value, bounds[0], bounds[1], bounds[2]}});
  }

  std::string dotted_name() {
    std::string name = expect_name();
    while (skip_sign(".")) name.append(".").append(expect_name());
    return name;
  }

  const Expression* test(const Expression* value) {
    const Place where = place();
    advance();
    const bool negated = skip_name("not");
    Expression call{.kind = Kind::test, .place = where, .name = dotted_name(), .operands = {value}};
    const Expression* made = nullptr;
    if (at_sign("(")) {
      made = make_call(std::move(call));
    } else {
      if (begins_argument()) {
        if (at_name("is")) fail("a test behind a test needs parentheses");
        call.operands.push_back(postfix(primary()));
      }
      made = make(std::move(call));
    }
    return negated ? make({.kind = Kind::negation, .place = where, .operands = {made}}) : made;
  }

  bool begins_argument() const noexcept {
    switch (current().kind) {
      case Token::Kind::name:
        return !at_name("else") && !at_name("or") && !at_name("and") && !at_name("if");
      case Token::Kind::string:
      case Token::Kind::integer:
      case Token::Kind::real:
        return true;
      default:
        return at_sign("[") || at_sign("{");
    }
  }
};

}}}  // namespace mistral::jinja
