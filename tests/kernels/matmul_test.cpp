// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <limits>

#include <doctest/doctest.h>

#include <mistral/kernels/matmul.hpp>
#include <mistral/kernels/reference.hpp>

#include "../support/formats.hpp"
#include "../support/random_rows.hpp"
#include "../support/rounds.hpp"

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

// The activations that the format F multiplies floats or pairs with.
template <WeightFormat F>
Matrix as_multiplied(const Matrix& x) {
  Matrix out = x;
  if constexpr (PairFormat<F>) {
    for (float& v : out.values) v = to_float(from_float<bf16>(v));
  }
  return out;
}

// The same for a format's own sums: those of pairs may round to odd, which is off by up to 2^-23, twice as much, and
// take for zero what is below 2^-126, among the weights, the inputs and after each addition.
template <WeightFormat F>
float sum_bound(std::span<const float> w, std::span<const float> x) {
  if constexpr (!PairFormat<F>) return bound(w, x);
  double lost = 0.0;
  for (std::size_t k = 0; k < w.size(); ++k) lost += 2.0 + std::abs(w[k]) + std::abs(x[k]);
  return 2.0f * bound(w, x) + static_cast<float>(0x1p-126 * lost);
}

template <WeightFormat F>
void multiply(const Panels<F>& w, Rows<const float> x, Rows<float> y) {
  kernels::InputBuffer<F> buffer(x.rows(), x.cols());
  kernels::matmul(w.view(), buffer.prepare(x), y);
}

// What sums of a format's products are made of: the weights, or, where a weight is scale x code - minimum, both terms,
// whose products are summed apart and are together at most |w| + 2 minimum.
template <class F>
Matrix terms_of(const Panels<F>& panels, const Matrix& weights) {
  Matrix out = weights;
  if constexpr (std::is_same_v<F, Q4_K>) {
    for (std::size_t r = 0; r < weights.rows; ++r) {
      for (std::size_t c = 0; c < weights.cols; ++c) {
        Q4_K::Terms terms[8];
        Q4_K::terms(panels.view().panel(r / panel_rows) + c / 256 * Q4_K::block_bytes, terms);
        float minimum[panel_rows];
        terms[c % 256 / 32].offset.store(minimum);
        out.view().row(r)[c] = std::abs(out.view().row(r)[c]) + 2.0f * std::abs(minimum[r % panel_rows]);
      }
    }
  }
  return out;
}

// What an integer format multiplies with: each block of 32 rounded to multiples of max|x| / 127.
Matrix quantized(const Matrix& x) {
  Matrix out = x;
  for (std::size_t t = 0; t < x.rows; ++t) {
    for (std::size_t begin = 0; begin < x.cols; begin += 32) {
      const auto block = out.view().row(t).subspan(begin, std::min<std::size_t>(32, x.cols - begin));
      float largest = 0.0f;
      for (const float v : block) largest = std::max(largest, std::abs(v));
      if (largest <= 1e-36f) largest = 0.0f;
      const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
      for (float& v : block) v = std::nearbyint(v * inverse) * (largest / 127.0f);
    }
  }
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("a matmul is its naive twin within the error of a sum in order, and one row its own bits", F,
                          naive_twin) {
  Random random(1);
  for (int round = 0; round < test::rounds(60); ++round) {
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
    multiply(panels, x.view(), y.view());
    const Matrix multiplied = as_multiplied<F>(x);
    reference::matmul(weights.view(), multiplied.view(), expected.view());
    bool within = true;
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t o = 0; o < rows; ++o) {
        within &= std::abs(y.view().row(t)[o] - expected.view().row(t)[o]) <=
                  sum_bound<F>(weights.view().row(o), multiplied.view().row(t));
      }
    }
    CHECK(within);
    Matrix alone(1, rows);
    bool same = true;
    for (std::size_t t = 0; t < tokens; ++t) {
      multiply(panels, x.view().slice(t, 1), alone.view());
      same &= std::memcmp(alone.values.data(), y.view().row(t).data(), rows * sizeof(float)) == 0;
    }
    CHECK(same);
  }
}
TEST_CASE_TEMPLATE_APPLY(naive_twin, test::FloatFormats);
TEST_CASE_TEMPLATE_INVOKE(naive_twin, Exact<BF16>);

