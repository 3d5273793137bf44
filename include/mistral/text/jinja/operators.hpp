// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/characters.hpp>
#include <mistral/text/jinja/python_text.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// Whether `if` takes a value for true: what isn't empty, nothing, or zero.
inline bool is_true(const Value& value) noexcept {
  if (value.is_undefined() || value.is_none()) return false;
  if (const bool* const truth = value.get<bool>()) return *truth;
  if (const auto* const integer = value.get<std::int64_t>()) return *integer != 0;
  if (const double* const real = value.get<double>()) return *real != 0.0;
  if (const Text* const text = value.text()) return !text->empty();
  if (const List* const list = value.list()) return list->kind == List::Kind::iterator || !list->items.empty();
  if (const Dict* const dict = value.dict()) return !dict->items.empty();
  return true;
}

/// The integer that a value is, true being 1; none for another type, or beyond 64 bits.
inline std::optional<std::int64_t> integer_of(const Value& value) noexcept {
  if (const auto* const integer = value.get<std::int64_t>()) return *integer;
  if (const bool* const truth = value.get<bool>()) return *truth ? 1 : 0;
  return std::nullopt;
}

/// The number that a value is, true being 1; none for another type.
inline std::optional<double> number_of(const Value& value) noexcept {
  if (const auto integer = integer_of(value)) return static_cast<double>(*integer);
  if (const auto* const natural = value.get<std::uint64_t>()) return static_cast<double>(*natural);
  if (const double* const real = value.get<double>()) return *real;
  return std::nullopt;
}

/// Whether a value is an integer, of whatever size; true and false are.
inline bool is_whole(const Value& value) noexcept {
  return value.is<std::int64_t>() || value.is<bool>() || value.is<std::uint64_t>();
}

/// Orders two numbers; unordered where one is NaN.
inline std::partial_ordering compare_numbers(const Value& a, const Value& b) noexcept {
  const auto x = integer_of(a), y = integer_of(b);
  if (x && y) return *x <=> *y;
  const auto* const big = a.get<std::uint64_t>();
  const auto* const other = b.get<std::uint64_t>();
  if (big != nullptr && other != nullptr) return *big <=> *other;
  if (big != nullptr && y) return std::partial_ordering::greater;  // above all that 63 bits hold
  if (other != nullptr && x) return std::partial_ordering::less;
  return *number_of(a) <=> *number_of(b);
}

/// Whether two values are equal, as Python's == has it: 1 is 1.0 and true.
inline bool equal(Budget& budget, const Value& a, const Value& b) {
  budget.step();
  if (number_of(a) && number_of(b)) return compare_numbers(a, b) == std::partial_ordering::equivalent;
  if (a.text() != nullptr && b.text() != nullptr) {
    if (a.text()->size() != b.text()->size()) return false;
    budget.look(a.text()->size());
    return a.text()->bytes() == b.text()->bytes();
  }
  if (a.list() != nullptr && b.list() != nullptr) {
    const auto &x = *a.list(), &y = *b.list();
    if (type_name(a) != type_name(b) || x.items.size() != y.items.size()) return false;
    for (std::size_t i = 0; i < x.items.size(); ++i) {
      if (!equal(budget, x.items[i], y.items[i])) return false;
    }
    return true;
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    for (const auto& item : a.dict()->items) {
      const auto& others = b.dict()->items;
      const auto found = std::find_if(others.begin(), others.end(),
                                      [&](const auto& other) { return equal(budget, item.first, other.first); });
      if (found == others.end() || !equal(budget, item.second, found->second)) return false;
    }
    return true;
  }
  if (a.is_undefined() && b.is_undefined()) return true;
  if (a.is_none() && b.is_none()) return true;
  if (a.is<Namespace*>() && b.is<Namespace*>()) return *a.get<Namespace*>() == *b.get<Namespace*>();
  if (a.is<Loop*>() && b.is<Loop*>()) return *a.get<Loop*>() == *b.get<Loop*>();
  if (a.is<const Macro*>() && b.is<const Macro*>()) return *a.get<const Macro*>() == *b.get<const Macro*>();
  return false;
}

/// Orders two values as `sign`, one of Python's `<`, `<=`, `>` and `>=`, does. Throws Fault for types that have no
/// order.
inline std::partial_ordering compare(Budget& budget, const Value& a, const Value& b, std::string_view sign) {
  budget.step();
  require_defined(a);
  require_defined(b);
  if (number_of(a) && number_of(b)) return compare_numbers(a, b);
  if (a.text() != nullptr && b.text() != nullptr) {
    budget.look((std::min)(a.text()->size(), b.text()->size()));
    return a.text()->bytes().compare(b.text()->bytes()) <=> 0;  // UTF-8 sorts as its characters do
  }
  if (a.list() != nullptr && b.list() != nullptr && type_name(a) == type_name(b)) {
    const auto &x = a.list()->items, &y = b.list()->items;
    for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal(budget, x[i], y[i])) return compare(budget, x[i], y[i], sign);
    }
    return x.size() <=> y.size();
  }
  throw Fault("'" + std::string(sign) + "' not supported between instances of " + quoted_type(a) + " and " +
              quoted_type(b));
}

