// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/core/config.hpp>
#include <mistral/kernels/attention.hpp>
#include <mistral/kernels/attention_scores.hpp>
#include <mistral/kernels/rope.hpp>
#include <mistral/nn/hooks.hpp>
#include <mistral/nn/linear.hpp>
#include <mistral/nn/workspace.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The next `rows` tokens of one sequence in a forward, and the cache that holds what went before. Without a cache they
/// are the whole sequence, from position 0 on, and nothing is kept: that is how training goes.
template <ModelConfig C, KvElement T>
struct Sequence {
  KvCache<C, T>* cache;  ///< what went before, and where the rows are pushed; or null
  std::size_t rows;      ///< tokens in the forward

  /// Position of the first row, before the rows went through any layer.
  std::int64_t position() const noexcept { return cache == nullptr ? 0 : cache->position(); }
};

/// Grouped-query attention through the sliding window (section 2 of the paper).
template <ModelConfig C, WeightFormat F>
struct Attention {
  Linear<F, C.dim, C.query_dim()> wq;  ///< (n_heads * head_dim, dim)
  Linear<F, C.dim, C.kv_dim()> wk;     ///< (n_kv_heads * head_dim, dim)
  Linear<F, C.dim, C.kv_dim()> wv;     ///< (n_kv_heads * head_dim, dim)
  Linear<F, C.query_dim(), C.dim> wo;  ///< (dim, n_heads * head_dim)

  /// Takes the memory of the weights from `memory`.
  explicit Attention(MemoryResource* memory = std::pmr::get_default_resource())
      : wq(memory), wk(memory), wv(memory), wo(memory) {}

