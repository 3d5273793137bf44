// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/evaluator.hpp>
#include <mistral/text/jinja/scope.hpp>
#include <mistral/text/jinja/syntax.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// Runs a template once. There is nothing that it can reach but what it is given, and no way out but its text.
class Interpreter : private Evaluator {
 public:
  Interpreter(const Syntax& syntax, std::string_view name, const Limits& limits, const Moment& now)
      : Evaluator(name, limits, now), syntax_(syntax) {}

  /// Returns the text for these variables, a dict. Throws Error `[template] name:line:column: ...`, and Raised where
  /// the template refuses them.
  Text run(const Value& variables) {
    Text out;
    at({}, [&] {
      Scope globals;
      globals.names = {{"range", Function::range},
                       {"dict", Function::dict},
                       {"namespace", Function::namespace_},
                       {"raise_exception", Function::raise_exception},
                       {"strftime_now", Function::strftime_now}};
      for (const auto& [name, value] : variables.dict()->items) globals.set(budget_, name.text()->bytes(), value);
      Scope& scope = arena_.scope(&globals);
      (void)execute(syntax_.body, scope, out);
      return 0;
    });
    return out;
  }

 private:
  using Sort = Statement::Kind;

  /// How a block was left.
  enum class Flow { end, leave_loop, next_in_loop };

  Flow execute(const Block& block, Scope& scope, Text& out) {
    for (const Statement* const statement : block) {
      const Flow flow = at(statement->place, [&] {
        budget_.step();
        return execute(*statement, scope, out);
      });
      if (flow != Flow::end) return flow;
    }
    return Flow::end;
  }

  Flow execute(const Statement& s, Scope& scope, Text& out) {
    switch (s.kind) {
      case Sort::text:
        append(out, s.text);
        return Flow::end;
      case Sort::output:
        append_text(budget_, out, evaluate(*s.expressions[0], scope));
        return Flow::end;
      case Sort::loop:
        loop(s, scope, evaluate(*s.expressions[0], scope), 0, out);
        return Flow::end;
      case Sort::branches:
        for (std::size_t i = 0; i < s.bodies.size(); ++i) {
          if (i >= s.expressions.size() || holds(*s.expressions[i], scope)) return execute(s.bodies[i], scope, out);
        }
        return Flow::end;
      case Sort::set:
        assign(*s.targets[0], evaluate(*s.expressions[0], scope), scope);
        return Flow::end;
      case Sort::set_block: {
        Value content = captured(s.bodies[0], scope);
        if (!s.expressions.empty()) content = filtered(*s.expressions[0], scope, content);
        assign(*s.targets[0], std::move(content), scope);
        return Flow::end;
      }
      case Sort::macro:
        scope.set(budget_, s.name, &std::as_const(arena_.macro(s, scope)));
        return Flow::end;
      case Sort::call: {
        const Expression& called = *s.expressions[0];
        const Value macro = evaluate(*called.operands[0], scope);
        Arguments arguments = arguments_of(called, scope);
        arguments.named.emplace_back("caller", &std::as_const(arena_.macro(s, scope)));
        append_text(budget_, out, call(macro, arguments));
        return Flow::end;
      }
      case Sort::filter:
        append_text(budget_, out, filtered(*s.expressions[0], scope, captured(s.bodies[0], scope)));
        return Flow::end;
      case Sort::with: {
        std::vector<Value> values;  // none of which sees the others' names
        for (const Expression* const expression : s.expressions) values.push_back(evaluate(*expression, scope));
        Scope& inner = arena_.scope(&scope);
        for (std::size_t i = 0; i < values.size(); ++i) assign(*s.targets[i], std::move(values[i]), inner);
        return execute(s.bodies[0], inner, out);
      }
      case Sort::generation: {
        Text part;
        Scope& inner = arena_.scope(&scope);
        const Flow flow = execute(s.bodies[0], inner, part);
        append(out, part.as_answer());
        return flow;
      }
      case Sort::leave_loop:
        return Flow::leave_loop;
      case Sort::next_in_loop:
        return Flow::next_in_loop;
    }
    return Flow::end;
  }

  void append(Text& out, const Text& text) {
    budget_.take(text.size());
    if (out.size() + text.size() > budget_.limits().output) budget_.take_text(out.size() + text.size());
    out.append(text);
  }

  // What a block makes of itself in a scope of its own.
  Value captured(const Block& block, const Scope& scope) {
    Text text;
    const Arena::Scopes scopes(arena_);
    Scope& inner = arena_.scope(&scope);
    (void)execute(block, inner, text);
    return make_text(budget_, std::move(text));
  }

  void assign(const Expression& target, Value value, Scope& scope) {
    if (target.kind == Kind::name) return scope.set(budget_, target.name, std::move(value));
    if (target.kind == Kind::attribute)
      return at(target.place, [&] { set_attribute(target, std::move(value), scope); });
    at(target.place, [&] {
      std::vector<Value> values = elements_of(budget_, value);
      if (values.size() != target.operands.size()) {
        throw Fault("expected " + std::to_string(target.operands.size()) + " values to unpack, got " +
                    std::to_string(values.size()));
      }
      for (std::size_t i = 0; i < values.size(); ++i) assign(*target.operands[i], std::move(values[i]), scope);
    });
  }

