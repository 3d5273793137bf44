#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/random.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral::inline MISTRAL_ABI {

/// The matrices that an adapter stands beside.
struct LoraTargets {
  /// Whether an adapter stands beside it.
  ///@{
  bool wq = true, wk = true, wv = true, wo = true, w1 = true, w2 = true, w3 = true;
  bool output = true;  ///< the head
  ///@}

  /// Whether a matrix is one of them: `layers.0.attention.wq`, `output`.
  bool holds(std::string_view name) const noexcept {
    const std::string_view last = name.substr(name.rfind('.') + 1);
    return (wq && last == "wq") || (wk && last == "wk") || (wv && last == "wv") || (wo && last == "wo") ||
           (w1 && last == "w1") || (w2 && last == "w2") || (w3 && last == "w3") || (output && last == "output");
  }
};

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
    const std::size_t count = std::min(panel_rows, matrix.rows() - panel * panel_rows);
    for (std::size_t r = 0; r < count; ++r) rows[r] = values.data() + (panel * panel_rows + r) * matrix.cols();
    matrix.pack(panel, std::span<const float* const>(rows, count));
  }
}

}  // namespace detail

/// The number of a model's adapters.
template <class Model>
std::size_t adapter_count(const Model& model) noexcept {
  return model.output.adapters.size();
}

/// Gives a model an adapter that doesn't change its logits yet: A is uniform in +-1 / sqrt(inputs), as PEFT's, and B is
/// zero. Returns its number: the first, 0, is what a session goes through if it isn't told, and what a Trainer trains.
/// Throws Error for a rank of 0 or above max_lora_rank, for numbers out of range, and where there is no target.
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
  const LoraTargets& t = options.targets;
  if (!(t.wq || t.wk || t.wv || t.wo || t.w1 || t.w2 || t.w3 || t.output)) refuse("targets", "at least one", "none");
  const std::size_t number = adapter_count(model);
  std::uint64_t stream = options.seed;
  visit_projections(model, [&](const std::string& name, auto& linear, std::size_t) {
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
    linear.adapters.push_back(std::move(m));
  });
  return number;
}

/// Takes an adapter away; those behind it move up by one.
template <class Model>
void remove_adapter(Model& model, std::size_t adapter) {
  if (adapter >= adapter_count(model)) {
    throw Error("adapter", "number", "less than " + std::to_string(adapter_count(model)), std::to_string(adapter));
  }
  visit_projections(model, [&](const std::string&, auto& linear, std::size_t) {
    linear.adapters.erase(linear.adapters.begin() + static_cast<std::ptrdiff_t>(adapter));
  });
}

/// How far the weights of a merge are from the floats that they should be: |W' - (W + scale B A)| / |scale B A|, in the
/// Euclidean norm over all matrices. 0 for F32; where it comes near 1, the format lost what the adapter had learnt.
struct MergeLoss {
  double relative = 0.0;  ///< 0 ... , without a unit
};

namespace detail {

/// W + scale B A in the format To, in memory of its own: W's may lie in a file. Adds the squares of what rounding lost,
/// and of what was added to W, to `lost` and `added`.
template <WeightFormat To, WeightFormat F>
Panels<To> merged(const Panels<F>& weight, const LoraMatrices& m, double& lost, double& added, MemoryResource* memory) {
  const std::size_t cols = weight.cols();
  std::vector<float> a(m.rank() * cols);
  for (std::size_t k = 0; k < m.rank(); ++k) m.a.unpack_row(k, std::span<float>(a).subspan(k * cols, cols));
  Panels<To> out(weight.rows(), cols, memory);
  struct Squares {
    double lost, added;
  };
  std::vector<Squares> squares(out.view().panel_count());  // summed in order, for any number of threads
  parallel::for_ranges(squares.size(), 1, [&](std::size_t begin, std::size_t end) {
    std::vector<float> wanted(panel_rows * cols);
    std::vector<float> row(cols);
    std::vector<float> b(m.rank());
    for (std::size_t panel = begin; panel < end; ++panel) {
      Squares sum{0.0, 0.0};
      const float* rows[panel_rows];
      const std::size_t count = std::min(panel_rows, out.rows() - panel * panel_rows);
      for (std::size_t r = 0; r < count; ++r) {
        float* const w = wanted.data() + r * cols;
        rows[r] = w;
        weight.unpack_row(panel * panel_rows + r, std::span<float>(w, cols));
        m.b.unpack_row(panel * panel_rows + r, b);
        std::fill(row.begin(), row.end(), 0.0f);
        for (std::size_t k = 0; k < m.rank(); ++k) {
          const float scaled = m.scale * b[k];
          for (std::size_t i = 0; i < cols; ++i) row[i] += scaled * a[k * cols + i];
        }
        for (std::size_t i = 0; i < cols; ++i) {
          w[i] += row[i];
          sum.added += static_cast<double>(row[i]) * static_cast<double>(row[i]);
        }
      }
      out.pack(panel, std::span<const float* const>(rows, count));
      for (std::size_t r = 0; r < count; ++r) {
        out.unpack_row(panel * panel_rows + r, row);
        for (std::size_t i = 0; i < cols; ++i) {
          const double off = static_cast<double>(row[i]) - static_cast<double>(rows[r][i]);
          sum.lost += off * off;
        }
      }
      squares[panel] = sum;
    }
  });
  for (const Squares& s : squares) {
    lost += s.lost;
    added += s.added;
  }
  return out;
}

}  // namespace detail

/// Adds an adapter to the weights, W + scale B A rounded to the base's format, and takes it away. What it returns says
/// what rounding cost: worth a look wherever the format is narrower than F32.
template <class Model>
MergeLoss merge_adapter(Model& model, std::size_t adapter = 0) {
  if (adapter >= adapter_count(model)) {
    throw Error("adapter", "number", "less than " + std::to_string(adapter_count(model)), std::to_string(adapter));
  }
  double lost = 0.0;
  double added = 0.0;
  visit_projections(model, [&](const std::string&, auto& linear, std::size_t) {
    const LoraMatrices& m = linear.adapters[adapter];
    using F = typename Model::Format::Base;
    if (m.rank() > 0) linear.weight = detail::merged<F>(linear.weight, m, lost, added, linear.weight.memory());
  });
  remove_adapter(model, adapter);
  return {added > 0.0 ? std::sqrt(lost / added) : 0.0};
}

}  // namespace mistral::inline MISTRAL_ABI
