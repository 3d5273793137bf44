// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/core/buffer.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/rms_norm.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// RMSNorm over Dim values with a weight each, in float whatever the model's format.
template <std::size_t Dim>
struct RmsNorm {
  Buffer<float> weight;  ///< (Dim)

  /// Takes the memory of the weights from `memory`.
  explicit RmsNorm(MemoryResource* memory = std::pmr::get_default_resource()) : weight(Dim, memory) {}

  static constexpr std::size_t bytes = Dim * sizeof(float);  ///< of the weights

  /// y = weight x / sqrt(mean(x^2) + eps) (arXiv 1910.07467), each row by itself: x and y (tokens, Dim).
  void forward(const Batch<Dim>& x, float eps, Batch<Dim>& y) const noexcept {
    y.resize(x.rows());
    kernels::rms_norm(x.view(), weight.span(), eps, y.view());
  }
};

}}  // namespace mistral
