// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>

#include <utility>

#include <doctest/doctest.h>

#include <mistral/cache/random_cache.hpp>
#include <mistral/cache/saved_entries.hpp>

#include "../support/allocations.hpp"
#include "../support/counting_resource.hpp"
#include "../support/resident.hpp"

using namespace mistral;

namespace {

// The proportions of Mistral 7B's cache, narrow: 32768 positions of context, with and without a window of 4096.
constexpr ModelConfig windowed{.dim = 8,
                               .n_layers = 4,
                               .head_dim = 8,
                               .hidden_dim = 8,
                               .n_heads = 8,
                               .n_kv_heads = 8,
                               .window_size = 4096,
                               .context_len = 32768,
                               .vocab_size = 8};
constexpr ModelConfig full = [] {
  ModelConfig config = windowed;
  config.window_size = 0;
  return config;
}();

using test::resident_bytes;

}  // namespace

TEST_CASE("the cache of 32768 tokens takes an eighth with a window of 4096, and resident memory shows it") {
  CHECK(KvCache<full, bf16>::bytes == 8 * KvCache<windowed, bf16>::bytes);
  CHECK(KvCache<full, bf16>::bytes == 2u * 4 * 8 * 8 * 2 * 32768);
  if (!test::counts_allocations || resident_bytes() == 0) {
    std::fprintf(stderr, "SKIPPED: resident memory is not measured: sanitizers take some of their own\n");
    return;
  }
  // Both at once, lest the second live in what the first has given back. What comes beside the rings: pages that are
  // not full, the table of layers, and the pool that `randomize` copies from.
  const auto pool = [](std::size_t held) { return (held + 1024) * sizeof(KvCache<full, bf16>::Entry); };
  const std::size_t before = resident_bytes();
  KvCache<windowed, bf16> small;
  randomize(small, 32768, 1);
  const std::size_t between = resident_bytes();
  KvCache<full, bf16> large;
  randomize(large, 32768, 1);
  const std::size_t small_bytes = between - before, large_bytes = resident_bytes() - between;
  CAPTURE(small_bytes);
  CAPTURE(large_bytes);
  CHECK(small_bytes >= KvCache<windowed, bf16>::bytes * 9 / 10);
  CHECK(small_bytes <= KvCache<windowed, bf16>::bytes * 11 / 10 + pool(4096) + (1u << 20));
  CHECK(large_bytes >= KvCache<full, bf16>::bytes * 9 / 10);
  CHECK(large_bytes <= KvCache<full, bf16>::bytes * 11 / 10 + pool(32768) + (1u << 20));
}

TEST_CASE("a random cache is where its tokens would have taken it, and holds numbers of variance 1") {
  for (const std::int64_t position : {0, 1, 4095, 4096, 131072 + 5}) {
    CAPTURE(position);
    KvCache<windowed, bf16> cache;
    randomize(cache, position, 7);
    CHECK(cache.position() == position);
    CHECK(cache.wraps() == position / 4096);
    double squares = 0.0;
    std::size_t count = 0;
    for (std::size_t i = 0; i < windowed.n_layers; ++i) {
      for (const auto* rings : {&cache.layer(i).keys, &cache.layer(i).values}) {
        for (const auto& ring : *rings) {
          CHECK(ring.position() == position);
          for (const auto& entries : ring.spans()) {
            for (const auto& entry : entries) {
              float x[windowed.head_dim];
              entry.read(x);
              for (const float v : x) squares += static_cast<double>(v * v);
              count += windowed.head_dim;
            }
          }
        }
      }
    }
    CHECK(count == 2u * 4 * 8 * 8 * static_cast<std::size_t>(std::min<std::int64_t>(position, 4096)));
    // The square of such a number has a variance of 4/5. Of 5000 entries in the pool, 8 numbers each: 7 sigma.
    if (position >= 4095) CHECK(std::abs(squares / static_cast<double>(count) - 1.0) < 7.0 * std::sqrt(0.8 / 40000.0));
  }
}

TEST_CASE("a cache takes memory as it is written, and neither a copy nor what is kept to take tokens back takes more") {
  if (!test::counts_allocations || resident_bytes() == 0) {
    std::fprintf(stderr, "SKIPPED: resident memory is not measured: sanitizers take some of their own\n");
    return;
  }
  using Cache = KvCache<mistral_7b_v0_2, bf16>;
  static_assert(Cache::bytes == std::size_t{4} << 30);
  constexpr std::int64_t tokens = 20;
  const std::size_t before = resident_bytes();
  Cache cache;
  randomize(cache, tokens, 1);
  // 20 entries of 256 bytes are two pages of each of 512 rings, and three where they begin late in one
  constexpr std::size_t written = std::size_t{512} * 3 * 4096, beside = 4'000'000;
  CHECK(resident_bytes() > before + std::size_t{512} * 20 * 256);
  CHECK(resident_bytes() < before + written + beside);
  Cache copy;
  copy.assign(cache);
  const SavedEntries<mistral_7b_v0_2, bf16> saved(cache, 1000, std::pmr::get_default_resource());
  saved.put_back(cache);
  cache.rollback(tokens);
  cache.clear();
  CHECK(copy.position() == tokens);
  CHECK(resident_bytes() < before + 2 * (written + beside));
}

TEST_CASE(
    "a cache takes one block of the caller's memory, and gives it back also where another is moved to its place") {
  test::CountingResource memory;
  using Cache = KvCache<windowed, bf16>;
  {
    Cache first(3, &memory), second(0, &memory);
    CHECK(memory.taken == 2 * Cache::bytes + Cache::rollback_bytes(3));
    CHECK(memory.aligned);
    CHECK(second.block().size() == Cache::bytes);
    randomize(second, 7, 1);
    const auto* const entry = &second.layer(3).values[7].at(6);
    first = std::move(second);
    CHECK(memory.held == Cache::bytes);
    CHECK(first.position() == 7);
    CHECK(&first.layer(3).values[7].at(6) == entry);
    first.layer(3).values[7].push(*entry);  // into the block that it took along
    const Cache third = std::move(first);
    CHECK(third.layer(3).values[7].position() == 8);
  }
  CHECK(memory.held == 0);
}
