// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/finite.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/random.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/format/held.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/simd/product.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// What a fresh adapter is made of. The field names follow PEFT's LoraConfig where they can.
struct AdapterOptions {
  std::size_t rank = 8;      ///< rows of A and columns of B, 1 ... max_lora_rank
  float alpha = 16.0f;       ///< what the adapter adds is scaled by alpha / rank
  float dropout = 0.0f;      ///< of a matrix's inputs on their way to the adapter, while training
  std::uint64_t seed = 0;    ///< of A's random numbers and of what is dropped
  bool rslora = false;       ///< scale by alpha / sqrt(rank) (rank-stabilised, arXiv 2312.03732)
  LoraTargets targets = {};  ///< the matrices beside which it stands
};

namespace detail {

inline float lora_scale(float alpha, std::size_t rank, bool rslora) noexcept {
  const auto r = static_cast<float>(rank);
  return alpha / (rslora ? std::sqrt(r) : r);
}

/// Packs a row-major matrix (rows, cols).
inline void pack_all(Panels<F32>& matrix, std::span<const float> values) noexcept {
  for (std::size_t panel = 0; panel < matrix.view().panel_count(); ++panel) {
    const float* rows[panel_rows];
    const std::size_t count = (std::min)(panel_rows, matrix.rows() - panel * panel_rows);
    for (std::size_t r = 0; r < count; ++r) rows[r] = values.data() + (panel * panel_rows + r) * matrix.cols();
    matrix.pack(panel, std::span<const float* const>(rows, count));
  }
}

/// Where each matrix keeps its adapters, in the order of visit_projections.
template <class Model>
std::vector<std::vector<LoraMatrices>*> adapter_lists(Model& model) {
  std::vector<std::vector<LoraMatrices>*> lists;
  visit_projections(model, [&](const std::string&, auto& linear, std::size_t) { lists.push_back(&linear.adapters); });
  return lists;
}

/// Puts an adapter's matrices, one for each of the model's in their order, behind the adapters that the model has.
/// Where there is no memory for it, the model is as it was.
template <class Model>
void attach_adapter(Model& model, std::vector<LoraMatrices>&& matrices) {
  static_assert(std::is_nothrow_move_constructible_v<LoraMatrices>);
  const auto lists = adapter_lists(model);
  assert(lists.size() == matrices.size());
  for (auto* const list : lists) list->reserve(list->size() + 1);  // from here on nothing throws
  for (std::size_t i = 0; i < lists.size(); ++i) lists[i]->push_back(std::move(matrices[i]));
}

}  // namespace detail

/// The number of a model's adapters.
template <class Model>
std::size_t adapter_count(const Model& model) noexcept {
  return model.output.adapters.size();
}

/// Gives a model an adapter that doesn't change its logits yet: A is uniform in +-1 / sqrt(inputs), as PEFT's, and B is
/// zero. Returns its number: the first, 0, is what a session goes through if it isn't told, and what a Trainer trains.
/// Throws Error for a rank of 0 or above max_lora_rank, for numbers out of range, and where there is no target; the
/// model is then as it was, and so where there is no memory.
template <class Model>
std::size_t add_adapter(Model& model, const AdapterOptions& options) {
  const auto refuse = [](std::string_view what, std::string_view expected, const std::string& found) {
    throw Error("adapter", what, expected, found);
  };
  if (options.rank == 0 || options.rank > max_lora_rank) {
    refuse("rank", "1 ... " + std::to_string(max_lora_rank), std::to_string(options.rank));
  }
  if (!std::isfinite(options.alpha)) refuse("alpha", "a finite number", number_text(options.alpha));
  if (!(options.dropout >= 0.0f && options.dropout < 1.0f)) {
    refuse("dropout", "0 ... 1, less than 1", number_text(options.dropout));
  }
  if (!options.targets.any()) refuse("targets", "at least one", "none");
  const std::size_t number = adapter_count(model);
  std::uint64_t stream = options.seed;
  std::vector<LoraMatrices> matrices;
  visit_projections(model, [&](const std::string& name, const auto& linear, std::size_t) {
    const std::size_t rank = options.targets.holds(name) ? options.rank : 0;
    const std::size_t inputs = linear.weight.cols();
    const std::uint64_t own = split_mix(stream);
    LoraMatrices m{Panels<F32>(rank, inputs),
                   Panels<F32>(linear.weight.rows(), rank),
                   detail::lora_scale(options.alpha, options.rank, options.rslora),
                   options.alpha,
                   options.rslora,
                   options.dropout,
                   own};
    if (rank > 0) {
      Random random(own);
      const float limit = 1.0f / std::sqrt(static_cast<float>(inputs));
      std::vector<float> a(rank * inputs);
      for (float& v : a) v = (2.0f * random.uniform() - 1.0f) * limit;
      detail::pack_all(m.a, a);
      for (std::byte& byte : m.b.own_bytes()) byte = std::byte{0};
    }
    matrices.push_back(std::move(m));
  });
  detail::attach_adapter(model, std::move(matrices));
  return number;
}