TEST_CASE("BF16 is off from the product of its floats by no more than rounding the inputs to 8 bits makes it") {
  Random random(6);
  for (const float size : {1.0f, 1e-20f, 1e10f}) {
    Matrix weights(50, 333, random);
    const Panels<BF16> panels = test::packed<BF16>(weights);
    Matrix x(30, 333, random);
    for (float& v : x.values) v *= size;
    Matrix y(30, 50);
    Matrix expected(30, 50);
    multiply(panels, x.view(), y.view());
    reference::matmul(weights.view(), x.view(), expected.view());
    for (std::size_t t = 0; t < x.rows; ++t) {
      for (std::size_t o = 0; o < weights.rows; ++o) {
        // Each input is off by 2^-8 of itself at most, so the sum by 2^-8 of the sum of |w x|: by Cauchy and Schwarz no
        // more than 2^-8 |w| |x|. The products' sizes grow by as much, and the sum's roundings with them.
        double w2 = 0.0;
        double x2 = 0.0;
        for (const float v : weights.view().row(o)) w2 += static_cast<double>(v) * static_cast<double>(v);
        for (const float v : x.view().row(t)) x2 += static_cast<double>(v) * static_cast<double>(v);
        const auto inputs = static_cast<float>(0x1p-8 * std::sqrt(w2 * x2));
        const float sums = 1.01f * sum_bound<BF16>(weights.view().row(o), x.view().row(t));
        REQUIRE(std::abs(y.view().row(t)[o] - expected.view().row(t)[o]) <= inputs + sums);
      }
    }
  }
}

TEST_CASE("BF16 keeps infinities, NaN and denormals in their own row and output") {
  Random random(7);
  Matrix weights(33, 71, random);
  weights.view().row(3)[5] = std::numeric_limits<float>::infinity();
  weights.view().row(20)[70] = std::numeric_limits<float>::quiet_NaN();
  weights.view().row(32)[0] = std::numeric_limits<float>::denorm_min();
  const Panels<BF16> panels = test::packed<BF16>(weights);
  Matrix x(7, 71, random);
  x.view().row(4)[70] = std::numeric_limits<float>::quiet_NaN();
  x.view().row(5)[1] = 3.4e38f;  // rounds to infinity
  x.view().row(6)[2] = 1e-40f;
  Matrix y(7, 33);
  multiply(panels, x.view(), y.view());
  for (std::size_t t = 0; t < 7; ++t) {
    for (std::size_t o = 0; o < 33; ++o) {
      const float out = y.view().row(t)[o];
      CAPTURE(t);
      CAPTURE(o);
      if (t == 4 || o == 20) {
        CHECK(std::isnan(out));
      } else if (o == 3) {
        CHECK_FALSE(std::isfinite(out));
      } else if (t != 5) {
        CHECK(std::isfinite(out));
      }
    }
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
  multiply(panels, x.view(), y.view());
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
    multiply(panels, x.view(), one.view());
  }
  {
    const parallel::ThreadLimit limit(2);
    multiply(panels, x.view(), two.view());
  }
  CHECK(std::memcmp(one.values.data(), two.values.data(), one.values.size() * sizeof(float)) == 0);
}

