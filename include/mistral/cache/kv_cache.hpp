// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <mistral/cache/ring_buffer.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/kv_entry.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The keys and values that one sequence has seen, in each layer: a ring for every head, of the window's length (or the
/// context's, where there is no window). Keys are turned by RoPE already.
template <ModelConfig C, KvElement T>
class KvCache {
 public:
  /// A head's key or value of one position.
  using Entry = KvEntry<T, C.head_dim>;
  /// The entries of one head that are held.
  using Ring = RingBuffer<Entry, C.cache_len()>;
  /// What a layer holds, a ring for each head of keys and of values: all at one position between two forwards.
  struct Layer {
    std::array<Ring, C.n_kv_heads> keys;    ///< of each head, turned by RoPE
    std::array<Ring, C.n_kv_heads> values;  ///< of each head
  };

  /// Bytes of all rings.
  static constexpr std::size_t bytes = 2 * C.n_layers * C.n_kv_heads * Ring::bytes;

  /// Bytes more that it takes to be rolled back by so many tokens at any time. Without a window nothing is overwritten.
  static constexpr std::size_t rollback_bytes(std::size_t tokens) noexcept {
    return C.window_size == 0 ? 0 : 2 * C.n_layers * C.n_kv_heads * tokens * sizeof(Entry);
  }

  /// `rollback`: tokens that rollback() can take back at any time. `memory`: where the rings' memory is taken from.
  explicit KvCache(std::size_t rollback = 0, MemoryResource* memory = std::pmr::get_default_resource()) {
    const std::size_t undo = C.window_size == 0 ? 0 : rollback;
    layers_.reserve(C.n_layers);
    for (std::size_t i = 0; i < C.n_layers; ++i) {
      layers_.push_back({rings(undo, memory, std::make_index_sequence<C.n_kv_heads>()),
                         rings(undo, memory, std::make_index_sequence<C.n_kv_heads>())});
    }
  }

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

  /// Forgets the sequence.
  void clear() noexcept {
    for_each_ring([](Ring& ring) { ring.clear(); });
  }

 private:
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

  std::vector<Layer> layers_;
};

}}  // namespace mistral
