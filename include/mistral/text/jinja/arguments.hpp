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
#include <mistral/text/jinja/operators.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The arguments of a function, a filter or a test.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Arguments as the parameters that they are for. Every function throws Fault for an argument of a wrong type.
class Parameters {
 public:
  /// Throws Fault for arguments that aren't among the names.
  ///   what   is called, for messages
  ///   names  of the parameters in order
  Parameters(const Arguments& arguments, std::string what, std::vector<std::string_view> names)
      : what_(std::move(what)), names_(std::move(names)), values_(names_.size()) {
    if (arguments.positional.size() > names_.size()) {
      throw Fault(what_ + ": expected at most " + std::to_string(names_.size()) + " arguments, got " +
                  std::to_string(arguments.positional.size()));
    }
    for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
    for (const auto& [name, value] : arguments.named) {
      const auto found = std::find(names_.begin(), names_.end(), name);
      if (found == names_.end()) throw Fault(what_ + ": no argument is called '" + name + "'");
      const Value*& place = values_[static_cast<std::size_t>(found - names_.begin())];
      if (place != nullptr) throw Fault(what_ + ": the argument '" + name + "' is given twice");
      place = &value;
    }
  }

  bool has(std::size_t i) const noexcept { return values_[i] != nullptr; }

  /// The argument. Throws Fault where it isn't given.
  const Value& required(std::size_t i) const {
    if (values_[i] == nullptr) throw Fault(what_ + ": the argument '" + std::string(names_[i]) + "' is missing");
    return *values_[i];
  }

  Value get(std::size_t i, Value otherwise) const { return has(i) ? *values_[i] : otherwise; }

  bool truth(std::size_t i, bool otherwise) const { return has(i) ? is_true(*values_[i]) : otherwise; }

  std::int64_t integer(std::size_t i, std::int64_t otherwise) const { return has(i) ? integer(i) : otherwise; }

  std::int64_t integer(std::size_t i) const {
    if (const auto integer = integer_of(required(i))) return *integer;
    require_defined(required(i));
    throw unexpected(i, "an integer");
  }

  /// The argument as a text; null where it isn't given, or None.
  const Text* optional_text(std::size_t i) const {
    if (!has(i) || values_[i]->is_none()) return nullptr;
    return &text(i);
  }

  const Text& text(std::size_t i) const {
    require_defined(required(i));
    if (required(i).text() == nullptr) throw unexpected(i, "a string");
    return *required(i).text();
  }

 private:
  Fault unexpected(std::size_t i, std::string_view expected) const {
    return Fault(what_ + ": argument '" + std::string(names_[i]) + "': expected " + std::string(expected) + ", got " +
                 std::string(type_name(*values_[i])));
  }

  std::string what_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}}}  // namespace mistral::jinja