TEST_CASE_TEMPLATE("the products of several matrices at once have the bits of each alone", F, F32, BF16, Q8_0, Q4_K) {
  Random random(12);
  for (const std::size_t tokens : {1u, 20u}) {
    for (const std::size_t cols : {90u, 1500u}) {
      if (test::sanitized && (tokens == 1) != (cols == 1500)) continue;
      // groups that are whole, begun, and none but one; enough work for several tasks
      Matrix weights[] = {{640, cols, random}, {7, cols, random}, {200, cols, random}};
      const Panels<F> panels[] = {test::packed<F>(weights[0]), test::packed<F>(weights[1]),
                                  test::packed<F>(weights[2])};
      const Matrix x(tokens, cols, random);
      kernels::InputBuffer<F> buffer(tokens, cols);
      Matrix together[] = {{tokens, 640}, {tokens, 7}, {tokens, 200}};
      const kernels::Product<F> products[] = {{panels[0].view(), together[0].view()},
                                              {panels[1].view(), together[1].view()},
                                              {panels[2].view(), together[2].view()}};
      kernels::matmul<F>(products, buffer.prepare(x.view()));
      for (std::size_t i = 0; i < 3; ++i) {
        Matrix alone(tokens, weights[i].rows);
        multiply(panels[i], x.view(), alone.view());
        CHECK(std::memcmp(alone.values.data(), together[i].values.data(), alone.values.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("an integer matmul is the product of its rounded inputs, and one row its own bits", F,
                          integer_product) {
  Random random(4);
  for (int round = 0; round < test::rounds(60); ++round) {
    const std::size_t rows = test::uniform(random, 1, 200);
    const std::size_t cols = test::uniform(random, 1, 700);
    const std::size_t tokens = test::uniform(random, 1, 40);
    CAPTURE(rows);
    CAPTURE(cols);
    CAPTURE(tokens);
    Matrix weights(rows, cols, random);
    const Panels<F> panels = test::packed<F>(weights);
    Matrix x(tokens, cols, random);
    if (round % 5 == 0) std::fill(x.values.begin(), x.values.begin() + static_cast<std::ptrdiff_t>(cols), 0.0f);
    if (round % 5 == 1) x.values[0] = 1e30f;
    if (round % 5 == 2)
      for (float& v : x.values) v *= 1e-37f;  // as small as denormals once scaled
    const Matrix rounded = quantized(x);
    const Matrix terms = terms_of<F>(panels, weights);
    Matrix y(tokens, rows);
    Matrix expected(tokens, rows);
    multiply(panels, x.view(), y.view());
    reference::matmul(weights.view(), rounded.view(), expected.view());
    // The blocks are added in order as in `bound`, with two more roundings each (of the scales' product, of the inputs'
    // scale); what is below 2^-126 is rounded to a multiple of 2^-149.
    bool within = true;
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t o = 0; o < rows; ++o) {
        const auto w = terms.view().row(o);
        const float slack = 3.0f * bound(w, rounded.view().row(t)) + static_cast<float>(cols) * 0x1p-120f;
        within &= std::abs(y.view().row(t)[o] - expected.view().row(t)[o]) <= slack;
      }
    }
    CHECK(within);
    Matrix alone(1, rows);
    bool same = true;
    for (std::size_t t = 0; t < tokens; ++t) {
      multiply(panels, x.view().slice(t, 1), alone.view());
      same &= std::memcmp(alone.values.data(), y.view().row(t).data(), rows * sizeof(float)) == 0;
    }
    CHECK(same);
  }
}
TEST_CASE_TEMPLATE_APPLY(integer_product, test::IntegerFormats);

TEST_CASE_TEMPLATE_DEFINE("codes and inputs at their limits are multiplied exactly", F, limits) {
  // Every code and every input as large as can be, of one sign: the sums that a narrower accumulator would lose.
  for (const float sign : {1.0f, -1.0f}) {
    Matrix weights(16, 64);
    for (float& w : weights.values) w = sign;
    const Panels<F> panels = test::packed<F>(weights);
    Matrix x(5, 64);
    for (float& v : x.values) v = 127.0f;
    Matrix y(5, 16);
    multiply(panels, x.view(), y.view());
    for (const float v : y.values) CHECK(std::abs(v - 64.0f * 127.0f * weights.values[0]) <= 64.0f * 127.0f * 0x1p-22f);
  }
}
TEST_CASE_TEMPLATE_APPLY(limits, test::IntegerFormats);

TEST_CASE_TEMPLATE_DEFINE("an input that isn't finite makes its row NaN, and no other", F, not_finite) {
  Random random(5);
  Matrix weights(20, 100, random);
  const Panels<F> panels = test::packed<F>(weights);
  Matrix x(6, 100, random);
  x.view().row(2)[99] = std::numeric_limits<float>::infinity();
  x.view().row(4)[7] = std::numeric_limits<float>::quiet_NaN();
  Matrix y(6, 20);
  multiply(panels, x.view(), y.view());
  for (std::size_t t = 0; t < 6; ++t) {
    for (const float v : y.view().row(t)) CHECK(std::isnan(v) == (t == 2 || t == 4));
  }
}
TEST_CASE_TEMPLATE_APPLY(not_finite, test::IntegerFormats);
