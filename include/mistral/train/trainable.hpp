// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The weight formats and the layers that can be trained.

#include <concepts>
#include <type_traits>

#include <mistral/core/config.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/kernels/elementwise_backward.hpp>
#include <mistral/nn/adapter_choice.hpp>
#include <mistral/nn/attention.hpp>
#include <mistral/nn/feed_forward.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Whether the weights of a format can be trained: all of them, as floats, or adapters beside frozen ones.
template <class F>
concept Trainable = std::is_same_v<F, F32> || HoldsAdapters<F>;

/// An activation that says how its gradient goes back.
template <class A>
concept HasBackward = Activation<A> &&
    (std::is_same_v<A, SwiGlu> || requires(Rows<const float> gate, Rows<float> up, Rows<float> dh) {
      { A::backward(gate, up, dh) }
      noexcept;
    });

/// Writes the gradients of an activation: that of w3 x over `up`, and that of w1 x, which is `gate`, over `dh`, that of
/// what w2 takes. All (tokens, hidden_dim).
template <HasBackward A>
void activation_backward(Rows<const float> gate, Rows<float> up, Rows<float> dh) noexcept {
  if constexpr (std::is_same_v<A, SwiGlu>) {
    kernels::swiglu_backward(gate, up, dh);
  } else {
    A::backward(gate, up, dh);
  }
}

namespace detail {

/// Whether Backward knows the way back through a layer. A layer that is only derived from one of these may do anything.
template <class Layer>
inline constexpr bool has_way_back = false;
template <ModelConfig C, WeightFormat F>
inline constexpr bool has_way_back<Attention<C, F>> = true;
template <ModelConfig C, WeightFormat F, Activation A>
inline constexpr bool has_way_back<FeedForward<C, F, A>> = HasBackward<A>;

/// The activation of a feed-forward; of one that has no way back, none.
template <class Layer>
struct ActivationIn {
  using type = void;
};
template <ModelConfig C, WeightFormat F, Activation A>
struct ActivationIn<FeedForward<C, F, A>> {
  using type = A;
};
template <class Layer>
using ActivationOf = typename ActivationIn<Layer>::type;

template <class Layers, ModelConfig C, WeightFormat F>
inline constexpr bool are_trainable =
    has_way_back<typename Layers::template Attention<C, F>>&& has_way_back<typename Layers::template FeedForward<C, F>>;

/// `TrainableLayers<Layers, C, F>::value` is true, or fails to compile; the compiler names the policy.
template <class Layers, ModelConfig C, WeightFormat F>
struct TrainableLayers {
  static_assert(are_trainable<Layers, C, F>,
                "a model of this layer policy can't be trained: it replaces a layer, and nobody says how gradients go "
                "back through it. What can be trained is Attention as it is, and FeedForward with an activation that "
                "has a backward (nn/feed_forward.hpp)");
  static constexpr bool value = true;
};

}  // namespace detail

}}  // namespace mistral
