// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/core/buffer.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/inputs.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// What a forward of up to `capacity` tokens writes on its way: every activation there is, allocated once, and taken
/// from the system as it is first written. So forwards of few tokens take the memory of few.
template <ModelConfig C, WeightFormat F, KvElement T>
struct Workspace {
  /// A key or value as the cache holds it.
  using Entry = typename KvCache<C, T>::Entry;
  static constexpr std::size_t widest = (std::max)({C.dim, C.query_dim(), C.hidden_dim});  ///< of what a matrix takes

  /// Room for forwards of up to `capacity` tokens.
  explicit Workspace(std::size_t capacity)
      : x(capacity),
        branch(capacity),
        q(capacity),
        k(capacity),
        v(capacity),
        attended(capacity),
        gate(capacity),
        up(capacity),
        turns(capacity),
        inputs(capacity, widest),
        chunk_keys(capacity * C.n_kv_heads, Uninitialized{}),
        chunk_values(capacity * C.n_kv_heads, Uninitialized{}) {}

  Batch<C.dim> x;                  ///< (tokens, dim) the residual stream
  Batch<C.dim> branch;             ///< (tokens, dim) what goes into a branch, normed, and what comes out of it
  Batch<C.query_dim()> q;          ///< (tokens, n_heads * head_dim)
  Batch<C.kv_dim()> k;             ///< (tokens, n_kv_heads * head_dim)
  Batch<C.kv_dim()> v;             ///< (tokens, n_kv_heads * head_dim)
  Batch<C.query_dim()> attended;   ///< (tokens, n_heads * head_dim)
  Batch<C.hidden_dim> gate;        ///< (tokens, hidden_dim)
  Batch<C.hidden_dim> up;          ///< (tokens, hidden_dim)
  Batch<C.head_dim> turns;         ///< (tokens, head_dim) cosines and sines of each row's position
  kernels::InputBuffer<F> inputs;  ///< activations as the format F multiplies them
  Buffer<Entry> chunk_keys;        ///< (n_kv_heads, capacity) the rows' own keys, as the cache will hold them
  Buffer<Entry> chunk_values;      ///< (n_kv_heads, capacity)

  /// Tokens of a forward at most.
  std::size_t capacity() const noexcept { return x.capacity(); }

  /// Bytes of a workspace for `capacity` tokens.
  static constexpr std::size_t bytes(std::size_t capacity) noexcept {
    const std::size_t floats = 2 * C.dim + 2 * C.query_dim() + 2 * C.kv_dim() + 2 * C.hidden_dim + C.head_dim;
    return capacity * (floats * sizeof(float) + 2 * C.n_kv_heads * sizeof(Entry)) +
           kernels::InputBuffer<F>::bytes(capacity, widest);
  }
};

}}  // namespace mistral
