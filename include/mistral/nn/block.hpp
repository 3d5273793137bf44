// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include <mistral/kernels/elementwise.hpp>
#include <mistral/nn/attention.hpp>
#include <mistral/nn/feed_forward.hpp>
#include <mistral/nn/hooks.hpp>
#include <mistral/nn/rms_norm.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// One layer: two branches, each of which adds to the residual stream what it makes of the normed stream.
template <ModelConfig C, WeightFormat F>
struct Block {
  RmsNorm<C.dim> attention_norm;   ///< before attention
  Attention<C, F> attention;       ///< the first branch
  RmsNorm<C.dim> ffn_norm;         ///< before the feed-forward
  FeedForward<C, F> feed_forward;  ///< the second branch

  /// Takes the memory of the weights from `memory`.
  explicit Block(MemoryResource* memory = std::pmr::get_default_resource())
      : attention_norm(memory), attention(memory), ffn_norm(memory), feed_forward(memory) {}

  /// work.x (tokens, dim) goes in and comes out; with a tape that ends before w2, as it is between the branches.
  template <KvElement T, class Tape>
  void forward(std::size_t layer, std::span<const Sequence<C, T>> sequences, Workspace<C, F, T>& work, Tape& tape) const
      noexcept(!watches_inside_blocks<Tape>) {
    attention_norm.forward(work.x, C.norm_eps, work.branch);
    attention.forward(layer, sequences, work, tape);
    if constexpr (WatchesAttention<Tape>) {
      detail::show_rows(layer, sequences, true, work.branch.view(),
                        [&](const LayerRows& rows) { tape.attention_output(rows); });
    }
    kernels::add(work.x.view(), work.branch.view());
    if constexpr (WatchesBetween<Tape>) {
      static_assert(noexcept(tape.between(work.x.view())), "tape: between() must be noexcept");
      tape.between(work.x.view());
    }
    ffn_norm.forward(work.x, C.norm_eps, work.branch);
    feed_forward.forward(work, tape);
    if constexpr (!requires { Tape::ends_before_w2; }) {
      if constexpr (WatchesFeedForward<Tape>) {
        detail::show_rows(layer, sequences, true, work.branch.view(),
                          [&](const LayerRows& rows) { tape.feed_forward_output(rows); });
      }
      kernels::add(work.x.view(), work.branch.view());
    }
  }
};

}}  // namespace mistral
