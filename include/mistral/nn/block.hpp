// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/core/config.hpp>
#include <mistral/kernels/elementwise.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/hooks.hpp>
#include <mistral/nn/layers.hpp>
#include <mistral/nn/rms_norm.hpp>
#include <mistral/nn/workspace.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// One layer: two branches, each of which adds to the residual stream what it makes of the normed stream. The policy
/// Layers says what the branches are.
template <ModelConfig C, WeightFormat F, LayersFor<C, F> Layers = MistralLayers>
struct Block {
  RmsNorm<C.dim> attention_norm;                             ///< before attention
  typename Layers::template Attention<C, F> attention;       ///< the first branch
  RmsNorm<C.dim> ffn_norm;                                   ///< before the feed-forward
  typename Layers::template FeedForward<C, F> feed_forward;  ///< the second branch

  /// Takes the memory of the weights from `memory`.
  explicit Block(MemoryResource* memory = std::pmr::get_default_resource())
      : attention_norm(memory), attention(memory), ffn_norm(memory), feed_forward(memory) {}

  /// work.x (tokens, dim) goes in and comes out.
  template <KvElement T, class Tape>
  void forward(std::size_t layer, const ForwardContext<C, T>& context, Workspace<C, F, T>& work, Tape& tape) const
      noexcept(!watches_inside_blocks<Tape>) {
    first_branch(layer, context, work, tape);
    feed_forward.forward(context, work, tape);
    if constexpr (WatchesFeedForward<Tape>) {
      detail::show_rows(layer, context.sequences, true, work.branch.view(),
                        [&](const LayerRows& rows) { tape.feed_forward_output(rows); });
    }
    kernels::add(work.x.view(), work.branch.view());
  }

  /// Goes as far as what w2 takes, when all that a backward needs stands in the workspace: work.x is as it is between
  /// the branches, work.branch what the feed-forward takes, and work.gate what w2 does.
  template <KvElement T, class Tape>
  void forward_to_w2(std::size_t layer, const ForwardContext<C, T>& context, Workspace<C, F, T>& work, Tape& tape) const
      noexcept(!watches_inside_blocks<Tape>) {
    first_branch(layer, context, work, tape);
    feed_forward.forward_to_w2(context, work, tape);
  }

 private:
  /// Attention, and the norm behind it.
  template <KvElement T, class Tape>
  void first_branch(std::size_t layer, const ForwardContext<C, T>& context, Workspace<C, F, T>& work, Tape& tape) const
      noexcept(!watches_inside_blocks<Tape>) {
    attention_norm.forward(work.x, C.norm_eps, work.branch);
    attention.forward(layer, context, work, tape);
    if constexpr (WatchesAttention<Tape>) {
      detail::show_rows(layer, context.sequences, true, work.branch.view(),
                        [&](const LayerRows& rows) { tape.attention_output(rows); });
    }
    kernels::add(work.x.view(), work.branch.view());
    if constexpr (WatchesBetween<Tape>) {
      static_assert(noexcept(tape.between(work.x.view())), "tape: between() must be noexcept");
      tape.between(work.x.view());
    }
    ffn_norm.forward(work.x, C.norm_eps, work.branch);
  }
};

}}  // namespace mistral
