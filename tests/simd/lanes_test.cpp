// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/core/random.hpp>
#include <mistral/simd/lanes.hpp>
#include <mistral/simd/quads.hpp>
#include <mistral/simd/quantize.hpp>
#include <mistral/simd/transpose.hpp>
#include <mistral/simd/words.hpp>

using namespace mistral;

namespace {

bool same(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

// All 65536 numbers of a 16-bit type, sixteen at a time, from an address that isn't aligned.
template <class T>
void check_all_halves() {
  T in[simd::lanes + 1];
  float out[simd::lanes];
  for (std::uint32_t first = 0; first < 65536; first += simd::lanes) {
    for (std::uint32_t i = 0; i < simd::lanes; ++i) in[i + 1].bits = static_cast<std::uint16_t>(first + i);
    simd::Lanes::load(in + 1).store(out);
    for (std::size_t i = 0; i < simd::lanes; ++i) {
      const float expected = to_float(in[i + 1]);
      // the machine's conversion of a half makes a signalling NaN quiet
      REQUIRE((same(out[i], expected) || (std::isnan(out[i]) && std::isnan(expected))));
    }
  }
}

// The 32 x 16 bytes of words as numbers, scaled: a function of its own for each format that decodes codes so.
template <int Format>
[[gnu::noinline]] void decode(const std::byte* words, const simd::Lanes& zero, const simd::Lanes& scale,
                              simd::Lanes (&out)[32]) {
  for (std::size_t i = 0; i < 32; i += 4) {
    std::byte bytes[simd::word_bytes];
    std::memcpy(bytes, words + i / 4 * simd::word_bytes, sizeof bytes);
    const simd::Words codes = simd::Words::load(bytes);
#pragma GCC unroll 4
    for (std::size_t k = 0; k < 4; ++k) {
      const simd::Lanes code = codes.bits(static_cast<int>(8 * k), 8).to_lanes() - zero;
      out[i + k] = Format == 0 ? code * scale : simd::fma(code, scale, zero);
    }
  }
}

}  // namespace

TEST_CASE("every bfloat16, every half and every byte is loaded as the float it is") {
  check_all_halves<bf16>();
  check_all_halves<f16>();
  float out[simd::lanes];
  std::int8_t bytes[256 + 1];
  for (int i = 0; i < 256; ++i) bytes[i + 1] = static_cast<std::int8_t>(i - 128);
  for (std::size_t first = 0; first < 256; first += simd::lanes) {
    simd::Lanes::load(bytes + 1 + first).store(out);
    for (std::size_t i = 0; i < simd::lanes; ++i) CHECK(out[i] == static_cast<float>(bytes[1 + first + i]));
  }
}

TEST_CASE("words are taken apart to bfloat16 and bytes") {
  Random random(1);
  std::uint32_t words[simd::lanes];
  for (auto& w : words) w = static_cast<std::uint32_t>(random.next() & 0x7f7f7f7fu);  // no NaN
  const auto* const p = reinterpret_cast<const std::byte*>(words);
  float even[simd::lanes], odd[simd::lanes], third[simd::lanes];
  simd::even_of_pairs(p).store(even);
  simd::odd_of_pairs(p).store(odd);
  simd::byte_of_words<2>(p).store(third);
  for (std::size_t i = 0; i < simd::lanes; ++i) {
    CHECK(same(even[i], to_float(bf16{static_cast<std::uint16_t>(words[i])})));
    CHECK(same(odd[i], to_float(bf16{static_cast<std::uint16_t>(words[i] >> 16)})));
    CHECK(third[i] == static_cast<float>(static_cast<std::int8_t>(words[i] >> 16)));
  }
}

TEST_CASE("each byte of words is decoded in its own lane") {
  Random random(3);
  std::byte words[8 * simd::word_bytes];
  for (std::byte& byte : words) byte = static_cast<std::byte>(random.next() & 255u);
  const auto zero = simd::Lanes::broadcast(0.0f), one = simd::Lanes::broadcast(1.0f);
  for (const auto decode_words : {decode<0>, decode<1>}) {
    simd::Lanes numbers[32];
    decode_words(words, zero, one, numbers);
    for (std::size_t i = 0; i < 32; ++i) {
      float out[simd::lanes];
      numbers[i].store(out);
      for (std::size_t lane = 0; lane < simd::lanes; ++lane) {
        CHECK(out[lane] ==
              static_cast<float>(std::to_integer<int>(words[i / 4 * simd::word_bytes + 4 * lane + i % 4])));
      }
    }
  }
}

TEST_CASE("words are shifted by any number of bits, to the right with their sign if they have one") {
  Random random(4);
  std::uint32_t words[simd::BitsBatch::size];
  for (auto& w : words) w = static_cast<std::uint32_t>(random.next());
  const auto bits = simd::BitsBatch::load_unaligned(words);
  const auto numbers = std::bit_cast<xsimd::batch<std::int32_t>>(bits);
  for (int n = 0; n < 32; ++n) {
    std::uint32_t left[simd::BitsBatch::size], right[simd::BitsBatch::size];
    std::int32_t with_sign[simd::BitsBatch::size];
    simd::Instructions::shifted_left(bits, n).store_unaligned(left);
    simd::Instructions::shifted_right(bits, n).store_unaligned(right);
    simd::Instructions::shifted_right(numbers, n).store_unaligned(with_sign);
    for (std::size_t i = 0; i < simd::BitsBatch::size; ++i) {
      CHECK(left[i] == words[i] << n);
      CHECK(right[i] == words[i] >> n);
      CHECK(with_sign[i] == static_cast<std::int32_t>(words[i]) >> n);
    }
  }
}

TEST_CASE("arithmetic, sums and maxima of lanes are those of the numbers in them") {
  Random random(2);
  float a[simd::lanes], b[simd::lanes], c[simd::lanes], out[simd::lanes];
  for (std::size_t i = 0; i < simd::lanes; ++i) {
    a[i] = random.normal();
    b[i] = random.normal();
    c[i] = random.normal();
  }
  const auto x = simd::Lanes::load(a), y = simd::Lanes::load(b), z = simd::Lanes::load(c);
  (x + y).store(out);
  for (std::size_t i = 0; i < simd::lanes; ++i) CHECK(out[i] == a[i] + b[i]);
  (x / y).store(out);
  for (std::size_t i = 0; i < simd::lanes; ++i) CHECK(out[i] == a[i] / b[i]);
  simd::fma(x, y, z).store(out);
  for (std::size_t i = 0; i < simd::lanes; ++i) {
    const bool once = out[i] == std::fma(a[i], b[i], c[i]);
    const float product = a[i] * b[i];
    CHECK((once || out[i] == product + c[i]));
  }
  simd::max(x, y).store(out);
  for (std::size_t i = 0; i < simd::lanes; ++i) CHECK(out[i] == std::max(a[i], b[i]));
  // e^x: rounding x / log 2 to a whole number leaves a polynomial on [-log 2 / 2, log 2 / 2]; xsimd promises 1 ulp
  simd::exp(x).store(out);
  for (std::size_t i = 0; i < simd::lanes; ++i) {
    CHECK(std::abs(out[i] - std::exp(static_cast<double>(a[i]))) <= 2 * 0x1p-23 * std::exp(static_cast<double>(a[i])));
  }
  float halves[simd::lanes];
  std::memcpy(halves, a, sizeof a);
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) halves[i] += halves[i + half];
  }
  CHECK(simd::sum(x) == halves[0]);
  float largest = a[0];
  for (const float v : a) largest = std::max(largest, v);
  CHECK(simd::max(x) == largest);
  for (std::size_t i = 0; i < simd::lanes; ++i) {
    float raised[simd::lanes];
    std::memcpy(raised, a, sizeof a);
    CHECK_FALSE(simd::any_greater(simd::Lanes::load(raised), x));
    raised[i] += 1.0f;
    CHECK(simd::any_greater(simd::Lanes::load(raised), x));
  }
}

