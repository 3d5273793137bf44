#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <mistral/cache/ring_buffer.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/kv_entry.hpp>

namespace mistral::inline MISTRAL_ABI {

/// The keys and values that one sequence has seen, in each layer: a ring for every head, of the window's length (or the
/// context's, where there is no window). Keys are turned by RoPE already.
template <ModelConfig C, KvElement T>
class KvCache {
 public:
  using Entry = KvEntry<T, C.head_dim>;
  using Ring = RingBuffer<Entry, C.cache_len()>;
  struct Layer {
    std::array<Ring, C.n_kv_heads> keys;
    std::array<Ring, C.n_kv_heads> values;
  };

  /// Bytes of all rings.
  static constexpr std::size_t bytes = 2 * C.n_layers * C.n_kv_heads * Ring::bytes;

  KvCache() : layers_(C.n_layers) {}

  Layer& layer(std::size_t i) noexcept { return layers_[i]; }
  const Layer& layer(std::size_t i) const noexcept { return layers_[i]; }

  /// Number of tokens that went through the last layer: the position of the next one.
  std::int64_t position() const noexcept { return layers_.back().values.back().position(); }

  /// Number of times that the rings have gone round.
  std::int64_t wraps() const noexcept { return position() / static_cast<std::int64_t>(Ring::capacity); }

  /// Forgets the sequence.
  void clear() noexcept {
    for (Layer& layer : layers_) {
      for (Ring& ring : layer.keys) ring.clear();
      for (Ring& ring : layer.values) ring.clear();
    }
  }

 private:
  std::vector<Layer> layers_;
};

}  // namespace mistral::inline MISTRAL_ABI