  /// work.branch (tokens, dim) goes in and comes out; the rows' keys and values are pushed to the caches' layer. A tape
  /// is shown the scores, and what comes out of the heads.
  template <KvElement T, class Tape>
  void forward(std::size_t layer, std::span<const Sequence<C, T>> sequences, Workspace<C, F, T>& work, Tape& tape) const
      noexcept(!watches_inside_blocks<Tape>) {
    const auto x = work.inputs.prepare(work.branch.view());
    forward_together(x, Projection{wq, work.q}, Projection{wk, work.k}, Projection{wv, work.v});
    kernels::rope(work.q.view(), work.turns.view());
    kernels::rope(work.k.view(), work.turns.view());
    by_head<T>(work.k, work.capacity(), work.chunk_keys);
    by_head<T>(work.v, work.capacity(), work.chunk_values);

    work.attended.resize(work.branch.rows());
    kernels::attention<T>(
        {.head_dim = C.head_dim, .n_heads = C.n_heads, .n_kv_heads = C.n_kv_heads, .window = C.window_size},
        work.q.view(), work.attended.view(), sequences.size(),
        [&](std::size_t i) {
          return kernels::SequenceSpan{first_row(sequences, i), sequences[i].rows, position(sequences[i], layer)};
        },
        [&](std::size_t i, std::size_t head) { return context(sequences, i, layer, head, work); });

    if constexpr (WatchesScores<Tape>) show_scores(layer, sequences, work, tape);
    if constexpr (WatchesHeads<Tape>) {
      detail::show_rows(layer, sequences, false, work.attended.view(),
                        [&](const LayerRows& rows) { tape.heads(rows); });
    }

    // Only now do the rows enter the ring: before, they would have overwritten keys that the first of them still saw.
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      if (sequences[i].cache == nullptr) continue;
      auto& cached = sequences[i].cache->layer(layer);
      for (std::size_t head = 0; head < C.n_kv_heads; ++head) {
        cached.keys[head].push(chunk(work.chunk_keys, sequences, i, head, work.capacity()));
        cached.values[head].push(chunk(work.chunk_values, sequences, i, head, work.capacity()));
      }
    }
    wo.forward(work.inputs.prepare(work.attended.view()), work.branch);
  }

 private:
  template <KvElement T>
  using Entry = typename KvCache<C, T>::Entry;

  template <KvElement T>
  static std::size_t first_row(std::span<const Sequence<C, T>> sequences, std::size_t i) noexcept {
    std::size_t row = 0;
    for (std::size_t j = 0; j < i; ++j) row += sequences[j].rows;
    return row;
  }

  template <KvElement T>
  static std::int64_t position(const Sequence<C, T>& sequence, std::size_t layer) noexcept {
    return sequence.cache == nullptr ? 0 : sequence.cache->layer(layer).keys[0].position();
  }

  /// Rounds x (tokens, n_kv_heads * head_dim) to the cache's element, a head after the other: the rows of a chunk are
  /// attended to as the cache will hold them, so that prefill and decode see the same keys.
  template <KvElement T>
  static void by_head(const Batch<C.kv_dim()>& x, std::size_t capacity, Buffer<Entry<T>>& out) noexcept {
    for (std::size_t head = 0; head < C.n_kv_heads; ++head) {
      for (std::size_t t = 0; t < x.rows(); ++t) {
        out.data()[head * capacity + t].write(x.row(t).subspan(head * C.head_dim).template first<C.head_dim>());
      }
    }
  }

  /// The entries of one head that sequence i adds.
  template <KvElement T>
  static std::span<const Entry<T>> chunk(const Buffer<Entry<T>>& entries, std::span<const Sequence<C, T>> sequences,
                                         std::size_t i, std::size_t head, std::size_t capacity) noexcept {
    return {entries.data() + head * capacity + first_row(sequences, i), sequences[i].rows};
  }

  template <KvElement T>
  static kernels::HeadContext context(std::span<const Sequence<C, T>> sequences, std::size_t i, std::size_t layer,
                                      std::size_t head, const Workspace<C, F, T>& work) noexcept {
    const auto own = [&](const Buffer<Entry<T>>& entries) {
      return std::as_bytes(chunk(entries, sequences, i, head, work.capacity()));
    };
    if (sequences[i].cache == nullptr) return {{{own(work.chunk_keys)}}, {{own(work.chunk_values)}}, 0};
    const auto& cached = sequences[i].cache->layer(layer);
    const auto entries = [&](const auto& ring, const Buffer<Entry<T>>& newest) {
      const auto [older, newer] = ring.spans();
      return kernels::HeadEntries{{std::as_bytes(older), std::as_bytes(newer), own(newest)}};
    };
    return {entries(cached.keys[head], work.chunk_keys), entries(cached.values[head], work.chunk_values),
            cached.keys[head].first_position()};
  }

  template <KvElement T, class Tape>
  static void show_scores(std::size_t layer, std::span<const Sequence<C, T>> sequences, const Workspace<C, F, T>& work,
                          Tape& tape) {
    if constexpr (ChoosesScores<Tape>) {
      if (!tape.wants_scores(layer)) return;
    }
    Buffer<float> scores;  // as many as the sequences so far needed
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const std::size_t rows = sequences[i].rows;
      const std::int64_t first = position(sequences[i], layer);
      constexpr auto window = static_cast<std::int64_t>(C.window_size);
      const std::int64_t first_key = window == 0 ? 0 : (std::max<std::int64_t>)(0, first + 1 - window);
      const auto keys = static_cast<std::size_t>(first - first_key) + rows;
      if (scores.size() < rows * keys) scores = Buffer<float>(rows * keys, Uninitialized{});
      for (std::size_t head = 0; head < C.n_heads; ++head) {
        const Rows<float> out(scores.data(), rows, keys);
        const Rows<const float> q(work.q.view().data() + first_row(sequences, i) * C.query_dim() + head * C.head_dim,
                                  rows, C.head_dim, C.query_dim());
        kernels::attention_scores<T>(q, context(sequences, i, layer, head / (C.n_heads / C.n_kv_heads), work), first,
                                     first_key, C.window_size, out);
        tape.scores(AttentionScores{layer, i, head, first, first_key, out});
      }
    }
  }
};

}}  // namespace mistral
