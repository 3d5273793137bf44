#include <cmath>
#include <cstring>
#include <limits>

#include <doctest/doctest.h>

#include <mistral/format/bf16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/kernels/matmul.hpp>
#include <mistral/kernels/reference.hpp>

#include "../support/random_rows.hpp"

using namespace mistral;
using test::Matrix;

namespace {

// A sum of n products, each rounded once and added in order, is off by at most n u sum |w x| to first order (Higham,
// "Accuracy and Stability of Numerical Algorithms", section 3.1), u = 2^-24; without a fused multiply-add each product
// rounds too, n + 1. The double twin adds one rounding of the result.
float bound(std::span<const float> w, std::span<const float> x) {
  double sum = 0.0;
  for (std::size_t k = 0; k < w.size(); ++k) sum += std::abs(static_cast<double>(w[k]) * static_cast<double>(x[k]));
  const double n = static_cast<double>(w.size()) + 2.0;
  return static_cast<float>(n * 0x1p-24 / (1.0 - n * 0x1p-24) * sum) + std::numeric_limits<float>::min();
}

}  // namespace

TEST_CASE_TEMPLATE("a matmul is its naive twin within the error of a sum in order, and one row its own bits", F, F32,
                   BF16) {
  Random random(1);
  for (int round = 0; round < 60; ++round) {
    const std::size_t rows = test::uniform(random, 1, 200);
    const std::size_t cols = test::uniform(random, 1, 700);
    const std::size_t tokens = test::uniform(random, 1, 40);
    CAPTURE(rows);
    CAPTURE(cols);
    CAPTURE(tokens);
    Matrix weights(rows, cols, random);
    const Panels<F> panels = test::packed<F>(weights);
    const Matrix x(tokens, cols, random);
    Matrix y(tokens, rows);
    Matrix expected(tokens, rows);
    kernels::matmul(panels.view(), x.view(), y.view());
    reference::matmul(weights.view(), x.view(), expected.view());
    bool within = true;
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t o = 0; o < rows; ++o) {
        within &=
            std::abs(y.view().row(t)[o] - expected.view().row(t)[o]) <= bound(weights.view().row(o), x.view().row(t));
      }
    }
    CHECK(within);
    Matrix alone(1, rows);
    bool same = true;
    for (std::size_t t = 0; t < tokens; ++t) {
      kernels::matmul(panels.view(), x.view().slice(t, 1), alone.view());
      same &= std::memcmp(alone.values.data(), y.view().row(t).data(), rows * sizeof(float)) == 0;
    }
    CHECK(same);
  }
}

TEST_CASE("infinities, NaN and denormals stay in their own row and output") {
  Random random(2);
  Matrix weights(33, 70, random);
  weights.view().row(3)[5] = std::numeric_limits<float>::infinity();
  weights.view().row(20)[69] = std::numeric_limits<float>::quiet_NaN();
  weights.view().row(32)[0] = std::numeric_limits<float>::denorm_min();
  const Panels<F32> panels = test::packed<F32>(weights);
  Matrix x(7, 70, random);
  Matrix y(7, 33);
  kernels::matmul(panels.view(), x.view(), y.view());
  for (std::size_t t = 0; t < 7; ++t) {
    for (std::size_t o = 0; o < 33; ++o) {
      if (o == 3) {
        CHECK(std::isinf(y.view().row(t)[o]));
      } else if (o == 20) {
        CHECK(std::isnan(y.view().row(t)[o]));
      } else {
        CHECK(std::isfinite(y.view().row(t)[o]));
      }
    }
  }
}

TEST_CASE("the number of threads doesn't touch a bit") {
  Random random(3);
  Matrix weights(1000, 600, random);
  const Panels<BF16> panels = test::packed<BF16>(weights);
  const Matrix x(50, 600, random);
  Matrix one(50, 1000);
  Matrix two(50, 1000);
  {
    const parallel::ThreadLimit limit(1);
    kernels::matmul(panels.view(), x.view(), one.view());
  }
  {
    const parallel::ThreadLimit limit(2);
    kernels::matmul(panels.view(), x.view(), two.view());
  }
  CHECK(std::memcmp(one.values.data(), two.values.data(), one.values.size() * sizeof(float)) == 0);
}
