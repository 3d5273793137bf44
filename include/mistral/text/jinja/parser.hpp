// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/expression_parser.hpp>
#include <mistral/text/jinja/syntax.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The statements of a template.
class Parser : private ExpressionParser {
 public:
  /// A source, as normalized_source makes it, and what it is called in messages.
  Parser(std::string_view source, std::string_view name) : ExpressionParser(source, name) {}

  /// Throws Error `[template] name:line:column: ...` for what is no template, and for a statement that isn't supported.
  Syntax syntax() {
    syntax_.body = block({});
    if (current().kind != Token::Kind::end) unexpected("the end of the template");
    return std::move(syntax_);
  }

 private:
  using Sort = Statement::Kind;

  const Statement* add(Statement statement) {
    syntax_.statements.push_back(std::move(statement));
    return &syntax_.statements.back();
  }

  // The statements up to a tag of one of these names, whose name is then the current token.
  Block block(std::initializer_list<std::string_view> ends) {
    const Nested nested(*this);
    Block statements;
    for (;;) {
      const Place where = place();
      switch (current().kind) {
        case Token::Kind::data:
          statements.push_back(add({.kind = Sort::text, .place = where, .text = Text(std::string(current().text))}));
          advance();
          break;
        case Token::Kind::output_begin:
          advance();
          statements.push_back(add({.kind = Sort::output, .place = where, .expressions = {tuple_to_end()}}));
          if (current().kind != Token::Kind::output_end) unexpected("'}}'");
          advance();
          break;
        case Token::Kind::block_begin:
          advance();
          if (std::any_of(ends.begin(), ends.end(), [this](std::string_view end) { return at_name(end); }))
            return statements;
          statements.push_back(statement(where));
          break;
        default:
          if (ends.size() == 0) return statements;
          unexpected("{% " + std::string(*(ends.end() - 1)) + " %}");
      }
    }
  }

  void end_tag() {
    if (current().kind != Token::Kind::block_end) unexpected("'%}'");
    advance();
  }

  // The statements up to the tag `end`, which is taken too.
  Block body(std::string_view end) {
    Block statements = block({end});
    advance();
    end_tag();
    return statements;
  }

  const Statement* statement(Place where) {
    if (current().kind != Token::Kind::name) unexpected("the name of a statement");
    const std::string_view name = current().text;
    if (name == "for") return loop(where);
    if (name == "if") return branches(where);
    if (name == "set") return set(where);
    if (name == "macro") return macro(where);
    if (name == "call") return call(where);
    if (name == "filter") return filter_block(where);
    if (name == "with") return with(where);
    if (name == "generation") return generation(where);
    if (name == "break" || name == "continue") {
      if (!in_loop_) fail("'" + std::string(name) + "' outside of a loop");
      advance();
      end_tag();
      return add({.kind = name == "break" ? Sort::leave_loop : Sort::next_in_loop, .place = where});
    }
    fail("the statement '" + printable(name, 40) + "' is not known here");
  }

  const Expression* target_name() {
    const Place where = place();
    const std::string name = expect_name();
    if (name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None") {
      throw template_error(name_, where, "a value can't be put into '" + name + "'");
    }
    return make({.kind = Kind::name, .place = where, .name = name});
  }

  // A name, or names with commas between them, perhaps in parentheses.
  const Expression* target(std::string_view end_name) {
    const Nested nested(*this);
    const Place where = place();
    std::vector<const Expression*> names;
    bool is_tuple = false;
    while (!at_sign("=") && !at_sign(")") && !at_end_of_tag() && !(end_name == "in" && at_name("in"))) {
      if (skip_sign("(")) {
        names.push_back(target(""));
        expect_sign(")");
      } else {
        names.push_back(target_name());
      }
      if (!skip_sign(",")) break;
      is_tuple = true;
    }
    if (names.empty()) unexpected("a name");
    if (!is_tuple) return names[0];
    return make({.kind = Kind::tuple, .place = where, .operands = std::move(names)});
  }

  const Statement* loop(Place where) {
    advance();
    Statement made{.kind = Sort::loop, .place = where, .targets = {target("in")}};
    if (!skip_name("in")) unexpected("'in'");
    made.expressions.push_back(tuple(false, false, [this] { return at_end_of_tag() || at_name("recursive"); }));
    made.expressions.push_back(skip_name("if") ? expression() : nullptr);
    made.recursive = skip_name("recursive");
    end_tag();
    const bool outer = std::exchange(in_loop_, true);
    made.bodies.push_back(block({"else", "endfor"}));
    in_loop_ = outer;
    if (skip_name("else")) {
      end_tag();
      made.bodies.push_back(block({"endfor"}));
    } else {
      made.bodies.emplace_back();
    }
    advance();
    end_tag();
    return add(std::move(made));
  }

