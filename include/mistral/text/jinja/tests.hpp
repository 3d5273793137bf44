// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/arguments.hpp>
#include <mistral/text/jinja/arithmetic.hpp>
#include <mistral/text/jinja/methods.hpp>
#include <mistral/text/jinja/operators.hpp>
#include <mistral/text/jinja/text_operations.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// Whether two values are one, as Python's `is` has it for those that a template can tell apart.
inline bool is_same(Budget& budget, const Value& a, const Value& b) {
  if (a.variant().index() != b.variant().index()) return false;
  if (a.list() != nullptr) return a.list() == b.list();
  if (a.dict() != nullptr) return a.dict() == b.dict();
  return equal(budget, a, b);
}

/// Whether `value is name(arguments)`. Throws Fault for a test that isn't known, or doesn't fit.
inline bool passes_test(Budget& budget, std::string_view name, const Value& value, const Arguments& arguments) {
  budget.step();
  const auto parameters = [&](std::vector<std::string_view> names) {
    return Parameters(arguments, "the test '" + std::string(name) + "'", std::move(names));
  };
  const auto other = [&]() -> Value { return parameters({"other"}).required(0); };
  if (name == "eq" || name == "==" || name == "equalto") return equal(budget, value, other());
  if (name == "ne" || name == "!=") return !equal(budget, value, other());
  if (name == "lt" || name == "<" || name == "lessthan") return compare(budget, value, other(), "<") < 0;
  if (name == "le" || name == "<=") return compare(budget, value, other(), "<=") <= 0;
  if (name == "gt" || name == ">" || name == "greaterthan") return compare(budget, value, other(), ">") > 0;
  if (name == "ge" || name == ">=") return compare(budget, value, other(), ">=") >= 0;
  if (name == "in") return contains(budget, other(), value);
  if (name == "sameas") return is_same(budget, value, other());
  if (name == "divisibleby") {
    return is_true(
        equal(budget, operate(budget, Operator::modulo, value, parameters({"num"}).required(0)), std::int64_t{0}));
  }
  (void)parameters({});
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "boolean") return value.is<bool>();
  if (name == "true") return value.is<bool>() && is_true(value);
  if (name == "false") return value.is<bool>() && !is_true(value);
  if (name == "integer") return is_whole(value) && !value.is<bool>();
  if (name == "float") return value.is<double>();
  if (name == "number") return number_of(value).has_value();
  if (name == "string") return value.text() != nullptr;
  if (name == "mapping") return value.dict() != nullptr;
  if (name == "iterable") {
    return value.text() != nullptr || value.list() != nullptr || value.dict() != nullptr || value.is_undefined();
  }
  if (name == "sequence") {
    const bool iterator = value.list() != nullptr && value.list()->kind == List::Kind::iterator;
    return !iterator &&
           (value.text() != nullptr || value.list() != nullptr || value.dict() != nullptr || value.is_undefined());
  }
  if (name == "callable") {
    return value.method() != nullptr || value.is<const Macro*>() || value.is<Function>() || value.is<Loop*>() ||
           value.is_undefined();
  }
  if (name == "escaped") return false;
  if (name == "odd" || name == "even") {
    const Value rest = operate(budget, Operator::modulo, value, std::int64_t{2});
    return equal(budget, rest, std::int64_t{name == "odd" ? 1 : 0});
  }
  if (name == "lower" || name == "upper") {
    const Text text = text_of(budget, value);
    const Arguments none;
    return is_true(TextMethods(budget, text, name == "lower" ? "islower" : "isupper", none).call());
  }
  throw Fault("the test '" + printable(name, 40) + "' is not known");
}

}}}  // namespace mistral::jinja
