// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <xsimd/xsimd.hpp>

#include <mistral/core/element.hpp>

/// \file
/// An instruction set: a struct of operations, in a header of its own. It derives from a plainer one, and gives
/// anew what it does better. simd/instructions.hpp chooses one; all else in simd/ is written in its operations.

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Lanes of a panel: the number of output rows of a weight matrix that are computed side by side on every machine.
inline constexpr std::size_t lanes = 16;

/// Inputs of a lane that one instruction multiplies.
inline constexpr std::size_t quad = 4;

/// Inputs that `quantize` takes.
inline constexpr std::size_t quantize_inputs = 32;

/// Bytes of a panel of 32-bit words, for each word of its rows.
inline constexpr std::size_t word_bytes = lanes * sizeof(std::uint32_t);

using FloatBatch = xsimd::batch<float>;
using BitsBatch = xsimd::batch<std::uint32_t>;

/// Registers that hold 16 floats: 1 with AVX-512, 2 with AVX, 4 with SSE or NEON.
inline constexpr std::size_t registers = lanes / FloatBatch::size;
static_assert(lanes % FloatBatch::size == 0 && FloatBatch::size <= lanes);

/// The operations that each instruction set has. Types:
///
///   Floats, Ints, Bytes   registers of floats, of 32-bit integers, and of unsigned bytes; plain numbers where there
///   are
///                         none
///   Pairs                 a register of pairs of bfloat16, a pair a lane
///   FloatGroup, IntGroup, ByteGroup, PairGroup
///                         arrays of these that hold 32 bits for each of the 16 lanes: a float, an integer, four bytes,
///                         two bfloat16
///   Plainer               the instruction set that it derives from, or void
///   Dot<Set, MaxCode>     how sums of products of bytes are taken: simd/quads.hpp
///   ScaledDot<Set, Zero>  and with scales that are integers: simd/scaled_dot.hpp
///
/// Set is the instruction set that is used: it may derive from the one whose Dot this is, and have operations anew.
///
/// Constants:
///
///   tile_rows, tile_panels                  the tile of floats that its registers hold: kernels/tile.hpp
///   integer_tile_rows, integer_tile_panels  the tile of integer sums
///   transposed_words                        words of each row that `transpose` takes at a time
///   multiplies_pairs                        whether it has an instruction for pairs of bfloat16
///
/// Operations on floats:
///
///   widen(p, floats)           16 consecutive bfloat16, halves or signed bytes at any address, as floats
///   rounded(x)                 x, of which the compiler no longer knows that it is a product: simd/product.hpp
///   quantize(x, codes, sum)    simd/quantize.hpp
///   load_pairs(p, pairs), broadcast_pair(p, pairs)
///                              pairs at any address, and one pair in all lanes: simd/pairs.hpp
///
/// Operations on integers and bytes, of a register where they don't take a group:
///
///   broadcast(n), add_ints(a, b), to_floats(ints)
///   pinned(x)                  x, in a register, of which the compiler no longer knows where it comes from
///   load_bytes(p, bytes)       64 bytes at any address
///   masked(bytes, mask)        the bits of each byte that are in the mask
///   high_nibbles(bytes)        the upper four bits of each byte
///   of_upper_bits(a, b, c)     bytes of six bits, put together of the upper two bits of three: the lowest two first
///   look_up(table, bytes)      table[b] for each byte b, which is at most 15
///   look_up_floats(table, codes, shift, floats)
///                              simd/lookup.hpp
///   count_not_above(bytes, thresholds)
///                              for each of 64 bytes, how many of the thresholds are not above it
///   transpose(row, w, panel)   turns `transposed_words` words of 16 rows, from word w on: what is at row(i, w) goes to
///                              lane i of step w of the panel
template <class S>
concept InstructionSet = requires(typename S::Floats floats, typename S::Ints ints, typename S::Bytes bytes,
                                  typename S::Pairs pairs, typename S::FloatGroup& all_floats,
                                  typename S::FloatGroup (&four)[quad], typename S::ByteGroup& all_bytes,
                                  typename S::IntGroup& all_ints, typename S::PairGroup& all_pairs, const bf16* bfloats,
                                  const f16* halves, const std::int8_t* numbers, const float* x, std::int8_t* codes,
                                  std::int32_t& sum, const std::byte* p, std::byte* out,
                                  const std::uint8_t (&table)[16], const std::uint8_t (&tables)[4][16],
                                  const std::byte* (&row)(std::size_t, std::size_t)) {
  typename S::Plainer;
  typename S::template Dot<S, 15>;
  typename S::template Dot<S, 255>;
  typename S::template ScaledDot<S, 32>;
  requires(S::tile_rows > 0 && S::tile_panels > 0 && S::integer_tile_rows > 0 && S::integer_tile_panels > 0);
  requires(S::transposed_words > 0);
  requires sizeof(all_floats) == word_bytes && sizeof(all_ints) == word_bytes && sizeof(all_bytes) == word_bytes;
  requires sizeof(all_pairs) == word_bytes;
  requires std::is_same_v<decltype(S::multiplies_pairs), const bool>;
  S::widen(bfloats, all_floats);
  S::widen(halves, all_floats);
  S::widen(numbers, all_floats);
  S::rounded(floats);
  S::pinned(bytes);
  S::load_pairs(p, all_pairs);
  S::broadcast_pair(p, all_pairs);
  S::quantize(x, codes, sum);
  S::to_floats(S::add_ints(ints, S::broadcast(sum)));
  S::load_bytes(p, all_bytes);
  S::high_nibbles(S::masked(bytes, 15));
  S::of_upper_bits(bytes, bytes, bytes);
  S::look_up(table, bytes);
  S::look_up_floats(tables, p, 4, four);
  S::count_not_above(out, table);
  S::transpose(row, std::size_t{}, out);
};

/// An instruction set whose registers are those that xsimd has for the unit, as those of the one that is chosen are,
/// and which has operations on xsimd's vectors too:
///
///   fma(a, b, c)               a * b + c, with one rounding where the machine has it and with two where it has not
///   divide(a, b), square_root(a)
///                              rounded once
///   shifted_left(x, n), shifted_right(x, n)
///                              integers shifted by n bits, to the right with their sign: 0 <= n < 32
///   product_of_halves(x)       the product of the two halves of each 64 bits
///   add_products(w, x, acc)    acc + the products of two pairs in each lane: simd/pairs.hpp
template <class S>
concept WholeInstructionSet = InstructionSet<S> &&
    requires(FloatBatch floats, xsimd::batch<std::int32_t> ints, BitsBatch bits, xsimd::batch<std::uint64_t> wide,
             typename S::Pairs pairs) {
  S::fma(floats, floats, floats);
  S::divide(floats, floats);
  S::square_root(floats);
  S::shifted_left(bits, 1);
  S::shifted_right(ints, 1);
  S::product_of_halves(wide);
  S::add_products(pairs, pairs, floats);
};

}}}  // namespace mistral::simd
