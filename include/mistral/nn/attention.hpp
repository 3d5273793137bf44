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
#include <mistral/nn/context.hpp>
#include <mistral/nn/hooks.hpp>
#include <mistral/nn/linear.hpp>
#include <mistral/nn/workspace.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

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
  void forward(std::size_t layer, const ForwardContext<C, T>& context, Workspace<C, F, T>& work, Tape& tape) const
      noexcept(!watches_inside_blocks<Tape>) {
    project(context, work);
    attend(layer, context, work, tape);
    wo.forward(work.inputs.prepare(work.attended.view()), context, work.branch);
  }

  /// Makes work.q, work.k and work.v of work.branch, q and k turned by the rows' positions.
  template <KvElement T>
  void project(const ForwardContext<C, T>& context, Workspace<C, F, T>& work) const noexcept {
    const auto x = work.inputs.prepare(work.branch.view());
    forward_together(x, context, Projection{wq, work.q}, Projection{wk, work.k}, Projection{wv, work.v});
    kernels::rope(work.q.view(), context.turns);
    kernels::rope(work.k.view(), context.turns);
  }

  /// Makes work.attended (tokens, n_heads * head_dim) of work.q, work.k, work.v and the caches' layer, shows it to the
  /// tape, and pushes the rows' keys and values to the caches.
  template <KvElement T, class Tape>
  static void attend(std::size_t layer, const ForwardContext<C, T>& context, Workspace<C, F, T>& work,
                     Tape& tape) noexcept(!watches_inside_blocks<Tape>) {
    const std::span<const Sequence<C, T>> sequences = context.sequences;
    by_head<T>(work.k, work.capacity(), work.chunk_keys);
    by_head<T>(work.v, work.capacity(), work.chunk_values);

    work.attended.resize(work.branch.rows());
    kernels::attention<T>(
        {.head_dim = C.head_dim, .n_heads = C.n_heads, .n_kv_heads = C.n_kv_heads, .window = C.window_size},
        work.q.view(), work.attended.view(), sequences.size(),
        [&](std::size_t i) {
          return kernels::SequenceSpan{context.first_row(i), sequences[i].rows, context.position(i, layer)};
        },
        [&](std::size_t i, std::size_t head) { return seen_by(context, i, layer, head, work); });

    if constexpr (WatchesScores<Tape>) show_scores(layer, context, work, tape);
    if constexpr (WatchesHeads<Tape>) {
      detail::show_rows(layer, sequences, false, work.attended.view(),
                        [&](const LayerRows& rows) { tape.heads(rows); });
    }

    // Only now do the rows enter the ring: before, they would have overwritten keys that the first of them still saw.
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      if (sequences[i].cache == nullptr) continue;
      auto& cached = sequences[i].cache->layer(layer);
      for (std::size_t head = 0; head < C.n_kv_heads; ++head) {
        cached.keys[head].push(chunk(work.chunk_keys, context, i, head, work.capacity()));
        cached.values[head].push(chunk(work.chunk_values, context, i, head, work.capacity()));
      }
    }
  }

 private:
  template <KvElement T>
  using Entry = typename KvCache<C, T>::Entry;

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
  static std::span<const Entry<T>> chunk(const Buffer<Entry<T>>& entries, const ForwardContext<C, T>& context,
                                         std::size_t i, std::size_t head, std::size_t capacity) noexcept {
    return {entries.data() + head * capacity + context.first_row(i), context.sequences[i].rows};
  }

  /// All that the rows of sequence i see of one head: what its ring holds, and the entries that it adds.
  template <KvElement T>
  static kernels::HeadContext seen_by(const ForwardContext<C, T>& context, std::size_t i, std::size_t layer,
                                      std::size_t head, const Workspace<C, F, T>& work) noexcept {
    const auto own = [&](const Buffer<Entry<T>>& entries) {
      return std::as_bytes(chunk(entries, context, i, head, work.capacity()));
    };
    KvCache<C, T>* const cache = context.sequences[i].cache;
    if (cache == nullptr) return {{{own(work.chunk_keys)}}, {{own(work.chunk_values)}}, 0};
    const auto& cached = cache->layer(layer);
    const auto entries = [&](const auto& ring, const Buffer<Entry<T>>& newest) {
      const auto [older, newer] = ring.spans();
      return kernels::HeadEntries{{std::as_bytes(older), std::as_bytes(newer), own(newest)}};
    };
    return {entries(cached.keys[head], work.chunk_keys), entries(cached.values[head], work.chunk_values),
            cached.keys[head].first_position()};
  }

  template <KvElement T, class Tape>
  static void show_scores(std::size_t layer, const ForwardContext<C, T>& context, const Workspace<C, F, T>& work,
                          Tape& tape) {
    if constexpr (ChoosesScores<Tape>) {
      if (!tape.wants_scores(layer)) return;
    }
    Buffer<float> scores;  // as many as the sequences so far needed
    for (std::size_t i = 0; i < context.sequences.size(); ++i) {
      const std::size_t rows = context.sequences[i].rows;
      const std::int64_t first = context.position(i, layer);
      constexpr auto window = static_cast<std::int64_t>(C.window_size);
      const std::int64_t first_key = window == 0 ? 0 : (std::max<std::int64_t>)(0, first + 1 - window);
      const auto keys = static_cast<std::size_t>(first - first_key) + rows;
      if (scores.size() < rows * keys) scores = Buffer<float>(rows * keys, Uninitialized{});
      for (std::size_t head = 0; head < C.n_heads; ++head) {
        const Rows<float> out(scores.data(), rows, keys);
        const Rows<const float> q(work.q.view().data() + context.first_row(i) * C.query_dim() + head * C.head_dim, rows,
                                  C.head_dim, C.query_dim());
        kernels::attention_scores<T>(q, seen_by(context, i, layer, head / (C.n_heads / C.n_kv_heads), work), first,
                                     first_key, C.window_size, out);
        tape.scores(AttentionScores{layer, i, head, first, first_key, out});
      }
    }
  }
};

}}  // namespace mistral
