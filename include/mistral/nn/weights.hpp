// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/nn/tensors.hpp>
#include <mistral/nn/transformer.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Calls visit(name, matrix, heads) for each matrix of a model and visit(name, vector) for each norm, by the names of
/// Mistral's own checkpoints (`layers.0.attention.wq.weight`). `heads` is the number of heads whose rows RoPE turns in
/// pairs, 0 where it doesn't.
template <class Model, class Visitor>
void visit_weights(Model& model, Visitor&& visit) {
  visit_tensors(model, [&]<TensorRole R>(TensorAt<R> at, auto& member) {
    if constexpr (TensorAt<R>::kind == TensorKind::norm) {
      visit(at.name(), member.weight);
    } else {
      visit(at.name(), member.weight, turned_heads(row_of(R), Model::config));
    }
  });
}

namespace detail {

/// A visitor that fills matrices with uniform random numbers of a variance of 1 / inputs, so that activations keep
/// their size, and norms with ones. Each panel has a seed of its own: the weights are the same on any number of
/// threads.
class Randomizer {
 public:
  explicit Randomizer(std::uint64_t seed) : seed_(seed) {}

  template <WeightFormat F>
  void operator()(const std::string&, Panels<F>& matrix, std::size_t) {
    const float limit = std::sqrt(3.0f / static_cast<float>(matrix.cols()));
    const std::uint64_t first_seed = seed_;
    const std::size_t panels = matrix.view().panel_count();
    parallel::for_ranges(panels, 1, [&](std::size_t begin, std::size_t end) {
      std::vector<float> values(panel_rows * matrix.cols());
      for (std::size_t panel = begin; panel < end; ++panel) {
        Random random(first_seed + panel);
        for (float& v : values) v = (2.0f * random.uniform() - 1.0f) * limit;
        const float* rows[panel_rows];
        const std::size_t count = (std::min)(panel_rows, matrix.rows() - panel * panel_rows);
        for (std::size_t r = 0; r < count; ++r) rows[r] = values.data() + r * matrix.cols();
        matrix.pack(panel, std::span<const float* const>(rows, count));
      }
    });
    seed_ += panels;
  }

  void operator()(const std::string&, Buffer<float>& norm) {
    for (float& v : norm.span()) v = 1.0f;
  }

 private:
  std::uint64_t seed_;
};

}  // namespace detail

/// Gives a model random weights that keep activations at their size: for benchmarks, tests, and training from scratch.
/// Where there is no memory for it, they have no particular value.
template <class Model>
void randomize(Model& model, std::uint64_t seed) {
  visit_weights(model, detail::Randomizer(seed));
}

}}  // namespace mistral
