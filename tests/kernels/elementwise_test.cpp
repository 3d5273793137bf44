// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/kernels/elementwise.hpp>
#include <mistral/kernels/largest.hpp>
#include <mistral/kernels/reference.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/kernels/rope.hpp>

#include "../support/random_rows.hpp"

using namespace mistral;
using test::Matrix;

TEST_CASE("RMSNorm is its naive twin to a few units in the last place, for any width") {
  Random random(1);
  for (std::size_t n = 1; n <= 70; ++n) {
    const Matrix x(3, n, random);
    const Matrix weight(1, n, random);
    Matrix y(3, n);
    Matrix expected(3, n);
    kernels::rms_norm(x.view(), weight.values, 1e-5f, y.view());
    reference::rms_norm(x.view(), weight.values, 1e-5f, expected.view());
    // The sum of squares of n / 16 additions a lane and 4 more, square root, division and two products: each 1/2 ulp.
    const float relative = (static_cast<float>(n) / 16.0f + 9.0f) * 0x1p-24f;
    for (std::size_t i = 0; i < y.values.size(); ++i) {
      CHECK(std::abs(y.values[i] - expected.values[i]) <= relative * std::abs(expected.values[i]));
    }
  }
}

TEST_CASE("RMSNorm of zeros is zeros") {
  const Matrix x(1, 20);
  Random random(2);
  const Matrix weight(1, 20, random);
  Matrix y(1, 20);
  kernels::rms_norm(x.view(), weight.values, 1e-5f, y.view());
  for (const float v : y.values) CHECK(v == 0.0f);
}

TEST_CASE("SwiGLU is its naive twin, for any width, and has its limits far out") {
  Random random(3);
  for (std::size_t n = 1; n <= 70; ++n) {
    const Matrix gate(2, n, random);
    const Matrix up(2, n, random);
    Matrix y = gate;
    kernels::swiglu(y.view(), up.view());
    for (std::size_t i = 0; i < y.values.size(); ++i) {
      const float expected = reference::swiglu(gate.values[i], up.values[i]);
      // exp to 2 ulp, a sum, a quotient, a product: 4 ulp in all.
      CHECK(std::abs(y.values[i] - expected) <= 4.0f * 0x1p-23f * std::abs(expected));
    }
  }
  Matrix gate(1, 3);
  gate.values = {-1000.0f, 1000.0f, 0.0f};
  Matrix up(1, 3);
  up.values = {1.0f, 2.0f, 3.0f};
  kernels::swiglu(gate.view(), up.view());
  CHECK(gate.values[0] == 0.0f);
  CHECK(gate.values[1] == 2000.0f);
  CHECK(gate.values[2] == 0.0f);
}

TEST_CASE("RoPE turns by the absolute position, far out too") {
  Random random(4);
  for (const std::int64_t position : {0, 1, 7, 4095, 127999, 1000000000}) {
    Matrix x(1, 3 * 128, random);
    Matrix expected = x;
    Matrix turns(1, 128);
    std::vector<double> frequencies(64);
    kernels::rope_frequencies(10000.0, frequencies);
    kernels::rope_turns(position, frequencies, turns.view().row(0));
    kernels::rope(x.view(), turns.view());
    for (std::size_t h = 0; h < 3; ++h) {
      reference::rope(std::span<float>(expected.values).subspan(h * 128, 128), position, 10000.0);
    }
    // A turn is two products and a sum of floats rounded once: 3/2 ulp of the pair's length; the angle of 1e9 radians
    // is off by 1e9 2^-53 in double in both, in ways that may differ: 2.3e-7.
    for (std::size_t i = 0; i < x.values.size(); ++i) CHECK(std::abs(x.values[i] - expected.values[i]) <= 4e-6f);
  }
}

TEST_CASE("the residual connection adds") {
  Random random(5);
  Matrix x(2, 37, random);
  const Matrix before = x;
  const Matrix y(2, 37, random);
  kernels::add(x.view(), y.view());
  for (std::size_t i = 0; i < x.values.size(); ++i) CHECK(x.values[i] == before.values[i] + y.values[i]);
}

TEST_CASE("the largest is found where a plain search finds it first, for any size, with levels and with infinities") {
  Random random(11);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(kernels::largest({}) == std::nullopt);
  for (std::size_t n = 1; n <= 1300; n += n < 70 ? 1 : 61) {
    for (const std::uint64_t values : {2u, 5u, 1u << 30}) {  // few values: the largest stands at many places
      std::vector<float> x(n);
      for (float& v : x) {
        v = static_cast<float>(random.next() % values) - 1.0f;
        if (v == 0.0f && random.next() % 2 == 0) v = -0.0f;
        if (random.next() % 3 == 0) v = -infinity;
      }
      const auto expected = static_cast<std::size_t>(std::max_element(x.begin(), x.end()) - x.begin());
      CHECK(kernels::largest(x) == expected);
      const std::size_t wrong = random.next() % n;
      for (const float no_number : {infinity, std::numeric_limits<float>::quiet_NaN()}) {
        x[wrong] = no_number;
        CHECK(kernels::largest(x) == std::nullopt);
      }
      std::fill(x.begin(), x.end(), -infinity);
      CHECK(kernels::largest(x) == std::size_t{0});
    }
  }
}
