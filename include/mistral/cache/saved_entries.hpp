// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/core/buffer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A copy of the entries that some tokens would overwrite in a cache, kept until it is known whether they are wanted.
/// Taken back by it, a cache is as it was, also where they are more than KvCache::rollback can take back, and where
/// only some of the rings have met them.
template <ModelConfig C, KvElement T>
class SavedEntries {
  using Ring = typename KvCache<C, T>::Ring;

 public:
  /// Copies what the next `tokens` tokens of a cache would overwrite: nothing, as long as no ring goes round.
  SavedEntries(const KvCache<C, T>& cache, std::size_t tokens, MemoryResource* memory) {
    std::size_t count = 0;
    cache.for_each_ring([&](const Ring& ring) { count += ring.overwritten_by(tokens); });
    position_ = cache.position();
    oldest_ = cache.layer(0).keys[0].oldest_position();
    each_ = cache.layer(0).keys[0].overwritten_by(tokens);
    if (count == 0) return;
    entries_ = Buffer<typename KvCache<C, T>::Entry>(count, Uninitialized{}, memory);
    std::size_t at = 0;
    cache.for_each_ring([&](const Ring& ring) {
      ring.save(entries_.span().subspan(at, each_));
      at += each_;
    });
  }

  /// Puts the cache back where it was.
  void put_back(KvCache<C, T>& cache) const noexcept {
    std::size_t at = 0;
    cache.for_each_ring([&](Ring& ring) {
      ring.put_back(position_, oldest_, entries_.span().subspan(at, each_));
      at += each_;
    });
  }

 private:
  std::int64_t position_;
  std::int64_t oldest_;
  std::size_t each_;  // entries of a ring: all rings are at one position between two forwards
  Buffer<typename KvCache<C, T>::Entry> entries_;
};

}}  // namespace mistral
