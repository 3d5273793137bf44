// SPDX-License-Identifier: Apache-2.0
// Every gradient against central differences of the same layer in double.

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <limits>

#include <doctest/doctest.h>

#include <mistral/format/bf16.hpp>
#include <mistral/format/f16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/nf4.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/kernels/attention.hpp>
#include <mistral/kernels/attention_backward.hpp>
#include <mistral/kernels/elementwise.hpp>
#include <mistral/kernels/elementwise_backward.hpp>
#include <mistral/kernels/matmul_backward.hpp>
#include <mistral/kernels/reference.hpp>
#include <mistral/kernels/rope.hpp>
#include <mistral/parallel/parallel.hpp>

#include "../support/finite_difference.hpp"
#include "../support/random_rows.hpp"
#include "../support/rounds.hpp"

using namespace mistral;
using test::Matrix;
using test::Numbers;
using test::wide;

namespace {

// Gradients are sums of at most some hundred products of floats, of random signs: each rounds by 2^-24, and their
// errors add up like their squares do, or, at worst, like themselves. A factor of ten above 2^-24 sqrt(500) leaves room
// for cancellation; a term that is missing or wrong is of the order of 1e-2 and more.
constexpr double tolerance = 2e-5;

// Holds a gradient of the double layer `f` with respect to `x`, weighted with dy, against ours.
template <class F>
double error_of(std::span<const float> ours, Numbers& x, const Matrix& dy, const F& f) {
  return test::relative_error(ours, test::finite_differences(x, [&] { return test::dot(f(), dy.values); }));
}

Matrix transposed(const Matrix& m) {
  Matrix out(m.cols, m.rows);
  for (std::size_t r = 0; r < m.rows; ++r) {
    for (std::size_t c = 0; c < m.cols; ++c) out.values[c * m.rows + r] = m.values[r * m.cols + c];
  }
  return out;
}

bool same_bits(const Matrix& a, const Matrix& b) {
  return std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(float)) == 0;
}

