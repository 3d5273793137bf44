// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/sets/instruction_set.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// AVX-512, with or without VNNI, with BF16: pairs by vdpbf16ps.
template <class Set>
struct Avx512Bf16 : Set {
  using Plainer = Set;
  using Pairs = __m512i;
  using PairGroup = Pairs[1];

  static constexpr bool multiplies_pairs = true;

  static void load_pairs(const std::byte* p, PairGroup& out) noexcept { out[0] = _mm512_loadu_si512(p); }
  static void broadcast_pair(const std::byte* p, PairGroup& out) noexcept {
    std::int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    out[0] = _mm512_set1_epi32(pair);
  }
  static __m512 add_products(const Pairs& w, const Pairs& x, __m512 acc) noexcept {
    __m512bh a;
    __m512bh b;
    static_assert(sizeof a == sizeof w && sizeof b == sizeof x);
    std::memcpy(&a, &w, sizeof a);  // the types' conversions are spelled otherwise by each compiler
    std::memcpy(&b, &x, sizeof b);
    return _mm512_dpbf16_ps(acc, a, b);
  }
};

}}}  // namespace mistral::simd
