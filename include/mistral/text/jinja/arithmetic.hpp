// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/format_text.hpp>
#include <mistral/text/jinja/operators.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The arithmetic of `+`, `-` and others on two values.
enum class Operator { add, subtract, multiply, divide, floor_divide, modulo, power };

inline constexpr std::string_view operator_signs[] = {"+", "-", "*", "/", "//", "%", "**"};

/// Two integers' sum, difference, product, quotient that is rounded down, rest of that, or power. Throws Fault for a
/// result beyond 64 bits, and where the divisor is zero.
inline std::int64_t whole_result(Operator sign, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool beyond = false;
  switch (sign) {
    case Operator::add:
      beyond = __builtin_add_overflow(a, b, &result);
      break;
    case Operator::subtract:
      beyond = __builtin_sub_overflow(a, b, &result);
      break;
    case Operator::multiply:
      beyond = __builtin_mul_overflow(a, b, &result);
      break;
    case Operator::power:
      result = 1;
      for (std::int64_t base = a; !beyond && b > 0;) {  // b is not negative
        if (b % 2 == 1) beyond = __builtin_mul_overflow(result, base, &result);
        b /= 2;
        if (b > 0 && !beyond) beyond = __builtin_mul_overflow(base, base, &base);
      }
      break;
    default:
      if (b == 0) throw Fault("integer division or modulo by zero");
      if (b == -1) {  // the least number has no quotient by it
        beyond = sign == Operator::floor_divide && __builtin_sub_overflow(std::int64_t{0}, a, &result);
        break;
      }
      result = sign == Operator::floor_divide ? a / b : a % b;
      if (a % b != 0 && (a < 0) != (b < 0)) result += sign == Operator::floor_divide ? -1 : b;
  }
  if (beyond) throw Fault("an integer beyond 64 bits");
  return result;
}

inline double real_result(Operator sign, double a, double b) {
  switch (sign) {
    case Operator::add:
      return a + b;
    case Operator::subtract:
      return a - b;
    case Operator::multiply:
      return a * b;
    case Operator::power:
      if (a == 0.0 && b < 0.0) throw Fault("0.0 cannot be raised to a negative power");
      return std::pow(a, b);
    default:
      break;
  }
  if (b == 0.0) throw Fault("float division by zero");
  if (sign == Operator::divide) return a / b;
  double rest = std::fmod(a, b);
  if (rest != 0.0 && (rest < 0.0) != (b < 0.0)) rest += b;
  if (sign == Operator::modulo) return rest == 0.0 ? std::copysign(0.0, b) : rest;
  return std::floor((a - rest) / b + 0.5);  // the quotient is whole but for its rounding
}

/// A text or a list, so many times.
inline Value repeated(Budget& budget, const Value& value, std::int64_t times) {
  if (times < 0) times = 0;
  const auto count = static_cast<std::size_t>(times);
  if (const Text* const text = value.text()) {
    if (text->size() != 0 && count > budget.limits().output / text->size())
      budget.take_text(budget.limits().output + 1);
    budget.take_text(text->size() * count);
    budget.step(count * (text->runs().size() > 1 ? text->runs().size() : 0));
    Text out;
    out.reserve(text->size() * count);
    for (std::size_t i = 0; i < count && !text->empty(); ++i) out.append(*text);
    return Value(std::move(out));
  }
  const std::vector<Value>& items = value.list()->items;
  if (!items.empty()) budget.step(count);
  if (!items.empty())
    budget.take(items.size() * sizeof(Value) < (std::size_t{1} << 32) / (count + 1)
                    ? items.size() * sizeof(Value) * count
                    : budget.limits().bytes + 1);
  std::vector<Value> out;
  for (std::size_t i = 0; i < count && !items.empty(); ++i) out.insert(out.end(), items.begin(), items.end());
  return make_list(budget, std::move(out), value.list()->kind);
}

/// Returns the result of an operator on two values. Throws Fault where it makes nothing.
inline Value operate(Budget& budget, Operator sign, const Value& a, const Value& b) {
  budget.step();
  if (sign == Operator::modulo && a.text() != nullptr) return make_text(budget, percent_format(budget, *a.text(), b));
  require_defined(a);
  require_defined(b);
  const bool data = a.is_data() || b.is_data();
  const auto x = integer_of(a), y = integer_of(b);
  if (x && y && sign != Operator::divide && !(sign == Operator::power && *y < 0)) {
    return Value::scalar(whole_result(sign, *x, *y), data);
  }
  if (number_of(a) && number_of(b)) {
    const bool too_large = a.is<std::uint64_t>() || b.is<std::uint64_t>();
    if (too_large && is_whole(a) && is_whole(b) && sign != Operator::divide) throw Fault("an integer beyond 64 bits");
    return Value::scalar(real_result(sign, *number_of(a), *number_of(b)), data);
  }
  const auto is_sequence = [](const Value& value) {
    return value.text() != nullptr || (value.list() != nullptr && value.list()->kind <= List::Kind::group);
  };
  if (sign == Operator::multiply && is_sequence(a) && y) return repeated(budget, a, *y);
  if (sign == Operator::multiply && is_sequence(b) && x) return repeated(budget, b, *x);
  if (sign == Operator::add && a.text() != nullptr && b.text() != nullptr) {
    budget.take_text(a.text()->size() + b.text()->size());
    budget.step(a.text()->runs().size() + b.text()->runs().size());
    Text out;
    out.reserve(a.text()->size() + b.text()->size());
    out.append(*a.text());
    out.append(*b.text());
    return Value(std::move(out));
  }
  if (sign == Operator::add && a.list() != nullptr && is_sequence(a) && is_sequence(b) &&
      type_name(a) == type_name(b)) {
    std::vector<Value> items = a.list()->items;
    items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
    return make_list(budget, std::move(items), a.list()->kind);
  }
  throw Fault("unsupported operand type(s) for " + std::string(operator_signs[static_cast<std::size_t>(sign)]) + ": " +
              quoted_type(a) + " and " + quoted_type(b));
}

/// `-value`, or `+value`. Throws Fault for what is no number.
inline Value signed_value(const Value& value, bool negative) {
  require_defined(value);
  if (const auto integer = integer_of(value)) {
    return Value::scalar(negative ? whole_result(Operator::subtract, 0, *integer) : *integer, value.is_data());
  }
  if (const double* const real = value.get<double>()) return Value::scalar(negative ? -*real : *real, value.is_data());
  if (value.is<std::uint64_t>()) {
    if (!negative) return value;
    throw Fault("an integer beyond 64 bits");
  }
  throw Fault(std::string("bad operand type for unary ") + (negative ? "-" : "+") + ": " + quoted_type(value));
}

}}}  // namespace mistral::jinja
