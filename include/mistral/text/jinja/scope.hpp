// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/text/jinja/arguments.hpp>
#include <mistral/text/jinja/syntax.hpp>
#include <mistral/text/jinja/value.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace jinja {

/// The names of a block, and the block around it.
struct Scope {
  const Scope* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> names{};  // the names' texts are the syntax's

  /// The value of a name, here or further out; null where there is none.
  const Value* find(Budget& budget, std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
      budget.step(1 + scope->names.size() / 16);
      for (const auto& [known, value] : scope->names) {
        if (known == name) return &value;
      }
    }
    return nullptr;
  }

  void set(Budget& budget, std::string_view name, Value value) {
    budget.step(1 + names.size() / 16);
    for (auto& [known, old] : names) {
      if (known == name) {
        old = std::move(value);
        return;
      }
    }
    budget.take(sizeof(names[0]));
    names.emplace_back(name, std::move(value));
  }
};

/// A macro, or what a call block gives a macro as its `caller`: where it was defined, its names are found.
struct Macro {
  const Statement* statement;
  Scope* scope;
};

/// A value of `namespace()`, the only one that changes.
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
};

/// The value of `loop` in a loop.
struct Loop {
  std::vector<Value> items{};
  std::size_t index = 0;  // from 0
  std::size_t depth = 0;
  bool has_changed_before = false;
  std::vector<Value> last_changed{};
  const Statement* recursive = nullptr;  // the loop itself, where it may be called
  const Scope* scope = nullptr;          // that it stands in
};

/// The values that live as long as a rendering: whoever refers to these does so by plain pointers, so that no two of
/// them keep each other alive.
class Arena {
 public:
  explicit Arena(Budget& budget) : budget_(budget) {}

  /// Takes back the scopes that were made while it lives, unless something was made that may refer to them.
  class Scopes {
   public:
    explicit Scopes(Arena& arena)
        : arena_(arena), before_(arena.scopes_.size()), referring_(arena.macros_.size() + arena.recursive_) {}
    Scopes(const Scopes&) = delete;
    Scopes& operator=(const Scopes&) = delete;
    ~Scopes() {
      if (arena_.macros_.size() + arena_.recursive_ != referring_) return;
      while (arena_.scopes_.size() > before_) arena_.scopes_.pop_back();
    }

   private:
    Arena& arena_;
    std::size_t before_;
    std::size_t referring_;
  };

  Scope& scope(const Scope* parent) {
    budget_.take(sizeof(Scope));
    return scopes_.emplace_back(Scope{parent});
  }
  Macro& macro(const Statement& statement, Scope& scope) {
    budget_.take(sizeof(Macro));
    return macros_.emplace_back(Macro{&statement, &scope});
  }
  Namespace& new_namespace() {
    budget_.take(sizeof(Namespace));
    return namespaces_.emplace_back();
  }
  Loop& loop(bool recursive) {
    budget_.take(sizeof(Loop));
    recursive_ += recursive;
    return loops_.emplace_back();
  }

 private:
  Budget& budget_;
  std::deque<Scope> scopes_;
  std::deque<Macro> macros_;
  std::deque<Namespace> namespaces_;
  std::deque<Loop> loops_;
  std::size_t recursive_ = 0;  // of the loops, those that refer to a scope
};

}}}  // namespace mistral::jinja
