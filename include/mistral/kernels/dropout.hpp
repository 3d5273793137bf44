// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <mistral/core/random.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// y = x where a number is kept, times 1 / (1 - rate), and 0 where it is dropped: each with the probability `rate`,
/// rounded to a multiple of 2^-16 (arXiv 1207.0580). Which ones are dropped depends on the row's key, `stream` and the
/// column alone: a backward, which drops the gradient in the same places, draws them again. x and y (rows, cols), keys
/// (rows), 0 <= rate < 1.
inline void dropout(Rows<const float> x, std::span<const std::uint64_t> keys, std::uint64_t stream, float rate,
                    Rows<float> y) noexcept {
  assert(x.rows() == keys.size() && y.rows() == x.rows() && y.cols() == x.cols());
  const auto threshold = static_cast<std::uint32_t>((std::min)(65535.0f, std::round(rate * 65536.0f)));
  const float scale = 65536.0f / static_cast<float>(65536u - threshold);
  parallel::for_ranges(x.rows(), rows_per_task(x.cols()), [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      std::uint64_t seed = stream;
      std::uint64_t state = keys[t] ^ split_mix(seed);
      for (std::size_t i = 0; i < x.cols(); i += 4) {
        std::uint64_t word = split_mix(state);  // four numbers of 16 bits
        for (std::size_t j = i; j < (std::min)(i + 4, x.cols()); ++j, word >>= 16) {
          y.row(t)[j] = (word & 0xffffu) < threshold ? 0.0f : x.row(t)[j] * scale;
        }
      }
    }
  });
}

}}}  // namespace mistral::kernels
