// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where the tensors of the table (core/tensors.hpp) stand in a model, and the one function that visits them. A row of
/// the table that has no member doesn't compile, nor does a member of a layer that has no row.

#include <cstddef>
#include <type_traits>
#include <utility>

#include <mistral/core/tensors.hpp>
#include <mistral/nn/linear.hpp>
#include <mistral/nn/rms_norm.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

namespace detail {

/// A message for a row of the table that tensor_of doesn't know: the compiler names the role beside it.
template <TensorRole R>
inline constexpr bool has_member = false;
template <TensorRole R>
struct TensorWithoutMember {
  static_assert(has_member<R>, "nn/tensors.hpp: tensor_of knows no member for a row of the table of tensors");
  static TensorWithoutMember none;
};

/// Calls f(TensorAt<R>{}) for each role R of the rows Begin ... End - 1.
template <std::size_t Begin, std::size_t End, class Function>
constexpr void for_rows(Function&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (f(TensorAt<static_cast<TensorRole>(Begin + I)>{}), ...); }
  (std::make_index_sequence<End - Begin>{});
}

}  // namespace detail

/// Returns the member that holds a tensor: an Embedding, an RmsNorm or a Linear.
///   owner  a Block for the tensors of layers, a Transformer for the others
template <TensorRole R, class Owner>
constexpr auto& tensor_of(Owner& owner) noexcept {
  if constexpr (R == TensorRole::tok_embeddings) {
    return owner.tok_embeddings;
  } else if constexpr (R == TensorRole::attention_norm) {
    return owner.attention_norm;
  } else if constexpr (R == TensorRole::wq) {
    return owner.attention.wq;
  } else if constexpr (R == TensorRole::wk) {
    return owner.attention.wk;
  } else if constexpr (R == TensorRole::wv) {
    return owner.attention.wv;
  } else if constexpr (R == TensorRole::wo) {
    return owner.attention.wo;
  } else if constexpr (R == TensorRole::ffn_norm) {
    return owner.ffn_norm;
  } else if constexpr (R == TensorRole::w1) {
    return owner.feed_forward.w1;
  } else if constexpr (R == TensorRole::w2) {
    return owner.feed_forward.w2;
  } else if constexpr (R == TensorRole::w3) {
    return owner.feed_forward.w3;
  } else if constexpr (R == TensorRole::norm) {
    return owner.norm;
  } else if constexpr (R == TensorRole::output) {
    return owner.output;
  } else {
    return detail::TensorWithoutMember<R>::none;
  }
}

namespace detail {

/// The shape of a member that holds a tensor, and how it is held.
template <class Member>
struct MemberShape;
template <WeightFormat F, std::size_t Vocab, std::size_t Dim>
struct MemberShape<Embedding<F, Vocab, Dim>> {
  static constexpr TensorKind kind = TensorKind::embedding;
  static constexpr std::size_t rows = Vocab, cols = Dim;
};
template <std::size_t Dim>
struct MemberShape<RmsNorm<Dim>> {
  static constexpr TensorKind kind = TensorKind::norm;
  static constexpr std::size_t rows = 1, cols = Dim;
};
template <WeightFormat F, std::size_t In, std::size_t Out>
struct MemberShape<Linear<F, In, Out>> {
  static constexpr TensorKind kind = TensorKind::matrix;
  static constexpr std::size_t rows = Out, cols = In;
};

template <class Model>
using BlockOf = typename std::remove_cvref_t<decltype(std::declval<Model&>().layers)>::value_type;

template <class Model, TensorRole R>
using MemberOf = std::remove_cvref_t<decltype(tensor_of<R>(
    std::declval<std::conditional_t<row_of(R).in_layer, BlockOf<Model>&, Model&>>()))>;

/// Whether a member is of the kind and the shape that its row of the table says.
template <class Model, TensorRole R>
inline constexpr bool member_is_as_its_row = MemberShape<MemberOf<Model, R>>::kind ==
                                                 row_of(R).kind&& MemberShape<MemberOf<Model, R>>::rows ==
                                                 extent_of(row_of(R).rows, Model::config) &&
                                             MemberShape<MemberOf<Model, R>>::cols ==
                                                 extent_of(row_of(R).cols, Model::config);

template <class Model, TensorRole R>
struct CheckedMember {
  static_assert(member_is_as_its_row<Model, R>,
                "nn/tensors.hpp: a member has another shape or kind than its row of the table of tensors");
  static constexpr std::size_t size = sizeof(MemberOf<Model, R>);
};

/// Bytes of the members that hold the tensors of a layer, or of the model beside its layers.
template <class Model>
constexpr std::size_t size_of_members(bool in_layer) noexcept {
  std::size_t size = 0;
  for_rows<0, tensor_row_count>([&]<TensorRole R>(TensorAt<R>) {
    if (row_of(R).in_layer == in_layer) size += CheckedMember<Model, R>::size;
  });
  return size;
}

/// Bytes of the members of a layer or a model that are no tensors, which it names by a constant of this name.
template <class Layer>
constexpr std::size_t bytes_beside_tensors() noexcept {
  if constexpr (requires { Layer::bytes_beside_tensors; }) {
    return Layer::bytes_beside_tensors;
  } else {
    return 0;
  }
}

/// Bytes of the members of a block that the table knows or its layers name.
template <class Model>
constexpr std::size_t size_of_known_members() noexcept {
  using Block = BlockOf<Model>;
  return size_of_members<Model>(true) + bytes_beside_tensors<Block>() +
         bytes_beside_tensors<decltype(Block::attention)>() + bytes_beside_tensors<decltype(Block::feed_forward)>();
}

/// Whether an object of that size and alignment has room for a member beside those that are known.
constexpr bool has_room(std::size_t size, std::size_t alignment, std::size_t of_known) noexcept {
  return size >= of_known + alignment;
}

/// `CheckedTensors<Model>::value` is true, or fails to compile where the members of a model and the rows of the table
/// differ: in number, kind or shape.
template <class Model>
struct CheckedTensors {
  static_assert(
      !has_room(sizeof(BlockOf<Model>), alignof(BlockOf<Model>), size_of_known_members<Model>()),
      "nn/tensors.hpp: a layer has a member that the table of tensors (core/tensors.hpp) has no row for; what is "
      "no tensor is to be counted by the layer's constant bytes_beside_tensors");
  static_assert(!has_room(sizeof(Model), alignof(Model), size_of_members<Model>(false) + Model::bytes_beside_tensors),
                "nn/tensors.hpp: a model has a member that the table of tensors (core/tensors.hpp) has no row for");
  static constexpr bool value = true;
};

}  // namespace detail

/// Calls visit(TensorAt<R>, member) for each tensor of a model, in the order of a forward: first those in front of the
/// layers, then each layer's, then those behind them.
template <class Model, class Visitor>
void visit_tensors(Model& model, Visitor&& visit) {
  constexpr detail::LayerRowsOfTable in_layers = detail::layer_rows();
  const auto visit_own = [&]<TensorRole R>(TensorAt<R> at) { visit(at, tensor_of<R>(model)); };
  detail::for_rows<0, in_layers.begin>(visit_own);
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    detail::for_rows<in_layers.begin, in_layers.end>(
        [&]<TensorRole R>(TensorAt<R>) { visit(TensorAt<R>{i}, tensor_of<R>(model.layers[i])); });
  }
  detail::for_rows<in_layers.end, tensor_row_count>(visit_own);
}

}}  // namespace mistral
