// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <mistral/core/random.hpp>

using mistral::Random;

TEST_CASE("SplitMix64 gives the published numbers for seed 1234567") {
  std::uint64_t state = 1234567;
  for (const std::uint64_t expected : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                       4593380528125082431u, 16408922859458223821u}) {
    CHECK(mistral::split_mix(state) == expected);
  }
}

TEST_CASE("xoshiro256++ gives the numbers of its authors' program from state 1, 2, 3, 4") {
  Random random;
  random.state = {1, 2, 3, 4};
  for (const std::uint64_t expected : {41943041u, 58720359u}) CHECK(random.next() == expected);
  for (const std::uint64_t expected :
       {3588806011781223u, 3591011842654386u, 9228616714210784205u, 9973669472204895162u, 14011001112246962877u,
        12406186145184390807u, 15849039046786891736u, 10450023813501588000u}) {
    CHECK(random.next() == expected);
  }
}

TEST_CASE("a seed means the same numbers, at compile time too, and another seed means others") {
  constexpr auto normals = [](std::uint64_t seed) {
    Random random{seed};
    std::array<float, 8> values{};
    for (float& value : values) value = random.normal();
    return values;
  };
  constexpr std::array<float, 8> folded = normals(42);
  CHECK(normals(42) == folded);
  CHECK(normals(43) != folded);
  CHECK(Random{} == Random{0});
  CHECK(Random{0}.state != std::array<std::uint64_t, 4>{});
}

TEST_CASE("the state is plain data: what is saved goes on as the original does") {
  static_assert(std::is_trivially_copyable_v<Random>);
  Random random{7};
  for (int i = 0; i < 100; ++i) random.normal();
  Random restored;
  restored.state = random.state;
  CHECK(restored == random);
  for (int i = 0; i < 100; ++i) CHECK(restored.normal() == random.normal());
  random.next();
  CHECK(restored != random);
}

TEST_CASE("uniform numbers stay in [0, 1), whatever the bits") {
  // next() is rotl(s0 + s3, 23) + s0: with s0 = 0 a chosen s3 gives all ones.
  Random ones;
  ones.state = {0, 1, 2, ~std::uint64_t{0}};
  CHECK(Random{ones}.next() == ~std::uint64_t{0});
  CHECK(Random{ones}.uniform() == 1.0f - 0x1p-24f);
  CHECK(Random{ones}.uniform_double() == 1.0 - 0x1p-53);
  Random zeros;
  zeros.state = {0, 1, 2, 0};
  CHECK(Random{zeros}.uniform() == 0.0f);
  CHECK(Random{zeros}.uniform_double() == 0.0);
}

namespace {

// The Kolmogorov-Smirnov distance of n samples from their distribution exceeds t / sqrt(n) with a probability of at
// most 2 exp(-2 t^2) (Dvoretzky, Kiefer, Wolfowitz, Massart): 5e-8 for t = 3. The seed is fixed, so a pass stays a
// pass.
template <class Cdf>
double scaled_distance(std::vector<double> samples, Cdf cdf) {
  std::sort(samples.begin(), samples.end());
  const auto n = static_cast<double>(samples.size());
  double distance = 0.0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const double p = cdf(samples[i]);
    distance = std::max({distance, static_cast<double>(i + 1) / n - p, p - static_cast<double>(i) / n});
  }
  return distance * std::sqrt(n);
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

}  // namespace

TEST_CASE("uniform and normal numbers have their distributions") {
  constexpr std::size_t n = 400000;
  Random random{2024};
  std::vector<double> floats(n), doubles(n), normals(n);
  for (double& value : floats) value = static_cast<double>(random.uniform());
  for (double& value : doubles) value = random.uniform_double();
  for (double& value : normals) value = static_cast<double>(random.normal());
  const auto identity = [](double x) { return x; };
  CHECK(scaled_distance(floats, identity) <= 3.0);
  CHECK(scaled_distance(doubles, identity) <= 3.0);
  CHECK(scaled_distance(normals, normal_cdf) <= 3.0);

  // Tails are what that distance hardly sees. A count of rare events with mean m strays from it by more than
  // 6 sqrt(m) + 12 with a probability below 1e-7 (Bernstein: deviation d has probability 2 exp(-d^2 / (2 (m + d/3)))).
  for (const double edge : {1.0, 2.0, 3.0, 4.0}) {
    const double expected = 2.0 * normal_cdf(-edge) * static_cast<double>(n);
    const auto count = static_cast<double>(
        std::count_if(normals.begin(), normals.end(), [&](double x) { return std::fabs(x) >= edge; }));
    CAPTURE(edge);
    CHECK(std::fabs(count - expected) <= 6.0 * std::sqrt(expected) + 12.0);
  }
}

TEST_CASE("neighbours of a stream of normal numbers, and of neighbouring seeds, are not correlated") {
  // The mean of n products of independent normal numbers has variance 1/n: 6 standard deviations.
  constexpr int n = 100000;
  Random a{1}, b{2};
  double lag = 0.0, across = 0.0, last = static_cast<double>(a.normal());
  for (int i = 0; i < n; ++i) {
    const auto x = static_cast<double>(a.normal());
    lag += last * x;
    across += x * static_cast<double>(b.normal());
    last = x;
  }
  CHECK(std::fabs(lag) / n <= 6.0 / std::sqrt(n));
  CHECK(std::fabs(across) / n <= 6.0 / std::sqrt(n));
}
