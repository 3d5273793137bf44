// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>

#include <mistral/format/panels.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Bytes ahead of what is read that a walk asks memory for, in each of its panels. On two cores of a Zen 5 whole
/// decodes of the 7B in Q4_0 took longer with 1024 where memory gave 80 GB/s, which it then isn't kept busy by, and
/// with 2048 and more where it gave 50. Blocks that are larger are asked for one ahead.
template <WeightFormat F>
inline constexpr std::size_t ahead_bytes = (std::max<std::size_t>)(1536, F::block_bytes);

/// Bytes of the weights that a row reads one after the other, at least, in each of the streams that it reads side by
/// side: the processor asks for the lines of a stream ahead of us, and begins that anew with each. As many as the loops
/// of benchmarks/limits.hpp read, which are to be matched; twice as many gained nothing. Blocks that are asked for one
/// ahead gain nothing by it.
template <WeightFormat F>
inline constexpr std::size_t stream_bytes = ahead_bytes<F> == F::block_bytes ? 0 : std::size_t{512} << 10;

/// Calls visit(block, b, ahead) for each block of inputs b of a panel, which lies at `block`; what a kernel should ask
/// memory for meanwhile lies `ahead` bytes from there. The same distances hold for the panels behind the first, which
/// are walked side by side.
///   next  where the panel begins that is read after this: asked for while the last blocks are worked on, or each
///         group of panels would begin with a wait for memory
template <WeightFormat F, class Visit>
inline void walk_blocks(const PanelsView<F>& w, std::size_t first_panel, const std::byte* next,
                        const Visit& visit) noexcept {
  constexpr auto distance = static_cast<std::ptrdiff_t>(ahead_bytes<F>);
  const std::size_t blocks = PanelsView<F>::blocks(w.cols);
  const std::size_t last = (std::min)(blocks, ahead_bytes<F> / F::block_bytes);  // blocks with nothing of theirs ahead
  const std::byte* const panel = w.panel(first_panel);
  const std::byte* block = panel;
  std::size_t b = 0;
  for (; b < blocks - last; ++b, block += F::block_bytes) visit(block, b, distance);
  const std::ptrdiff_t to_next = next - panel - static_cast<std::ptrdiff_t>(w.panel_bytes()) + distance;
  for (; b < blocks; ++b, block += F::block_bytes) visit(block, b, to_next);
}

/// Stores the outputs of P panels first_panel + p * apart of a matrix of that many rows.
///   y  (rows)
template <std::size_t P>
inline void store_row(const simd::Lanes (&acc)[P], std::size_t first_panel, std::size_t apart, std::size_t rows,
                      float* y) noexcept {
  for (std::size_t p = 0; p < P; ++p) {
    const std::size_t output = (first_panel + p * apart) * panel_rows;
    acc[p].store_some(y + output, rows - output);
  }
}

}}}  // namespace mistral::kernels
