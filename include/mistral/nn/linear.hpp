// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include <mistral/core/rows.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/matmul.hpp>
#include <mistral/nn/context.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// y = W x, with W (Out, In) held in the format F. No bias: the model has none.
template <WeightFormat F, std::size_t In, std::size_t Out>
struct Linear {
  Panels<F> weight;  ///< (Out, In)

  /// Takes the memory of the weights from `memory`.
  explicit Linear(MemoryResource* memory = std::pmr::get_default_resource()) : weight(Out, In, memory) {}

  static constexpr std::size_t bytes = PanelsView<F>::bytes(Out, In);  ///< of the weights

  /// x (tokens, In), prepared for the format, of the rows that the context is of; y takes as many rows.
  template <ModelConfig C, KvElement T>
  void forward(const kernels::Inputs<F>& x, const ForwardContext<C, T>& context, Batch<Out>& y) const noexcept {
    y.resize(x.rows());
    forward(x, context, y.view());
  }
  /// Writes the product to y (tokens, Out), of as many rows as x. These weights are the same for every row.
  template <ModelConfig C, KvElement T>
  void forward(const kernels::Inputs<F>& x, const ForwardContext<C, T>&, Rows<float> y) const noexcept {
    kernels::matmul(weight.view(), x, y);
  }
};

/// A matrix, and where its product with the inputs goes.
template <WeightFormat F, std::size_t In, std::size_t Out>
struct Projection {
  const Linear<F, In, Out>& linear;  ///< the matrix
  Batch<Out>& y;                     ///< (tokens, Out)
};
/// Of a matrix and its outputs (clang 14 derives no guide for an aggregate).
template <WeightFormat F, std::size_t In, std::size_t Out>
Projection(const Linear<F, In, Out>&, Batch<Out>&) -> Projection<F, In, Out>;

namespace detail {

/// The products with the weights alone; x is for the format that they are held in.
template <WeightFormat F, class... Projections>
void multiply_together(const kernels::Inputs<F>& x, const Projections&... projections) noexcept {
  (projections.y.resize(x.rows()), ...);
  const kernels::Product<F> products[] = {{projections.linear.weight.view(), projections.y.view()}...};
  kernels::matmul<F>(products, x);
}

}  // namespace detail

/// The products of several matrices with the same inputs, with the bits that each has by itself: the threads meet once
/// for all of them.
template <WeightFormat F, ModelConfig C, KvElement T, std::size_t In, std::size_t... Out>
void forward_together(const kernels::Inputs<F>& x, const ForwardContext<C, T>&,
                      const Projection<F, In, Out>&... projections) noexcept {
  detail::multiply_together<F>(x, projections...);
}

/// A vector of Dim values for each of Vocab tokens, held in the format F.
template <WeightFormat F, std::size_t Vocab, std::size_t Dim>
struct Embedding {
  Panels<F> weight;  ///< (Vocab, Dim)

  /// Takes the memory of the weights from `memory`.
  explicit Embedding(MemoryResource* memory = std::pmr::get_default_resource()) : weight(Vocab, Dim, memory) {}

  static constexpr std::size_t bytes = PanelsView<F>::bytes(Vocab, Dim);  ///< of the weights

  /// The vector of one token: 0 <= id < Vocab.
  void lookup(std::size_t id, std::span<float, Dim> out) const noexcept { weight.unpack_row(id, out); }
};

}}  // namespace mistral
