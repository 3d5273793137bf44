// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/arguments.hpp>
#include <mistral/text/jinja/format_text.hpp>
#include <mistral/text/jinja/operators.hpp>
#include <mistral/text/jinja/text_operations.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

inline constexpr std::string_view text_methods[] = {
    "capitalize", "casefold",   "count",     "endswith",   "find",      "format",       "index",
    "isalnum",    "isalpha",    "isdecimal", "isdigit",    "islower",   "isnumeric",    "isspace",
    "isupper",    "join",       "lower",     "lstrip",     "partition", "removeprefix", "removesuffix",
    "replace",    "rfind",      "rindex",    "rpartition", "rsplit",    "rstrip",       "split",
    "splitlines", "startswith", "strip",     "swapcase",   "title",     "upper",        "zfill"};
inline constexpr std::string_view list_methods[] = {"copy", "count", "index"};
inline constexpr std::string_view dict_methods[] = {"copy", "get", "items", "keys", "values"};

/// Whether a method of that name can be called: those that change nothing. Those that Python has beside them are as
/// good as not there, which keeps a template from changing what it is given.
inline bool has_method(const Value& value, std::string_view name) noexcept {
  const auto among = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  if (value.text() != nullptr) return among(text_methods);
  if (value.list() != nullptr) return value.list()->kind <= List::Kind::group && among(list_methods);
  return value.dict() != nullptr && among(dict_methods);
}

/// The methods of a string.
class TextMethods {
 public:
  TextMethods(Budget& budget, const Text& text, const std::string& name, const Arguments& arguments)
      : budget_(budget), text_(text), name_(name), arguments_(arguments) {}

  Value call() const {
    if (name_ == "strip" || name_ == "lstrip" || name_ == "rstrip") {
      const Parameters p = parameters({"chars"});
      return made(strip(budget_, text_, p.optional_text(0), {name_ != "rstrip", name_ != "lstrip"}));
    }
    if (name_ == "split" || name_ == "rsplit") return split_text();
    if (name_ == "splitlines") return lines();
    if (name_ == "replace") {
      const Parameters p = parameters({"old", "new", "count"});
      return made(replace(budget_, text_, p.text(0), p.text(1), p.integer(2, -1)));
    }
    if (name_ == "startswith" || name_ == "endswith") return starts_or_ends();
    if (name_ == "find" || name_ == "rfind" || name_ == "index" || name_ == "rindex") return place();
    if (name_ == "count") return count();
    if (name_ == "join") return joined();
    if (name_ == "format") return made(brace_format(budget_, text_, arguments_.positional, arguments_.named));
    if (name_ == "partition" || name_ == "rpartition") return parts();
    if (name_ == "removeprefix" || name_ == "removesuffix") {
      const Text& end = parameters({"end"}).text(0);
      budget_.look(end.size());
      const bool at_begin = name_ == "removeprefix";
      const std::string_view bytes = text_.bytes();
      if (!(at_begin ? bytes.starts_with(end.bytes()) : bytes.ends_with(end.bytes()))) return made(text_);
      return made(at_begin ? text_.slice(end.size(), text_.size()) : text_.slice(0, text_.size() - end.size()));
    }
    if (name_ == "zfill") return zero_filled();
    (void)parameters({});
    if (name_ == "lower" || name_ == "casefold") return made(lower_text(budget_, text_));
    if (name_ == "upper") return made(upper_text(budget_, text_));
    if (name_ == "capitalize") return made(capitalize(budget_, text_));
    if (name_ == "title") return made(title_of_letters(budget_, text_));
    if (name_ == "swapcase") {
      return made(map_characters(budget_, text_, [](char32_t c, std::string& out) {
        lower(c) != c ? append_utf8(out, lower(c)) : append_upper(out, c);
      }));
    }
    return is_all();
  }

 private:
  Parameters parameters(std::vector<std::string_view> names) const { return {arguments_, name_, std::move(names)}; }

  Value made(Text text) const { return make_text(budget_, std::move(text)); }

