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
#include <mistral/nn/adapter_rows.hpp>
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
  std::size_t first_row;                    ///< of the forward
  std::size_t adapter;                      ///< of all rows, where there is no choice
  std::span<const AdapterRows> choice;      ///< of each of the forward's rows, or empty
  std::span<const std::uint64_t> row_keys;  ///< while training: what each row's dropout is drawn from
  float* low;                               ///< room for (rows, max_lora_rank)
  float* dropped;                           ///< room for what dropout leaves of x

  std::size_t rows() const noexcept { return base.rows(); }
  std::size_t cols() const noexcept { return base.cols(); }
};

template <WeightFormat F>
class InputBuffer<Lora<F>> {
 public:
  InputBuffer(std::size_t tokens, std::size_t cols)
      : base_(tokens, cols), low_(tokens * max_lora_rank, Uninitialized{}), cols_(cols) {}

  static constexpr std::size_t bytes(std::size_t tokens, std::size_t cols) noexcept {
    return InputBuffer<F>::bytes(tokens, cols) + tokens * max_lora_rank * sizeof(float);
  }

  Inputs<Lora<F>> prepare(Rows<const float> x, std::size_t first_row = 0) noexcept {
    return {base_.prepare(x, first_row), x, first_row, adapter_, choice_, row_keys_, low_.data(), dropped_.data()};
  }

  /// The adapter of all rows of the next forwards: 0 if nothing else is said, or no_adapter.
  void choose(std::size_t adapter) noexcept {
    adapter_ = adapter;
    choice_ = {};
  }

  /// The adapters of the next forwards' rows, one part after the other; `choice` must live as long.
  void choose(std::span<const AdapterRows> choice) noexcept { choice_ = choice; }

  /// Turns dropout on for the next forwards, of as many rows as there are keys; `keys` must live as long. Empty: off.
  void drop(std::span<const std::uint64_t> keys) {
    if (!keys.empty() && dropped_.size() == 0) {
      dropped_ = Buffer<float>(low_.size() / max_lora_rank * cols_, Uninitialized{});
    }
    row_keys_ = keys;
  }

 private:
  InputBuffer<F> base_;
  Buffer<float> low_;
  Buffer<float> dropped_;  // made when it is needed
  std::size_t cols_;
  std::size_t adapter_ = 0;
  std::span<const AdapterRows> choice_;
  std::span<const std::uint64_t> row_keys_;
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

  /// y = W x and what the rows' adapters add: x (tokens, In), prepared; y takes as many rows.
  void forward(const kernels::Inputs<Lora<F>>& x, Batch<Out>& y) const noexcept {
    y.resize(x.rows());
    forward(x, y.view());
  }
  /// The same to y (tokens, Out), of as many rows as x.
  void forward(const kernels::Inputs<Lora<F>>& x, Rows<float> y) const noexcept {
    kernels::matmul(weight.view(), x.base, y);
    add_adapters(x, y);
  }

  /// Adds to y, the product of the base, those of the rows' adapters.
  void add_adapters(const kernels::Inputs<Lora<F>>& x, Rows<float> y) const noexcept {
    if (adapters.empty()) return;
    if (x.choice.empty()) return add(x, 0, x.rows(), x.adapter, y);
    std::size_t begin = 0;  // of the part that goes through one adapter, in rows of the forward
    for (const AdapterRows& part : x.choice) {
      const std::size_t from = (std::max)(begin, x.first_row);
      const std::size_t to = (std::min)(begin += part.rows, x.first_row + x.rows());
      if (from < to) add(x, from - x.first_row, to - from, part.adapter, y);
    }
  }

 private:
  void add(const kernels::Inputs<Lora<F>>& x, std::size_t first, std::size_t rows, std::size_t adapter,
           Rows<float> y) const noexcept {
    if (adapter >= adapters.size() || adapters[adapter].rank() == 0) return;
    const LoraMatrices& m = adapters[adapter];
    Rows<const float> in = x.x.slice(first, rows);
    if (!x.row_keys.empty() && m.dropout > 0.0f) {
      const Rows<float> kept(x.dropped, rows, In);
      kernels::dropout(in, x.row_keys.subspan(x.first_row + first, rows), m.stream, m.dropout, kept);
      in = kept;
    }
    const Rows<float> low(x.low, rows, m.rank());
    kernels::low_rank(m.a.view(), in, m.scale, low);
    kernels::matmul_add(m.b.view(), kernels::Inputs<F32>{low}, y.slice(first, rows));
  }
};

/// The products of several matrices that hold adapters with the same inputs, each with the bits that it has by itself.
template <WeightFormat F, std::size_t In, std::size_t... Out>
void forward_together(const kernels::Inputs<Lora<F>>& x, const Projection<Lora<F>, In, Out>&... projections) noexcept {
  detail::multiply_together<F>(x.base, projections...);
  (projections.linear.add_adapters(x, projections.y.view()), ...);
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
