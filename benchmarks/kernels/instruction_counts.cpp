// SPDX-License-Identifier: Apache-2.0
// What instruction_counts.sh reads the assembly of: the kernels of one format, MISTRAL_FORMAT.

#include <mistral/format/bf16.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q6_k.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/kernels/matmul.hpp>

using namespace mistral;
using F = MISTRAL_FORMAT;

#if defined(MISTRAL_PAIRS)
extern "C" void many_rows(const std::byte* w, std::size_t panel_stride, const std::byte* x, std::size_t row_stride,
                          std::size_t pairs, simd::Lanes (&acc)[kernels::tile_rows][kernels::tile_panels]) {
  simd::Lanes sums[kernels::tile_rows][kernels::tile_panels];
  std::memcpy(&sums, &acc, sizeof sums);
  kernels::multiply_pairs_tile(w, panel_stride, x, row_stride, pairs, sums);
  std::memcpy(&acc, &sums, sizeof sums);
}
#else
extern "C" void many_rows(const kernels::UnpackedBlocks<F>& w, std::size_t blocks, const std::byte* codes,
                          const float* scales, const kernels::Inputs<F>::Offset* offsets, float* acc,
                          const kernels::TileAhead& ahead) {
  kernels::multiply_integer_tile<kernels::integer_tile_rows, kernels::integer_tile_panels, F>(w, blocks, codes, scales,
                                                                                              offsets, acc, ahead);
}
#endif

extern "C" void one_row(const PanelsView<F>& w, const std::byte* next, const kernels::Inputs<F>& x, float* y) {
  kernels::multiply_row<kernels::group_panels>(w, 0, 1, next, x, y);
}
