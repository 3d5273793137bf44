#pragma once

#include <cstddef>

#include <mistral/simd/lanes.hpp>

namespace mistral::inline MISTRAL_ABI::kernels {

// A tile is what stays in registers: tile_rows x tile_panels accumulators of 16 lanes, the weights of one input for
// tile_panels panels, and one broadcast activation.
//   AVX-512, 32 registers, 1 a panel:  12 x 2 accumulators + 2 weights + 1 broadcast = 27
//   AVX2,    16 registers, 2 a panel:   6 x 1 (12 registers)  + 2 weights + 1 broadcast = 15
//   NEON,    32 registers, 4 a panel:   6 x 1 (24 registers)  + 4 weights + 1 broadcast = 29
//   SSE2,    16 registers, 4 a panel:   3 x 1 (12 registers)  + 1 broadcast, weights from memory = 13
#if defined(__aarch64__)
inline constexpr std::size_t tile_rows = 6;
inline constexpr std::size_t tile_panels = 1;
#else
inline constexpr std::size_t tile_rows = simd::registers == 1 ? 12 : simd::registers == 2 ? 6 : 3;
inline constexpr std::size_t tile_panels = simd::registers == 1 ? 2 : 1;
#endif

/// Panels that one task walks together. With one row they are read side by side: as many streams hide the latency of
/// memory. With many rows they are unpacked together, and a tile of inputs that was copied once meets all of them.
inline constexpr std::size_t group_panels = 4;

/// acc[r][p] += sum over k of w[p][k] x[r][k]: R rows of inputs by P panels of 16 outputs. The one loop that every sum
/// of products of more than one row goes through: k ascends, one fused multiply-add after the other, so that an output
/// has the same bits in a tile of any size.
///   w  panels of floats, (depth, 16) each, `panel_stride` floats apart
///   x  R rows of inputs, (depth) each, `row_stride` floats apart
template <std::size_t R, std::size_t P>
inline void multiply_tile(const float* w, std::size_t panel_stride, const float* x, std::size_t row_stride,
                          std::size_t depth, simd::Lanes (&acc)[R][P]) noexcept {
  for (std::size_t k = 0; k < depth; ++k) {
    simd::Lanes weights[P];
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) weights[p] = simd::Lanes::load(w + p * panel_stride + k * simd::lanes);
#pragma GCC unroll 12
    for (std::size_t r = 0; r < R; ++r) {
      const simd::Lanes input = simd::Lanes::broadcast(x[r * row_stride + k]);
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) acc[r][p] = simd::fma(weights[p], input, acc[r][p]);
    }
  }
}

/// Calls f.template operator()<R>() with R = rows, at most R: the rows left over at an edge have tiles of their own
/// size.
template <std::size_t R = tile_rows, class F>
inline void with_rows(std::size_t rows, const F& f) noexcept {
  if constexpr (R == 1) {
    f.template operator()<1>();
  } else {
    if (rows >= R) return f.template operator()<R>();
    with_rows<R - 1>(rows, f);
  }
}

}  // namespace mistral::inline MISTRAL_ABI::kernels
