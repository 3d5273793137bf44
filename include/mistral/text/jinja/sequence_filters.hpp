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
#include <mistral/core/printable.hpp>
#include <mistral/text/jinja/arguments.hpp>
#include <mistral/text/jinja/arithmetic.hpp>
#include <mistral/text/jinja/methods.hpp>
#include <mistral/text/jinja/operators.hpp>
#include <mistral/text/jinja/tests.hpp>
#include <mistral/text/jinja/text_operations.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The filters that go through the elements of a list, a dict or a text. `Filters` are all filters, which `map` calls.
template <class Filters>
class SequenceFilters {
 public:
  SequenceFilters(Budget& budget, Filters& filters) : budget_(budget), filters_(filters) {}

  /// Returns the value of `value|name(arguments)`. Throws Fault for a filter that isn't known, or doesn't fit.
  Value apply(const std::string& name, const Value& value, const Arguments& arguments) {
    const auto parameters = [&](std::vector<std::string_view> names) {
      return Parameters(arguments, "the filter '" + name + "'", std::move(names));
    };
    if (name == "map") return mapped(value, arguments);
    if (name == "select" || name == "reject") return selected(value, arguments, name == "select", false);
    if (name == "selectattr" || name == "rejectattr") return selected(value, arguments, name == "selectattr", true);
    if (name == "join") return joined(value, parameters({"d", "attribute"}));
    if (name == "sort") return sorted(value, parameters({"reverse", "case_sensitive", "attribute"}));
    if (name == "dictsort") return sorted_dict(value, parameters({"case_sensitive", "by", "reverse"}));
    if (name == "unique") return unique(value, parameters({"case_sensitive", "attribute"}));
    if (name == "min" || name == "max")
      return extreme(value, parameters({"case_sensitive", "attribute"}), name == "max");
    if (name == "sum") return sum(value, parameters({"attribute", "start"}));
    if (name == "groupby") return grouped(value, parameters({"attribute", "default", "case_sensitive"}));
    if (name == "batch") return batches(value, parameters({"linecount", "fill_with"}));
    if (name == "slice") return slices(value, parameters({"slices", "fill_with"}));
    if (name == "attr") {
      const Text& attribute = parameters({"name"}).text(0);
      if (has_method(value, attribute.bytes())) return make_method(value, attribute.bytes());
      return Value::undefined("'" + std::string(type_name(value)) + " object' has no attribute '" +
                              printable(attribute.bytes(), 60) + "'");
    }
    const bool plain = name == "list" || name == "first" || name == "last" || name == "reverse";
    if (!plain) throw Fault("the filter '" + printable(name, 40) + "' is not known");
    (void)parameters({});
    if (name == "reverse" && value.text() != nullptr) {
      return slice_of(budget_, value, Value::NoneType{}, Value::NoneType{}, std::int64_t{-1});
    }
    std::vector<Value> elements = elements_of(budget_, value);
    if (name == "list") return make_list(budget_, std::move(elements));
    if (name == "reverse") {
      std::reverse(elements.begin(), elements.end());
      return make_list(budget_, std::move(elements), List::Kind::iterator);
    }
    if (elements.empty()) return Value::undefined("No " + name + " item, sequence was empty.");
    return name == "first" ? elements.front() : elements.back();
  }

 private:
  // An attribute as the filters' argument names it: `a.b.0`, or an index.
  Value attribute_of(const Value& element, const Value& attribute) const {
    if (const auto index = integer_of(attribute)) return item_of(budget_, element, *index);
    if (attribute.text() == nullptr) throw Fault("attribute: expected a string or an integer");
    Value value = element;
    const std::string& path = attribute.text()->bytes();
    for (std::size_t begin = 0; begin <= path.size();) {
      budget_.look(path.size());
      const std::size_t end = (std::min)(path.find('.', begin), path.size());
      const std::string part = path.substr(begin, end - begin);
      const bool number =
          !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
      value = item_of(budget_, value, number ? Value(static_cast<std::int64_t>(std::stol(part))) : Value(Text(part)));
      begin = end + 1;
    }
    return value;
  }

  // An element, or its attribute where the parameter `i` names one; `otherwise`, if that is given, where it has none.
  Value key_of(const Value& element, const Parameters& p, std::size_t i, const Value* otherwise = nullptr) const {
    budget_.step();
    if (!p.has(i) || p.required(i).is_none()) return element;
    Value value = attribute_of(element, p.required(i));
    return value.is_undefined() && otherwise != nullptr ? *otherwise : value;
  }

  Value without_case(Value value, bool case_sensitive) const {
    if (case_sensitive || value.text() == nullptr) return value;
    return make_text(budget_, lower_text(budget_, *value.text()));
  }

