// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/dequantize.hpp>

#include "../support/formats.hpp"
#include "../support/random_rows.hpp"
#include "../support/rounds.hpp"

using namespace mistral;
using test::Matrix;

namespace {

// The largest difference that a format may make to a weight of a block whose largest magnitude is `largest`.
template <class F>
float error_bound(float weight, float largest) {
  // Halves keep 11 bits of a scale, and multiples of 2^-24 below 2^-14: each code stands for as much less or more.
  const auto scale_error = [](float scale, float code) { return code * std::max(scale * 0x1p-11f, 0x1p-25f); };
  if constexpr (std::is_same_v<F, F32>) return 0.0f;
  if constexpr (std::is_same_v<F, F16>) return std::max(std::abs(weight) * 0x1p-11f, 0x1p-25f);
  if constexpr (std::is_same_v<F, BF16>) return std::abs(weight) * 0x1p-8f;
  if constexpr (std::is_same_v<F, Q8_0>) return (largest / 127.0f) * 0.5001f + scale_error(largest / 127.0f, 127.0f);
  // A weight as large as the largest, of the other sign, would need the code 16 and gets 15: off by a whole scale.
  return (largest / 8.0f) * 1.0001f + scale_error(largest / 8.0f, 8.0f);
}

// What the encoders of scales that are fitted minimise, over `group` weights: sum of w e^2, w = x^2 + mean of x^2.
struct Fit {
  double error = 0.0;    // sum of w e^2
  double weights = 0.0;  // sum of w
  float largest = 0.0f;  // max |x|
  float range = 0.0f;    // max(x, 0) - min(x, 0)

  Fit(std::span<const float> x, std::span<const float> back) {
    double mean = 0.0;
    float low = 0.0f;
    float high = 0.0f;
    for (const float v : x) {
      mean += static_cast<double>(v) * static_cast<double>(v) / static_cast<double>(x.size());
      low = std::min(low, v);
      high = std::max(high, v);
    }
    largest = std::max(high, -low);
    range = high - low;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double w = static_cast<double>(x[i]) * static_cast<double>(x[i]) + mean;
      const double e = static_cast<double>(back[i]) - static_cast<double>(x[i]);
      weights += w;
      error += w * e * e;
    }
  }
  // the root of the mean of e^2
  double rms() const { return weights > 0.0 ? std::sqrt(error / weights) : 0.0; }
};

// Mean squared error over mean square of weights in the format F.
template <class F>
double relative_error(const Matrix& weights) {
  Matrix back = weights;
  test::packed<F>(back);
  double error = 0.0;
  double square = 0.0;
  for (std::size_t i = 0; i < weights.values.size(); ++i) {
    const double x = static_cast<double>(weights.values[i]);
    const double e = static_cast<double>(back.values[i]) - x;
    error += e * e;
    square += x * x;
  }
  return error / square;
}

}  // namespace