/// The value of a key, null where the dict has none of it. Throws Fault for a key that can be none.
inline const Value* find(Budget& budget, const Dict& dict, const Value& key) {
  if (key.list() != nullptr && key.list()->kind == List::Kind::list) throw Fault("unhashable type: 'list'");
  if (key.dict() != nullptr) throw Fault("unhashable type: 'dict'");
  if (key.text() != nullptr) {
    budget.step(1 + dict.items.size() / 8);
    budget.look(key.text()->size());
    return dict.find(key.text()->bytes());
  }
  for (const auto& [name, value] : dict.items) {
    if (equal(budget, name, key)) return &value;
  }
  return nullptr;
}

/// Where `wanted` stands in `text` from `from` on. The steps are those of the worst case.
inline std::size_t find_in(Budget& budget, std::string_view text, std::string_view wanted, std::size_t from = 0) {
  if (from > text.size()) return std::string_view::npos;
  budget.step(1 + (text.size() - from) / 64 * (std::min)(wanted.size() + 1, text.size()));
  return text.find(wanted, from);
}

/// Whether `in` finds a value in another. Throws Fault where nothing can be looked for.
inline bool contains(Budget& budget, const Value& container, const Value& wanted) {
  if (container.is_undefined()) return false;
  if (const Text* const text = container.text()) {
    if (wanted.text() == nullptr) {
      throw Fault("'in <string>' requires string as left operand, not " + std::string(type_name(wanted)));
    }
    return find_in(budget, text->bytes(), wanted.text()->bytes()) != std::string::npos;
  }
  if (const Dict* const dict = container.dict()) return find(budget, *dict, wanted) != nullptr;
  if (const List* const list = container.list()) {
    return std::any_of(list->items.begin(), list->items.end(),
                       [&](const Value& item) { return equal(budget, item, wanted); });
  }
  throw Fault("argument of type " + quoted_type(container) + " is not iterable");
}

/// The elements that a loop goes through: a list's, a dict's keys, a text's characters, none of what is undefined.
/// Throws Fault for what has no elements.
inline std::vector<Value> elements_of(Budget& budget, const Value& value) {
  std::vector<Value> elements;
  if (const List* const list = value.list()) {
    budget.take(list->items.size() * sizeof(Value));
    return list->items;
  }
  if (const Dict* const dict = value.dict()) {
    budget.take(dict->items.size() * sizeof(Value));
    for (const auto& item : dict->items) elements.push_back(item.first);
    return elements;
  }
  if (const Text* const text = value.text()) {
    for (std::size_t at = 0; at < text->size();) {
      const std::size_t length = character_length(text->bytes(), at);
      budget.step();
      budget.take(sizeof(Value) + sizeof(Text) + sizeof(Text::Run));
      elements.push_back(Value(text->slice(at, at + length)));
      at += length;
    }
    return elements;
  }
  if (!value.is_undefined()) throw Fault(quoted_type(value) + " object is not iterable");
  return elements;
}

/// The number of elements. Throws Fault for what has none.
inline std::int64_t length_of(Budget& budget, const Value& value) {
  if (value.is_undefined()) return 0;
  if (const Text* const text = value.text()) {
    budget.look(text->size());
    return static_cast<std::int64_t>(character_count(text->bytes()));
  }
  if (const List* const list = value.list()) return static_cast<std::int64_t>(list->items.size());
  if (const Dict* const dict = value.dict()) return static_cast<std::int64_t>(dict->items.size());
  throw Fault("object of type " + quoted_type(value) + " has no len()");
}

/// Where the `index`-th character of a text begins; its size for the one behind the last.
inline std::size_t byte_of_character(Budget& budget, std::string_view text, std::int64_t index) {
  budget.look(text.size());
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) at += character_length(text, at);
  return at;
}

/// An element by its index, of the end where that is negative; undefined where there is none.
inline Value element_at(Budget& budget, const Value& value, std::int64_t index) {
  const std::int64_t length = length_of(budget, value);
  const std::int64_t at = index < 0 ? index + length : index;
  if (at < 0 || at >= length) {
    return Value::undefined(std::string(type_name(value)) + " object has no element " + std::to_string(index));
  }
  if (const List* const list = value.list()) return list->items[static_cast<std::size_t>(at)];
  const Text& text = *value.text();
  const std::size_t begin = byte_of_character(budget, text.bytes(), at);
  return make_text(budget, text.slice(begin, begin + character_length(text.bytes(), begin)));
}

