// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/core/config.hpp>
#include <mistral/kernels/elementwise.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/hooks.hpp>
#include <mistral/nn/linear.hpp>
#include <mistral/nn/workspace.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// w2 (silu(w1 x) * w3 x): SwiGLU (arXiv 2002.05202), with the names of Mistral's weights.
template <ModelConfig C, WeightFormat F>
struct FeedForward {
  Linear<F, C.dim, C.hidden_dim> w1;  ///< (hidden_dim, dim) what goes through silu
  Linear<F, C.hidden_dim, C.dim> w2;  ///< (dim, hidden_dim)
  Linear<F, C.dim, C.hidden_dim> w3;  ///< (hidden_dim, dim)

  /// Takes the memory of the weights from `memory`.
  explicit FeedForward(MemoryResource* memory = std::pmr::get_default_resource())
      : w1(memory), w2(memory), w3(memory) {}

  /// work.branch (tokens, dim) goes in and comes out. A tape is shown w1 x.
  template <KvElement T, class Tape>
  void forward(const ForwardContext<C, T>& context, Workspace<C, F, T>& work, Tape& tape) const noexcept {
    forward_to_w2(context, work, tape);
    w2.forward(work.inputs.prepare(work.gate.view()), context, work.branch);
  }

  /// Goes as far as what w2 takes, which it leaves in work.gate (tokens, hidden_dim); work.branch stays as it was. It
  /// is all that a backward needs.
  template <KvElement T, class Tape>
  void forward_to_w2(const ForwardContext<C, T>& context, Workspace<C, F, T>& work, Tape& tape) const noexcept {
    const auto x = work.inputs.prepare(work.branch.view());
    forward_together(x, context, Projection{w1, work.gate}, Projection{w3, work.up});
    if constexpr (WatchesGate<Tape>) {
      static_assert(noexcept(tape.gate(work.gate.view())), "tape: gate() must be noexcept");
      tape.gate(work.gate.view());
    }
    kernels::swiglu(work.gate.view(), work.up.view());
  }
};

}}  // namespace mistral
