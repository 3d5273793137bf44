// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/jinja/interpreter.hpp>
#include <mistral/text/jinja/parser.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// A Jinja template as Hugging Face's transformers renders chat templates: white space, functions, filters and Python's
/// ways of writing values. It is sandboxed by construction: it reaches its variables and nothing else, changes none of
/// them, and ends within its limits. A copy is cheap and shares what was parsed; any number of threads may render one.
class Template {
 public:
  /// Parses a template, which `name` stands for in messages. Throws Error `[template] name:line:column: ...` for what
  /// is no template, a statement that isn't known, and a source that is too long or not UTF-8.
  explicit Template(std::string_view source, std::string_view name = "template", const Limits& limits = {})
      : parsed_(std::make_shared<const Parsed>(source, printable(name, 1000), limits)) {}

  /// Returns the text for these variables, each byte of which knows where it comes from.
  ///   now        what strftime_now writes
  /// Throws Error `[template] name:line:column: ...`: Raised where the template refuses the variables by
  /// raise_exception.
  Text render(const Variables& variables, const Moment& now = Moment::now()) const {
    return Interpreter(parsed_->syntax, parsed_->name, parsed_->limits, now).run(variables.dict());
  }

  /// Whether the template says by `generation` blocks which of its text a model writes.
  bool has_generation() const noexcept { return parsed_->syntax.has_generation; }

  /// The name of the template in messages.
  const std::string& name() const noexcept { return parsed_->name; }

 private:
  struct Parsed {
    Parsed(std::string_view text, std::string called, const Limits& of)
        : name(std::move(called)), limits(of), source(checked(text)), syntax(Parser(source, name).syntax()) {}
    Parsed(const Parsed&) = delete;
    Parsed& operator=(const Parsed&) = delete;

    std::string checked(std::string_view text) const {
      if (text.size() > limits.source) {
        throw Error("template", name, "at most " + std::to_string(limits.source) + " bytes",
                    std::to_string(text.size()));
      }
      for (std::string_view rest = text; !rest.empty();) {
        const std::size_t length = detail::utf8_character(rest);
        if (length == 0) {
          throw Error("template", name, "UTF-8",
                      "a byte that belongs to no character at " + std::to_string(text.size() - rest.size()));
        }
        rest.remove_prefix(length);
      }
      return normalized_source(text);
    }

    std::string name;
    Limits limits;
    std::string source;
    Syntax syntax;  // whose places are the source's
  };

  std::shared_ptr<const Parsed> parsed_;
};

}}}  // namespace mistral::jinja
