#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/bf16.hpp>
#include <mistral/format/f16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/io/dequantize.hpp>

#include "../support/random_rows.hpp"

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

}  // namespace

TEST_CASE_TEMPLATE("a format gives weights back within its bound", F, F32, F16, BF16, Q8_0, Q4_0) {
  Random random(1);
  for (const float size : {1.0f, 1e-3f, 100.0f}) {
    for (int round = 0; round < 20; ++round) {
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

TEST_CASE_TEMPLATE("a block of zeros is zeros, and neighbours don't touch each other", F, F32, F16, BF16, Q8_0, Q4_0) {
  Matrix weights(17, 70);
  weights.view().row(16)[69] = 1.0f;
  Matrix back = weights;
  test::packed<F>(back);
  CHECK(std::abs(back.view().row(16)[69] - 1.0f) <= error_bound<F>(1.0f, 1.0f));
  back.view().row(16)[69] = 0.0f;
  for (const float w : back.values) CHECK(w == 0.0f);
}

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

TEST_CASE_TEMPLATE("blocks of a file are kept bit by bit, and stand for what the file says", F, Q8_0, Q4_0) {
  constexpr auto type = static_cast<GgmlType>(F::file_type);
  CHECK(F::name == info(type).name);
  CHECK(F::block_inputs == info(type).block);
  CHECK(F::file_block_bytes == info(type).bytes);
  Random random(2);
  for (int round = 0; round < 20; ++round) {
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
