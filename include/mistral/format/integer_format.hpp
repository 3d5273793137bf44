// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>

#include <mistral/format/weight_format.hpp>
#include <mistral/simd/quads.hpp>
#include <mistral/simd/scaled_dot.hpp>
#include <mistral/simd/transpose.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Inputs that share a scale of the activations: integer formats give their scales for as many.
inline constexpr std::size_t scale_inputs = 32;

/// The numbers that make weights of codes, for 32 inputs of a panel: weight = scale (code - zero), each row with its
/// own scale.
struct Scales {
  simd::Lanes scale;  ///< of each row

  /// The weights of which (code - zero) is given, of one of the 32 inputs.
  simd::Lanes weight(const simd::Lanes& code, std::size_t) const noexcept { return code * scale; }
};

/// weight = scale (code - zero) + offset.
struct ScalesAndOffsets {
  simd::Lanes scale;   ///< of each row
  simd::Lanes offset;  ///< of each row

  /// The weights of which (code - zero) is given, of one of the 32 inputs.
  simd::Lanes weight(const simd::Lanes& code, std::size_t) const noexcept { return simd::fma(code, scale, offset); }
};

/// weight = scale x (whole number of the 16 inputs) x (code - zero).
template <int Zero>
struct ScalesOfHalves {
  simd::Lanes scale;      ///< of each row
  simd::Quads halves[2];  ///< as simd::ScaledDot takes them

  /// The weights of which (code - zero) is given, of one of the 32 inputs.
  simd::Lanes weight(const simd::Lanes& code, std::size_t input) const noexcept {
    return code * (scale * simd::scales_as_lanes(halves[input / simd::ScaledDot<Zero>::inputs]));
  }
};

/// A weight format that is multiplied as integers: a block is n x 32 inputs x 16 rows of unsigned codes, then scales.
/// Activations are quantised by 32 (kernels/inputs.hpp).
///
///   zero               what is taken from each code; it costs nothing: sums start at -zero x (sum of inputs)
///   max_code           the largest code
///   step_inputs        inputs whose codes share bytes: 32, or a few times as many
///   step_bytes         where the next ones' begin; codes lie at the block's start
///   quads(step, i)     the codes of inputs 4 i ... 4 i + 3 of a step
///   Terms              what a block's scales are: one of the three above
///   terms(block, out)  decodes them, for each 32 inputs
template <class F>
concept IntegerFormat = WeightFormat<F> &&
    requires(const std::byte* block, std::size_t i, typename F::Terms (&terms)[F::block_inputs / scale_inputs]) {
  { F::zero } -> std::convertible_to<int>;
  { F::max_code } -> std::convertible_to<unsigned>;
  { F::step_bytes } -> std::convertible_to<std::size_t>;
  { F::quads(block, i) }
  noexcept->std::same_as<simd::Quads>;
  { F::terms(block, terms) }
  noexcept;
} && F::step_inputs % scale_inputs == 0 && F::block_inputs % F::step_inputs == 0;

/// The pointers of a panel's 16 rows, each `bytes` further.
template <class Byte>
struct RowPointers {
  Byte* at[panel_rows];  ///< of each row

  /// `bytes` behind these.
  RowPointers(Byte* const (&rows)[panel_rows], std::size_t bytes) noexcept {
    for (std::size_t r = 0; r < panel_rows; ++r) at[r] = rows[r] + bytes;
  }
};

/// The pointers that are `bytes` behind these.
template <class Byte>
RowPointers(Byte* const (&)[panel_rows], std::size_t) -> RowPointers<Byte>;

/// For blocks of files that start with a half: the halves of 16 rows side by side, and back.
///@{
inline void halves_from_rows(const std::byte* const (&rows)[panel_rows], std::byte* out) noexcept {
  for (std::size_t r = 0; r < panel_rows; ++r) std::memcpy(out + r * sizeof(f16), rows[r], sizeof(f16));
}
inline void halves_to_rows(const std::byte* halves, std::byte* const (&rows)[panel_rows]) noexcept {
  for (std::size_t r = 0; r < panel_rows; ++r) std::memcpy(rows[r], halves + r * sizeof(f16), sizeof(f16));
}
///@}

/// Decodes the weights that an integer format's block stands for: w[i] holds the weights of input i, one row a lane.
template <class F>
inline void unpack_integers(const std::byte* block, simd::Lanes (&w)[F::block_inputs]) noexcept {
  typename F::Terms terms[F::block_inputs / scale_inputs];
  F::terms(block, terms);
  const simd::Lanes zero = simd::Lanes::broadcast(static_cast<float>(F::zero));
  for (std::size_t i = 0; i < F::block_inputs; i += simd::quad) {
    std::byte bytes[simd::Quads::bytes];
    F::quads(block + i / F::step_inputs * F::step_bytes, i % F::step_inputs / simd::quad).store(bytes);
    const simd::Words codes = simd::Words::load(bytes);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < simd::quad; ++k) {
      const simd::Lanes code = codes.bits(static_cast<int>(8 * k), 8).to_lanes() - zero;
      w[i + k] = terms[i / scale_inputs].weight(code, i % scale_inputs);
    }
  }
}

/// A format multiplied in floats whatever it is: weights are the floats they stand for, and activations aren't
/// quantised. For research: slower, and exact up to the rounding of sums.
template <NamedFormat F>
struct Exact {
  /// As F has them.
  ///@{
  static constexpr std::string_view name = F::name;
  static constexpr std::size_t block_inputs = F::block_inputs;
  static constexpr std::size_t block_bytes = F::block_bytes;
  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept { F::pack(in, block); }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept { F::unpack(block, w); }
  ///@}
};

}}  // namespace mistral