/// Returns what brackets choose: a dict's value of that key, an element of a list or a text. Undefined where there is
/// none.
inline Value item_of(Budget& budget, const Value& value, const Value& key) {
  require_defined(value);
  if (const List* const list = value.list();
      list != nullptr && list->kind == List::Kind::group && key.text() != nullptr) {
    if (key.text()->bytes() == "grouper") return list->items[0];
    if (key.text()->bytes() == "list") return list->items[1];
  }
  if (const Dict* const dict = value.dict()) {
    if (const Value* const found = find(budget, *dict, key)) return *found;
    if (const Text* const name = key.text()) {
      return Value::undefined("'dict object' has no attribute '" + printable(name->bytes(), 60) + "'");
    }
    return Value::undefined("'dict object' has no such element");
  }
  if (value.list() != nullptr || value.text() != nullptr) {
    if (const auto index = integer_of(key)) return element_at(budget, value, *index);
  }
  if (const Text* const name = key.text()) {
    return Value::undefined("'" + std::string(type_name(value)) + " object' has no attribute '" +
                            printable(name->bytes(), 60) + "'");
  }
  return Value::undefined("'" + std::string(type_name(value)) + " object' has no such element");
}

/// Python's value[begin:end:step], where any of the three may be None. Throws Fault for what has no slices.
inline Value slice_of(Budget& budget, const Value& value, const Value& begin, const Value& end, const Value& step) {
  require_defined(value);
  if (value.list() == nullptr && value.text() == nullptr) throw Fault(quoted_type(value) + " object has no slices");
  const auto index = [](const Value& bound) -> std::optional<std::int64_t> {
    if (bound.is_none()) return std::nullopt;
    if (const auto integer = integer_of(bound)) return integer;
    require_defined(bound);
    throw Fault("slice indices must be integers or None");
  };
  const std::int64_t by = index(step).value_or(1);
  if (by == 0) throw Fault("slice step cannot be zero");
  const std::int64_t length = length_of(budget, value);
  const auto bound = [&](const Value& given, std::int64_t otherwise) {
    const auto at = index(given);
    if (!at) return otherwise;
    const std::int64_t least = by > 0 ? 0 : -1, most = by > 0 ? length : length - 1;
    return std::clamp(*at < 0 ? (std::max)(*at, -length - 1) + length : *at, least, most);
  };
  const std::int64_t from = bound(begin, by > 0 ? 0 : length - 1), to = bound(end, by > 0 ? length : -1);
  // the distance as an unsigned number, for a step may be as small as there is
  const std::uint64_t distance = by > 0 ? (to > from ? static_cast<std::uint64_t>(to - from) : 0)
                                        : (from > to ? static_cast<std::uint64_t>(from - to) : 0);
  const std::uint64_t stride = by > 0 ? static_cast<std::uint64_t>(by) : 0 - static_cast<std::uint64_t>(by);
  const std::size_t count = static_cast<std::size_t>(distance / stride + (distance % stride != 0));
  const auto place = [&](std::size_t i) {
    const std::uint64_t moved = static_cast<std::uint64_t>(i) * stride;
    return static_cast<std::size_t>(by > 0 ? static_cast<std::uint64_t>(from) + moved
                                           : static_cast<std::uint64_t>(from) - moved);
  };
  budget.step(1 + count);
  if (const List* const list = value.list()) {
    std::vector<Value> items;
    for (std::size_t i = 0; i < count; ++i) items.push_back(list->items[place(i)]);
    const bool tuple = list->kind == List::Kind::tuple || list->kind == List::Kind::group;
    return make_list(budget, std::move(items), tuple ? List::Kind::tuple : List::Kind::list);
  }
  const Text& text = *value.text();
  if (by == 1) {
    const std::size_t first = byte_of_character(budget, text.bytes(), from);
    const std::size_t size =
        byte_of_character(budget, std::string_view(text.bytes()).substr(first), static_cast<std::int64_t>(count));
    return make_text(budget, text.slice(first, first + size));
  }
  std::vector<std::size_t> begins;
  budget.take(static_cast<std::size_t>(length) * sizeof(std::size_t));
  for (std::size_t at = 0; at < text.size(); at += character_length(text.bytes(), at)) begins.push_back(at);
  Text out;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = begins[place(i)];
    out.append(text, at, at + character_length(text.bytes(), at));
  }
  return make_text(budget, std::move(out));
}

}}}  // namespace mistral::jinja
