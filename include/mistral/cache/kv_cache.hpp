// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include <mistral/cache/arena.hpp>
#include <mistral/cache/ring_buffer.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/kv_entry.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A KvCache of some type, for code that hands on caches of a type that it needn't know.
class AnyKvCache {
 protected:
  /// Nothing is made, moved or ended as an AnyKvCache: only as the KvCache that it is.
  ///@{
  AnyKvCache() = default;
  ~AnyKvCache() = default;
  AnyKvCache(AnyKvCache&&) = default;
  AnyKvCache& operator=(AnyKvCache&&) = default;
  ///@}
};

/// The keys and values that one sequence has seen, in each layer: a ring for every head, of the window's length (or the
/// context's, where there is no window). Keys are turned by RoPE already.
///
/// All rings lie in one block that is reserved when the cache is made. The system gives its pages as they are first
/// written, so that an empty cache costs address space only and one of a few tokens takes what these need, as long as
/// the block comes from the system untouched: of operator new it does where it is large, and of another resource where
/// that writes nothing to it.
template <ModelConfig C, KvElement T>
class KvCache : public AnyKvCache {
 public:
  /// A head's key or value of one position.
  using Entry = KvEntry<T, C.head_dim>;
  /// The entries of one head that are held.
  using Ring = RingBuffer<Entry, C.cache_len()>;
  /// The rings of a layer, one for each head of keys and of values: all at one position between two forwards.
  struct Layer {
    std::array<Ring, C.n_kv_heads> keys;    ///< of each head, turned by RoPE
    std::array<Ring, C.n_kv_heads> values;  ///< of each head
  };

  /// Bytes of all rings, each to the end of a cache line: what it takes at most.
  static constexpr std::size_t bytes = 2 * C.n_layers * C.n_kv_heads * detail::Arena::part_bytes(Ring::bytes);

  /// Bytes more that it takes to be rolled back by so many tokens at any time. Without a window nothing is overwritten.
  static constexpr std::size_t rollback_bytes(std::size_t tokens) noexcept {
    if (C.window_size == 0) return 0;
    return 2 * C.n_layers * C.n_kv_heads * detail::Arena::part_bytes(tokens * sizeof(Entry));
  }

  /// `rollback`: tokens that rollback() can take back at any time. `memory`: where the block of the rings is taken
  /// from. Throws std::bad_alloc where there is no memory, also for more tokens than a count of bytes holds.
  explicit KvCache(std::size_t rollback = 0, MemoryResource* memory = std::pmr::get_default_resource())
      : arena_(std::make_unique<detail::Arena>(bytes + rollback_bytes(countable(rollback)), memory)) {
    const std::size_t undo = C.window_size == 0 ? 0 : rollback;
    layers_.reserve(C.n_layers);
    for (std::size_t i = 0; i < C.n_layers; ++i) {
      layers_.push_back({rings(undo, arena_.get(), std::make_index_sequence<C.n_kv_heads>()),
                         rings(undo, arena_.get(), std::make_index_sequence<C.n_kv_heads>())});
    }
  }

  /// A cache moves, and isn't copied by the way: for that there is assign().
  ///@{
  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&& other) noexcept {
    layers_ = std::move(other.layers_);  // first, since rings give back their memory to what they took it from
    arena_ = std::move(other.arena_);
    return *this;
  }
  ///@}

  /// The block that all rings lie in, for a wish of the system about its pages. What the rings hold is read and
  /// written by the rings alone.
  std::span<std::byte> block() noexcept { return arena_->block(); }

  /// Layer `i` < n_layers.
  Layer& layer(std::size_t i) noexcept { return layers_[i]; }

  /// Layer `i` < n_layers, to be read.
  const Layer& layer(std::size_t i) const noexcept { return layers_[i]; }

  /// Calls action(ring) for every ring: of each layer the heads' keys, then their values.
  template <class Action>
  void for_each_ring(const Action& action) {
    visit(*this, action);
  }
  /// The same, to be read.
  template <class Action>
  void for_each_ring(const Action& action) const {
    visit(*this, action);
  }

  /// Number of tokens that went through the last layer: the position of the next one.
  std::int64_t position() const noexcept { return last_ring().position(); }

  /// Number of times that the rings have gone round.
  std::int64_t wraps() const noexcept { return position() / static_cast<std::int64_t>(Ring::capacity); }

  /// Number of tokens that rollback() can take back: as many as it was made for, and all until the rings have wrapped.
  std::int64_t revertible() const noexcept { return last_ring().revertible(); }

  /// Takes the last `tokens` tokens back, at most revertible(): what follows is as if they had never been there.
  void rollback(std::int64_t tokens) noexcept {
    for_each_ring([&](Ring& ring) { ring.rollback(tokens); });
  }

  /// Becomes what another cache is, in memory of its own: a fork. It can be rolled back as far as both were made for.
  void assign(const KvCache& other) noexcept {
    assert(layers_.size() == other.layers_.size() && "cache: one of the two was moved from");
    for (std::size_t i = 0; i < C.n_layers; ++i) {
      for (std::size_t head = 0; head < C.n_kv_heads; ++head) {
        layers_[i].keys[head].assign(other.layers_[i].keys[head]);
        layers_[i].values[head].assign(other.layers_[i].values[head]);
      }
    }
  }

  /// Forgets the sequence. Keeps the memory that it took, for the next one.
  void clear() noexcept {
    for_each_ring([](Ring& ring) { ring.clear(); });
  }

 private:
  static std::size_t countable(std::size_t rollback) {
    constexpr std::size_t most =
        (std::numeric_limits<std::size_t>::max)() / (8 * C.n_layers * C.n_kv_heads * sizeof(Entry));
    if (C.window_size != 0 && rollback > most) throw std::bad_array_new_length();
    return rollback;
  }

  template <std::size_t... Head>
  static std::array<Ring, C.n_kv_heads> rings(std::size_t undo, MemoryResource* memory, std::index_sequence<Head...>) {
    return {(static_cast<void>(Head), Ring(undo, memory))...};
  }

  const Ring& last_ring() const noexcept {
    assert(!layers_.empty() && "cache: it has no layers: it, or its session, was moved from");
    return layers_.back().values.back();
  }

  template <class Self, class Action>
  static void visit(Self& self, const Action& action) {
    for (auto& layer : self.layers_) {
      for (auto& ring : layer.keys) action(ring);
      for (auto& ring : layer.values) action(ring);
    }
  }

  std::unique_ptr<detail::Arena> arena_;  // at one place for the rings, which remember it
  std::vector<Layer> layers_;
};

}}  // namespace mistral