TEST_CASE("some lanes are loaded and stored without touching what lies behind them") {
  for (std::size_t count = 1; count <= simd::lanes; ++count) {
    std::vector<float> in(count, 3.0f);  // AddressSanitizer sees one number too many
    float out[simd::lanes];
    simd::Lanes::load_some(in.data(), count, -1.0f).store(out);
    for (std::size_t i = 0; i < simd::lanes; ++i) CHECK(out[i] == (i < count ? 3.0f : -1.0f));
    std::vector<float> back(count, 0.0f);
    simd::Lanes::broadcast(5.0f).store_some(back.data(), count);
    for (const float v : back) CHECK(v == 5.0f);
  }
}

TEST_CASE("numbers are cut off to codes within their limits, and a NaN is the lower one") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const float in[simd::lanes] = {0.0f, 0.99f, 1.0f, 1.5f,     14.99f,    15.0f, 15.5f, 1e30f,
                                 nan,  -1.0f, -nan, infinity, -infinity, 7.0f,  2.0f,  3.999f};
  const std::int32_t expected[simd::lanes] = {1, 1, 1, 1, 14, 15, 15, 15, 1, 1, 1, 15, 1, 7, 2, 3};
  simd::Words words = simd::Words::zero();
  words.put(simd::Words::truncate(simd::Lanes::load(in), 1.0f, 15.0f), 4);
  words.put(simd::Words::truncate(simd::Lanes::load(in), 1.0f, 15.0f), 24);
  std::int32_t out[simd::lanes];
  words.store(reinterpret_cast<std::byte*>(out));
  for (std::size_t i = 0; i < simd::lanes; ++i) CHECK(out[i] == (expected[i] << 4 | expected[i] << 24));
}