  Value split_text() const {
    const Parameters p = parameters({"sep", "maxsplit"});
    const Text* const separator = p.optional_text(0);
    const std::int64_t most = p.integer(1, -1);
    const bool from_right = name_ == "rsplit";
    return make_list(budget_, separator != nullptr ? split(budget_, text_, *separator, most, from_right)
                                                   : split_words(budget_, text_, most, from_right));
  }

  Value lines() const {
    std::vector<Value> all;
    for (Text& line : split_lines(budget_, text_, parameters({"keepends"}).truth(0, false))) {
      all.push_back(made(std::move(line)));
    }
    return make_list(budget_, std::move(all));
  }

  // The part of the text that the parameters `first` and the one behind it choose.
  std::string_view part(const Parameters& p, std::size_t first) const {
    const auto length = static_cast<std::int64_t>(character_count(text_.bytes()));
    const auto bound = [&](std::size_t i, std::int64_t otherwise) {
      if (!p.has(i) || p.required(i).is_none()) return otherwise;
      const std::int64_t at = p.integer(i);
      return std::clamp<std::int64_t>(at < 0 ? (std::max)(at, -length) + length : at, 0, length);
    };
    const std::size_t begin = byte_of_character(budget_, text_.bytes(), bound(first, 0));
    const std::size_t end = byte_of_character(budget_, text_.bytes(), bound(first + 1, length));
    return std::string_view(text_.bytes()).substr(begin, (std::max)(begin, end) - begin);
  }

  Value starts_or_ends() const {
    const Parameters p = parameters({"end", "start", "stop"});
    const std::string_view where = part(p, 1);
    const auto fits = [&](const Value& value) {
      if (value.text() == nullptr)
        throw Fault(name_ + ": expected a string or a tuple of strings, got " + std::string(type_name(value)));
      budget_.look(value.text()->size());
      return name_ == "startswith" ? where.starts_with(value.text()->bytes()) : where.ends_with(value.text()->bytes());
    };
    if (const List* const all = p.required(0).list(); all != nullptr && all->kind == List::Kind::tuple) {
      return std::any_of(all->items.begin(), all->items.end(), fits);
    }
    return fits(p.required(0));
  }

  Value place() const {
    const Parameters p = parameters({"sub", "start", "stop"});
    const std::string_view where = part(p, 1);
    const std::string& wanted = p.text(0).bytes();
    std::size_t found = std::string_view::npos;
    if (name_[0] == 'r') {
      budget_.step(1 + where.size() / 64 * (wanted.size() + 1));
      found = where.rfind(wanted);
    } else {
      found = find_in(budget_, where, wanted);
    }
    if (found == std::string_view::npos) {
      if (name_.ends_with("index")) throw Fault("substring not found");
      return std::int64_t{-1};
    }
    const auto before = static_cast<std::size_t>(where.data() - text_.bytes().data()) + found;
    return static_cast<std::int64_t>(character_count(std::string_view(text_.bytes()).substr(0, before)));
  }

  Value count() const {
    const Parameters p = parameters({"sub", "start", "stop"});
    const std::string_view where = part(p, 1);
    const std::string& wanted = p.text(0).bytes();
    if (wanted.empty()) return static_cast<std::int64_t>(character_count(where)) + 1;
    std::int64_t count = 0;
    for (std::size_t at = 0; (at = find_in(budget_, where, wanted, at)) != std::string_view::npos; at += wanted.size())
      ++count;
    return count;
  }

  Value joined() const {
    Text out;
    bool first = true;
    for (const Value& element : elements_of(budget_, parameters({"iterable"}).required(0))) {
      if (element.text() == nullptr) throw Fault("join: expected strings, got " + std::string(type_name(element)));
      if (!first) append_text(budget_, out, Value(text_));
      append_text(budget_, out, element);
      first = false;
    }
    return made(std::move(out));
  }

  Value parts() const {
    const Text& separator = parameters({"sep"}).text(0);
    if (separator.empty()) throw Fault("empty separator");
    budget_.step(1 + text_.size() / 64 * separator.size());
    const bool from_right = name_ == "rpartition";
    const std::size_t found =
        from_right ? text_.bytes().rfind(separator.bytes()) : text_.bytes().find(separator.bytes());
    std::vector<Value> items(3, Value(Text()));
    if (found == std::string::npos) {
      items[from_right ? 2 : 0] = made(text_);
    } else {
      items[0] = made(text_.slice(0, found));
      items[1] = made(text_.slice(found, found + separator.size()));
      items[2] = made(text_.slice(found + separator.size(), text_.size()));
    }
    return make_list(budget_, std::move(items), List::Kind::tuple);
  }

