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
#include <mistral/core/error.hpp>
#include <mistral/text/jinja/arithmetic.hpp>
#include <mistral/text/jinja/clock.hpp>
#include <mistral/text/jinja/filters.hpp>
#include <mistral/text/jinja/methods.hpp>
#include <mistral/text/jinja/place.hpp>
#include <mistral/text/jinja/scope.hpp>
#include <mistral/text/jinja/syntax.hpp>
#include <mistral/text/jinja/tests.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The exception of a template's `raise_exception`: the template refuses what it was given.
class Raised : public Error {
 public:
  Raised(std::string_view where, std::string message)
      : Error("template", std::string(where) + ": " + message), message_(std::move(message)) {}

  /// The template's message, word for word.
  const std::string& message() const noexcept { return message_; }

 private:
  std::string message_;
};

/// Evaluates expressions. What a call of a macro or of a loop does is the interpreter's.
class Evaluator {
 protected:
  Evaluator(std::string_view name, const Limits& limits, const Moment& now)
      : name_(name), now_(now), budget_(limits), arena_(budget_), filters_(budget_) {}
  ~Evaluator() = default;

  using Kind = Expression::Kind;

  // What raise_exception throws before it is known where.
  struct RaisedFault {
    std::string message;
  };

  // Runs what stands at a place; what goes wrong there is said with it.
  template <class Run>
  auto at(Place place, Run&& run) {
    try {
      const Budget::Level level(budget_);
      return run();
    } catch (const Fault& fault) {
      throw template_error(name_, place, fault.what());
    } catch (RaisedFault& raised) {
      throw Raised(place_text(name_, place), std::move(raised.message));
    }
  }

  Value evaluate(const Expression& e, const Scope& scope) {
    return at(e.place, [&] {
      budget_.step();
      return value_of(e, scope);
    });
  }

  bool holds(const Expression& e, const Scope& scope) { return is_true(evaluate(e, scope)); }

  // The arguments of a call, a filter or a test: those behind the first operand.
  Arguments arguments_of(const Expression& e, const Scope& scope) {
    Arguments arguments;
    for (std::size_t i = 1; i < e.operands.size(); ++i) arguments.positional.push_back(evaluate(*e.operands[i], scope));
    for (const auto& [name, value] : e.named) arguments.named.emplace_back(name, evaluate(*value, scope));
    return arguments;
  }

  // A chain of filters on a text that a block made.
  Value filtered(const Expression& e, const Scope& scope, const Value& content) {
    const Value value = e.operands[0] == nullptr ? content : filtered(*e.operands[0], scope, content);
    return at(e.place, [&] { return filters_.apply(e.name, value, arguments_of(e, scope)); });
  }

  virtual Value call_macro(const Macro& macro, const Arguments& arguments) = 0;
  virtual Value call_loop(const Loop& loop, const Arguments& arguments) = 0;

  Value call(const Value& callee, const Arguments& arguments) {
    budget_.step();
    require_defined(callee);
    if (const Method* const method = callee.method()) {
      if (const auto* const loop = method->object.get<Loop*>()) return loop_method(**loop, method->name, arguments);
      return call_method(budget_, *method, arguments);
    }
    if (const auto* const macro = callee.get<const Macro*>()) return call_macro(**macro, arguments);
    if (const auto* const loop = callee.get<Loop*>()) return call_loop(**loop, arguments);
    if (const auto* const function = callee.get<Function>()) return call_function(*function, arguments);
    throw Fault(quoted_type(callee) + " object is not callable");
  }

  std::string_view name_;
  Moment now_;
  Budget budget_;
  Arena arena_;
  Filters filters_;

