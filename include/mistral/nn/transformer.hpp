// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/lifetime.hpp>
#include <mistral/core/stop_token.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/core/token.hpp>
#include <mistral/kernels/rope.hpp>
#include <mistral/nn/block.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/layers.hpp>
#include <mistral/nn/tape.hpp>
#include <mistral/nn/tensors.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A transformer of the Mistral family: its shape is the config C, its matrices are held in the format F. Made with
/// weights of no particular value: `load` gives it a checkpoint's. It must neither move nor end while sessions, batches
/// or trainers use it, which are made over it where it stays: not over a temporary. The policy L says what its layers
/// are, where they aren't Mistral's own.
template <ModelConfig C, NamedFormat F, LayersFor<C, F> L = MistralLayers>
class Transformer {
  static_assert(CheckedConfig<C>::value);
  static_assert(detail::CheckedLayers<L, C, F>::value);

 public:
  static constexpr ModelConfig config = C;  ///< its shape
  /// How its matrices are held.
  using Format = F;
  /// The policy that its blocks are made by.
  using Layers = L;

  /// Bytes of all weights.
  static constexpr std::size_t memory_bytes =
      static_cast<std::size_t>(sum_over_tensors(C, [](const TensorRow& row) -> std::uint64_t {
        const auto rows = static_cast<std::size_t>(extent_of(row.rows, C));
        const auto cols = static_cast<std::size_t>(extent_of(row.cols, C));
        return row.kind == TensorKind::norm ? cols * sizeof(float) : PanelsView<F>::bytes(rows, cols);
      }));

  Embedding<F, C.vocab_size, C.dim> tok_embeddings;  ///< a row of (dim) for each token
  std::vector<Block<C, F, L>> layers;                ///< n_layers of them
  RmsNorm<C.dim> norm;                               ///< before the head
  Linear<F, C.dim, C.vocab_size> output;             ///< the head: (vocab_size, dim)

  /// Takes all memory of the weights from `memory`; null: none, for `load`, whose weights may stand elsewhere.
  explicit Transformer(MemoryResource* memory = std::pmr::get_default_resource())
      : tok_embeddings(memory), norm(memory), output(memory) {
    static_assert(detail::CheckedTensors<Transformer>::value);
    layers.reserve(C.n_layers);
    for (std::size_t i = 0; i < C.n_layers; ++i) layers.emplace_back(memory);
  }

  /// One forward for decode, prefill and any mix of them: takes the next tokens of each sequence, the first sequence's
  /// first, through all layers. Leaves the residual stream in work.x (tokens, dim) and the tokens in the caches. Every
  /// row gets the same bits whatever other rows there are. Returns the context that the layers were given, by which
  /// logits() knows the rows; it points at `sequences` and at `work`.
  ///   tokens   as many as the sequences have rows, at most work.capacity(); ids in the vocabulary
  ///   stop     looked at before each layer: where it asks to stop, Cancelled is thrown, and some rings of the caches
  ///            have met the tokens and some haven't
  ///   dropout  of an adapter's inputs, with a key for each token
  template <KvElement T, class Tape = NoTape>
  ForwardContext<C, T> forward(std::span<const TokenId> tokens, std::span<const Sequence<C, T>> sequences,
                               Workspace<C, F, T>& work, Tape&& tape = {}, StopToken stop = {},
                               const Dropout& dropout = {}) const {
    static_assert(CheckedTape<std::remove_reference_t<Tape>>::value);
    assert(layers.size() == C.n_layers && "transformer: it has no layers: it was moved from");
    work.x.resize(tokens.size());
    work.turns.resize(tokens.size());
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      assert(tokens[row] >= 0 && static_cast<std::size_t>(tokens[row]) < C.vocab_size);
      tok_embeddings.lookup(static_cast<std::size_t>(tokens[row]), work.x.row(row));
    }
    std::size_t row = 0;
    for (const Sequence<C, T>& sequence : sequences) {
      const std::int64_t position = sequence.position();
      for (std::size_t i = 0; i < sequence.rows; ++i, ++row) {
        kernels::rope_turns(position + static_cast<std::int64_t>(i), frequencies_, work.turns.row(row));
      }
    }
    assert(row == tokens.size());
    const ForwardContext<C, T> context{sequences, work.turns.view(), dropout};
    for (std::size_t layer = 0; layer < C.n_layers; ++layer) {
      stop.check("session");
      show_residual(layer, sequences, work, tape);
      layers[layer].forward(layer, context, work, tape);
    }
    show_residual(C.n_layers, sequences, work, tape);
    return context;
  }

  /// Writes the logits of rows [first, first + out.rows()) of the last forward, whose context it is, to
  /// out (rows, vocab_size).
  template <KvElement T>
  void logits(const ForwardContext<C, T>& context, Workspace<C, F, T>& work, std::size_t first,
              Rows<float> out) const noexcept {
    work.branch.resize(out.rows());
    kernels::rms_norm(work.x.view().slice(first, out.rows()), norm.weight.span(), C.norm_eps, work.branch.view());
    output.forward(work.inputs.prepare(work.branch.view()), context.from_row(first), out);
  }

  /// Writes the logits of some rows of the last forward, whose context it is, to out (rows.size(), vocab_size). They
  /// have the bits that they have together with all others.
  template <KvElement T>
  void logits(const ForwardContext<C, T>& context, Workspace<C, F, T>& work, std::span<const std::size_t> rows,
              Rows<float> out) const noexcept {
    assert(rows.size() == out.rows());
    work.branch.resize(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      kernels::rms_norm(work.x.view().slice(rows[i], 1), norm.weight.span(), C.norm_eps,
                        work.branch.view().slice(i, 1));
    }
    output.forward(work.inputs.prepare(work.branch.view()), context.of_rows(rows), out);
  }

  /// What those that point at it know it by, for their assertions.
  const detail::Lifetime& lifetime() const noexcept { return lifetime_; }

 private:
  template <KvElement T, class Tape>
  static void show_residual(std::size_t layer, std::span<const Sequence<C, T>> sequences, Workspace<C, F, T>& work,
                            Tape& tape) {
    if constexpr (WatchesResidual<Tape>) {
      const bool left = layer == C.n_layers;
      detail::show_rows(left ? layer - 1 : layer, sequences, left, work.x.view(), [&](LayerRows rows) {
        rows.layer = layer;
        tape.residual(rows);
      });
    }
  }

  static std::vector<double> frequencies() {
    std::vector<double> out(C.head_dim / 2);
    kernels::rope_frequencies(static_cast<double>(C.rope_theta), out);
    return out;
  }

  friend struct detail::CheckedTensors<Transformer>;
  static constexpr std::size_t bytes_beside_tensors =
      sizeof(std::vector<Block<C, F, L>>) + sizeof(std::vector<double>) + sizeof(detail::Lifetime);

  std::vector<double> frequencies_ = frequencies();
  detail::Lifetime lifetime_;
};

}}  // namespace mistral
