// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <mistral/format/integer_format.hpp>
#include <mistral/simd/scaled_dot.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// How 32 quantised inputs of a row are multiplied with the 32 weights of each lane, by what makes weights of codes:
///
///   Dot                        the integer sum of `32 / parts` inputs
///   Offset, offset(...)        what the row's inputs add to the sum besides their products with the codes
///   begin(offset, part)        a sum with no products yet
///   sums(dot, terms, part)     its value; the parts' are added as integers
///   add(terms, sums, ...)      acc + the 32 products. The integer sums are exact, so these few roundings are the same
///                              whichever kernel took them
template <IntegerFormat F, class Terms = typename F::Terms>
struct BlockProduct;

template <IntegerFormat F>
struct BlockProduct<F, Scales> {
  using Dot = simd::Dot<F::max_code>;
  using Offset = std::int32_t;
  static constexpr std::size_t parts = 1;
  static constexpr bool begins_at_offset = requires { Dot::from(Offset{}); };

  static Offset offset(const std::int8_t*, std::int32_t sum, float) noexcept { return -F::zero * sum; }
  static Dot begin([[maybe_unused]] const Offset& offset, std::size_t) noexcept {
    if constexpr (begins_at_offset) {
      return Dot::from(offset);
    } else {
      return Dot::zero();
    }
  }
  static simd::Sums sums(const Dot& dot, const Scales&, std::size_t) noexcept { return dot.sums(); }
  static simd::Lanes add(const Scales& terms, const simd::Sums& sums, const Offset& offset, float input_scale,
                         const simd::Lanes& acc) noexcept {
    return simd::fma(sums.plus(begins_at_offset ? 0 : offset), terms.scale * simd::Lanes::broadcast(input_scale), acc);
  }
};

/// An offset of the weights meets the sum of the inputs, in one more multiply-add.
template <IntegerFormat F>
struct BlockProduct<F, ScalesAndOffsets> {
  static_assert(F::zero == 0);
  using Dot = simd::Dot<F::max_code>;
  using Offset = float;
  static constexpr std::size_t parts = 1;

  static Offset offset(const std::int8_t*, std::int32_t sum, float scale) noexcept {
    return static_cast<float>(sum) * scale;
  }
  static Dot begin(const Offset&, std::size_t) noexcept { return Dot::zero(); }
  static simd::Sums sums(const Dot& dot, const ScalesAndOffsets&, std::size_t) noexcept { return dot.sums(); }
  static simd::Lanes add(const ScalesAndOffsets& terms, const simd::Sums& sums, const Offset& offset, float input_scale,
                         const simd::Lanes& acc) noexcept {
    const simd::Lanes products = simd::fma(sums.plus(0), terms.scale * simd::Lanes::broadcast(input_scale), acc);
    return simd::fma(terms.offset, simd::Lanes::broadcast(offset), products);
  }
};

template <IntegerFormat F>
struct BlockProduct<F, ScalesOfHalves<F::zero>> {
  using Terms = ScalesOfHalves<F::zero>;
  using Dot = simd::ScaledDot<F::zero>;
  struct Offset {
    std::int32_t half[2];
  };
  static constexpr std::size_t parts = 2;

  static Offset offset(const std::int8_t* codes, std::int32_t, float) noexcept {
    return {{Dot::start(codes), Dot::start(codes + Dot::inputs)}};
  }
  static Dot begin(const Offset& offset, std::size_t part) noexcept { return Dot::from(offset.half[part]); }
  static simd::Sums sums(const Dot& dot, const Terms& terms, std::size_t part) noexcept {
    return dot.sums(terms.halves[part]);
  }
  static simd::Lanes add(const Terms& terms, const simd::Sums& sums, const Offset&, float input_scale,
                         const simd::Lanes& acc) noexcept {
    return simd::fma(sums.plus(0), terms.scale * simd::Lanes::broadcast(input_scale), acc);
  }
};

}}}  // namespace mistral::kernels
