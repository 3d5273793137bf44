// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>

// What a sanitizer looks for, in memory or between threads, shows in the first rounds or in none.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MISTRAL_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MISTRAL_TEST_SANITIZED 1
#endif
#endif
#ifndef MISTRAL_TEST_SANITIZED
#define MISTRAL_TEST_SANITIZED 0
#endif

namespace mistral::test {

/// Whether a sanitizer watches, under which code that isn't optimized either takes up to a hundred times as long.
inline constexpr bool sanitized = MISTRAL_TEST_SANITIZED != 0;

/// How many of `cases` random cases a test tries, or of the hits that it expects among them: every one, and under a
/// sanitizer an eighth, of few at least four.
template <std::integral T>
constexpr T rounds(T cases) {
  return !sanitized || cases < 4 ? cases : std::max<T>(4, cases / 8);
}

}  // namespace mistral::test
