// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The layers that a model is made of, as a policy of its type.

#include <concepts>
#include <string_view>
#include <type_traits>

#include <mistral/core/config.hpp>
#include <mistral/nn/attention.hpp>
#include <mistral/nn/feed_forward.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The layers of Mistral's models. A layer policy is derived from it, and replaces one or both of them by templates of
/// the same name; it has a `name`, a std::string_view, by which files of sessions know it. A layer takes
/// work.branch (tokens, dim) and leaves there what is added to the residual stream; it holds the tensors that the table
/// (core/tensors.hpp) has for it.
struct MistralLayers {
  /// The first branch of a block: forward(layer, context, work, tape).
  template <ModelConfig C, WeightFormat F>
  using Attention = mistral::Attention<C, F>;
  /// The second branch of a block: forward(context, work, tape).
  template <ModelConfig C, WeightFormat F>
  using FeedForward = mistral::FeedForward<C, F>;
};

/// A type that has layers for the shape C and the weight format F.
template <class Layers, ModelConfig C, class F>
concept LayersFor = requires {
  typename Layers::template Attention<C, F>;
  typename Layers::template FeedForward<C, F>;
};

namespace detail {

template <class Layers>
inline constexpr bool is_stock = std::is_same_v<Layers, MistralLayers>;

template <class Layer>
concept HasTensorsOfAttention = requires(Layer& layer) {
  layer.wq, layer.wk, layer.wv, layer.wo;
};
template <class Layer>
concept HasTensorsOfFeedForward = requires(Layer& layer) {
  layer.w1, layer.w2, layer.w3;
};
template <class Layers>
concept HasName = requires {
  { Layers::name } -> std::convertible_to<std::string_view>;
};

/// `CheckedLayers<Layers, C, F>::value` is true, or fails to compile where a layer policy isn't complete.
template <class Layers, ModelConfig C, WeightFormat F>
struct CheckedLayers {
 private:
  using Attention = typename Layers::template Attention<C, F>;
  using FeedForward = typename Layers::template FeedForward<C, F>;

  static_assert(is_stock<Layers> || !std::is_same_v<Attention, mistral::Attention<C, F>> ||
                    !std::is_same_v<FeedForward, mistral::FeedForward<C, F>>,
                "nn/layers.hpp: a layer policy replaces no layer: its members that do are the templates Attention and "
                "FeedForward, of a ModelConfig and a weight format");
  static_assert(is_stock<Layers> || HasName<Layers>,
                "nn/layers.hpp: a layer policy has no name: static constexpr std::string_view name = ...;");
  static_assert(HasTensorsOfAttention<Attention>,
                "nn/layers.hpp: a layer policy's Attention lacks a tensor of the table: it has wq, wk, wv and wo");
  static_assert(HasTensorsOfFeedForward<FeedForward>,
                "nn/layers.hpp: a layer policy's FeedForward lacks a tensor of the table: it has w1, w2 and w3");

 public:
  static constexpr bool value = true;
};

}  // namespace detail

}}  // namespace mistral
