#pragma once

#include <concepts>
#include <cstddef>
#include <string_view>

#include <mistral/simd/lanes.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Output rows of a panel: the lanes of the kernels.
inline constexpr std::size_t panel_rows = simd::lanes;

/// A way to hold a weight matrix. A matrix (rows, cols) is cut in panels of 16 output rows; a panel is a sequence of
/// blocks, each `block_inputs` inputs x 16 rows in `block_bytes` bytes; rows and inputs past the end are zero.
///
///   name             what a user calls it
///   block_inputs     inputs of a block
///   block_bytes      bytes of a block
///   pack(in, block)  encodes in[i][lane], the weights of input i of the block for the panel's 16 rows
///   unpack(block, w) decodes a block: w[i] holds the weights of input i, one row a lane
template <class F>
concept WeightFormat = requires(const float (&in)[F::block_inputs][panel_rows], std::byte* block,
                                const std::byte* packed, simd::Lanes (&w)[F::block_inputs]) {
  { F::name } -> std::convertible_to<std::string_view>;
  { F::block_bytes } -> std::convertible_to<std::size_t>;
  { F::pack(in, block) }
  noexcept;
  { F::unpack(packed, w) }
  noexcept;
};

}  // namespace mistral::inline MISTRAL_ABI
