// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <mistral/format/format_names.hpp>
#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

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

/// `CheckedFormat<F>::value` is true or fails to compile with a message that names the formats there are.
template <class F>
struct CheckedFormat {
  static_assert(WeightFormat<F>,
                "weights are held in a format: one of mistral's " MISTRAL_FORMAT_NAMES
                ", as Exact<Q4_0> or Lora<Q4_0> of one, or a type of your own that models WeightFormat");
  static constexpr bool value = true;  ///< or fails to compile
};

/// A type that a user may write for a WeightFormat: another type is told of by CheckedFormat.
template <class F>
concept NamedFormat = CheckedFormat<F>::value && WeightFormat<F>;

/// A format whose codes and scales are those of a type of GGUF files, in another order: blocks of a file become blocks
/// of a panel and back bit by bit, and no weight is rounded again.
///
///   file_type                      the number of the type (`ggml_type`)
///   file_block_bytes               bytes of the block_inputs weights of one row in a file
///   from_file_blocks(rows, block)  one block of each of a panel's 16 rows, at any address, to a block of the panel
///   to_file_blocks(block, rows)    and back
template <class F>
concept FileFormat = WeightFormat<F> && requires(const std::byte* const (&from)[panel_rows], std::byte* block,
                                                 const std::byte* packed, std::byte* const (&to)[panel_rows]) {
  { F::file_type } -> std::convertible_to<std::uint32_t>;
  { F::file_block_bytes } -> std::convertible_to<std::size_t>;
  { F::from_file_blocks(from, block) }
  noexcept;
  { F::to_file_blocks(packed, to) }
  noexcept;
};

/// A format whose weights are elements of a type of GGUF files, one by one.
///
///   file_type  the number of the type (`ggml_type`)
///   Element    the type of an element: float, f16 or bf16
template <class F>
concept ElementFormat = WeightFormat<F> && requires {
  { F::file_type } -> std::convertible_to<std::uint32_t>;
  typename F::Element;
};

/// A format that GGUF files have a type for.
template <class F>
concept GgufFormat = FileFormat<F> || ElementFormat<F>;

/// A format whose blocks share something beyond a block: a panel's blocks are encoded in order by one object.
///
///   Packer(rows)      for a panel of which the first `rows` rows are the matrix's
///   pack(in, block)   as WeightFormat's; the block may be complete only later
///   finish()          completes all blocks
template <class F>
concept GroupedFormat = WeightFormat<F> &&
    requires(typename F::Packer& packer, const float (&in)[F::block_inputs][panel_rows], std::byte* block) {
  { packer.pack(in, block) }
  noexcept;
  { packer.finish() }
  noexcept;
} && std::constructible_from<typename F::Packer, std::size_t>;

/// A format multiplied in floats whose blocks are too large to be decoded to registers whole.
///
///   scales(block)                    what all weights of a block need to be decoded
///   step_inputs                      inputs that are decoded together
///   unpack_step(block, i, scales, w) as unpack, of inputs i * step_inputs ... (i + 1) * step_inputs - 1
template <class F>
concept SteppedFormat = WeightFormat<F> &&
    requires(const std::byte* block, std::size_t i, const simd::Lanes& scales, simd::Lanes (&w)[F::step_inputs]) {
  { F::scales(block) }
  noexcept->std::same_as<simd::Lanes>;
  { F::unpack_step(block, i, scales, w) }
  noexcept;
} && F::block_inputs % F::step_inputs == 0;

}}  // namespace mistral
