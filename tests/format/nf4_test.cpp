// SPDX-License-Identifier: Apache-2.0
// NF4 against the QLoRA paper's definitions, in double and by plain loops.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/nf4.hpp>

#include "../support/random_rows.hpp"
#include "../support/rounds.hpp"

using namespace mistral;
using test::Matrix;

namespace {

// The quantile of the normal distribution, by bisection.
double normal_quantile(double p) {
  double low = -10.0;
  double high = 10.0;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

// The numbers of a byte, by the definition: bitsandbytes' create_dynamic_map of 8 bits, signed, 7 of them at most for
// the exponent.
std::vector<double> dynamic_map() {
  std::vector<double> out{0.0, 1.0};
  for (int i = 0; i < 7; ++i) {
    const int parts = 1 << i;
    for (int k = 0; k < parts; ++k) {
      const double from = 0.1 + 0.9 * k / parts;
      const double to = 0.1 + 0.9 * (k + 1) / parts;
      for (const double sign : {1.0, -1.0}) out.push_back(sign * std::pow(10.0, i - 6) * (from + to) / 2.0);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

template <class Numbers>
std::size_t nearest(const Numbers& numbers, double x) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < std::size(numbers); ++i) {
    if (std::abs(static_cast<double>(numbers[i]) - x) < std::abs(static_cast<double>(numbers[best]) - x)) best = i;
  }
  return best;
}

std::size_t code_at(const Panels<NF4>& panels, std::size_t row, std::size_t col) {
  const std::byte* const block = panels.view().panel(row / 16) + col / 64 * NF4::block_bytes;
  const std::size_t input = col % 64;
  const auto byte =
      std::to_integer<std::size_t>(block[input / 8 * 64 + simd::FloatTable::code_at(row % 16, input % 8)]);
  return input % 8 < 4 ? byte & 15 : byte >> 4;
}

// The byte of a block's scale, and its group's scale and mean.
struct GroupedScale {
  std::size_t byte;
  float scale, mean;

  GroupedScale(const Panels<NF4>& panels, std::size_t row, std::size_t col) {
    const std::byte* const at = panels.view().panel(row / 16) + col / 64 * NF4::block_bytes + NF4::code_bytes;
    byte = std::to_integer<std::size_t>(at[row % 16]);
    std::memcpy(&scale, at + 16, sizeof scale);
    std::memcpy(&mean, at + 20, sizeof mean);
  }
};

}  // namespace

TEST_CASE("the levels are the quantiles that appendix E of the QLoRA paper takes") {
  // 8 quantiles from 0 up and 8 from 0 down, the outermost at the mean of 1 - 1/30 and 1 - 1/32, in units of it.
  const double offset = 0.5 * ((1.0 - 1.0 / 30.0) + (1.0 - 1.0 / 32.0));
  std::vector<double> levels{0.0};
  for (int i = 0; i < 8; ++i) levels.push_back(normal_quantile(offset + (0.5 - offset) * i / 8.0));
  for (int i = 0; i < 7; ++i) levels.push_back(-normal_quantile(offset + (0.5 - offset) * i / 7.0));
  std::sort(levels.begin(), levels.end());
  // the paper's were computed in single precision: a quantile of 1.8 from an argument that is off by 2^-25 is off by
  // that over the density there, 0.07
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(std::abs(static_cast<double>(NF4::levels[i]) - levels[i] / levels.back()) < 0x1p-25 / 0.07 + 0x1p-24);
  }
  CHECK(NF4::levels[7] == 0.0f);
}

TEST_CASE("a byte stands for the number of the dynamic map, and the nearest is found") {
  const std::vector<double> map = dynamic_map();
  REQUIRE(map.size() == 256);
  for (std::size_t i = 0; i < 256; ++i) {
    CHECK(NF4::scale_map.value[i] == doctest::Approx(map[i]).epsilon(1e-7));
    CHECK(NF4::scale_map.nearest(NF4::scale_map.value[i]) == i);
  }
  CHECK(NF4::scale_map.value[0] == -0.99296875f);  // -(0.1 + 0.9 x 127 / 128)
  CHECK(NF4::scale_map.value[127] == 0.0f);
  CHECK(NF4::scale_map.value[128] == 5.5e-7f);
  CHECK(NF4::scale_map.value[254] == 0.99296875f);
  CHECK(NF4::scale_map.value[255] == 1.0f);
  Random random(1);
  for (int i = 0; i < test::rounds(2000); ++i) {
    const float x = (2.0f * random.uniform() - 1.0f) * std::pow(10.0f, static_cast<float>(-(i % 8)));
    const double found = static_cast<double>(NF4::scale_map.value[NF4::scale_map.nearest(x)]);
    const double best = map[nearest(map, static_cast<double>(x))];
    CHECK(std::abs(found - static_cast<double>(x)) <= std::abs(best - static_cast<double>(x)) + 1e-7);
  }
}

TEST_CASE("codes and double-quantised scales of one group are those computed by hand") {
  // Two rows of two blocks: the largest magnitudes are 1, 2, 3 and 6, their mean is 3, and what is left is -2, -1, 0
  // and 3: over 3, -2/3, -1/3, 0 and 1.
  Matrix weights(2, 128);
  const float largest[2][2] = {{1.0f, 2.0f}, {3.0f, -6.0f}};
  const float parts[8] = {0.0f, 1.0f, -0.69f, 0.04f, 0.039f, -0.08f, 0.9f, -0.85f};
  const std::size_t codes[8] = {7, 15, 1, 8, 7, 6, 15, 0};     // 0.04 and 0.039 stand on either side of 0.0398
  const std::size_t opposite[8] = {7, 0, 14, 7, 7, 8, 0, 14};  // 0.85 is nearer to 0.72 than to 1
  for (std::size_t r = 0; r < 2; ++r) {
    for (std::size_t c = 0; c < 128; ++c) weights.view().row(r)[c] = largest[r][c / 64] * parts[c % 8];
  }
  Matrix back = weights;
  const Panels<NF4> panels = test::packed<NF4>(back);
  // The numbers of 0.1 ... 1 are 0.1 + 0.9 (2 k + 1) / 128. The nearest to 2/3 is that of k = 40 (0.66953), of those to
  // 1/3 that of k = 16 (0.33203): bytes count from 191 for k = 0, and down from 63 for the negative ones.
  const std::size_t bytes[2][2] = {{63 - 40, 63 - 16}, {127, 255}};
  const double numbers[2][2] = {{-(0.1 + 0.9 * 81 / 128), -(0.1 + 0.9 * 33 / 128)}, {0.0, 1.0}};
  for (std::size_t r = 0; r < 2; ++r) {
    for (std::size_t c = 0; c < 128; ++c) {
      const std::size_t code = (largest[r][c / 64] > 0.0f ? codes : opposite)[c % 8];
      CHECK(code_at(panels, r, c) == code);
      const GroupedScale scale(panels, r, c);
      CHECK(scale.byte == bytes[r][c / 64]);
      CHECK(scale.scale == 3.0f);
      CHECK(scale.mean == 3.0f);
      const double expected = static_cast<double>(NF4::levels[code]) * (3.0 + 3.0 * numbers[r][c / 64]);
      CHECK(static_cast<double>(back.view().row(r)[c]) == doctest::Approx(expected).epsilon(1e-6));
    }
  }
}

TEST_CASE(
    "codes, scales and weights are those of the definition, in groups of 16 rows x 16 blocks, whatever the shape") {
  const std::vector<double> map = dynamic_map();
  Random random(2);
  for (int round = 0; round < test::rounds(12); ++round) {
    const std::size_t rows = test::uniform(random, 1, 40);
    const std::size_t cols = test::uniform(random, 1, 1300);
    CAPTURE(rows);
    CAPTURE(cols);
    Matrix weights(rows, cols, random);
    if (round % 3 == 1) {
      for (float& w : weights.values) w *= 1e-20f;
    }
    if (round % 3 == 2) {
      for (std::size_t c = 0; c < std::min<std::size_t>(cols, 64); ++c) weights.view().row(0)[c] = 0.0f;
    }
    Matrix back = weights;
    const Panels<NF4> panels = test::packed<NF4>(back);
    const auto block_scale = [&](std::size_t r, std::size_t block) {
      double largest = 0.0;
      for (std::size_t c = block * 64; c < std::min(cols, block * 64 + 64); ++c) {
        largest = std::max(largest, static_cast<double>(std::abs(weights.view().row(r)[c])));
      }
      return largest;
    };
    bool codes_right = true, scales_right = true, values_right = true, within = true;
    const std::size_t blocks = (cols + 63) / 64;
    for (std::size_t first_row = 0; first_row < rows; first_row += 16) {
      for (std::size_t first_block = 0; first_block < blocks; first_block += 16) {
        const std::size_t end_row = std::min(rows, first_row + 16);
        const std::size_t end_block = std::min(blocks, first_block + 16);
        double mean = 0.0;
        double largest = 0.0;
        for (std::size_t r = first_row; r < end_row; ++r) {
          for (std::size_t b = first_block; b < end_block; ++b) mean += block_scale(r, b);
        }
        mean /= static_cast<double>((end_row - first_row) * (end_block - first_block));
        for (std::size_t r = first_row; r < end_row; ++r) {
          for (std::size_t b = first_block; b < end_block; ++b) {
            largest = std::max(largest, std::abs(block_scale(r, b) - mean));
          }
        }
        for (std::size_t r = first_row; r < end_row; ++r) {
          for (std::size_t b = first_block; b < end_block; ++b) {
            const double scale = block_scale(r, b);
            const GroupedScale found(panels, r, b * 64);
            // the mean is rounded to a float, and the largest distance from it is off by as much and its own rounding
            scales_right &= std::abs(static_cast<double>(found.mean) - mean) <= 0x1p-24 * mean;
            scales_right &= std::abs(static_cast<double>(found.scale) - largest) <= 0x1p-23 * (mean + largest);
            const double left = largest > 0.0 ? (scale - mean) / largest : 0.0;
            const double best = std::abs(map[nearest(map, left)] - left);
            const double taken = std::abs(map[found.byte] - left);
            scales_right &= taken <= best + 0x1p-21 * (largest > 0.0 ? 1.0 + mean / largest : 0.0);
            const double kept = map[found.byte] * static_cast<double>(found.scale) + static_cast<double>(found.mean);
            for (std::size_t c = b * 64; c < std::min(cols, b * 64 + 64); ++c) {
              const auto w = static_cast<double>(weights.view().row(r)[c]);
              const auto value = static_cast<double>(back.view().row(r)[c]);
              const double part = scale > 0.0 ? w / scale : 0.0;
              const std::size_t code = code_at(panels, r, c);
              codes_right &= std::abs(static_cast<double>(NF4::levels[code]) - part) <=
                             std::abs(static_cast<double>(NF4::levels[nearest(NF4::levels, part)]) - part) + 0x1p-23;
              const double level = static_cast<double>(NF4::levels[code]);
              values_right &= std::abs(value - level * kept) <= 0x1p-22 * (mean + largest) + 0x1p-148;
              // Half of the widest gap between levels (from -1 to -0.696), times the scale; and what the scale is off:
              // half of the widest gap of the map between -0.993 and 1 (0.9 / 64, but 1 is 0.9 / 128 from its
              // neighbour), times the group's scale.
              within &= std::abs(value - w) <= scale * 0.5 * (1.0 - 0.6961928) + largest * 0.5 * 0.9 / 64 +
                                                   0x1p-21 * (mean + largest) + 0x1p-148;
            }
          }
        }
      }
    }
    CHECK(codes_right);
    CHECK(scales_right);
    CHECK(values_right);
    CHECK(within);
  }
}

TEST_CASE("on normal weights its levels lose less than 16 even ones with the same blocks") {
  // The paper's reason for them (section 3): of the even levels' squared error NF4 has 0.84 here, over 2048 blocks, and
  // a mean over as many scatters by 1%.
  Random random(3);
  Matrix weights(64, 2048, random);
  Matrix back = weights;
  test::packed<NF4>(back);
  double nf4 = 0.0;
  double even = 0.0;
  for (std::size_t begin = 0; begin < weights.values.size(); begin += 64) {
    const auto block = std::span<const float>(weights.values).subspan(begin, 64);
    double largest = 0.0;
    for (const float w : block) largest = std::max(largest, std::abs(static_cast<double>(w)));
    for (std::size_t i = 0; i < 64; ++i) {
      const auto w = static_cast<double>(block[i]);
      const double level = std::round((w / largest + 1.0) * 7.5) / 7.5 - 1.0;
      even += (level * largest - w) * (level * largest - w);
      nf4 += (static_cast<double>(back.values[begin + i]) - w) * (static_cast<double>(back.values[begin + i]) - w);
    }
  }
  MESSAGE("squared error, of the even levels': " << nf4 / even);
  CHECK(nf4 < 0.9 * even);
}

TEST_CASE("zeros stay zeros beside other blocks, and what isn't finite makes its group NaN and no other") {
  Matrix weights(33, 1100);
  for (std::size_t r = 0; r < 33; ++r) {
    for (std::size_t c = 64; c < 1100; ++c) weights.view().row(r)[c] = static_cast<float>(r + 1);
  }
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    Matrix back = weights;
    back.view().row(20)[1023] = bad;
    test::packed<NF4>(back);
    bool right = true;
    for (std::size_t r = 0; r < 33; ++r) {
      for (std::size_t c = 0; c < 1100; ++c) {
        const bool in_group = r >= 16 && r < 32 && c < 1024;
        right &= std::isnan(back.view().row(r)[c]) == in_group;
        right &= in_group || c >= 64 || back.view().row(r)[c] == 0.0f;
      }
    }
    CHECK(right);
  }
}
