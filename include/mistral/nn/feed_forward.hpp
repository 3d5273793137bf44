// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/core/config.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/elementwise.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/hooks.hpp>
#include <mistral/nn/linear.hpp>
#include <mistral/nn/workspace.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The function between a feed-forward's matrices, of w1 x and w3 x, row by row: forward(gate, up) writes it over gate,
/// both (tokens, hidden_dim). One that can be trained has backward(gate, up, dh) noexcept too, which writes the
/// gradient of w3 x over up, and that of w1 x over that of what w2 takes, dh; gate is w1 x.
template <class A>
concept Activation = requires(Rows<float> gate, Rows<const float> up) {
  { A::forward(gate, up) }
  noexcept;
};

/// silu(w1 x) * w3 x (arXiv 2002.05202).
struct SwiGlu {
  /// Writes the product over `gate`.
  static void forward(Rows<float> gate, Rows<const float> up) noexcept { kernels::swiglu(gate, up); }
};

/// w2 (silu(w1 x) * w3 x), with the names of Mistral's weights; or another activation in the place of SwiGLU.
template <ModelConfig C, WeightFormat F, Activation A = SwiGlu>
struct FeedForward {
  /// The function between the matrices.
  using Activation = A;

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
    A::forward(work.gate.view(), work.up.view());
  }
};

}}  // namespace mistral