TEST_CASE("activations are quantised to the nearest of 255 codes, the largest to 127") {
  Random random(3);
  constexpr std::size_t n = simd::quantize_inputs;
  for (int round = 0; round < 200; ++round) {
    float x[n];
    for (float& v : x) v = random.normal() * (round % 3 == 0 ? 1e-30f : round % 3 == 1 ? 1.0f : 1e30f);
    float largest = 0.0f;
    for (const float v : x) largest = std::max(largest, std::abs(v));
    std::int8_t codes[n];
    std::int32_t sum = 0;
    const float scale = simd::quantize(x, codes, sum);
    CHECK(scale == largest / 127.0f);
    std::int32_t expected = 0;
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(codes[i] == static_cast<int>(std::nearbyint(x[i] * (127.0f / largest))));
      expected += codes[i];
    }
    CHECK(sum == expected);
  }
  for (const float odd : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (std::size_t i = 0; i < n; ++i) {
      float x[n] = {1.0f, 2.0f};
      x[i] = odd;
      std::int8_t codes[n];
      std::int32_t sum = 1;
      CHECK(std::isnan(simd::quantize(x, codes, sum)));
      CHECK(sum == 0);
      for (const auto code : codes) CHECK(code == 0);
    }
  }
}

TEST_CASE("rows of words become a panel, a row a lane") {
  Random random(4);
  for (const std::size_t words : {1u, 3u, 4u, 7u, 8u, 33u}) {
    std::vector<std::vector<std::uint32_t>> rows(simd::lanes, std::vector<std::uint32_t>(words));
    const std::byte* pointers[simd::lanes];
    for (std::size_t i = 0; i < simd::lanes; ++i) {
      for (auto& w : rows[i]) w = static_cast<std::uint32_t>(random.next());
      pointers[i] = reinterpret_cast<const std::byte*>(rows[i].data());
    }
    std::vector<std::uint32_t> panel(words * simd::lanes);
    simd::transpose_words(pointers, words, reinterpret_cast<std::byte*>(panel.data()));
    for (std::size_t w = 0; w < words; ++w) {
      for (std::size_t i = 0; i < simd::lanes; ++i) REQUIRE(panel[w * simd::lanes + i] == rows[i][w]);
    }
  }
}
