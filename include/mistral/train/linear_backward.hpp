// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include <mistral/core/buffer.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/dropout.hpp>
#include <mistral/kernels/elementwise.hpp>
#include <mistral/kernels/low_rank.hpp>
#include <mistral/kernels/matmul_backward.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/train/gradients.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// What the backward of a matrix with an adapter writes on its way.
struct LinearScratch {
  Buffer<float> low;   // (rows, rank) A x, scaled
  Buffer<float> dlow;  // (rows, rank)

  LinearScratch() = default;
  LinearScratch(std::size_t rows, std::size_t rank) : low(rows * rank), dlow(rows * rank) {}
};

/// The backward of y = W x: adds to the weights' gradient, and writes or adds to dx.
///   x, dx  (rows, In)   dy  (rows, Out)
template <std::size_t In, std::size_t Out>
void backward(const Linear<F32, In, Out>& linear, TensorGradient<F32>& gradient, std::size_t, const Dropout&,
              Rows<const float> x, Rows<const float> dy, Rows<float> dx, kernels::SumFrom from,
              LinearScratch&) noexcept {
  kernels::matmul_gradient(dy, x, gradient.weight.span());
  kernels::matmul_transposed(linear.weight.view(), dy, dx, from);
}

/// The same for a frozen matrix with an adapter, y = W x + s B (A x'), where x' is what dropout left of x: the
/// gradients are the adapter's, dB = s dy (A x')^T and dA = s B^T dy x'^T. Where W is multiplied as integers, its
/// inputs were rounded; their gradient is taken as if they had not been.
///   dropout  of the rows, as in the forward; its room holds x', then that input's gradient
template <WeightFormat F, std::size_t In, std::size_t Out>
void backward(const Linear<Lora<F>, In, Out>& linear, TensorGradient<Lora<F>>& gradient, std::size_t adapter,
              const Dropout& dropout, Rows<const float> x, Rows<const float> dy, Rows<float> dx, kernels::SumFrom from,
              LinearScratch& scratch) noexcept {
  kernels::matmul_transposed(linear.weight.view(), dy, dx, from);
  const LoraMatrices& m = linear.adapters[adapter];
  if (m.rank() == 0) return;
  const bool drops = !dropout.keys.empty() && m.dropout > 0.0f;
  const Rows<float> dropped(dropout.room.data(), x.rows(), In);
  const Rows<float> low(scratch.low.data(), x.rows(), m.rank());
  const Rows<float> dlow(scratch.dlow.data(), x.rows(), m.rank());
  if (drops) kernels::dropout(x, dropout.keys.first(x.rows()), m.stream, m.dropout, dropped);
  const Rows<const float> in = drops ? Rows<const float>(dropped) : x;

  kernels::low_rank(m.a.view(), in, m.scale, low);
  kernels::matmul_gradient(dy, low, gradient.b.span());

  kernels::for_row_parts(x.rows(), [&](std::size_t first, std::size_t count) {
    kernels::matmul_transposed(m.b.view(), dy.slice(first, count), dlow.slice(first, count));
    for (std::size_t t = first; t < first + count; ++t) {
      for (float& v : dlow.row(t)) v *= m.scale;
    }
  });
  kernels::matmul_gradient(dlow, in, gradient.a.span());

  if (!drops) return kernels::matmul_transposed(m.a.view(), dlow, dx, kernels::SumFrom::y);
  kernels::matmul_transposed(m.a.view(), dlow, dropped);
  kernels::dropout(dropped, dropout.keys.first(x.rows()), m.stream, m.dropout, dropped);
  kernels::add(dx, dropped);
}

}}  // namespace mistral