  void set_attribute(const Expression& target, Value value, Scope& scope) {
    const Value object = evaluate(*target.operands[0], scope);
    const auto* const space = object.get<Namespace*>();
    if (space == nullptr) throw Fault("cannot assign attribute on non-namespace object");
    auto& attributes = (*space)->attributes;
    budget_.step(1 + attributes.size() / 8);
    const auto found =
        std::find_if(attributes.begin(), attributes.end(), [&](const auto& a) { return a.first == target.name; });
    if (found != attributes.end()) {
      found->second = std::move(value);
    } else {
      budget_.take(sizeof(attributes[0]) + target.name.size());
      attributes.emplace_back(target.name, std::move(value));
    }
  }

  void loop(const Statement& s, const Scope& scope, const Value& over, std::size_t depth, Text& out) {
    std::vector<Value> items = elements_of(budget_, over);
    if (s.expressions[1] != nullptr) {
      std::vector<Value> kept;
      Scope& inner = arena_.scope(&scope);
      for (Value& item : items) {
        assign(*s.targets[0], item, inner);
        if (holds(*s.expressions[1], inner)) kept.push_back(std::move(item));
      }
      items = std::move(kept);
    }
    Loop& state = arena_.loop(s.recursive);
    state.items = std::move(items);
    state.depth = depth;
    state.recursive = s.recursive ? &s : nullptr;
    state.scope = &scope;
    if (state.items.empty()) {
      Scope& inner = arena_.scope(&scope);
      (void)execute(s.bodies[1], inner, out);
      return;
    }
    for (state.index = 0; state.index < state.items.size(); ++state.index) {
      const Arena::Scopes scopes(arena_);
      Scope& inner = arena_.scope(&scope);
      inner.set(budget_, "loop", &state);
      assign(*s.targets[0], state.items[state.index], inner);
      if (execute(s.bodies[0], inner, out) == Flow::leave_loop) break;
    }
    state.items = {};  // whoever kept `loop` finds no elements any more
    state.index = 0;
  }

  Value call_loop(const Loop& state, const Arguments& arguments) override {
    if (state.recursive == nullptr) throw Fault("the loop must have the 'recursive' marker to be called recursively");
    const Parameters p(arguments, "loop", {"iterable"});
    Text out;
    loop(*state.recursive, *state.scope, p.required(0), state.depth + 1, out);
    return make_text(budget_, std::move(out));
  }

  Value call_macro(const Macro& macro, const Arguments& arguments) override {
    const Statement& s = *macro.statement;
    const Arena::Scopes scopes(arena_);
    const std::vector<Parameter>& parameters = s.parameters;
    Scope& scope = arena_.scope(macro.scope);
    const auto fail = [&](const std::string& what) { throw Fault("macro '" + s.name + "' " + what); };
    const std::size_t given = arguments.positional.size();
    std::vector<const Value*> values(parameters.size());
    for (std::size_t i = 0; i < (std::min)(given, parameters.size()); ++i) values[i] = &arguments.positional[i];
    if (s.takes_more) {
      std::vector<Value> more;
      for (std::size_t i = parameters.size(); i < given; ++i) more.push_back(arguments.positional[i]);
      scope.set(budget_, "varargs", make_list(budget_, std::move(more), List::Kind::tuple));
    } else if (given > parameters.size()) {
      fail("takes not more than " + std::to_string(parameters.size()) + " argument(s)");
    }
    std::vector<std::pair<Value, Value>> others;
    Value caller = Value::undefined("No caller defined");
    for (const auto& [name, value] : arguments.named) {
      const auto found = std::find_if(parameters.begin(), parameters.end(),
                                      [&name = name](const Parameter& p) { return p.name == name; });
      if (found != parameters.end()) {
        const Value*& place = values[static_cast<std::size_t>(found - parameters.begin())];
        if (place != nullptr) fail("got multiple values for argument '" + name + "'");
        place = &value;
      } else if (name == "caller" && s.takes_caller) {
        caller = value;
      } else if (s.takes_named) {
        others.emplace_back(Value(Text(name)), value);
      } else {
        fail("takes no keyword argument '" + name + "'");
      }
    }
    if (s.takes_named) scope.set(budget_, "kwargs", make_dict(budget_, std::move(others)));
    // a default sees the parameters before its own
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Parameter& parameter = parameters[i];
      Value value = values[i] != nullptr ? *values[i]
                    : parameter.otherwise != nullptr
                        ? evaluate(*parameter.otherwise, scope)
                        : Value::undefined("parameter '" + parameter.name + "' was not provided");
      scope.set(budget_, parameter.name, std::move(value));
    }
    if (s.takes_caller && s.kind == Sort::macro) scope.set(budget_, "caller", std::move(caller));
    Text out;
    (void)execute(s.bodies[0], scope, out);
    return make_text(budget_, std::move(out));
  }

  const Syntax& syntax_;
};

}}}  // namespace mistral::jinja
