// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/core/rows.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/matmul.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Calls f(first, count) for parts of `rows` rows: how a product with too few outputs to share is shared. A part is
/// long enough for the weights to be unpacked once for many rows.
template <class F>
void for_row_parts(std::size_t rows, const F& f) noexcept {
  parallel::for_ranges(rows, 64, [&](std::size_t begin, std::size_t end) { f(begin, end - begin); });
}

/// low[t] = scale A x[t]: A (rank, inputs), a rank of a few panels. The bits of a row are those that it gets alone.
inline void low_rank(const PanelsView<F32>& a, Rows<const float> x, float scale, Rows<float> low) noexcept {
  for_row_parts(x.rows(), [&](std::size_t first, std::size_t count) {
    matmul(a, Inputs<F32>{x.slice(first, count)}, low.slice(first, count));
    for (std::size_t t = first; t < first + count; ++t) {
      for (float& v : low.row(t)) v *= scale;
    }
  });
}

}}}  // namespace mistral::kernels
