// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The steps of a backward, in order, as a list that the compiler holds against the table of tensors and against what
/// Backward does.

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include <mistral/core/tensors.hpp>
#include <mistral/nn/tensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The tensors that Backward steps back through, in the order of the steps. The steps are taken by this list, so that
/// Backward::back has one for each of them or doesn't compile.
inline constexpr TensorRole backward_steps[] = {TensorRole::output,
                                                TensorRole::norm,
                                                TensorRole::w2,
                                                TensorRole::w1,
                                                TensorRole::w3,
                                                TensorRole::ffn_norm,
                                                TensorRole::wo,
                                                TensorRole::wq,
                                                TensorRole::wk,
                                                TensorRole::wv,
                                                TensorRole::attention_norm,
                                                TensorRole::tok_embeddings};

constexpr bool is_backward_step(TensorRole role) noexcept {
  return std::find(std::begin(backward_steps), std::end(backward_steps), role) != std::end(backward_steps);
}

template <TensorRole R>
struct CheckedStep {
  static_assert(
      is_backward_step(R) || !row_of(R).trained,
      "train/backward_steps.hpp: Backward has no step back for a row of the table of tensors that is trained");
  static constexpr bool value = true;
};

/// Fails to compile where a tensor that is trained has no step; the compiler names its role.
constexpr bool all_steps_are_there() noexcept {
  bool all = true;
  for_rows<0, tensor_row_count>([&]<TensorRole R>(TensorAt<R>) { all = all && CheckedStep<R>::value; });
  return all;
}
static_assert(all_steps_are_there());

/// A part of a model, by how often a backward comes through it.
enum class BackwardPart {
  head,       ///< for some rows with targets at a time
  layers,     ///< once for each layer
  embedding,  ///< once
};
constexpr BackwardPart part_of(const TensorRow& row) noexcept {
  if (row.in_layer) return BackwardPart::layers;
  return row.kind == TensorKind::embedding ? BackwardPart::embedding : BackwardPart::head;
}

template <BackwardPart P, TensorRole R, class Step>
void step_in(const Step& step) noexcept {
  if constexpr (part_of(row_of(R)) == P) step(TensorAt<R>{});
}

/// Calls step(TensorAt<R>{}) for the roles of backward_steps that stand in a part, in order.
template <BackwardPart P, class Step>
void for_steps(const Step& step) noexcept {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (step_in<P, backward_steps[I]>(step), ...); }
  (std::make_index_sequence<std::size(backward_steps)>{});
}

/// A message for a role that is in the list of steps alone: the compiler names it.
template <TensorRole R>
inline constexpr bool has_step = false;
template <TensorRole R>
struct WrittenStep {
  static_assert(has_step<R>, "train/backward.hpp: a role of backward_steps has no step in Backward::back");
  static constexpr bool value = true;
};

}  // namespace detail

}}  // namespace mistral