  Value mapped(const Value& value, const Arguments& arguments) {
    std::vector<Value> out;
    // none, 0 and false have no elements for these filters
    const std::vector<Value> elements = is_true(value) ? elements_of(budget_, value) : std::vector<Value>();
    if (arguments.positional.empty()) {
      const Parameters p(arguments, "the filter 'map'", {"attribute", "default"});
      if (!p.has(0)) throw Fault("map requires a filter argument");
      const Value otherwise = p.get(1, {});
      for (const Value& element : elements) out.push_back(key_of(element, p, 0, p.has(1) ? &otherwise : nullptr));
    } else {
      const auto [name, rest] = function_in(arguments, 0);
      for (const Value& element : elements) out.push_back(filters_.apply(name, element, rest));
    }
    return make_list(budget_, std::move(out), List::Kind::iterator);
  }

  // The name of a filter or a test, and its arguments, that stand behind others.
  static std::pair<std::string, Arguments> function_in(const Arguments& arguments, std::size_t at) {
    const Text* const name = arguments.positional[at].text();
    if (name == nullptr) throw Fault("expected the name of a filter or a test");
    Arguments rest;
    rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(at) + 1,
                           arguments.positional.end());
    rest.named = arguments.named;
    return {name->bytes(), std::move(rest)};
  }

  Value selected(const Value& value, const Arguments& arguments, bool wanted, bool by_attribute) {
    if (by_attribute && arguments.positional.empty()) throw Fault("Missing parameter for attribute name");
    const std::size_t at = by_attribute ? 1 : 0;
    const bool tested = arguments.positional.size() > at;
    const auto [test, rest] = tested ? function_in(arguments, at) : std::pair<std::string, Arguments>{};
    std::vector<Value> out;
    if (!is_true(value))
      return make_list(budget_, {}, List::Kind::iterator);  // none, 0 and false have no elements here
    for (const Value& element : elements_of(budget_, value)) {
      budget_.step();
      const Value looked_at = by_attribute ? attribute_of(element, arguments.positional[0]) : element;
      if ((tested ? passes_test(budget_, test, looked_at, rest) : is_true(looked_at)) == wanted) out.push_back(element);
    }
    return make_list(budget_, std::move(out), List::Kind::iterator);
  }

  Value joined(const Value& value, const Parameters& p) {
    const Text between = p.has(0) ? text_of(budget_, p.required(0)) : Text();
    const Value separator(between);
    Text out;
    bool first = true;
    for (const Value& element : elements_of(budget_, value)) {
      if (!first) append_text(budget_, out, separator);
      append_text(budget_, out, key_of(element, p, 1));
      first = false;
    }
    return make_text(budget_, std::move(out));
  }

  // Elements in order of their keys; equal ones stay as they were.
  void sort(std::vector<std::pair<Value, Value>>& keyed, bool descending) const {
    budget_.take(keyed.size() * sizeof(keyed[0]));
    std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
      return descending ? compare(budget_, b.first, a.first, "<") < 0 : compare(budget_, a.first, b.first, "<") < 0;
    });
  }

  std::vector<std::pair<Value, Value>> keyed_elements(const Value& value, const Parameters& p, std::size_t attribute,
                                                      bool case_sensitive, const Value* otherwise = nullptr) const {
    std::vector<std::pair<Value, Value>> keyed;
    for (const Value& element : elements_of(budget_, value)) {
      keyed.emplace_back(without_case(key_of(element, p, attribute, otherwise), case_sensitive), element);
    }
    return keyed;
  }

  Value sorted(const Value& value, const Parameters& p) {
    auto keyed = keyed_elements(value, p, 2, p.truth(1, false));
    const Text* const attribute = p.optional_text(2);
    if (attribute != nullptr && attribute->bytes().find(',') != std::string::npos) {
      throw Fault("sort by several attributes is not supported");
    }
    sort(keyed, p.truth(0, false));
    std::vector<Value> out;
    for (auto& element : keyed) out.push_back(std::move(element.second));
    return make_list(budget_, std::move(out));
  }

  Value sorted_dict(const Value& value, const Parameters& p) {
    require_defined(value);
    if (value.dict() == nullptr) throw Fault("dictsort: expected a mapping, got " + std::string(type_name(value)));
    const std::string by = p.has(1) ? p.text(1).bytes() : "key";
    if (by != "key" && by != "value") throw Fault("You can only sort by either \"key\" or \"value\"");
    std::vector<std::pair<Value, Value>> keyed;
    for (const auto& [key, content] : value.dict()->items) {
      keyed.emplace_back(without_case(by == "key" ? key : content, p.truth(0, false)),
                         make_list(budget_, {key, content}, List::Kind::tuple));
    }
    sort(keyed, p.truth(2, false));
    std::vector<Value> out;
    for (auto& element : keyed) out.push_back(std::move(element.second));
    return make_list(budget_, std::move(out));
  }

  Value unique(const Value& value, const Parameters& p) {
    std::vector<Value> seen, out;
    for (const auto& keyed : keyed_elements(value, p, 1, p.truth(0, false))) {
      const auto is_it = [&](const Value& other) { return equal(budget_, other, keyed.first); };
      if (std::any_of(seen.begin(), seen.end(), is_it)) continue;
      seen.push_back(keyed.first);
      out.push_back(keyed.second);
    }
    return make_list(budget_, std::move(out), List::Kind::iterator);
  }

  Value extreme(const Value& value, const Parameters& p, bool greatest) {
    const auto keyed = keyed_elements(value, p, 1, p.truth(0, false));
    if (keyed.empty()) return Value::undefined("No aggregated item, sequence was empty.");
    auto best = keyed.begin();
    for (auto it = keyed.begin() + 1; it != keyed.end(); ++it) {
      const bool better = greatest ? compare(budget_, it->first, best->first, ">") > 0
                                   : compare(budget_, it->first, best->first, "<") < 0;
      if (better) best = it;
    }
    return best->second;
  }

  Value sum(const Value& value, const Parameters& p) {
    Value total = p.get(1, std::int64_t{0});
    for (const Value& element : elements_of(budget_, value)) {
      if (total.text() != nullptr) throw Fault("sum() can't sum strings");
      total = operate(budget_, Operator::add, total, key_of(element, p, 0));
    }
    return total;
  }

  Value grouped(const Value& value, const Parameters& p) {
    (void)p.required(0);
    const Value otherwise = p.get(1, {});
    const bool case_sensitive = p.truth(2, false);
    auto keyed = keyed_elements(value, p, 0, case_sensitive, p.has(1) ? &otherwise : nullptr);
    sort(keyed, false);
    std::vector<Value> groups;
    for (std::size_t begin = 0; begin < keyed.size();) {
      std::vector<Value> members;
      std::size_t end = begin;
      for (; end < keyed.size() && equal(budget_, keyed[begin].first, keyed[end].first); ++end)
        members.push_back(keyed[end].second);
      if (end == begin) ++end;  // NaN is not equal to itself
      // a group has the key of its first member as that spells it
      const Value key = key_of(keyed[begin].second, p, 0, p.has(1) ? &otherwise : nullptr);
      groups.push_back(make_list(budget_, {key, make_list(budget_, std::move(members))}, List::Kind::group));
      begin = end;
    }
    return make_list(budget_, std::move(groups));
  }

  Value batches(const Value& value, const Parameters& p) {
    const std::int64_t size = p.integer(0);
    if (size < 1) throw Fault("batch: expected at least 1 element, got " + std::to_string(size));
    const auto most = static_cast<std::size_t>(size);
    std::vector<Value> out, batch;
    for (Value& element : elements_of(budget_, value)) {
      if (batch.size() == most) out.push_back(make_list(budget_, std::exchange(batch, {})));
      batch.push_back(std::move(element));
    }
    if (!batch.empty()) {
      if (p.has(1) && !p.required(1).is_none()) {
        budget_.take((most - batch.size() < (std::size_t{1} << 32) ? most - batch.size() : std::size_t{1} << 32) *
                     sizeof(Value));
        batch.resize(most, p.required(1));
      }
      out.push_back(make_list(budget_, std::move(batch)));
    }
    return make_list(budget_, std::move(out), List::Kind::iterator);
  }

  Value slices(const Value& value, const Parameters& p) {
    const std::int64_t count = p.integer(0);
    if (count < 1 || count > Limits::range)
      throw Fault("slice: expected 1 to " + std::to_string(Limits::range) + " slices, got " + std::to_string(count));
    const auto slices = static_cast<std::size_t>(count);
    const std::vector<Value> elements = elements_of(budget_, value);
    const std::size_t size = elements.size() / slices, longer = elements.size() % slices;
    std::vector<Value> out;
    std::size_t at = 0;
    for (std::size_t i = 0; i < slices; ++i) {
      const std::size_t end = at + size + (i < longer ? 1 : 0);
      std::vector<Value> slice(elements.begin() + static_cast<std::ptrdiff_t>(at),
                               elements.begin() + static_cast<std::ptrdiff_t>(end));
      if (p.has(1) && !p.required(1).is_none() && i >= longer) slice.push_back(p.required(1));
      out.push_back(make_list(budget_, std::move(slice)));
      at = end;
    }
    return make_list(budget_, std::move(out), List::Kind::iterator);
  }

  Budget& budget_;
  Filters& filters_;
};

}}}  // namespace mistral::jinja
