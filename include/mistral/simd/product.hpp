// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/simd/lanes.hpp>

/// \file
/// Products that are always rounded: for what must be the same bits whatever it is compiled by, with and for.
///
/// Lanes' own product and sum don't promise that together: of a * b + c a compiler may leave out the rounding of the
/// product where the processor has an instruction for it (g++ does from -O2 on, clang with -ffp-contract=fast), and
/// fma() leaves it out only where there is such an instruction. What weights are packed to must not depend on any of
/// these: a file that is packed on one machine is used on others, and a session's file knows its model by it.

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// a * b, rounded, whatever is done with it.
///
/// An empty instruction takes the product in a register and gives it back, for all that the compiler knows changed. It
/// costs nothing. A flag that keeps products from being fused would have to be asked of every program that includes
/// this header, and g++ knows no pragma for it.
inline Lanes product(const Lanes& a, const Lanes& b) noexcept {
  Lanes out;
  for (std::size_t i = 0; i < registers; ++i) {
    const auto exact = static_cast<FloatBatch::register_type>(a.part[i] * b.part[i]);
    out.part[i] = FloatBatch(Instructions::rounded(exact));
  }
  return out;
}

/// a * b + c, rounded twice: the product, then the sum.
inline Lanes product_plus(const Lanes& a, const Lanes& b, const Lanes& c) noexcept { return product(a, b) + c; }

/// sum[i] += factor * x[i] for all i < count, rounded twice.
inline void add_products(float* sum, float factor, const float* x, std::size_t count) noexcept {
  const Lanes factors = Lanes::broadcast(factor);
  for (std::size_t i = 0; i < count; i += lanes) {
    const std::size_t some = count - i;
    product_plus(factors, Lanes::load_some(x + i, some), Lanes::load_some(sum + i, some)).store_some(sum + i, some);
  }
}

}}}  // namespace mistral::simd
