// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <mistral/core/rounded.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Frequencies of the pairs of a head (RoFormer, arXiv 2104.09864): out[j] = theta^(-2 j / head_dim), (head_dim / 2).
inline void rope_frequencies(double theta, std::span<double> out) noexcept {
  const auto pairs = static_cast<double>(out.size());
  theta = rounded(theta);
  for (std::size_t j = 0; j < out.size(); ++j) out[j] = std::pow(theta, -static_cast<double>(j) / pairs);
}

/// The turns of one position: (head_dim / 2) pairs of cosine and sine, interleaved, so (head_dim) floats. Angles are
/// taken in double: in float they are off by 2.6e-3 at position 127999, where a window still wants them.
inline void rope_turns(std::int64_t position, std::span<const double> frequencies, std::span<float> out) noexcept {
  assert(out.size() == 2 * frequencies.size());
  for (std::size_t j = 0; j < frequencies.size(); ++j) {
    const double angle = static_cast<double>(position) * frequencies[j];
    out[2 * j] = static_cast<float>(std::cos(angle));
    out[2 * j + 1] = static_cast<float>(std::sin(angle));
  }
}

/// Turns every head of every row by the row's own position, in place: x (tokens, heads * head_dim), the pairs (2j,
/// 2j+1) of a head interleaved as in Mistral's code; turns (tokens, head_dim) from rope_turns.
inline void rope(Rows<float> x, Rows<const float> turns) noexcept {
  assert(x.rows() == turns.rows() && x.cols() % turns.cols() == 0);
  const std::size_t head_dim = turns.cols();
  parallel::for_ranges(x.rows(), rows_per_task(x.cols()), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const float* turn = turns.row(t).data();
      for (float* head = x.row(t).data(); head != x.row(t).data() + x.cols(); head += head_dim) {
        for (std::size_t j = 0; j < head_dim; j += 2) {
          const float a = head[j];
          const float b = head[j + 1];
          head[j] = a * turn[j] - b * turn[j + 1];
          head[j + 1] = a * turn[j + 1] + b * turn[j];
        }
      }
    }
  });
}

}}}  // namespace mistral::kernels
