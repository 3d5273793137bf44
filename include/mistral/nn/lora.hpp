// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/kernels/dropout.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/low_rank.hpp>
#include <mistral/kernels/matmul.hpp>
#include <mistral/nn/adapter_choice.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/linear.hpp>
#include <mistral/nn/tensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Weights of any format F that stay as they are, and beside each matrix W any number of low-rank adapters (LoRA, arXiv
/// 2106.09685): W x + scale B (A x), with A (rank, inputs) and B (outputs, rank) in float. It is a way to hold weights:
/// a Transformer<C, Lora<F>> runs wherever one of F does, and without adapters its logits have the bits of F's.
template <NamedFormat F>
struct Lora {
  /// The format of the weights.
  using Base = F;
  /// As F has it.
  ///@{
  static constexpr std::string_view name = F::name;
  static constexpr std::size_t block_inputs = F::block_inputs;
  static constexpr std::size_t block_bytes = F::block_bytes;
  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept { F::pack(in, block); }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept { F::unpack(block, w); }
  ///@}
};

/// True, of Lora<F>.
template <class F>
inline constexpr bool is_lora<Lora<F>> = true;

/// The largest rank of an adapter: a workspace holds that many floats for each row.
inline constexpr std::size_t max_lora_rank = 512;

/// What an adapter adds to one matrix; rank 0 where it leaves the matrix alone.
struct LoraMatrices {
  Panels<F32> a;             ///< (rank, inputs)
  Panels<F32> b;             ///< (outputs, rank)
  float scale = 0.0f;        ///< what the product is multiplied with: alpha / rank, or alpha / sqrt(rank)
  float alpha = 0.0f;        ///< as PEFT has it; see `scale`
  bool rslora = false;       ///< which of the two (rank-stabilised, arXiv 2312.03732)
  float dropout = 0.0f;      ///< of the inputs, while training
  std::uint64_t stream = 0;  ///< another one for each matrix: what its dropout is drawn from

  /// Of both matrices; 0 where there are none.
  std::size_t rank() const noexcept { return a.rows(); }
};

namespace kernels {

/// Activations for a matrix with adapters: as its base multiplies them, and as they were.
template <WeightFormat F>
struct Inputs<Lora<F>> {
  Inputs<F> base;
  Rows<const float> x;
  float* low;  ///< room for (rows, max_lora_rank)

  std::size_t rows() const noexcept { return base.rows(); }
  std::size_t cols() const noexcept { return base.cols(); }
};

template <WeightFormat F>
class InputBuffer<Lora<F>> {
 public:
  InputBuffer(std::size_t tokens, std::size_t cols)
      : base_(tokens, cols), low_(tokens * max_lora_rank, Uninitialized{}) {}

  static constexpr std::size_t bytes(std::size_t tokens, std::size_t cols) noexcept {
    return InputBuffer<F>::bytes(tokens, cols) + tokens * max_lora_rank * sizeof(float);
  }

  Inputs<Lora<F>> prepare(Rows<const float> x) noexcept { return {base_.prepare(x), x, low_.data()}; }

 private:
  InputBuffer<F> base_;
  Buffer<float> low_;
};

}  // namespace kernels

/// A matrix with adapters. `bytes` counts the base alone: the adapters' ranks are chosen at run time.
template <WeightFormat F, std::size_t In, std::size_t Out>
struct Linear<Lora<F>, In, Out> {
  Panels<F> weight;                    ///< (Out, In), the base
  std::vector<LoraMatrices> adapters;  ///< of each of the model's adapters, in order

  /// Takes the memory of the base from `memory`.
  explicit Linear(MemoryResource* memory = std::pmr::get_default_resource()) : weight(Out, In, memory) {}

  static constexpr std::size_t bytes = PanelsView<F>::bytes(Out, In);  ///< of the base

  /// y = W x and what the rows' adapters add: x (tokens, In), prepared, of the rows that the context is of; y takes as
  /// many rows.
  template <ModelConfig C, KvElement T>
  void forward(const kernels::Inputs<Lora<F>>& x, const ForwardContext<C, T>& context, Batch<Out>& y) const noexcept {
    y.resize(x.rows());
    forward(x, context, y.view());
  }
  /// Writes W x, and what the rows' adapters add, to y (tokens, Out), of as many rows as x.
  template <ModelConfig C, KvElement T>
  void forward(const kernels::Inputs<Lora<F>>& x, const ForwardContext<C, T>& context, Rows<float> y) const noexcept {
    kernels::matmul(weight.view(), x.base, y);
    add_adapters(x, context, y);
  }

  /// Adds to y, the product of the base, those of the rows' adapters.
  template <ModelConfig C, KvElement T>
  void add_adapters(const kernels::Inputs<Lora<F>>& x, const ForwardContext<C, T>& context,
                    Rows<float> y) const noexcept {
    if (adapters.empty()) return;
    context.for_each_adapter(x.rows(), [&](std::size_t first, std::size_t rows, std::size_t adapter) {
      add(x, context.dropout, first, rows, adapter, y);
    });
  }

 private:
  void add(const kernels::Inputs<Lora<F>>& x, const Dropout& dropout, std::size_t first, std::size_t rows,
           std::size_t adapter, Rows<float> y) const noexcept {
    if (adapter >= adapters.size() || adapters[adapter].rank() == 0) return;
    const LoraMatrices& m = adapters[adapter];
    Rows<const float> in = x.x.slice(first, rows);
    if (!dropout.keys.empty() && m.dropout > 0.0f) {
      assert(dropout.room.size() >= rows * In);
      const Rows<float> kept(dropout.room.data(), rows, In);
      kernels::dropout(in, dropout.keys.subspan(first, rows), m.stream, m.dropout, kept);
      in = kept;
    }
    const Rows<float> low(x.low, rows, m.rank());
    kernels::low_rank(m.a.view(), in, m.scale, low);
    kernels::matmul_add(m.b.view(), kernels::Inputs<F32>{low}, y.slice(first, rows));
  }
};

/// The products of several matrices that hold adapters with the same inputs, each with the bits that it has by itself.
template <WeightFormat F, ModelConfig C, KvElement T, std::size_t In, std::size_t... Out>
void forward_together(const kernels::Inputs<Lora<F>>& x, const ForwardContext<C, T>& context,
                      const Projection<Lora<F>, In, Out>&... projections) noexcept {
  detail::multiply_together<F>(x.base, projections...);
  (projections.linear.add_adapters(x, context, projections.y.view()), ...);
}

/// The embedding has no adapter.
template <WeightFormat F, std::size_t Vocab, std::size_t Dim>
struct Embedding<Lora<F>, Vocab, Dim> : Embedding<F, Vocab, Dim> {
  using Embedding<F, Vocab, Dim>::Embedding;
};

/// Calls visit(name, linear, heads) for each matrix that an adapter may stand beside, by the names of Mistral's
/// checkpoints without their ending: `layers.0.attention.wq`, ..., `output`. `heads` as for visit_weights.
template <class Model, class Visitor>
void visit_projections(Model& model, Visitor&& visit) {
  visit_tensors(model, [&]<TensorRole R>(TensorAt<R> at, auto& member) {
    if constexpr (row_of(R).adapter) visit(at.module(), member, turned_heads(row_of(R), Model::config));
  });
}

}}  // namespace mistral
