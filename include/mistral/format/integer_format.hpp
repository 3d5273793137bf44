#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>

#include <mistral/format/weight_format.hpp>
#include <mistral/simd/quads.hpp>
#include <mistral/simd/transpose.hpp>

namespace mistral::inline MISTRAL_ABI {

/// A weight format that is multiplied as integers: a block is 32 inputs x 16 rows of unsigned codes, weight = scale
/// (code - zero) with a scale for each row. Activations are quantised per block of 32 (kernels/inputs.hpp).
///
///   zero            what is taken from each code; it costs nothing: it is the sum's first value, -zero x (sum of
///   inputs) max_code        the largest code quads(block, i) the codes of inputs 4 i ... 4 i + 3 scales(block)   the
///   rows' scales
template <class F>
concept IntegerFormat = WeightFormat<F> && requires(const std::byte* block, std::size_t i) {
  { F::zero } -> std::convertible_to<int>;
  { F::max_code } -> std::convertible_to<unsigned>;
  { F::quads(block, i) }
  noexcept->std::same_as<simd::Quads>;
  { F::scales(block) }
  noexcept->std::same_as<simd::Lanes>;
} && F::block_inputs == 32;

/// For encoders: of each row, the weight of a block that is largest in magnitude.
inline simd::Lanes largest_weights(const float (&in)[32][panel_rows]) noexcept {
  simd::Lanes largest = simd::Lanes::broadcast(0.0f);
  for (const auto& weights : in) largest = simd::larger_magnitude(largest, simd::Lanes::load(weights));
  return largest;
}

/// For encoders: stores the scales as halves, and gives what weights are multiplied with to become codes, 0 for a scale
/// of 0.
inline simd::Lanes put_scales(const simd::Lanes& scales, std::byte* out) noexcept {
  float numbers[panel_rows];
  f16 halves[panel_rows];
  scales.store(numbers);
  for (std::size_t lane = 0; lane < panel_rows; ++lane) {
    halves[lane] = from_float<f16>(numbers[lane]);
    numbers[lane] = numbers[lane] != 0.0f ? 1.0f / numbers[lane] : 0.0f;
  }
  std::memcpy(out, halves, sizeof halves);
  return simd::Lanes::load(numbers);
}

/// The pointers of a panel's 16 rows, each `bytes` further.
template <class Byte>
struct RowPointers {
  Byte* at[panel_rows];

  RowPointers(Byte* const (&rows)[panel_rows], std::size_t bytes) noexcept {
    for (std::size_t r = 0; r < panel_rows; ++r) at[r] = rows[r] + bytes;
  }
};

/// For blocks of files that start with a half: the halves of 16 rows side by side, and back.
inline void halves_from_rows(const std::byte* const (&rows)[panel_rows], std::byte* out) noexcept {
  for (std::size_t r = 0; r < panel_rows; ++r) std::memcpy(out + r * sizeof(f16), rows[r], sizeof(f16));
}
inline void halves_to_rows(const std::byte* halves, std::byte* const (&rows)[panel_rows]) noexcept {
  for (std::size_t r = 0; r < panel_rows; ++r) std::memcpy(rows[r], halves + r * sizeof(f16), sizeof(f16));
}

/// What an integer format's block stands for: w[i] = scale (code i - zero), one row a lane.
template <class F>
inline void unpack_integers(const std::byte* block, simd::Lanes (&w)[F::block_inputs]) noexcept {
  const simd::Lanes scales = F::scales(block);
  for (std::size_t i = 0; i < F::block_inputs; i += simd::quad) {
    std::byte codes[simd::Quads::bytes];
    F::quads(block, i / simd::quad).store(codes);
    for (std::size_t k = 0; k < simd::quad; ++k) {
      float numbers[panel_rows];
      for (std::size_t lane = 0; lane < panel_rows; ++lane) {
        numbers[lane] = static_cast<float>(std::to_integer<int>(codes[lane * simd::quad + k]) - F::zero);
      }
      w[i + k] = simd::Lanes::load(numbers) * scales;
    }
  }
}

/// A format multiplied in floats whatever it is: weights are the floats they stand for, and activations aren't
/// quantised. For research: slower, and exact up to the rounding of sums.
template <WeightFormat F>
struct Exact {
  static constexpr std::string_view name = F::name;
  static constexpr std::size_t block_inputs = F::block_inputs;
  static constexpr std::size_t block_bytes = F::block_bytes;
  static void pack(const float (&in)[block_inputs][panel_rows], std::byte* block) noexcept { F::pack(in, block); }
  static void unpack(const std::byte* block, simd::Lanes (&w)[block_inputs]) noexcept { F::unpack(block, w); }
};

}  // namespace mistral::inline MISTRAL_ABI
