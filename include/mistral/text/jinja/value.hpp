// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/jinja/budget.hpp>
#include <mistral/text/jinja/text.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

struct List;
struct Dict;
struct Method;
struct Macro;      // the interpreter's, which owns them
struct Namespace;  // likewise
struct Loop;       // likewise

/// A function that every template may call.
enum class Function { range, dict, namespace_, raise_exception, strftime_now };

/// A value of a template: what Python has of it where it shows. Lists and dicts never change once they are made. A
/// number that data brought in is known for data too, since it may become part of a text.
class Value {
 public:
  /// No value: what isn't there, and what is said where it is used all the same.
  struct Undefined {
    std::shared_ptr<const std::string> what;
  };
  struct NoneType {};

  using Variant = std::variant<Undefined, NoneType, bool, std::int64_t, std::uint64_t, double,
                               std::shared_ptr<const Text>, std::shared_ptr<const List>, std::shared_ptr<const Dict>,
                               std::shared_ptr<const Method>, const Macro*, Namespace*, Loop*, Function>;

  Value() : Value(Undefined{}) {}
  template <class T>
  requires std::is_constructible_v<Variant, T&&> &&(!std::is_same_v<std::remove_cvref_t<T>, Value>)Value(T&& value)
      : variant_(std::forward<T>(value)) {}
  explicit Value(Text text) : variant_(std::make_shared<const Text>(std::move(text))) {}

  /// A number, true or false that is data's where `data` says so.
  template <class T>
  static Value scalar(T number, bool data) {
    Value value(number);
    value.data_ = data;
    return value;
  }

  static Value undefined(std::string what) { return Undefined{std::make_shared<const std::string>(std::move(what))}; }

  template <class T>
  bool is() const noexcept {
    return std::holds_alternative<T>(variant_);
  }
  template <class T>
  const T* get() const noexcept {
    return std::get_if<T>(&variant_);
  }

  bool is_undefined() const noexcept { return is<Undefined>(); }
  bool is_none() const noexcept { return is<NoneType>(); }
  /// The text, list, dict or method that it is, null where it is something else.
  ///@{
  const Text* text() const noexcept { return pointed<Text>(); }
  const List* list() const noexcept { return pointed<List>(); }
  const Dict* dict() const noexcept { return pointed<Dict>(); }
  const Method* method() const noexcept { return pointed<Method>(); }
  ///@}

  /// Whether it is a number that data brought in.
  bool is_data() const noexcept { return data_; }

  const Variant& variant() const noexcept { return variant_; }

  /// The message of an undefined value.
  std::string undefined_text() const {
    const auto* const undefined = get<Undefined>();
    return undefined != nullptr && undefined->what ? *undefined->what : "the value is undefined";
  }

 private:
  template <class T>
  const T* pointed() const noexcept {
    const auto* const pointer = std::get_if<std::shared_ptr<const T>>(&variant_);
    return pointer != nullptr ? pointer->get() : nullptr;
  }

  Variant variant_;
  bool data_ = false;
};

/// Elements in order.
struct List {
  /// How Python would hold them.
  enum class Kind {
    list,
    tuple,
    group,     ///< a pair of a groupby, whose parts have the names `grouper` and `list`
    range,     ///< without a text of its own
    iterator,  ///< likewise: what `map`, `select` and others give
  };
  std::vector<Value> items;
  Kind kind = Kind::list;
  std::size_t depth = 1;
};

/// Keys and values in the order in which they were put there.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  std::size_t depth = 1;

  /// The value of a key that is a text, null where there is none.
  const Value* find(std::string_view key) const noexcept {
    for (const auto& [name, value] : items) {
      if (name.text() != nullptr && name.text()->bytes() == key) return &value;
    }
    return nullptr;
  }
};

/// A method of a value, which is called later.
struct Method {
  Value object;
  std::string name;
};

inline std::size_t depth_of(const Value& value) noexcept {
  if (const List* const list = value.list()) return list->depth;
  if (const Dict* const dict = value.dict()) return dict->depth;
  if (const Method* const method = value.method()) return depth_of(method->object);
  return 0;
}

inline std::size_t one_deeper(std::size_t depth) {
  if (depth >= Limits::nesting) {
    throw Fault("lists and dicts nested deeper than " + std::to_string(Limits::nesting) + " levels");
  }
  return depth + 1;
}