 private:
  Value value_of(const Expression& e, const Scope& scope) {
    const auto operand = [&](std::size_t i) { return evaluate(*e.operands[i], scope); };
    switch (e.kind) {
      case Kind::constant:
        return e.value;
      case Kind::name:
        if (const Value* const found = scope.find(budget_, e.name)) return *found;
        for (const std::string_view theirs : {"cycler", "joiner", "lipsum", "self", "super"}) {
          if (e.name == theirs) throw Fault("'" + e.name + "' is not supported");
        }
        return Value::undefined("'" + e.name + "' is undefined");
      case Kind::list:
      case Kind::tuple: {
        std::vector<Value> items;
        for (const Expression* const item : e.operands) items.push_back(evaluate(*item, scope));
        return make_list(budget_, std::move(items), e.kind == Kind::list ? List::Kind::list : List::Kind::tuple);
      }
      case Kind::dict:
        return dict_of(e, scope);
      case Kind::attribute:
        return attribute_of(operand(0), e.name);
      case Kind::item: {
        const Value object = operand(0), key = operand(1);
        if (key.text() != nullptr && (object.is<Namespace*>() || object.is<Loop*>()))
          return attribute_of(object, key.text()->bytes());
        Value found = item_of(budget_, object, key);
        const bool is_method = found.is_undefined() && key.text() != nullptr && has_method(object, key.text()->bytes());
        return is_method ? make_method(object, key.text()->bytes()) : found;
      }
      case Kind::slice: {
        const auto bound = [&](std::size_t i) {
          return e.operands[i] == nullptr ? Value(Value::NoneType{}) : operand(i);
        };
        const Value object = operand(0), begin = bound(1), end = bound(2);
        return slice_of(budget_, object, begin, end, bound(3));
      }
      case Kind::call: {
        const Value callee = operand(0);
        return call(callee, arguments_of(e, scope));
      }
      case Kind::filter: {
        const Value value = operand(0);
        return filters_.apply(e.name, value, arguments_of(e, scope));
      }
      case Kind::test: {
        const Value value = operand(0);
        return passes_test(budget_, e.name, value, arguments_of(e, scope));
      }
      case Kind::negation:
        return !is_true(operand(0));
      case Kind::minus:
      case Kind::plus:
        return signed_value(operand(0), e.kind == Kind::minus);
      case Kind::arithmetic: {
        const Value left = operand(0);
        return operate(budget_, e.sign, left, operand(1));
      }
      case Kind::concat: {
        Text out;
        for (const Expression* const part : e.operands) append_text(budget_, out, evaluate(*part, scope));
        return make_text(budget_, std::move(out));
      }
      case Kind::comparison:
        return compares(e, scope);
      case Kind::both: {
        Value left = operand(0);
        return is_true(left) ? operand(1) : left;
      }
      case Kind::either: {
        Value left = operand(0);
        return is_true(left) ? left : operand(1);
      }
      case Kind::conditional:
        if (holds(*e.operands[0], scope)) return operand(1);
        if (e.operands[2] != nullptr) return operand(2);
        return Value::undefined("the inline if-expression evaluated to false and no else section was defined");
    }
    return {};
  }

  Value dict_of(const Expression& e, const Scope& scope) {
    std::vector<std::pair<Value, Value>> items;
    for (std::size_t i = 0; i + 1 < e.operands.size(); i += 2) {
      Value key = evaluate(*e.operands[i], scope);
      put(items, std::move(key), evaluate(*e.operands[i + 1], scope));
    }
    return make_dict(budget_, std::move(items));
  }

  // A key that is there already keeps its place.
  void put(std::vector<std::pair<Value, Value>>& items, Value key, Value value) {
    if ((key.list() != nullptr && key.list()->kind == List::Kind::list) || key.dict() != nullptr) {
      throw Fault("unhashable type: " + quoted_type(key));
    }
    for (auto& [known, old] : items) {
      if (!equal(budget_, known, key)) continue;
      old = std::move(value);
      return;
    }
    items.emplace_back(std::move(key), std::move(value));
  }

