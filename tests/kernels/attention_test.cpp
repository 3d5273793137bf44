// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include <doctest/doctest.h>

#include <mistral/kernels/attention.hpp>
#include <mistral/kernels/reference.hpp>

#include "../support/random_rows.hpp"
#include "../support/rounds.hpp"

using namespace mistral;
using test::Matrix;

namespace {

// Keys or values (tokens, heads * head_dim) as a cache would hold them: a head after the other.
template <class T>
std::vector<std::byte> by_head(const Matrix& x, std::size_t head_dim) {
  const std::size_t heads = x.cols / head_dim;
  const std::size_t entry = kv_entry_bytes<T>(head_dim);
  std::vector<std::byte> out(heads * x.rows * entry);
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t t = 0; t < x.rows; ++t) {
      write_kv_entry<T>(x.view().row(t).subspan(h * head_dim, head_dim), out.data() + (h * x.rows + t) * entry);
    }
  }
  return out;
}

// The tokens [first, first + count) of a sequence attend to it, its entries cut in three pieces at random, beginning
// with the oldest that the first of them sees.
template <class T>
Matrix attend(const kernels::AttentionShape& shape, const Matrix& q, const std::vector<std::byte>& k,
              const std::vector<std::byte>& v, std::size_t first, std::size_t count, Random& random) {
  Matrix out(count, q.cols);
  const std::size_t oldest = shape.window == 0 || first + 1 < shape.window ? 0 : first + 1 - shape.window;
  const std::size_t held = first + count - oldest;
  const std::size_t a = test::uniform(random, 0, held);
  const std::size_t b = test::uniform(random, a, held);
  const std::size_t entry = kv_entry_bytes<T>(shape.head_dim);
  kernels::attention<T>(
      shape, q.view().slice(first, count), out.view(), 1,
      [&](std::size_t) {
        return kernels::SequenceSpan{0, count, static_cast<std::int64_t>(first)};
      },
      [&](std::size_t, std::size_t head) {
        const auto pieces = [&](const std::vector<std::byte>& all) {
          const auto entries = std::span(all).subspan((head * q.rows + oldest) * entry, held * entry);
          return kernels::HeadEntries{
              {entries.first(a * entry), entries.subspan(a * entry, (b - a) * entry), entries.subspan(b * entry)}};
        };
        return kernels::HeadContext{pieces(k), pieces(v), static_cast<std::int64_t>(oldest)};
      });
  return out;
}

// Scores are sums of head_dim products of normal numbers, scaled: |score| < 8 here, off by head_dim u |q||k| / sqrt(d)
// < 1e-5, and the exponential adds 2 ulp; the weights then differ by a factor of 1 + 4e-5 at most, and so do the sums,
// of values that are below 5 in magnitude.
constexpr float tolerance = 4e-5f * 5.0f;