  const Statement* branches(Place where) {
    Statement made{.kind = Sort::branches, .place = where};
    for (;;) {
      advance();  // if, elif
      made.expressions.push_back(tuple_to_end(false));
      end_tag();
      made.bodies.push_back(block({"elif", "else", "endif"}));
      if (!at_name("elif")) break;
    }
    if (skip_name("else")) {
      end_tag();
      made.bodies.push_back(block({"endif"}));
    }
    advance();
    end_tag();
    return add(std::move(made));
  }

  const Statement* set(Place where) {
    advance();
    Statement made{.kind = Sort::set, .place = where};
    if (current().kind == Token::Kind::name && behind().kind == Token::Kind::sign && behind().text == ".") {
      const Place at = place();
      const std::string object = expect_name();
      advance();
      const Expression* const owner = make({.kind = Kind::name, .place = at, .name = object});
      used_.push_back(object);
      made.targets.push_back(make({.kind = Kind::attribute, .place = at, .name = expect_name(), .operands = {owner}}));
    } else {
      made.targets.push_back(target(""));
    }
    if (skip_sign("=")) {
      made.expressions.push_back(tuple_to_end());
      end_tag();
      return add(std::move(made));
    }
    made.kind = Sort::set_block;
    if (skip_sign("|")) made.expressions.push_back(filters(nullptr));
    end_tag();
    made.bodies.push_back(body("endset"));
    return add(std::move(made));
  }

  // `(a, b=1)`
  std::vector<Parameter> parameters() {
    std::vector<Parameter> all;
    expect_sign("(");
    while (!at_sign(")")) {
      Parameter parameter{expect_name(), nullptr};
      if (skip_sign("=")) {
        parameter.otherwise = expression();
      } else if (!all.empty() && all.back().otherwise != nullptr) {
        fail("a parameter without a default behind one with a default");
      }
      all.push_back(std::move(parameter));
      if (!at_sign(")")) expect_sign(",");
    }
    advance();
    return all;
  }

  // The body of a macro or of a caller, and which of the names it uses that its arguments may have.
  void take_body(Statement& made, std::string_view end) {
    std::vector<std::string> before = std::exchange(used_, {});
    const bool outer = std::exchange(in_loop_, false);
    made.bodies.push_back(body(end));
    in_loop_ = outer;
    const auto uses = [&](std::string_view name) { return std::find(used_.begin(), used_.end(), name) != used_.end(); };
    made.takes_more = uses("varargs");
    made.takes_named = uses("kwargs");
    made.takes_caller = uses("caller");
    used_ = std::move(before);
  }

  const Statement* macro(Place where) {
    advance();
    Statement made{.kind = Sort::macro, .place = where, .name = expect_name()};
    made.parameters = parameters();
    end_tag();
    take_body(made, "endmacro");
    return add(std::move(made));
  }

  const Statement* call(Place where) {
    advance();
    Statement made{.kind = Sort::call, .place = where, .name = "caller"};
    if (at_sign("(")) made.parameters = parameters();
    made.expressions.push_back(expression());
    if (made.expressions[0]->kind != Kind::call)
      throw template_error(name_, where, "expected a call of a macro behind 'call'");
    end_tag();
    take_body(made, "endcall");
    return add(std::move(made));
  }

  const Statement* filter_block(Place where) {
    advance();
    Statement made{.kind = Sort::filter, .place = where, .expressions = {filters(nullptr)}};
    end_tag();
    made.bodies.push_back(body("endfilter"));
    return add(std::move(made));
  }

  const Statement* with(Place where) {
    advance();
    Statement made{.kind = Sort::with, .place = where};
    while (!at_end_of_tag()) {
      made.targets.push_back(target_name());
      expect_sign("=");
      made.expressions.push_back(expression());
      if (!at_end_of_tag()) expect_sign(",");
    }
    end_tag();
    made.bodies.push_back(body("endwith"));
    return add(std::move(made));
  }

  const Statement* generation(Place where) {
    advance();
    end_tag();
    syntax_.has_generation = true;
    Statement made{.kind = Sort::generation, .place = where};
    made.bodies.push_back(body("endgeneration"));
    return add(std::move(made));
  }

  bool in_loop_ = false;
};

}}}  // namespace mistral::jinja
