// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <stdexcept>

#include "rounds.hpp"

namespace mistral::test {

/// Whether `allocations` counts: sanitizers bring an operator new of their own, which does more good than counting.
inline constexpr bool counts_allocations = !sanitized;

/// How many times the program has called operator new (but for over-aligned types).
inline std::atomic<std::size_t> allocations{0};

/// How many of these calls `action` makes, for tests that it makes none; 0 where they aren't counted. Where they are,
/// one that is known is seen to be counted first.
template <class Action>
std::size_t allocations_in(const Action& action) {
  const std::size_t before = allocations;
  ::operator delete(::operator new(1));  // a call that no compiler may leave out
  if (counts_allocations && allocations == before) throw std::logic_error("allocations aren't counted");
  const std::size_t begin = allocations;
  action();
  return allocations - begin;
}

/// Which call of operator new throws while `fails_at` runs, and how many there were, over-aligned types included.
inline std::atomic<bool> may_fail{false};
inline std::atomic<std::size_t> failing_call{0};
inline std::atomic<std::size_t> calls{0};

/// What came of an action whose nth call of operator new threw std::bad_alloc.
struct Failure {
  bool met = false;     ///< there were as many calls
  bool thrown = false;  ///< the action threw std::bad_alloc, and didn't do without
};

/// Runs an action of which the nth call of operator new (1: the first), in any thread, throws. What the action throws
/// but for std::bad_alloc goes through.
template <class Action>
Failure fails_at(std::size_t n, const Action& action) {
  struct Armed {
    explicit Armed(std::size_t call) {
      calls = 0;
      failing_call = call;
      may_fail = true;
    }
    ~Armed() { may_fail = false; }
  };
  Failure failure;
  try {
    const Armed armed(n);
    action();
  } catch (const std::bad_alloc&) {
    failure.thrown = true;
  }
  failure.met = calls >= n;
  return failure;
}

/// Fails every allocation of an action once: calls attempt(n) for n = 1, 2, ..., which is to run it by `fails_at(n,
/// ...)`, to hold what is there then against what was promised, and to return the failure. Returns how many allocations
/// there were; none where they can't be made to fail.
template <class Attempt>
std::size_t fail_each_allocation(const Attempt& attempt) {
  if (!counts_allocations) return 0;
  for (std::size_t n = 1;; ++n) {
    const Failure failure = attempt(n);
    if (!failure.met) return n - 1;
  }
}

namespace detail {

inline void* allocate(std::size_t size, std::size_t alignment) {
  if (may_fail && ++calls == failing_call) throw std::bad_alloc();
  size = size == 0 ? 1 : size;
  const bool plain = alignment <= alignof(std::max_align_t);
  void* const memory =
      plain ? std::malloc(size) : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace detail

}  // namespace mistral::test

#if !MISTRAL_TEST_SANITIZED
// A program may replace these, but not inline; weak, so that several files of one program can include this header.
[[gnu::weak]] void* operator new(std::size_t size) {
  ++mistral::test::allocations;
  return mistral::test::detail::allocate(size, 1);
}
[[gnu::weak]] void* operator new(std::size_t size, std::align_val_t alignment) {
  return mistral::test::detail::allocate(size, static_cast<std::size_t>(alignment));
}
[[gnu::weak]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::weak]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::weak]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::weak]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
#endif