// What the cache makes of keys or values.
template <class T>
void round_to(Matrix& x, std::size_t head_dim) {
  std::vector<std::byte> entry(kv_entry_bytes<T>(head_dim));
  for (std::size_t at = 0; at < x.values.size(); at += head_dim) {
    const auto head = std::span(x.values).subspan(at, head_dim);
    write_kv_entry<T>(head, entry.data());
    read_kv_entry<T>(entry.data(), head);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("attention equals a dense mask in double, for every window from 1 to past the sequence", T, float,
                   bf16, q8) {
  Random random(4);
  const std::size_t tokens = 75;
  const kernels::AttentionShape base{.head_dim = 18, .n_heads = 6, .n_kv_heads = 2, .window = 0};
  const Matrix q(tokens, 6 * 18, random);
  Matrix k(tokens, 2 * 18, random);
  Matrix v(tokens, 2 * 18, random);
  round_to<T>(k, 18);
  round_to<T>(v, 18);
  const std::vector<std::byte> keys = by_head<T>(k, 18);
  const std::vector<std::byte> values = by_head<T>(v, 18);
  for (std::size_t window = 0; window <= tokens + 2; window += test::sanitized ? 7 : 1) {
    CAPTURE(window);
    kernels::AttentionShape shape = base;
    shape.window = window;
    Matrix expected(tokens, q.cols);
    reference::attention(q.view(), k.view(), v.view(), 18, window, expected.view());
    const Matrix out = attend<T>(shape, q, keys, values, 0, tokens, random);
    float error = 0.0f;
    for (std::size_t i = 0; i < out.values.size(); ++i) {
      error = std::max(error, std::abs(out.values[i] - expected.values[i]));
    }
    CHECK(error <= tolerance);

    // The same bits for any cut into chunks, and for the pieces that the cache gives.
    Matrix chunked(tokens, q.cols);
    for (std::size_t first = 0; first < tokens;) {
      const std::size_t count = std::min(test::uniform(random, 1, 40), tokens - first);
      const Matrix part = attend<T>(shape, q, keys, values, first, count, random);
      std::copy(part.values.begin(), part.values.end(), chunked.view().row(first).begin());
      first += count;
    }
    CHECK(std::memcmp(out.values.data(), chunked.values.data(), out.values.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("attention equals a dense mask for any grouping of heads and any width of a head") {
  Random random(5);
  for (int round = 0; round < test::rounds(40); ++round) {
    const std::size_t kv_heads = test::uniform(random, 1, 3);
    const std::size_t group = round == 0 ? 70 : test::uniform(random, 1, 9);  // 70: more heads than one task holds
    const std::size_t head_dim = 2 * test::uniform(random, 1, 64);
    const std::size_t tokens = test::uniform(random, 1, 120);
    const std::size_t window = test::uniform(random, 0, 60);
    const kernels::AttentionShape shape{
        .head_dim = head_dim, .n_heads = kv_heads * group, .n_kv_heads = kv_heads, .window = window};
    CAPTURE(head_dim);
    CAPTURE(group);
    CAPTURE(tokens);
    CAPTURE(window);
    const Matrix q(tokens, kv_heads * group * head_dim, random);
    const Matrix k(tokens, kv_heads * head_dim, random);
    const Matrix v(tokens, kv_heads * head_dim, random);
    Matrix expected(tokens, q.cols);
    reference::attention(q.view(), k.view(), v.view(), head_dim, window, expected.view());
    const Matrix out =
        attend<float>(shape, q, by_head<float>(k, head_dim), by_head<float>(v, head_dim), 0, tokens, random);
    float error = 0.0f;
    for (std::size_t i = 0; i < out.values.size(); ++i) {
      error = std::max(error, std::abs(out.values[i] - expected.values[i]));
    }
    CHECK(error <= tolerance);
  }
}

// What a task holds lies on its thread's stack, which may be no more than 512 KB.
static_assert(sizeof(kernels::OnlineSoftmax<float>) < 140'000);
static_assert(sizeof(kernels::OnlineSoftmax<bf16>) < 110'000);
static_assert(sizeof(kernels::OnlineSoftmax<q8>) < 90'000);

TEST_CASE_TEMPLATE("heads of any width up to the widest, in as many rows as a task holds of it, equal a dense mask", T,
                   float, bf16, q8) {
  CHECK(kernels::OnlineSoftmax<T>::rows_of(128) == kernels::query_rows);
  CHECK(kernels::OnlineSoftmax<T>::rows_of(max_head_dim) == kernels::query_rows / 2);
  Random random(8);
  for (const std::size_t head_dim : {std::size_t{128}, std::size_t{130}, std::size_t{194}, max_head_dim}) {
    CAPTURE(head_dim);
    const std::size_t tokens = 50, group = 3;
    const kernels::AttentionShape shape{.head_dim = head_dim, .n_heads = group, .n_kv_heads = 1, .window = 40};
    const Matrix q(tokens, group * head_dim, random);
    Matrix k(tokens, head_dim, random);
    Matrix v(tokens, head_dim, random);
    round_to<T>(k, head_dim);
    round_to<T>(v, head_dim);
    const std::vector<std::byte> keys = by_head<T>(k, head_dim);
    const std::vector<std::byte> values = by_head<T>(v, head_dim);
    Matrix expected(tokens, q.cols);
    reference::attention(q.view(), k.view(), v.view(), head_dim, shape.window, expected.view());
    const Matrix out = attend<T>(shape, q, keys, values, 0, tokens, random);
    float error = 0.0f;
    for (std::size_t i = 0; i < out.values.size(); ++i) {
      error = std::max(error, std::abs(out.values[i] - expected.values[i]));
    }
    CHECK(error <= tolerance);
    for (std::size_t t = 0; t < tokens; ++t) {  // a row by itself has the same bits
      const Matrix alone = attend<T>(shape, q, keys, values, t, 1, random);
      CHECK(std::memcmp(alone.values.data(), out.view().row(t).data(), q.cols * sizeof(float)) == 0);
    }
  }
}

TEST_CASE_TEMPLATE("what a query doesn't see doesn't reach it, not even a NaN", T, float, bf16, q8) {
  Random random(6);
  const kernels::AttentionShape shape{.head_dim = 16, .n_heads = 2, .n_kv_heads = 1, .window = 10};
  const Matrix q(60, 32, random);
  Matrix k(60, 16, random);
  Matrix v(60, 16, random);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (float& x : k.view().row(30)) x = nan;
  for (float& x : v.view().row(30)) x = nan;
  const Matrix out = attend<T>(shape, q, by_head<T>(k, 16), by_head<T>(v, 16), 0, 60, random);
  for (std::size_t t = 0; t < 60; ++t) {
    CAPTURE(t);
    CHECK(std::isnan(out.view().row(t)[0]) == (t >= 30 && t < 40));
  }
}

TEST_CASE("scores of any size give weights that sum to one") {
  // One key scores a thousand more than the others: its value is the answer, and nothing overflows.
  Random random(7);
  const kernels::AttentionShape shape{.head_dim = 16, .n_heads = 1, .n_kv_heads = 1, .window = 0};
  Matrix q(100, 16, random);
  Matrix k(100, 16, random);
  const Matrix v(100, 16, random);
  for (float& x : q.values) x = 100.0f;
  for (float& x : k.values) x *= 0.001f;
  for (float& x : k.view().row(50)) x = 100.0f;
  const Matrix out = attend<float>(shape, q, by_head<float>(k, 16), by_head<float>(v, 16), 0, 100, random);
  for (std::size_t t = 50; t < 100; ++t) {
    for (std::size_t d = 0; d < 16; ++d) CHECK(out.view().row(t)[d] == v.view().row(50)[d]);
  }
}

TEST_CASE("8 bits for a key or a value are off by half a code at most, and all of them NaN where one isn't finite") {
  Random random(8);
  for (int round = 0; round < test::rounds(300); ++round) {
    const std::size_t head_dim = 2 * test::uniform(random, 1, 128);
    Matrix x(1, head_dim, random);
    const float size = std::ldexp(1.0f, static_cast<int>(test::uniform(random, 0, 250)) - 148);  // subnormals too
    for (float& v : x.values) v *= size;
    if (round == 0) x.values.assign(head_dim, 0.0f);
    Matrix rounded = x;
    round_to<q8>(rounded, head_dim);
    float largest = 0.0f;
    for (const float v : x.values) largest = std::max(largest, std::abs(v));
    // Half a code; the scale itself is rounded (a code of 127 moves by 127 u of it), and so is the product. Among the
    // subnormals both are off by half of the least of them: up to 127 halves, and one.
    const float bound = largest / 254.0f * (1.0f + 2e-5f) + 64.0f * std::numeric_limits<float>::denorm_min();
    for (std::size_t i = 0; i < head_dim; ++i) CHECK(std::abs(rounded.values[i] - x.values[i]) <= bound);

    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
      Matrix broken = x;
      broken.values[test::uniform(random, 0, head_dim - 1)] = bad;
      round_to<q8>(broken, head_dim);
      for (const float v : broken.values) CHECK(std::isnan(v));
    }
  }
}

TEST_CASE("attention over 8-bit keys and values differs from exact attention by what their rounding allows") {
  Random random(9);
  for (int round = 0; round < test::rounds(20); ++round) {
    const std::size_t head_dim = 2 * test::uniform(random, 1, 64);
    const std::size_t tokens = test::uniform(random, 1, 100);
    const kernels::AttentionShape shape{
        .head_dim = head_dim, .n_heads = 4, .n_kv_heads = 1, .window = test::uniform(random, 0, 50)};
    const Matrix q(tokens, 4 * head_dim, random);
    const Matrix k(tokens, head_dim, random);
    const Matrix v(tokens, head_dim, random);
    Matrix expected(tokens, q.cols);
    reference::attention(q.view(), k.view(), v.view(), head_dim, shape.window, expected.view());
    const Matrix out = attend<q8>(shape, q, by_head<q8>(k, head_dim), by_head<q8>(v, head_dim), 0, tokens, random);
    // An element of a key is off by e = largest / 254, so a score by s = |q|_1 e / sqrt(d) at most. Each weight then
    // changes by a factor of exp(-2 s) ... exp(2 s), and the weighted mean by (exp(2 s) - 1) max|v|; values add their
    // own half code.
    float largest_key = 0.0f, largest_value = 0.0f;
    for (const float x : k.values) largest_key = std::max(largest_key, std::abs(x));
    for (const float x : v.values) largest_value = std::max(largest_value, std::abs(x));
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t h = 0; h < 4; ++h) {
        float norm = 0.0f;
        for (std::size_t d = 0; d < head_dim; ++d) norm += std::abs(q.view().row(t)[h * head_dim + d]);
        const float s = norm * largest_key / 254.0f / std::sqrt(static_cast<float>(head_dim));
        const float bound = std::expm1(2.0f * s) * largest_value + largest_value / 254.0f + tolerance;
        for (std::size_t d = h * head_dim; d < (h + 1) * head_dim; ++d) {
          CHECK(std::abs(out.view().row(t)[d] - expected.view().row(t)[d]) <= bound);
        }
      }
    }
  }
}

static_assert(kv_entry_bytes<float>(128) == 512 && kv_entry_bytes<bf16>(128) == 256 && kv_entry_bytes<q8>(128) == 132);
static_assert(sizeof(KvEntry<q8, 18>) == 4 + 20 && sizeof(KvEntry<bf16, 18>) == 36);