TEST_CASE_TEMPLATE("a format gives weights back within its bound", F, F32, F16, BF16, Q8_0, Q4_0) {
  Random random(1);
  for (const float size : {1.0f, 1e-3f, 100.0f}) {
    for (int round = 0; round < test::rounds(20); ++round) {
      Matrix weights(test::uniform(random, 1, 40), test::uniform(random, 1, 100), random);
      for (float& w : weights.values) w *= size;
      Matrix back = weights;
      test::packed<F>(back);
      for (std::size_t r = 0; r < weights.rows; ++r) {
        for (std::size_t c = 0; c < weights.cols; ++c) {
          const auto row = weights.view().row(r);
          float largest = 0.0f;
          for (std::size_t k = c / 32 * 32; k < std::min(weights.cols, c / 32 * 32 + 32); ++k) {
            largest = std::max(largest, std::abs(row[k]));
          }
          REQUIRE(std::abs(back.view().row(r)[c] - row[c]) <= error_bound<F>(row[c], largest));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("a fitted scale is at least as good as that of the first candidate", F, IQ4_NL, Q4_K, Q6_K) {
  Random random(3);
  for (const float size : {1.0f, 1e-3f, 100.0f}) {
    for (int round = 0; round < test::rounds(20); ++round) {
      Matrix weights(test::uniform(random, 1, 40), test::uniform(random, 1, 3) * 256, random);
      for (float& w : weights.values) w *= size;
      if (round % 4 == 1) weights.values[test::uniform(random, 0, weights.values.size() - 1)] *= 100.0f;
      if (round % 4 == 2) {
        for (float& w : weights.values) w = w * 0.1f + size;  // far from zero
      }
      Matrix back = weights;
      test::packed<F>(back);
      for (std::size_t r = 0; r < weights.rows; ++r) {
        for (std::size_t begin = 0; begin < weights.cols; begin += 256) {
          const auto x = weights.view().row(r).subspan(begin, 256);
          const auto y = back.view().row(r).subspan(begin, 256);
          const float block = Fit(x, y).largest;
          const double halves =
              std::max(block * 0x1p-10f, 0x1p-16f);  // scales as halves, of codes up to 127 or 63 x 15
          constexpr std::size_t group = F::block_inputs == 32 ? 32 : std::is_same_v<F, Q6_K> ? 16 : 32;
          for (std::size_t i = 0; i < 256; i += group) {
            const Fit fit(x.subspan(i, group), y.subspan(i, group));
            if constexpr (std::is_same_v<F, IQ4_NL>) {
              // The first candidate's scale is largest / 127. Levels are up to 24 apart and the highest is 113, so no
              // weight is further than 14 from one; rounding to whole numbers first costs at most 1 more.
              REQUIRE(fit.rms() <= 15.0 * fit.largest / 127.0 + halves);
            } else if constexpr (std::is_same_v<F, Q4_K>) {
              // The first candidate cuts the range in 15 steps. Then the scale is rounded to 1/63 of the block's
              // largest, times codes up to 15, and the minimum likewise: each by half a unit. A scale of a fit with
              // fewer steps, or with codes that leave out the ends, may be larger: range / 10 covers it.
              const double step = fit.range / 15.0;
              const double units = 0.5 * (15.0 * 2.0 * block / 10.0 + 2.0 * block) / 63.0;
              REQUIRE(fit.rms() <= 0.5 * step + units + halves);
            } else {
              // The first candidate's scale is largest / 32: a weight of the other sign is cut by up to one. Then it
              // is rounded to 1/128 of the block's largest, times codes up to 32, by half a unit.
              REQUIRE(fit.rms() <= fit.largest / 32.0 + 0.5 * 32.0 * (block / 28.0) / 128.0 + halves);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("IQ4_NL and Q4_K lose less than Q4_0 at as many bits, and Q6_K less than a sixteenth") {
  // Levels that follow the weights, and scales fitted to them: on normal weights 0.78 of Q4_0's squared error, on
  // Laplace's 0.68, over 4096 blocks here; a mean over as many scatters by less than 2%, and 0.85 and 0.75 are further.
  // Q6_K has four times the codes of Q4_0, so a sixteenth of its squared error, and scales by 16 instead of 32.
  static_assert(IQ4_NL::block_bytes * 8 == Q4_0::block_bytes * 8 && Q4_K::block_bytes == 8 * Q4_0::block_bytes);
  Random random(4);
  Matrix normal(64, 2048, random);
  Matrix laplace(64, 2048);
  for (float& w : laplace.values) w = std::log(random.uniform() + 1e-7f) * (random.next() % 2 == 0 ? 1.0f : -1.0f);
  CHECK(relative_error<IQ4_NL>(normal) < 0.85 * relative_error<Q4_0>(normal));
  CHECK(relative_error<IQ4_NL>(laplace) < 0.75 * relative_error<Q4_0>(laplace));
  CHECK(relative_error<Q4_K>(normal) < 0.85 * relative_error<Q4_0>(normal));
  CHECK(relative_error<Q4_K>(laplace) < 0.75 * relative_error<Q4_0>(laplace));
  CHECK(relative_error<Q6_K>(normal) < relative_error<Q4_0>(normal) / 16.0);
  CHECK(relative_error<Q6_K>(laplace) < relative_error<Q4_0>(laplace) / 16.0);
  MESSAGE("normal, of Q4_0's: IQ4_NL " << relative_error<IQ4_NL>(normal) / relative_error<Q4_0>(normal) << ", Q4_K "
                                       << relative_error<Q4_K>(normal) / relative_error<Q4_0>(normal) << ", Q6_K "
                                       << relative_error<Q6_K>(normal) / relative_error<Q4_0>(normal));
  MESSAGE("Laplace, of Q4_0's: IQ4_NL " << relative_error<IQ4_NL>(laplace) / relative_error<Q4_0>(laplace) << ", Q4_K "
                                        << relative_error<Q4_K>(laplace) / relative_error<Q4_0>(laplace) << ", Q6_K "
                                        << relative_error<Q6_K>(laplace) / relative_error<Q4_0>(laplace));
}

TEST_CASE_TEMPLATE_DEFINE("weights that no scale can hold stay in their row and block", F, no_scale_holds) {
  for (const float huge : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), 1e38f,
                           std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::quiet_NaN()}) {
    CAPTURE(huge);
    Matrix weights(20, 600);
    for (float& w : weights.values) w = 1.0f;
    weights.view().row(3)[300] = huge;
    Matrix back = weights;
    test::packed<F>(back);
    // The largest weight is in every block 1 but there. Q4_0's -8 and IQ4_NL's -127 hold it exactly, up to the rounding
    // of scales to halves (2^-11) and, in the K formats, to small numbers (1 of 63 x 2, both ways).
    for (std::size_t r = 0; r < weights.rows; ++r) {
      for (std::size_t c = 0; c < weights.cols; ++c) {
        if (r == 3 && c / F::block_inputs == 300 / F::block_inputs) continue;
        REQUIRE(back.view().row(r)[c] == doctest::Approx(1.0f).epsilon(0.02));
      }
    }
    if (std::abs(huge) > 1e37f) CHECK(!(std::abs(back.view().row(3)[300]) < 65504.0f * 127.0f));
  }
}
TEST_CASE_TEMPLATE_APPLY(no_scale_holds, test::IntegerFormats);

TEST_CASE_TEMPLATE_DEFINE("a block of zeros is zeros, and neighbours don't touch each other", F, zeros) {
  Matrix weights(17, 70);
  weights.view().row(16)[69] = 1.0f;
  Matrix back = weights;
  test::packed<F>(back);
  CHECK(std::abs(back.view().row(16)[69] - 1.0f) <= error_bound<F>(1.0f, 1.0f));  // no format does worse than Q4_0
  back.view().row(16)[69] = 0.0f;
  // IQ4_NL has no level of 0: beside the 1 at its 113 or -127, zeros are its 1.
  const float nearest = std::is_same_v<F, IQ4_NL> ? 1.01f / 113.0f : 0.0f;
  for (std::size_t c = 64; c < 70; ++c) {
    float& w = back.view().row(16)[c];
    CHECK(std::abs(w) <= nearest);
    w = 0.0f;
  }
  for (const float w : back.values) CHECK(w == 0.0f);
}
TEST_CASE_TEMPLATE_APPLY(zeros, test::AllFormats);

TEST_CASE("Q4_0 gives the largest weight the code of -8, and Q8_0 that of 127") {
  Matrix weights(1, 32);
  for (std::size_t i = 0; i < 32; ++i) weights.values[i] = static_cast<float>(i) / 31.0f * 4.0f;  // 0 ... 4
  Matrix q4 = weights;
  test::packed<Q4_0>(q4);
  CHECK(q4.values[31] == 4.0f);  // scale -1/2
  CHECK(q4.values[0] == 0.0f);
  CHECK(q4.values[4] == 0.5f);  // 0.516
  Matrix q8 = weights;
  test::packed<Q8_0>(q8);
  CHECK(q8.values[31] == 127.0f * to_float(from_float<f16>(4.0f / 127.0f)));
}

TEST_CASE_TEMPLATE_DEFINE("blocks of a file are kept bit by bit, and stand for what the file says", F, file_blocks) {
  constexpr auto type = static_cast<GgmlType>(F::file_type);
  CHECK(F::name == info(type).name);
  CHECK(F::block_inputs == info(type).block);
  CHECK(F::file_block_bytes == info(type).bytes);
  Random random(2);
  for (int round = 0; round < test::rounds(20); ++round) {
    const std::size_t rows = test::uniform(random, 1, 40);
    const std::size_t cols = test::uniform(random, 1, 5) * F::block_inputs;
    Panels<F> panels(rows, cols);
    const std::size_t row_bytes = panels.file_row_bytes();
    REQUIRE(row_bytes == cols / F::block_inputs * F::file_block_bytes);
    // Any bytes are a file: scales that are infinities, NaN and denormals among them.
    std::vector<std::byte> file(rows * row_bytes + 1);
    for (std::byte& b : file) b = static_cast<std::byte>(random.next());
    std::byte* const begin = file.data() + round % 2;  // at odd addresses too
    std::vector<std::byte> back(rows * row_bytes);
    for (std::size_t i = 0; i * panel_rows < rows; ++i) {
      std::vector<const std::byte*> from;
      std::vector<std::byte*> to;
      for (std::size_t r = i * panel_rows; r < std::min(rows, (i + 1) * panel_rows); ++r) {
        from.push_back(begin + r * row_bytes);
        to.push_back(back.data() + r * row_bytes);
      }
      panels.pack_file(i, from);
      panels.unpack_file(i, to);
    }
    CHECK(std::equal(back.begin(), back.end(), begin));
    std::vector<float> weights(cols);
    std::vector<float> expected(cols);
    for (std::size_t r = 0; r < rows; ++r) {
      panels.unpack_row(r, weights);
      dequantize_row(type, begin + r * row_bytes, expected);
      bool same = true;
      for (std::size_t c = 0; c < cols; ++c) {
        same &= weights[c] == expected[c] || (std::isnan(weights[c]) && std::isnan(expected[c]));
      }
      CHECK(same);
    }
  }
}
TEST_CASE_TEMPLATE_APPLY(file_blocks, test::FileFormats);