inline Value make_list(Budget& budget, std::vector<Value> items, List::Kind kind = List::Kind::list) {
  budget.take(sizeof(List) + items.size() * sizeof(Value));
  std::size_t depth = 0;
  for (const Value& item : items) depth = (std::max)(depth, depth_of(item));
  return std::make_shared<const List>(List{std::move(items), kind, one_deeper(depth)});
}

/// A dict of keys that differ from each other.
inline Value make_dict(Budget& budget, std::vector<std::pair<Value, Value>> items) {
  budget.take(sizeof(Dict) + items.size() * 2 * sizeof(Value));
  std::size_t depth = 0;
  for (const auto& [key, value] : items) depth = (std::max)({depth, depth_of(key), depth_of(value)});
  return std::make_shared<const Dict>(Dict{std::move(items), one_deeper(depth)});
}

inline Value make_text(Budget& budget, Text text) {
  budget.take_text(text.size());
  return Value(std::move(text));
}

inline Value make_method(const Value& object, std::string_view name) {
  (void)one_deeper(depth_of(object));
  return std::make_shared<const Method>(Method{object, std::string(name)});
}

/// `bytes` with U+FFFD for each byte that belongs to no character.
inline std::string well_formed(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const std::size_t length = detail::utf8_character(bytes);
    out += length > 0 ? bytes.substr(0, length) : detail::replacement_character;
    bytes.remove_prefix(length > 0 ? length : 1);
  }
  return out;
}

/// A text that data brings in.
inline Value data_text(std::string_view bytes, Mark mark = data_mark) { return Value(Text(well_formed(bytes), mark)); }

/// A text of the template's own, or of whom it trusts as itself, such as `bos_token`.
inline Value own_text(std::string_view bytes) { return Value(Text(well_formed(bytes))); }

/// The variables that a template is rendered with.
class Variables {
 public:
  /// Puts a variable there, in place of one of that name.
  void set(std::string_view name, Value value) {
    for (auto& [known, old] : items_) {
      if (known.text()->bytes() != name) continue;
      old = std::move(value);
      return;
    }
    items_.emplace_back(own_text(name), std::move(value));
  }

  /// Puts all there that a dict holds.
  void set_all(const Dict& dict) {
    for (const auto& [name, value] : dict.items) set(name.text()->bytes(), value);
  }

  Value dict() const {
    Budget budget({.steps = UINT64_MAX, .bytes = SIZE_MAX, .output = SIZE_MAX});
    return make_dict(budget, items_);
  }

 private:
  std::vector<std::pair<Value, Value>> items_;
};

/// Returns Python's name of a value's type.
inline std::string_view type_name(const Value& value) noexcept {
  struct Names {
    std::string_view operator()(const Value::Undefined&) const { return "Undefined"; }
    std::string_view operator()(const Value::NoneType&) const { return "NoneType"; }
    std::string_view operator()(bool) const { return "bool"; }
    std::string_view operator()(std::int64_t) const { return "int"; }
    std::string_view operator()(std::uint64_t) const { return "int"; }
    std::string_view operator()(double) const { return "float"; }
    std::string_view operator()(const std::shared_ptr<const Text>&) const { return "str"; }
    std::string_view operator()(const std::shared_ptr<const List>& list) const {
      switch (list->kind) {
        case List::Kind::list:
          return "list";
        case List::Kind::range:
          return "range";
        case List::Kind::iterator:
          return "generator";
        default:
          return "tuple";
      }
    }
    std::string_view operator()(const std::shared_ptr<const Dict>&) const { return "dict"; }
    std::string_view operator()(const std::shared_ptr<const Method>&) const { return "method"; }
    std::string_view operator()(const Macro*) const { return "Macro"; }
    std::string_view operator()(Namespace*) const { return "Namespace"; }
    std::string_view operator()(Loop*) const { return "LoopContext"; }
    std::string_view operator()(Function) const { return "function"; }
  };
  return std::visit(Names{}, value.variant());
}

inline std::string quoted_type(const Value& value) { return "'" + std::string(type_name(value)) + "'"; }

/// Throws the Fault of an undefined value that is used where it can't be.
inline void require_defined(const Value& value) {
  if (value.is_undefined()) throw Fault(value.undefined_text());
}

}}}  // namespace mistral::jinja
