// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/arithmetic.hpp>
#include <mistral/text/jinja/place.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// How two neighbours of a chain such as `1 < x <= 5` are held against each other.
enum class Comparison { equal, unequal, less, less_equal, greater, greater_equal, in, not_in };

/// An expression. Which members it uses, its kind says; a Syntax owns it and all that it refers to.
struct Expression {
  enum class Kind {
    constant,     ///< `value`
    name,         ///< `name`
    list,         ///< its operands
    tuple,        ///< likewise
    dict,         ///< keys and values in turns
    attribute,    ///< operands[0].name
    item,         ///< operands[0][operands[1]]
    slice,        ///< operands[0][operands[1]:operands[2]:operands[3]], null where nothing stands
    call,         ///< operands[0](the other operands, named)
    filter,       ///< operands[0]|name(the other operands, named); operands[0] is null in a filter block
    test,         ///< operands[0] is name(the other operands, named)
    negation,     ///< not operands[0]
    minus,        ///< -operands[0]
    plus,         ///< +operands[0]
    arithmetic,   ///< operands[0] `sign` operands[1]
    concat,       ///< the operands' texts, one behind the other
    comparison,   ///< operands, between which `comparisons` stand
    both,         ///< operands[0] and operands[1]
    either,       ///< operands[0] or operands[1]
    conditional,  ///< operands[1] if operands[0] else operands[2], which may be null
  };

  Kind kind = Kind::constant;
  Place place{};
  std::size_t depth = 1;
  Value value{};
  std::string name{};
  Operator sign = Operator::add;
  std::vector<const Expression*> operands{};
  std::vector<std::pair<std::string, const Expression*>> named{};
  std::vector<Comparison> comparisons{};
};

struct Statement;
using Block = std::vector<const Statement*>;

/// A parameter of a macro, and what it is where no argument is given; null: undefined.
struct Parameter {
  std::string name;
  const Expression* otherwise = nullptr;
};

/// A statement, of which the same holds.
struct Statement {
  enum class Kind {
    text,          ///< `text`
    output,        ///< expressions[0]
    loop,          ///< for target in expressions[0] if expressions[1]: body, orelse
    branches,      ///< if expressions[i]: bodies[i]; the last may have no expression
    set,           ///< target = expressions[0]
    set_block,     ///< target = body, through the filter expressions[0], if there is one
    macro,         ///< name(parameters): body
    call,          ///< expressions[0] is the call; parameters and body are the caller's
    filter,        ///< body through expressions[0]
    with,          ///< targets and expressions; body
    generation,    ///< body
    leave_loop,    ///< break
    next_in_loop,  ///< continue
  };

  Kind kind = Kind::text;
  Place place{};
  Text text{};
  std::string name{};
  std::vector<const Expression*> targets{};  ///< a name, a tuple of them, or an attribute of a namespace
  std::vector<const Expression*> expressions{};
  std::vector<Parameter> parameters{};
  std::vector<Block> bodies{};
  bool recursive = false;     ///< of a loop
  bool takes_more = false;    ///< of a macro: whether it uses varargs
  bool takes_named = false;   ///< of a macro: whether it uses kwargs
  bool takes_caller = false;  ///< of a macro: whether it uses caller
};

/// A template as it is written. Addresses of expressions and statements stay.
struct Syntax {
  std::deque<Expression> expressions;
  std::deque<Statement> statements;
  Block body;
  bool has_generation = false;  ///< whether there is a `generation` block
};

}}}  // namespace mistral::jinja