/// Takes an adapter away; those behind it move up by one. Throws Error where there is none of that number; the model is
/// then as it was, and so where there is no memory.
template <class Model>
void remove_adapter(Model& model, std::size_t adapter) {
  if (adapter >= adapter_count(model)) {
    throw Error("adapter", "number", "less than " + std::to_string(adapter_count(model)), std::to_string(adapter));
  }
  static_assert(std::is_nothrow_move_assignable_v<LoraMatrices>);
  for (auto* const list : detail::adapter_lists(model)) {
    list->erase(list->begin() + static_cast<std::ptrdiff_t>(adapter));
  }
}

/// How far the weights of a merge are from the floats that they should be: |W' - (W + scale B A)| / |scale B A|, in the
/// Euclidean norm over all matrices. 0 for F32; where it comes near 1, the format lost what the adapter had learnt.
struct MergeLoss {
  double relative = 0.0;  ///< 0 ... , without a unit
};

namespace detail {

/// Adds adapters to weights of the format F, in the weights' own memory, with memory that it takes before the first.
template <WeightFormat F>
class AdapterMerger {
 public:
  /// Takes the memory to merge a matrix like this one.
  void reserve(const Panels<F>& weight, const LoraMatrices& m) {
    const std::size_t cols = weight.cols();
    const auto grow = [](auto& values, std::size_t size) { values.resize((std::max)(values.size(), size)); };
    grow(a_, m.rank() * cols);
    grow(squares_, weight.view().panel_count());
    grow(scratch_, (std::min<std::size_t>)(parallel::thread_count(), weight.view().panel_count()));
    for (Scratch& scratch : scratch_) {
      grow(scratch.wanted, panel_rows * cols);
      grow(scratch.row, cols);
      grow(scratch.b, m.rank());
    }
  }

  /// The largest magnitude in the first panel of W + scale B A that the format doesn't hold, if there is one. To be
  /// called behind reserve().
  std::optional<float> not_held(const Panels<F>& weight, const LoraMatrices& m) {
    const std::size_t cols = weight.cols(), panels = weight.view().panel_count();
    for (std::size_t k = 0; k < m.rank(); ++k) m.a.unpack_row(k, std::span(a_).subspan(k * cols, cols));
    for_each_panel(panels, [&](std::size_t panel, Scratch& scratch) {
      const float* rows[panel_rows];
      const std::size_t count = sum_rows(weight, m, panel, scratch, rows).count;
      const std::span<const float> wanted = std::span(scratch.wanted).first(count * cols);
      const bool held = holds(wanted, [&](std::span<float> found) {
        Panels<F> alone(count, cols);
        alone.pack(0, std::span<const float* const>(rows, count));
        for (std::size_t r = 0; r < count; ++r) alone.unpack_row(r, found.subspan(r * cols, cols));
      });
      squares_[panel].lost = held ? 0.0 : static_cast<double>(largest_magnitude(wanted));
    });
    for (std::size_t panel = 0; panel < panels; ++panel) {
      if (squares_[panel].lost != 0.0) return static_cast<float>(squares_[panel].lost);
    }
    return std::nullopt;
  }

  /// W + scale B A, rounded to the format.
  void merge(Panels<F>& weight, const LoraMatrices& m) noexcept {
    const std::size_t cols = weight.cols(), panels = weight.view().panel_count();
    for (std::size_t k = 0; k < m.rank(); ++k) m.a.unpack_row(k, std::span(a_).subspan(k * cols, cols));
    for_each_panel(
        panels, [&](std::size_t panel, Scratch& scratch) { squares_[panel] = merge_panel(weight, m, panel, scratch); });
    for (std::size_t panel = 0; panel < panels; ++panel) {  // in order, for any number of threads
      lost_ += squares_[panel].lost;
      added_ += squares_[panel].added;
    }
  }

  MergeLoss loss() const noexcept { return {added_ > 0.0 ? std::sqrt(lost_ / added_) : 0.0}; }

 private:
  // of what rounding lost, and of what was added
  struct Squares {
    double lost = 0.0, added = 0.0;
  };
  struct Scratch {
    std::vector<float> wanted, row, b;
  };

