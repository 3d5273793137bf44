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

}  // namespace mistral::test

#if !MISTRAL_TEST_SANITIZED
// A program may replace these, but not inline; weak, so that several files of one program can include this header.
[[gnu::weak]] void* operator new(std::size_t size) {
  ++mistral::test::allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::weak]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::weak]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif
