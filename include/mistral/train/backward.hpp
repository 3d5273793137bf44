// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <mistral/core/buffer.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/core/token.hpp>
#include <mistral/kernels/attention_backward.hpp>
#include <mistral/kernels/elementwise_backward.hpp>
#include <mistral/nn/block.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/tape.hpp>
#include <mistral/nn/tensors.hpp>
#include <mistral/train/backward_steps.hpp>
#include <mistral/train/gradients.hpp>
#include <mistral/train/linear_backward.hpp>
#include <mistral/train/trainable.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Rows whose logits stand in memory at one time.
inline constexpr std::size_t loss_rows = 128;

/// A forward and a backward over rows of any number of sequences, up to `capacity` rows together. Memory grows by one
/// residual row a layer and row, whatever the sequences' lengths; or by all that a block's backward needs, where a
/// block's forward isn't to be taken again.
template <class Model>
class Backward {
  using F = typename Model::Format;
  using Context = ForwardContext<Model::config, float>;
  using Block = detail::BlockOf<Model>;
  static constexpr ModelConfig C = Model::config;
  static constexpr bool trainable = detail::are_trainable<typename Model::Layers, C, F>;
  static_assert(detail::TrainableLayers<typename Model::Layers, C, F>::value);

 public:
  /// For up to `capacity` rows, and adapters of up to `rank`.
  explicit Backward(std::size_t capacity, std::size_t rank = 0, bool keep_activations = false)
      : work_(capacity),
        tape_(capacity),
        gate_(capacity),
        dx_(capacity),
        dbranch_(capacity),
        dhidden_(capacity),
        dq_(capacity),
        dk_(capacity),
        dv_(capacity),
        dattended_(capacity),
        statistics_(capacity),
        scratch_(HoldsAdapters<F> ? capacity : 0, rank),
        dropped_(HoldsAdapters<F> ? capacity * Workspace<C, F, float>::widest : 0, Uninitialized{}),
        head_rows_((std::min)(capacity, loss_rows)),
        dhead_(head_rows_.capacity()),
        logits_(head_rows_.capacity()) {
    if (!keep_activations) return;
    kept_.reserve(C.n_layers);
    for (std::size_t i = 0; i < C.n_layers; ++i) kept_.emplace_back(capacity);
  }

  std::size_t capacity() const noexcept { return work_.capacity(); }

  /// Rows with something to predict: row `row` of the forward is to predict `target`.
  struct Target {
    std::size_t row;
    TokenId target;
  };

  /// Adds to the gradients those of the sum of the targets' cross-entropies, which it returns.
  ///   tokens     of all sequences, one after the other
  ///   lengths    of each sequence; each is attended to from its first token on
  ///   targets    in the order of their rows
  ///   row_keys   of each row's dropout; empty: nothing is dropped
  double run(const Model& model, Gradients<Model>& gradients, std::span<const TokenId> tokens,
             std::span<const std::size_t> lengths, std::span<const Target> targets,
             std::span<const std::uint64_t> row_keys) {
    const Context context = forward(model, tokens, lengths, row_keys, gradients.adapter, !kept_.empty());
    dx_.resize(tokens.size());
    std::fill_n(dx_.view().data(), tokens.size() * C.dim, 0.0f);
    const double loss = head(model, context, targets, gradients.adapter, &gradients);
    if constexpr (trainable) {  // or there is an error already, and no need of more
      for (std::size_t layer = C.n_layers; layer-- > 0;) block(model, gradients, context, layer);
    }
    detail::for_steps<detail::BackwardPart::embedding>(
        [&]<TensorRole R>(TensorAt<R> at) { back(at, gradients, tokens); });
    return loss;
  }

  /// The sum of the targets' cross-entropies alone, without dropout.
  double loss(const Model& model, std::size_t adapter, std::span<const TokenId> tokens,
              std::span<const std::size_t> lengths, std::span<const Target> targets) {
    return head(model, forward(model, tokens, lengths, {}, adapter, false), targets, adapter, nullptr);
  }

 private:
  using SumFrom = kernels::SumFrom;
  using OwnActivation = detail::ActivationOf<decltype(detail::BlockOf<Model>::feed_forward)>;

  template <TensorRole R>
  static auto& gradient_of(Gradients<Model>& gradients, std::size_t layer = 0) noexcept {
    return gradients.of(TensorAt<R>{layer});
  }

  /// What a block's backward needs of its forward, beside its input.
  struct Activations {
    Rows<const float> q, k, v;  // q and k as RoPE turned them
    Rows<const float> attended;
    Rows<const float> between;  // the residual stream between the branches
    Rows<const float> gate;     // w1 x
    Rows<float> up;             // w3 x; its gradient is written over it
  };

  /// The same, of a block whose forward isn't taken again.
  struct KeptActivations {
    explicit KeptActivations(std::size_t capacity)
        : q(capacity), k(capacity), v(capacity), attended(capacity), between(capacity), gate(capacity), up(capacity) {}

    Batch<C.query_dim()> q;
    Batch<C.kv_dim()> k;
    Batch<C.kv_dim()> v;
    Batch<C.query_dim()> attended;
    Batch<C.dim> between;
    Batch<C.hidden_dim> gate;
    Batch<C.hidden_dim> up;
  };

  template <class Kept>
  static void keep(Rows<const float> x, Kept& kept) noexcept {
    kept.resize(x.rows());
    std::memcpy(kept.view().data(), x.data(), x.rows() * x.cols() * sizeof(float));
  }

  /// Of the forward of all blocks.
  struct FirstTape {
    Backward& of;
    bool keeps;
    std::size_t layer = 0;

    void residual(const Residual& x) noexcept {
      layer = x.layer;
      of.tape_.residual(x);
    }
    void between(Rows<const float> x) noexcept {
      if (!keeps) return;
      KeptActivations& kept = of.kept_[layer];
      keep(of.work_.q.view(), kept.q);
      keep(of.work_.k.view(), kept.k);
      keep(of.work_.v.view(), kept.v);
      keep(of.work_.attended.view(), kept.attended);
      keep(x, kept.between);
    }
    void gate(Rows<const float> x) noexcept {
      if (!keeps) return;
      keep(x, of.kept_[layer].gate);
      keep(of.work_.up.view(), of.kept_[layer].up);
    }
  };

  /// The tape of a block's forward that is taken again: the activation writes over w1 x.
  struct SecondTape {
    Batch<C.hidden_dim>& kept;
    void gate(Rows<const float> x) noexcept { keep(x, kept); }
  };

  Context forward(const Model& model, std::span<const TokenId> tokens, std::span<const std::size_t> lengths,
                  std::span<const std::uint64_t> row_keys, std::size_t adapter, bool keeps) {
    sequences_.clear();
    spans_.clear();
    std::size_t first = 0;
    for (const std::size_t length : lengths) {
      sequences_.push_back({nullptr, length, adapter});
      spans_.push_back({first, length, 0});
      first += length;
    }
    return model.forward(tokens, std::span<const Sequence<C, float>>(sequences_), work_, FirstTape{*this, keeps}, {},
                         {row_keys, dropped_.span()});
  }

  /// The loss of the targets, some rows of logits at a time, and, where gradients are wanted, that of the residual
  /// stream's rows (dx_).
  double head(const Model& model, const Context& context, std::span<const Target> targets, std::size_t adapter,
              Gradients<Model>* gradients) {
    const std::span<const std::uint64_t> row_keys = context.dropout.keys;
    double total = 0.0;
    std::vector<TokenId> ids;
    std::vector<std::uint64_t> keys;
    std::vector<double> losses;
    for (std::size_t first = 0; first < targets.size(); first += head_rows_.capacity()) {
      const auto some = targets.subspan(first, (std::min)(head_rows_.capacity(), targets.size() - first));
      ids.clear();
      keys.clear();
      losses.assign(some.size(), 0.0);
      head_rows_.resize(some.size());
      logits_.resize(some.size());
      for (std::size_t i = 0; i < some.size(); ++i) {
        std::memcpy(head_rows_.row(i).data(), work_.x.row(some[i].row).data(), C.dim * sizeof(float));
        ids.push_back(some[i].target);
        if (!row_keys.empty()) keys.push_back(row_keys[some[i].row]);
      }
      // To the head they are the rows of one sequence.
      const Sequence<C, float> rows{nullptr, some.size(), adapter};
      const Context of_head{{&rows, 1}, context.turns, {keys, context.dropout.room}};
      model.norm.forward(head_rows_, C.norm_eps, work_.branch);
      model.output.forward(work_.inputs.prepare(work_.branch.view()), of_head, logits_.view());
      kernels::cross_entropy(logits_.view(), ids, losses);
      for (const double loss : losses) total += loss;
      if (gradients == nullptr) continue;
      dbranch_.resize(some.size());
      dhead_.resize(some.size());
      std::fill_n(dhead_.view().data(), some.size() * C.dim, 0.0f);
      detail::for_steps<detail::BackwardPart::head>(
          [&]<TensorRole R>(TensorAt<R> at) { back(at, model, *gradients, of_head); });
      for (std::size_t i = 0; i < some.size(); ++i) {
        std::memcpy(dx_.row(some[i].row).data(), dhead_.row(i).data(), C.dim * sizeof(float));
      }
    }
    return total;
  }

  /// The block's forward again, from its input on, as far as w2's product. Leaves what w2 takes in work_.gate, and what
  /// w1 and w3 take in work_.branch.
  Activations take_again(const Block& block, const Context& context, std::size_t layer) noexcept {
    keep(tape_.block_input(layer), work_.x);
    SecondTape tape{gate_};
    block.forward_to_w2(layer, context, work_, tape);
    return {work_.q.view(), work_.k.view(), work_.v.view(), work_.attended.view(),
            work_.x.view(), gate_.view(),   work_.up.view()};
  }

  /// The same where they were kept.
  Activations from_kept(const Block& block, std::size_t layer) noexcept {
    KeptActivations& kept = kept_[layer];
    keep(kept.gate.view(), work_.gate);
    OwnActivation::forward(work_.gate.view(), kept.up.view());
    block.ffn_norm.forward(kept.between, C.norm_eps, work_.branch);
    return {kept.q.view(),       kept.k.view(),    kept.v.view(), kept.attended.view(),
            kept.between.view(), kept.gate.view(), kept.up.view()};
  }

  /// The values that the steps back through a block need.
  struct BlockPass {
    const Block& block;
    Gradients<Model>& gradients;
    const Context& context;
    std::size_t layer;
    Rows<const float> input;
    Activations a;
  };

  /// The backward of one block, each step of its forward back. dx_ goes in and comes out.
  void block(const Model& model, Gradients<Model>& gradients, const Context& context, std::size_t layer) noexcept {
    const Block& block = model.layers[layer];
    const Rows<const float> input = tape_.block_input(layer);
    const Activations a = kept_.empty() ? take_again(block, context, layer) : from_kept(block, layer);
    const BlockPass pass{block, gradients, context, layer, input, a};
    dbranch_.resize(input.rows());
    dhidden_.resize(input.rows());
    dattended_.resize(input.rows());
    dq_.resize(input.rows());
    dk_.resize(input.rows());
    dv_.resize(input.rows());
    statistics_.resize(input.rows());
    detail::for_steps<detail::BackwardPart::layers>([&]<TensorRole R>(TensorAt<R> at) { back(at, pass); });
  }

  /// The step back through a tensor of a block, and through what stands between it and the tensor of the next step.
  template <TensorRole R>
  void back(TensorAt<R> at, const BlockPass& pass) noexcept {
    const Activations& a = pass.a;
    if constexpr (R == TensorRole::w2) {
      product(at, pass, work_.gate.view(), dx_.view(), dhidden_.view(), SumFrom::zero);
      activation_backward<OwnActivation>(a.gate, a.up, dhidden_.view());
    } else if constexpr (R == TensorRole::w1) {
      product(at, pass, work_.branch.view(), dhidden_.view(), dbranch_.view(), SumFrom::zero);
    } else if constexpr (R == TensorRole::w3) {
      product(at, pass, work_.branch.view(), a.up, dbranch_.view(), SumFrom::y);
    } else if constexpr (R == TensorRole::ffn_norm) {
      norm(at, pass, a.between);
    } else if constexpr (R == TensorRole::wo) {
      product(at, pass, a.attended, dx_.view(), dattended_.view(), SumFrom::zero);
      kernels::attention_backward(
          {.head_dim = C.head_dim, .n_heads = C.n_heads, .n_kv_heads = C.n_kv_heads, .window = C.window_size},
          {a.q, a.k, a.v, a.attended, dattended_.view(), dq_.view(), dk_.view(), dv_.view(), statistics_.view()},
          spans_.size(), [&](std::size_t i) { return spans_[i]; });
      kernels::rope_backward(dq_.view(), pass.context.turns);
      kernels::rope_backward(dk_.view(), pass.context.turns);
      kernels::rms_norm(pass.input, pass.block.attention_norm.weight.span(), C.norm_eps, work_.branch.view());
    } else if constexpr (R == TensorRole::wq) {
      product(at, pass, work_.branch.view(), dq_.view(), dbranch_.view(), SumFrom::zero);
    } else if constexpr (R == TensorRole::wk) {
      product(at, pass, work_.branch.view(), dk_.view(), dbranch_.view(), SumFrom::y);
    } else if constexpr (R == TensorRole::wv) {
      product(at, pass, work_.branch.view(), dv_.view(), dbranch_.view(), SumFrom::y);
    } else if constexpr (R == TensorRole::attention_norm) {
      norm(at, pass, pass.input);
    } else {
      static_assert(detail::WrittenStep<R>::value);
    }
  }

  /// The step back through the head or its norm, of the rows that head() looks at: from logits_ to dhead_.
  template <TensorRole R>
  void back(TensorAt<R>, const Model& model, Gradients<Model>& gradients, const Context& of_head) noexcept {
    if constexpr (R == TensorRole::output) {
      backward(model.output, gradient_of<R>(gradients), gradients.adapter, of_head.dropout, work_.branch.view(),
               logits_.view(), dbranch_.view(), SumFrom::zero, scratch_);
    } else if constexpr (R == TensorRole::norm) {
      norm(model.norm, gradient_of<R>(gradients), head_rows_.view(), dhead_.view());
    } else {
      static_assert(detail::WrittenStep<R>::value);
    }
  }

  /// The step back through the embedding, from dx_.
  template <TensorRole R>
  void back(TensorAt<R>, Gradients<Model>& gradients, std::span<const TokenId> tokens) noexcept {
    if constexpr (R != TensorRole::tok_embeddings) {
      static_assert(detail::WrittenStep<R>::value);
    } else if constexpr (Gradients<Model>::all) {
      kernels::embedding_gradient(tokens, dx_.view(), gradient_of<R>(gradients).weight.span());
    }
  }

  template <TensorRole R>
  void product(TensorAt<R>, const BlockPass& pass, Rows<const float> x, Rows<const float> dy, Rows<float> dx,
               SumFrom from) noexcept {
    backward(tensor_of<R>(pass.block), gradient_of<R>(pass.gradients, pass.layer), pass.gradients.adapter,
             pass.context.dropout, x, dy, dx, from, scratch_);
  }

  template <TensorRole R>
  void norm(TensorAt<R>, const BlockPass& pass, Rows<const float> x) noexcept {
    norm(tensor_of<R>(pass.block), gradient_of<R>(pass.gradients, pass.layer), x, dx_.view());
  }

  /// Adds to dx, of the rows x, what comes back through a norm of them: from dbranch_.
  template <class Gradient>
  void norm(const RmsNorm<C.dim>& layer, [[maybe_unused]] Gradient& gradient, Rows<const float> x,
            Rows<float> dx) noexcept {
    if constexpr (Gradients<Model>::all) {
      kernels::rms_norm_gradient(x, C.norm_eps, dbranch_.view(), gradient.weight.span());
    }
    kernels::rms_norm_backward(x, layer.weight.span(), C.norm_eps, dbranch_.view(), dx);
  }

  Workspace<C, F, float> work_;
  GradTape<C> tape_;
  std::vector<Sequence<C, float>> sequences_;
  std::vector<kernels::SequenceSpan> spans_;
  std::vector<KeptActivations> kept_;  // of each block, or none
  Batch<C.hidden_dim> gate_;           // (rows, hidden_dim) w1 x
  Batch<C.dim> dx_;                    // (rows, dim) gradient of the residual stream
  Batch<C.dim> dbranch_;               // (rows, dim) of what goes into a branch, normed
  Batch<C.hidden_dim> dhidden_;        // (rows, hidden_dim)
  Batch<C.query_dim()> dq_;            // (rows, n_heads * head_dim)
  Batch<C.kv_dim()> dk_;               // (rows, n_kv_heads * head_dim)
  Batch<C.kv_dim()> dv_;               // (rows, n_kv_heads * head_dim)
  Batch<C.query_dim()> dattended_;     // (rows, n_heads * head_dim)
  Batch<2 * C.n_heads> statistics_;    // (rows, 2 * n_heads)
  LinearScratch scratch_;
  Buffer<float> dropped_;       // (rows, inputs) of the widest matrix: what dropout leaves
  Batch<C.dim> head_rows_;      // (loss_rows, dim) the rows with targets, as they leave the last block
  Batch<C.dim> dhead_;          // (loss_rows, dim)
  Batch<C.vocab_size> logits_;  // (loss_rows, vocab_size) and their gradient
};

}}  // namespace mistral