// What panels of floats (outputs, inputs) hold, row by row.
Matrix rows_of_panels(std::span<const float> panels, std::size_t outputs, std::size_t inputs) {
  Matrix out(outputs, inputs);
  for (std::size_t o = 0; o < outputs; ++o) {
    for (std::size_t i = 0; i < inputs; ++i) {
      out.values[o * inputs + i] = panels[(o / 16 * inputs + i) * 16 + o % 16];
    }
  }
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("the inputs' gradient is the product with the transposed weights, whatever the format", F, F32, BF16,
                   F16, Q8_0, Q4_0, NF4) {
  Random random(1);
  for (int round = 0; round < test::rounds(30); ++round) {
    // some with enough inputs for tasks of the most of them, on up to eight threads, and for a last one of a few
    const std::size_t widest = 4 * kernels::most_gradient_inputs * std::min<std::size_t>(8, parallel::thread_count());
    const bool wide = round % 10 == 0;
    const std::size_t rows = test::uniform(random, 1, wide ? 40 : 600);
    const std::size_t cols = (wide ? widest : 0) + test::uniform(random, 1, 300);
    const std::size_t tokens = test::uniform(random, 1, 30);
    CAPTURE(rows);
    CAPTURE(cols);
    CAPTURE(tokens);
    Matrix weights(rows, cols, random);
    const Panels<F> panels = test::packed<F>(weights);
    const Matrix dy(tokens, rows, random);
    Matrix dx(tokens, cols, random);
    Matrix sum = dx;
    kernels::matmul_transposed(panels.view(), dy.view(), sum.view(), kernels::SumFrom::y);
    Matrix expected(tokens, cols);
    Matrix absolute(tokens, cols);
    const Matrix w = transposed(weights);
    reference::matmul(w.view(), dy.view(), expected.view());
    Matrix w_magnitude = w;
    for (float& v : w_magnitude.values) v = std::abs(v);
    Matrix dy_magnitude = dy;
    for (float& v : dy_magnitude.values) v = std::abs(v);
    reference::matmul(w_magnitude.view(), dy_magnitude.view(), absolute.view());
    // As in matmul_test: n u sum |w dy| for a sum in order of n = rows products, two more for what it begins from and
    // the twin's own rounding.
    const float u = static_cast<float>(rows + 3) * 0x1p-24f;
    bool within = true;
    for (std::size_t i = 0; i < dx.values.size(); ++i) {
      const float bound = u * (absolute.values[i] + std::abs(dx.values[i]));
      within &= std::abs(sum.values[i] - (dx.values[i] + expected.values[i])) <= bound;
    }
    CHECK(within);
    kernels::matmul_transposed(panels.view(), dy.view(), dx.view());
    within = true;
    for (std::size_t i = 0; i < dx.values.size(); ++i) {
      within &= std::abs(dx.values[i] - expected.values[i]) <= u * absolute.values[i];
    }
    CHECK(within);
  }
}

TEST_CASE("the weights' gradient is the sum over the rows, and the same bits in one call or in several") {
  Random random(2);
  for (int round = 0; round < test::rounds(40); ++round) {
    const std::size_t outputs = test::uniform(random, 1, 150);
    const std::size_t inputs = test::uniform(random, 1, 250);
    const std::size_t tokens = test::uniform(random, 1, 300);
    CAPTURE(outputs);
    CAPTURE(inputs);
    CAPTURE(tokens);
    const Matrix dy(tokens, outputs, random);
    const Matrix x(tokens, inputs, random);
    const std::size_t size = (outputs + 15) / 16 * 16 * inputs;
    std::vector<float> whole(size);
    kernels::matmul_gradient(dy.view(), x.view(), whole);
    Matrix turned(inputs, outputs);
    reference::matmul(transposed(dy).view(), transposed(x).view(), turned.view());
    const Matrix gradient = rows_of_panels(whole, outputs, inputs);
    CHECK(test::relative_error(gradient.values, wide(transposed(turned).values)) < tolerance);

    std::vector<float> parts(size);
    for (std::size_t t = 0; t < tokens;) {
      const std::size_t count = std::min(tokens - t, test::uniform(random, 1, 100));
      kernels::matmul_gradient(dy.view().slice(t, count), x.view().slice(t, count), parts);
      t += count;
    }
    CHECK(std::memcmp(parts.data(), whole.data(), size * sizeof(float)) == 0);
  }
}

TEST_CASE("the gradients of a norm are those of finite differences") {
  Random random(3);
  for (const std::size_t n : std::initializer_list<std::size_t>{1, 7, 16, 50}) {
    CAPTURE(n);
    const Matrix x(3, n, random);
    const Matrix weight(1, n, random);
    const Matrix dy(3, n, random);
    Matrix dx(3, n);
    Matrix dweight(1, n);
    const float eps = n == 1 ? 0.5f : 1e-5f;  // of one number, only the sign and eps are left
    kernels::rms_norm_backward(x.view(), weight.values, eps, dy.view(), dx.view());
    kernels::rms_norm_gradient(x.view(), eps, dy.view(), dweight.values);
    Numbers wx = wide(x.values);
    Numbers ww = wide(weight.values);
    const auto f = [&] { return test::rms_norm(wx, ww, static_cast<double>(eps)); };
    CHECK(error_of(dx.values, wx, dy, f) < tolerance);
    CHECK(error_of(dweight.values, ww, dy, f) < tolerance);
    Matrix twice = dx;
    kernels::rms_norm_backward(x.view(), weight.values, eps, dy.view(), twice.view());
    for (float& v : twice.values) v *= 0.5f;
    CHECK(test::relative_error(twice.values, wide(dx.values)) < 1e-6);  // it is added
  }
}

TEST_CASE("the gradients of SwiGLU are those of finite differences") {
  Random random(4);
  const Matrix gate(4, 37, random);
  const Matrix up(4, 37, random);
  const Matrix dy(4, 37, random);
  Matrix dgate = dy;
  Matrix dup = up;
  kernels::swiglu_backward(gate.view(), dup.view(), dgate.view());
  Numbers a = wide(gate.values);
  Numbers b = wide(up.values);
  const auto f = [&] { return test::swiglu(a, b); };
  CHECK(error_of(dgate.values, a, dy, f) < tolerance);
  CHECK(error_of(dup.values, b, dy, f) < tolerance);
}

TEST_CASE("turning back undoes a turn, and is its transposed") {
  Random random(5);
  const std::size_t head_dim = 18;
  std::vector<double> frequencies(head_dim / 2);
  kernels::rope_frequencies(10000.0, frequencies);
  Matrix turns(5, head_dim);
  for (std::size_t t = 0; t < 5; ++t) {
    kernels::rope_turns(static_cast<std::int64_t>(t * 1000), frequencies, turns.view().row(t));
  }
  const Matrix x(5, 3 * head_dim, random);
  const Matrix dy(5, 3 * head_dim, random);
  Matrix y = x;
  kernels::rope(y.view(), turns.view());
  Matrix dx = dy;
  kernels::rope_backward(dx.view(), turns.view());
  // <turn x, dy> = <x, turn^T dy>
  CHECK(std::abs(test::dot(wide(y.values), dy.values) - test::dot(wide(x.values), dx.values)) < 1e-4);
  kernels::rope_backward(y.view(), turns.view());
  CHECK(test::relative_error(y.values, wide(x.values)) < 1e-6);
}

TEST_CASE("the gradients of attention are those of finite differences, past the window too, and on any threads") {
  Random random(6);
  struct Shape {
    std::size_t head_dim, n_heads, n_kv_heads, window, tokens, before;
  };
  for (const Shape& s : {Shape{4, 2, 1, 0, 9, 0}, Shape{6, 4, 2, 3, 40, 2}, Shape{18, 3, 3, 5, 34, 0},
                         Shape{16, 2, 2, 1, 5, 3}, Shape{8, 2, 1, 32, 70, 1}, Shape{20, 5, 1, 0, 35, 0}}) {
    CAPTURE(s.head_dim);
    CAPTURE(s.window);
    const std::size_t rows = s.before + s.tokens;  // a sequence of its own lies before the one that is looked at
    const Matrix q(rows, s.n_heads * s.head_dim, random);
    const Matrix k(rows, s.n_kv_heads * s.head_dim, random);
    const Matrix v(rows, s.n_kv_heads * s.head_dim, random);
    const Matrix dy(rows, q.cols, random);
    const test::AttentionSizes sizes{s.head_dim, s.n_heads, s.n_kv_heads, s.window};
    const auto tail = [&](const Matrix& m) {
      Matrix out(s.tokens, m.cols);
      std::copy(m.values.end() - static_cast<std::ptrdiff_t>(out.values.size()), m.values.end(), out.values.begin());
      return out;
    };
    const auto head = [&](const Matrix& m) {
      Matrix out(s.before, m.cols);
      std::copy(m.values.begin(), m.values.begin() + static_cast<std::ptrdiff_t>(out.values.size()),
                out.values.begin());
      return out;
    };
    Numbers attended = test::attention(sizes, wide(head(q).values), wide(head(k).values), wide(head(v).values));
    const Numbers second = test::attention(sizes, wide(tail(q).values), wide(tail(k).values), wide(tail(v).values));
    attended.insert(attended.end(), second.begin(), second.end());
    Matrix out(rows, q.cols);
    for (std::size_t i = 0; i < attended.size(); ++i) out.values[i] = static_cast<float>(attended[i]);

    Matrix dq(rows, q.cols), dk(rows, k.cols), dv(rows, v.cols), statistics(rows, 2 * s.n_heads);
    const auto run = [&] {
      kernels::attention_backward(
          {.head_dim = s.head_dim, .n_heads = s.n_heads, .n_kv_heads = s.n_kv_heads, .window = s.window},
          {q.view(), k.view(), v.view(), out.view(), dy.view(), dq.view(), dk.view(), dv.view(), statistics.view()}, 2,
          [&](std::size_t i) {
            return i == 0 ? kernels::SequenceSpan{0, s.before, 0} : kernels::SequenceSpan{s.before, s.tokens, 0};
          });
    };
    {
      const parallel::ThreadLimit limit(1);
      run();
    }
    const Matrix one_dq = dq, one_dk = dk, one_dv = dv;
    {
      const parallel::ThreadLimit limit(2);
      run();
    }
    CHECK(same_bits(one_dq, dq));
    CHECK(same_bits(one_dk, dk));
    CHECK(same_bits(one_dv, dv));

    if (test::sanitized) continue;  // what follows takes most of the time, and is the test's own code
    Numbers wq = wide(tail(q).values), wk = wide(tail(k).values), wv = wide(tail(v).values);
    const auto f = [&] { return test::attention(sizes, wq, wk, wv); };
    const Matrix dy_tail = tail(dy);
    // With a window of 1 the softmax is 1 whatever q and k are.
    if (s.window != 1) {
      CHECK(error_of(tail(dq).values, wq, dy_tail, f) < tolerance);
      CHECK(error_of(tail(dk).values, wk, dy_tail, f) < tolerance);
    } else {
      for (const float x : dq.values) CHECK(std::abs(x) < 1e-5f);
      for (const float x : dk.values) CHECK(std::abs(x) < 1e-5f);
    }
    CHECK(error_of(tail(dv).values, wv, dy_tail, f) < tolerance);
  }
}

TEST_CASE("cross-entropy and its gradient are those of finite differences, for few tokens and for many") {
  Random random(7);
  for (const std::size_t vocab : std::initializer_list<std::size_t>{1, 5, 97, 3000}) {
    CAPTURE(vocab);
    Matrix logits(2, vocab, random);
    const std::vector<TokenId> targets{0, static_cast<TokenId>(vocab - 1)};
    Numbers wide_logits = wide(logits.values);
    const auto row = [&](std::size_t t) { return std::span<const double>(wide_logits).subspan(t * vocab, vocab); };
    const auto loss = [&] { return test::cross_entropy(row(0), targets[0]) + test::cross_entropy(row(1), targets[1]); };
    double losses[2];
    Matrix gradient = logits;
    kernels::cross_entropy(gradient.view(), targets, losses);
    CHECK(losses[0] == doctest::Approx(test::cross_entropy(row(0), targets[0])).epsilon(1e-5));
    CHECK(losses[1] == doctest::Approx(test::cross_entropy(row(1), targets[1])).epsilon(1e-5));
    if (vocab > 1 && vocab < 1000) {
      CHECK(test::relative_error(gradient.values, test::finite_differences(wide_logits, loss)) < tolerance);
    }
    for (std::size_t t = 0; t < 2; ++t) {  // softmax sums to 1
      double sum = 0.0;
      for (const float g : gradient.view().row(t)) sum += static_cast<double>(g);
      CHECK(std::abs(sum) < 1e-5);
    }
  }
  // Logits that a float cannot hold the exponential of.
  Matrix large(1, 20);
  for (std::size_t i = 0; i < 20; ++i) large.values[i] = 1000.0f * static_cast<float>(i);
  double loss[1];
  const std::vector<TokenId> target{18};
  kernels::cross_entropy(large.view(), target, loss);
  CHECK(loss[0] == doctest::Approx(1000.0));
  Matrix broken(1, 20);
  broken.values[3] = std::numeric_limits<float>::quiet_NaN();
  kernels::cross_entropy(broken.view(), target, loss);
  CHECK(std::isnan(loss[0]));
}

TEST_CASE("the embedding's gradient gathers the rows of each token") {
  Random random(8);
  const std::vector<TokenId> tokens{3, 17, 3, 0};
  const Matrix dx(4, 70, random);
  std::vector<float> gradient(2 * 16 * 70);
  kernels::embedding_gradient(tokens, dx.view(), gradient);
  const Matrix rows = rows_of_panels(gradient, 20, 70);
  for (std::size_t i = 0; i < 70; ++i) {
    CHECK(rows.values[3 * 70 + i] == dx.values[i] + dx.values[2 * 70 + i]);
    CHECK(rows.values[17 * 70 + i] == dx.values[70 + i]);
    CHECK(rows.values[i] == dx.values[3 * 70 + i]);
    CHECK(rows.values[70 + i] == 0.0f);
  }
}
