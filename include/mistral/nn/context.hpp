// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/rows.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The next `rows` tokens of one sequence in a forward, and the cache that holds what went before. Without a cache they
/// are the whole sequence, from position 0 on, and nothing is kept: that is how training goes.
template <ModelConfig C, KvElement T>
struct Sequence {
  KvCache<C, T>* cache;     ///< what went before, and where the rows are pushed; or null
  std::size_t rows;         ///< tokens in the forward
  std::size_t adapter = 0;  ///< the adapter that the rows go through, or no_adapter, where the model holds adapters

  /// Position of the first row, before the rows went through any layer.
  std::int64_t position() const noexcept { return cache == nullptr ? 0 : cache->position(); }
};

/// The keys and the memory that dropout needs while adapters are trained. Without keys nothing is dropped.
struct Dropout {
  std::span<const std::uint64_t> keys = {};  ///< of each row: what its dropout is drawn from (kernels/dropout.hpp)
  std::span<float> room = {};                ///< for what it leaves of (rows, inputs), of the widest matrix
};

/// The facts that differ between the rows of a forward: whose they are, their positions, adapters and dropout. A
/// forward makes one and hands it down to all layers, so that what holds weights or activations knows nothing of rows
/// by itself. It points at the caller's sequences and at the workspace, and copies in a few words.
template <ModelConfig C, KvElement T>
struct ForwardContext {
  std::span<const Sequence<C, T>> sequences;  ///< whose rows they are, the first sequence's first
  Rows<const float> turns;                    ///< (rows, head_dim) cosines and sines of each row's position
  Dropout dropout = {};                       ///< of the rows that a layer is given
  std::size_t first = 0;                      ///< the row of the forward that a layer is given first
  std::span<const std::size_t> chosen = {};   ///< the rows that a layer is given; empty: all from `first` on

  /// Returns the first row of sequence `i`.
  std::size_t first_row(std::size_t i) const noexcept {
    std::size_t row = 0;
    for (std::size_t j = 0; j < i; ++j) row += sequences[j].rows;
    return row;
  }

  /// Returns the position of the first row of sequence `i`, before layer `layer` has pushed it to its ring.
  std::int64_t position(std::size_t i, std::size_t layer) const noexcept {
    return sequences[i].cache == nullptr ? 0 : sequences[i].cache->layer(layer).keys[0].position();
  }

  /// Returns the context of a layer that is given the forward's rows from `row` on.
  ForwardContext from_row(std::size_t row) const noexcept {
    ForwardContext context = *this;
    context.first = row;
    if (!dropout.keys.empty()) context.dropout.keys = dropout.keys.subspan(row);
    return context;
  }

  /// Returns the context of a layer that is given some of the forward's rows, of which nothing is dropped. It points at
  /// `rows`.
  ForwardContext of_rows(std::span<const std::size_t> rows) const noexcept {
    assert(dropout.keys.empty() && "context: rows that are chosen have no keys for dropout");
    ForwardContext context = *this;
    context.chosen = rows;
    return context;
  }

  /// Calls f(begin, count, adapter) for each run of rows, of the `rows` that a layer is given, with one adapter: as
  /// long as can be, so that there is one product for all of them.
  template <class Function>
  void for_each_adapter(std::size_t rows, const Function& f) const {
    std::size_t sequence = 0, before = 0;  // rows of the sequences before that one
    std::size_t begin = 0, adapter = 0;    // of the run
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t row = chosen.empty() ? first + i : chosen[i];
      if (row < before) sequence = before = 0;
      while (row - before >= sequences[sequence].rows) before += sequences[sequence++].rows;
      const std::size_t next = sequences[sequence].adapter;
      if (i > 0 && next != adapter) {
        f(begin, i - begin, adapter);
        begin = i;
      }
      adapter = next;
    }
    if (rows > 0) f(begin, rows - begin, adapter);
  }
};

}}  // namespace mistral