  // Calls f(panel, scratch) for each panel, on several threads.
  template <class Function>
  void for_each_panel(std::size_t panels, const Function& f) {
    const std::size_t shares = (std::min)(scratch_.size(), panels);
    parallel::for_ranges(shares, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t share = begin; share < end; ++share) {
        for (std::size_t panel = panels * share / shares; panel < panels * (share + 1) / shares; ++panel) {
          f(panel, scratch_[share]);
        }
      }
    });
  }

  // Rows of a panel, and the squares of what was added to them.
  struct Summed {
    std::size_t count = 0;
    double added = 0.0;
  };

  // W + scale B A of a panel's rows, into scratch.wanted; rows[r] is where row r begins.
  Summed sum_rows(const Panels<F>& weight, const LoraMatrices& m, std::size_t panel, Scratch& scratch,
                  const float* (&rows)[panel_rows]) const noexcept {
    const std::size_t cols = weight.cols();
    const std::span<float> row = std::span(scratch.row).first(cols);
    const std::span<float> b = std::span(scratch.b).first(m.rank());
    Summed sum{(std::min)(panel_rows, weight.rows() - panel * panel_rows)};
    for (std::size_t r = 0; r < sum.count; ++r) {
      float* const w = scratch.wanted.data() + r * cols;
      rows[r] = w;
      weight.unpack_row(panel * panel_rows + r, std::span<float>(w, cols));
      m.b.unpack_row(panel * panel_rows + r, b);
      std::fill(row.begin(), row.end(), 0.0f);
      for (std::size_t k = 0; k < m.rank(); ++k) {
        const float scaled = m.scale * b[k];
        simd::add_products(row.data(), scaled, a_.data() + k * cols, cols);
      }
      for (std::size_t i = 0; i < cols; ++i) {
        w[i] += row[i];
        sum.added += static_cast<double>(row[i]) * static_cast<double>(row[i]);
      }
    }
    return sum;
  }

  Squares merge_panel(Panels<F>& weight, const LoraMatrices& m, std::size_t panel, Scratch& scratch) const noexcept {
    const std::size_t cols = weight.cols();
    const std::span<float> row = std::span(scratch.row).first(cols);
    const float* rows[panel_rows];
    const auto [count, added] = sum_rows(weight, m, panel, scratch, rows);
    Squares sum{0.0, added};
    weight.pack(panel, std::span<const float* const>(rows, count));
    for (std::size_t r = 0; r < count; ++r) {
      weight.unpack_row(panel * panel_rows + r, row);
      for (std::size_t i = 0; i < cols; ++i) {
        const double off = static_cast<double>(row[i]) - static_cast<double>(rows[r][i]);
        sum.lost += off * off;
      }
    }
    return sum;
  }

  std::vector<float> a_;          // of one matrix
  std::vector<Squares> squares_;  // of its panels
  std::vector<Scratch> scratch_;  // of each of the threads' shares
  double lost_ = 0.0;
  double added_ = 0.0;
};

/// A copy in memory of its own.
template <WeightFormat F>
Panels<F> own_copy(const Panels<F>& weight) {
  Panels<F> copy(weight.rows(), weight.cols(), weight.memory());
  std::memcpy(copy.own_bytes().data(), weight.bytes().data(), weight.bytes().size());
  return copy;
}

}  // namespace detail

/// Adds an adapter to the weights, W + scale B A rounded to the base's format, and takes it away. What it returns says
/// what rounding cost: worth a look wherever the format is narrower than F32. Weights that lie in a file are copied to
/// memory first. Throws Error where there is no adapter of that number, or the format doesn't hold what the weights
/// become; the model is then as it was, and so where there is no memory.
template <class Model>
MergeLoss merge_adapter(Model& model, std::size_t adapter = 0) {
  if (adapter >= adapter_count(model)) {
    throw Error("adapter", "number", "less than " + std::to_string(adapter_count(model)), std::to_string(adapter));
  }
  using F = typename Model::Format::Base;
  struct Target {
    Panels<F>* weight;
    const LoraMatrices* matrices;
    std::optional<Panels<F>> copy;  // where the weights lie in a file
  };
  static_assert(std::is_nothrow_move_assignable_v<Panels<F>>);
  detail::AdapterMerger<F> merger;
  std::vector<Target> targets;
  const auto lists = detail::adapter_lists(model);
  visit_projections(model, [&](const std::string& name, auto& linear, std::size_t) {
    const LoraMatrices& m = linear.adapters[adapter];
    if (m.rank() == 0) return;
    merger.reserve(linear.weight, m);
    if (const std::optional<float> value = merger.not_held(linear.weight, m)) {
      throw Error("adapter", name + " with the adapter", "weights that " + std::string(F::name) + " holds",
                  std::isnan(*value) ? "NaN" : number_text(*value));
    }
    targets.push_back({&linear.weight, &m, {}});
    if (linear.weight.adopted()) targets.back().copy = detail::own_copy(linear.weight);
  });
  for (Target& target : targets) {  // from here on nothing throws
    if (target.copy) *target.weight = std::move(*target.copy);
    merger.merge(*target.weight, *target.matrices);
  }
  for (auto* const list : lists) list->erase(list->begin() + static_cast<std::ptrdiff_t>(adapter));
  return merger.loss();
}

}}  // namespace mistral