  Value compares(const Expression& e, const Scope& scope) {
    Value left = evaluate(*e.operands[0], scope);
    for (std::size_t i = 0; i < e.comparisons.size(); ++i) {
      Value right = evaluate(*e.operands[i + 1], scope);
      if (!is_so(e.comparisons[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  bool is_so(Comparison comparison, const Value& left, const Value& right) {
    switch (comparison) {
      case Comparison::equal:
        return equal(budget_, left, right);
      case Comparison::unequal:
        return !equal(budget_, left, right);
      case Comparison::less:
        return compare(budget_, left, right, "<") < 0;
      case Comparison::less_equal:
        return compare(budget_, left, right, "<=") <= 0;
      case Comparison::greater:
        return compare(budget_, left, right, ">") > 0;
      case Comparison::greater_equal:
        return compare(budget_, left, right, ">=") >= 0;
      case Comparison::in:
        return contains(budget_, right, left);
      case Comparison::not_in:
        return !contains(budget_, right, left);
    }
    return false;
  }

  // What stands behind a point: a method, or else what stands in the data under that name. Nothing else is there.
  Value attribute_of(const Value& object, const std::string& name) {
    require_defined(object);
    if (const auto* const space = object.get<Namespace*>()) {
      for (const auto& [known, value] : (*space)->attributes) {
        budget_.step();
        if (known == name) return value;
      }
      return Value::undefined("'namespace' has no attribute '" + printable(name, 60) + "'");
    }
    if (const auto* const loop = object.get<Loop*>()) return loop_attribute(**loop, object, name);
    if (has_method(object, name)) return make_method(object, name);
    const bool is_group = object.list() != nullptr && object.list()->kind == List::Kind::group;
    if (object.dict() != nullptr || is_group) return item_of(budget_, object, Value(Text(name)));
    if (object.is<const Macro*>()) throw Fault("attributes of a macro are not supported");
    const bool is_none = object.is_none();
    return Value::undefined("'" + (is_none ? std::string("None") : std::string(type_name(object)) + " object") +
                            "' has no attribute '" + printable(name, 60) + "'");
  }

  Value loop_attribute(const Loop& loop, const Value& object, const std::string& name) {
    const auto count = [](std::size_t n) { return static_cast<std::int64_t>(n); };
    const std::size_t length = loop.items.size();
    if (name == "index") return count(loop.index + 1);
    if (name == "index0") return count(loop.index);
    if (name == "revindex") return count(length - loop.index);
    if (name == "revindex0") return count(length - loop.index - 1);
    if (name == "first") return loop.index == 0;
    if (name == "last") return loop.index + 1 == length;
    if (name == "length") return count(length);
    if (name == "depth") return count(loop.depth + 1);
    if (name == "depth0") return count(loop.depth);
    if (name == "previtem")
      return loop.index > 0 ? loop.items[loop.index - 1] : Value::undefined("there is no previous item");
    if (name == "nextitem")
      return loop.index + 1 < length ? loop.items[loop.index + 1] : Value::undefined("there is no next item");
    if (name == "cycle" || name == "changed") return make_method(object, name);
    return Value::undefined("'loop' has no attribute '" + printable(name, 60) + "'");
  }

  Value loop_method(Loop& loop, const std::string& name, const Arguments& arguments) {
    if (!arguments.named.empty()) throw Fault("loop." + name + ": expected no arguments with names");
    const std::vector<Value>& values = arguments.positional;
    if (name == "cycle") {
      if (values.empty()) throw Fault("no items for cycling given");
      return values[loop.index % values.size()];
    }
    const bool same = loop.has_changed_before && values.size() == loop.last_changed.size() &&
                      std::equal(values.begin(), values.end(), loop.last_changed.begin(),
                                 [&](const Value& a, const Value& b) { return equal(budget_, a, b); });
    budget_.take(values.size() * sizeof(Value));
    loop.has_changed_before = true;
    loop.last_changed = values;
    return !same;
  }

  Value call_function(Function function, const Arguments& arguments) {
    switch (function) {
      case Function::range:
        return range(arguments);
      case Function::dict:
        return new_dict(arguments);
      case Function::namespace_: {
        Namespace& made = arena_.new_namespace();
        const Value filled = new_dict(arguments);
        for (const auto& [key, value] : filled.dict()->items) {
          made.attributes.emplace_back(text_of(budget_, key).bytes(), value);
        }
        return &made;
      }
      case Function::raise_exception: {
        const Parameters p(arguments, "raise_exception", {"message"});
        throw RaisedFault{text_of(budget_, p.required(0)).bytes()};
      }
      case Function::strftime_now: {
        const Parameters p(arguments, "strftime_now", {"format"});
        const Text& format = p.text(0);
        budget_.take_text(16 * format.size());
        const bool own = format.runs().size() == 1 && format.runs()[0].mark.origin == 0;
        return make_text(budget_, Text(moment_text(now_, format.bytes()), own ? Mark{} : data_mark));
      }
    }
    return {};
  }

  Value range(const Arguments& arguments) {
    const Parameters p(arguments, "range", {"start", "stop", "step"});
    const std::int64_t begin = p.has(1) ? p.integer(0) : 0, end = p.integer(p.has(1) ? 1 : 0), step = p.integer(2, 1);
    if (step == 0) throw Fault("range() arg 3 must not be zero");
    std::vector<Value> items;
    const bool data = std::any_of(arguments.positional.begin(), arguments.positional.end(),
                                  [](const Value& v) { return v.is_data(); });
    for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
      if (items.size() == static_cast<std::size_t>(Limits::range)) {
        throw Fault("a range of more than " + std::to_string(Limits::range) + " elements");
      }
      budget_.step();
      items.push_back(Value::scalar(i, data));
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return make_list(budget_, std::move(items), List::Kind::range);
  }

  // A dict of a mapping or of pairs, and of arguments with names.
  Value new_dict(const Arguments& arguments) {
    if (arguments.positional.size() > 1)
      throw Fault("dict expected at most 1 argument, got " + std::to_string(arguments.positional.size()));
    std::vector<std::pair<Value, Value>> items;
    if (!arguments.positional.empty()) {
      const Value& from = arguments.positional[0];
      require_defined(from);
      if (from.dict() != nullptr) {
        items = from.dict()->items;
      } else {
        for (const Value& pair : elements_of(budget_, from)) {
          std::vector<Value> both = elements_of(budget_, pair);
          if (both.size() != 2) throw Fault("dict: expected pairs of a key and a value");
          put(items, std::move(both[0]), std::move(both[1]));
        }
      }
    }
    for (const auto& [name, value] : arguments.named) put(items, Value(Text(name)), value);
    return make_dict(budget_, std::move(items));
  }
};

}}}  // namespace mistral::jinja
