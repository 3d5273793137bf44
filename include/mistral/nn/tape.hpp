// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/nn/hooks.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A tape watches a forward. It has whichever of these members it wants, and what it doesn't have leaves no code:
///   residual(const Residual&)              the stream as it enters each block, and as it leaves the last
///   scores(const AttentionScores&)         how much of each key a head takes, once for each layer, sequence and head;
///                                          to be read: attention never writes them down, so they are computed again,
///                                          slowly. With a member wants_scores(layer), of the layers it returns true
///                                          for
///   heads(const LayerRows&)                (rows, n_heads * head_dim) what each head made of the values, before wo
///   attention_output(const LayerRows&)     (rows, dim) what attention is about to add to the stream
///   feed_forward_output(const LayerRows&)  (rows, dim) what the feed-forward is about to add to the stream
/// These may throw; the forward's sequences are then to be reset. Also, for those who train:
///   between(Rows<float> x)  noexcept: the residual stream of all rows between a block's two branches
///   gate(Rows<float> gate)  noexcept: w1 x of all rows, before SwiGLU
/// A member of one of these names that can't be called so doesn't compile, nor does a misspelt one (CheckedTape).
/// NoTape watches nothing.
struct NoTape : WatchesNothing {};

/// A tape that hands the residual stream, before each block and after the last, to a function.
template <class F>
struct ResidualHook {
  F function;  ///< what is called
  /// Hands the stream on.
  ///@{
  void residual(const Residual& residual) { function(residual); }
  void residual(const Residual& residual) const requires std::invocable<const F&, const Residual&> {
    function(residual);
  }
  ///@}
};

/// A hook of any function: `ResidualHook{[](const Residual& residual) { ... }}`.
template <class F>
ResidualHook(F) -> ResidualHook<F>;

/// Keeps of a forward what its backward needs: one residual row for each layer and token, the block's input. All else
/// is taken again, block by block (activation checkpointing, arXiv 1604.06174).
template <ModelConfig C>
class GradTape {
 public:
  /// For forwards of up to `capacity` tokens.
  explicit GradTape(std::size_t capacity) {
    for (std::size_t i = 0; i < C.n_layers; ++i) inputs_.emplace_back(capacity);
  }

  /// Keeps the input of each block.
  void residual(const Residual& residual) noexcept {
    if (residual.layer == C.n_layers) return;  // the workspace holds it still
    Batch<C.dim>& kept = inputs_[residual.layer];
    const std::size_t first = residual.sequence == 0 ? 0 : kept.rows();
    kept.resize(first + residual.x.rows());
    std::memcpy(kept.view().data() + first * C.dim, residual.x.data(), residual.x.rows() * C.dim * sizeof(float));
  }

  /// The residual stream of all rows (tokens, dim) as it entered block `layer`.
  Rows<const float> block_input(std::size_t layer) const noexcept { return inputs_[layer].view(); }

  /// Tokens of a forward at most.
  std::size_t capacity() const noexcept { return inputs_[0].capacity(); }

  /// Bytes of a tape for `capacity` tokens.
  static constexpr std::size_t bytes(std::size_t capacity) noexcept {
    return C.n_layers * Batch<C.dim>::bytes(capacity);
  }

 private:
  std::vector<Batch<C.dim>> inputs_;
};

}}  // namespace mistral
