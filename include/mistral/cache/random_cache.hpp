// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/core/random.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Puts a cache where `position` tokens would have taken it, with random keys and values of mean 0 and variance 1: to
/// time what comes at some depth without computing what comes before. Every entry that a ring then holds is written.
///   position  at least 0; without a window at most the context's length
template <ModelConfig C, KvElement T>
void randomize(KvCache<C, T>& cache, std::int64_t position, std::uint64_t seed) {
  using Cache = KvCache<C, T>;
  const auto held = static_cast<std::size_t>(std::min<std::int64_t>(position, Cache::Ring::capacity));
  // Each ring is a copy of some stretch of one pool: to draw every entry would take longer than what is to be timed.
  constexpr std::size_t starts = 1024;
  std::vector<typename Cache::Entry> pool(held + starts);
  Random random(seed);
  const float limit = std::sqrt(3.0f);  // uniform up to there: a variance of 1
  for (auto& entry : pool) {
    float x[C.head_dim];
    for (float& v : x) v = (2.0f * random.uniform() - 1.0f) * limit;
    entry.write(x);
  }
  parallel::for_ranges(C.n_layers, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t layer = begin; layer < end; ++layer) {
      Random start(seed + layer);
      for (auto* rings : {&cache.layer(layer).keys, &cache.layer(layer).values}) {
        for (auto& ring : *rings) {
          ring.restore(position, std::span(pool).subspan(start.next() % starts, held));
        }
      }
    }
  });
}

}}  // namespace mistral
