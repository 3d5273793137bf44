// SPDX-License-Identifier: Apache-2.0
#include <mistral/simd/digest.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <mistral/core/random.hpp>

using namespace mistral;

TEST_CASE("a digest depends on every bit, on its place, and on the length, and is the same on every machine") {
  Random random(3);
  std::vector<std::byte> bytes(1000);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  CHECK(simd::digest(bytes) == 0x86724b0790fbc953u);
  std::vector<std::uint64_t> digests;
  for (std::size_t size = 0; size <= bytes.size(); ++size) {  // an odd address too
    digests.push_back(simd::digest(std::span(bytes).first(size)));
    if (size > 0) digests.push_back(simd::digest(std::span(bytes).subspan(1, size - 1)));
  }
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto mask = static_cast<std::byte>(1u << bit % 8);
    bytes[bit / 8] ^= mask;
    digests.push_back(simd::digest(bytes));
    bytes[bit / 8] ^= mask;
  }
  for (std::size_t i = 0; i + 128 <= bytes.size(); i += 8) {  // words and blocks change places
    std::swap_ranges(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                     bytes.begin() + static_cast<std::ptrdiff_t>(i) + 64,
                     bytes.begin() + static_cast<std::ptrdiff_t>(i) + 64);
    digests.push_back(simd::digest(bytes));
    std::swap_ranges(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                     bytes.begin() + static_cast<std::ptrdiff_t>(i) + 64,
                     bytes.begin() + static_cast<std::ptrdiff_t>(i) + 64);
  }
  std::sort(digests.begin(), digests.end());
  // nothing at address 0 and nothing at address 1 are alike
  CHECK(std::unique(digests.begin(), digests.end()) == digests.end() - 1);
  const std::vector<std::byte> zeros(64);
  CHECK(simd::digest(std::span(zeros).first(31)) != simd::digest(std::span(zeros).first(32)));
}
