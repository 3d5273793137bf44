#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

// Sanitizers bring an operator new of their own, which does more good than counting.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MISTRAL_TEST_COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MISTRAL_TEST_COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef MISTRAL_TEST_COUNTS_ALLOCATIONS
#define MISTRAL_TEST_COUNTS_ALLOCATIONS 1
#endif

namespace mistral::test {

/// Whether `allocations` counts.
inline constexpr bool counts_allocations = MISTRAL_TEST_COUNTS_ALLOCATIONS != 0;

/// How many times the program has called operator new (but for over-aligned types), for tests that a call allocates
/// nothing. Such a test must also see the number grow where something is known to allocate.
inline std::atomic<std::size_t> allocations{0};

}  // namespace mistral::test

#if MISTRAL_TEST_COUNTS_ALLOCATIONS
// A program may replace these, but not inline; weak, so that several files of one program can include this header.
[[gnu::weak]] void* operator new(std::size_t size) {
  ++mistral::test::allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::weak]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::weak]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif
