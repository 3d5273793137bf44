// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// One step of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): advances
/// `state` and gives 64 bits. For seeds only: it spreads neighbouring seeds far apart.
constexpr std::uint64_t split_mix(std::uint64_t& state) noexcept {
  state += 0x9e3779b97f4a7c15u;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// A generator of random numbers: xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators",
/// 2021; period 2^256 - 1), seeded through SplitMix64 as its authors advise.
///
/// Its state is four words that can be copied, saved and compared. Every number it gives, the normal ones included, is
/// made of integer operations and exact roundings only, so that a seed means the same numbers with every compiler,
/// library and processor; those of <random> don't promise that.
struct Random {
  std::array<std::uint64_t, 4> state{};  // not all zero: xoshiro would stay there. No seed leads there.

  explicit constexpr Random(std::uint64_t seed = 0) noexcept {
    for (std::uint64_t& word : state) word = split_mix(seed);
  }

  friend constexpr bool operator==(const Random&, const Random&) = default;

  /// 64 random bits.
  constexpr std::uint64_t next() noexcept {
    const std::uint64_t result = std::rotl(state[0] + state[3], 23) + state[0];
    const std::uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = std::rotl(state[3], 45);
    return result;
  }

  /// A float of [0, 1), a multiple of 2^-24: 1 - uniform() and all that lies between are floats too.
  constexpr float uniform() noexcept { return static_cast<float>(static_cast<std::int32_t>(next() >> 40)) * 0x1p-24f; }

  /// A double of [0, 1), a multiple of 2^-53.
  constexpr double uniform_double() noexcept {
    return static_cast<double>(static_cast<std::int64_t>(next() >> 11)) * 0x1p-53;
  }

  /// A float of the normal distribution with mean 0 and variance 1: an odd multiple of 2^-33 below 10, rounded.
  ///
  /// Karney, "Sampling exactly from the normal distribution" (ACM TOMS 42(1), 2016; arXiv:1303.6257): needs no
  /// logarithm or cosine, whose last bits differ between mathematical libraries. Takes about ten words from the
  /// generator.
  constexpr float normal() noexcept {
    // The density at k + x (k whole, x of [0, 1)) is exp(-k^2/2) times exp(-x (2k + x) / 2). k is drawn by the first
    // factor, x uniformly, and the pair is kept with the probability of the second, in k + 1 trials that must all hold.
    for (;;) {
      const std::uint64_t k = whole_part(next());
      const std::uint64_t word = next();
      const std::uint64_t x = word >> 32;
      bool kept = true;
      for (std::uint64_t trial = 0; trial <= k && kept; ++trial) kept = even_run(k, x);
      if (!kept) continue;
      const auto magnitude = static_cast<float>(static_cast<std::int64_t>((k << 33) | (x << 1) | 1u)) * 0x1p-33f;
      return (word & 1u) != 0 ? -magnitude : magnitude;
    }
  }

 private:
  // k with a probability proportional to exp(-k^2/2). The table holds 2^64 P(0 ... k); past 9 it is below 2^-64.
  static constexpr std::uint64_t whole_part(std::uint64_t word) noexcept {
    constexpr std::array<std::uint64_t, 9> cumulative{0x92025b19482ce72c, 0xea91798547a0ef94, 0xfe5415c6e9da4baf,
                                                      0xfff3523319908c12, 0xffffdc31b8ef5942, 0xffffffdaa2d72345,
                                                      0xfffffffff1a20da4, 0xfffffffffffdf76c, 0xffffffffffffffe5};
    std::uint64_t k = 0;
    while (k < cumulative.size() && word >= cumulative[k]) ++k;
    return k;
  }

  // True with probability exp(-x c), c = (2k + x) / (2k + 2), for x in units of 2^-32 (von Neumann's method): a run
  // x > z1 > z2 > ... in which each step also needs an event of probability c is n or more long with probability
  // (x c)^n / n!, and the alternating sum of these, the probability of an even length, is the exponential.
  constexpr bool even_run(std::uint64_t k, std::uint64_t x) noexcept {
    std::uint64_t last = x;
    for (bool even = true;; even = !even) {
      const std::uint64_t word = next();
      const std::uint64_t z = word >> 32, r = word & 0xffffffffu;
      if (z >= last || r * (2 * k + 2) >= (k << 33) + x) return even;
      last = z;
    }
  }
};

}}  // namespace mistral