  Value zero_filled() const {
    const std::int64_t width = parameters({"width"}).integer(0);
    const std::int64_t missing = width - (std::min)(width, static_cast<std::int64_t>(character_count(text_.bytes())));
    budget_.take_text(static_cast<std::size_t>((std::max<std::int64_t>)(missing, 0)));
    const bool has_sign = text_.bytes().starts_with('-') || text_.bytes().starts_with('+');
    Text out = text_.slice(0, has_sign ? 1 : 0);
    out.append(std::string(static_cast<std::size_t>((std::max<std::int64_t>)(missing, 0)), '0'), {});
    out.append(text_, has_sign ? 1 : 0, text_.size());
    return made(std::move(out));
  }

  // What is asked of all characters, of which there must be one.
  Value is_all() const {
    budget_.look(text_.size());
    bool any_cased = false, good = !text_.empty();
    for (std::size_t at = 0; at < text_.size() && good; at += character_length(text_.bytes(), at)) {
      const char32_t c = character_at(text_.bytes(), at);
      const bool digit = c >= '0' && c <= '9';
      // a character beyond ASCII is taken for a letter where it is no white space and no punctuation of Latin-1
      const bool letter =
          is_cased(c) || (c >= 0xC0 && c != 0xD7 && c != 0xF7 && !is_space(c) && (c < 0x2000 || c > 0x2BFF));
      any_cased = any_cased || is_cased(c);
      if (name_ == "isdigit" || name_ == "isdecimal" || name_ == "isnumeric") good = digit;
      if (name_ == "isalpha") good = letter;
      if (name_ == "isalnum") good = letter || digit;
      if (name_ == "isspace") good = is_space(c);
      if (name_ == "isupper") good = lower(c) != c || !is_cased(c);
      if (name_ == "islower") good = lower(c) == c;
    }
    return good && (any_cased || (name_ != "isupper" && name_ != "islower"));
  }

  Budget& budget_;
  const Text& text_;
  const std::string& name_;
  const Arguments& arguments_;
};

/// The keys and values of a dict as pairs.
inline Value pairs_of(Budget& budget, const Dict& dict) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict.items) pairs.push_back(make_list(budget, {key, value}, List::Kind::tuple));
  return make_list(budget, std::move(pairs));
}

/// Calls a method that has_method knows. Throws Fault for arguments that it doesn't take.
inline Value call_method(Budget& budget, const Method& method, const Arguments& arguments) {
  budget.step();
  const auto& [object, name] = method;
  if (object.text() != nullptr) return TextMethods(budget, *object.text(), name, arguments).call();
  if (name == "copy") {
    (void)Parameters(arguments, name, {});
    return object;
  }
  if (const Dict* const dict = object.dict()) {
    if (name == "get") {
      const Parameters p(arguments, name, {"key", "default"});
      const Value* const found = find(budget, *dict, p.required(0));
      return found != nullptr ? *found : p.get(1, Value::NoneType{});
    }
    (void)Parameters(arguments, name, {});
    if (name == "items") return pairs_of(budget, *dict);
    std::vector<Value> items;
    for (const auto& [key, value] : dict->items) items.push_back(name == "keys" ? key : value);
    return make_list(budget, std::move(items));
  }
  const Parameters p(arguments, name, {"value"});
  const std::vector<Value>& items = object.list()->items;
  const auto same = [&](const Value& item) { return equal(budget, item, p.required(0)); };
  if (name == "count") return static_cast<std::int64_t>(std::count_if(items.begin(), items.end(), same));
  const auto found = std::find_if(items.begin(), items.end(), same);
  if (found == items.end()) throw Fault("index: the value is not in the list");
  return static_cast<std::int64_t>(found - items.begin());
}

}}}  // namespace mistral::jinja
