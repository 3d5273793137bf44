// SPDX-License-Identifier: Apache-2.0
// Panels that are walked together are more where there are many rows, or one: that changes no bit.

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <doctest/doctest.h>
#include <tbb/task_arena.h>

#include <mistral/core/random.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q6_k.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/kernels/matmul.hpp>

using namespace mistral;

namespace {

/// Codes of six bits in six lines: eight quads aren't as many in each, so the kernel that goes by lines mustn't take
/// it.
struct SixLines : Q4_0 {
  static constexpr std::size_t step_bytes = 6 * simd::Quads::bytes;
};
static_assert(kernels::LinedFormat<Q4_0> && kernels::LinedFormat<Q8_0> && !kernels::LinedFormat<Q6_K>);
static_assert(IntegerFormat<SixLines> && !kernels::LinedFormat<SixLines>);

constexpr std::size_t cols = 300, outputs = 65 * panel_rows - 3;  // the last group has a part of a panel

std::vector<float> numbers(std::size_t count, Random& random) {
  std::vector<float> out(count);
  for (float& x : out) x = 2.0f * static_cast<float>(random.uniform()) - 1.0f;
  return out;
}

template <WeightFormat F>
Panels<F> random_weights(Random& random) {
  Panels<F> w(outputs, cols);
  for (std::size_t first = 0; first < outputs; first += panel_rows) {
    const std::vector<float> weights = numbers(panel_rows * cols, random);
    std::vector<const float*> lanes;
    for (std::size_t lane = 0; lane < panel_rows && first + lane < outputs; ++lane) {
      lanes.push_back(weights.data() + lane * cols);
    }
    w.pack(first / panel_rows, std::span<const float* const>(lanes));
  }
  return w;
}

/// The products of one row on a single thread, which is left enough groups of a size above the smallest.
template <WeightFormat F>
std::vector<float> on_one_thread(const Panels<F>& w, Rows<const float> x) {
  std::vector<float> y(x.rows() * outputs);
  kernels::InputBuffer<F> inputs(x.rows(), cols);
  tbb::task_arena one_thread(1);
  one_thread.execute([&] {
    if (x.rows() == 1) {
      REQUIRE(kernels::row_groups<F>(w.view().panel_bytes()) > 2);
    } else {
      REQUIRE(kernels::panels_together<F>(w.view().panel_count(), x.rows()) == kernels::most_group_panels);
    }
    kernels::matmul(w.view(), inputs.prepare(x), Rows<float>(y.data(), x.rows(), outputs));
  });
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("rows get the same bits in groups of many panels as one by one", F, F32, BF16) {
  constexpr std::size_t rows = 70;
  Random random(11);
  const Panels<F> w = random_weights<F>(random);
  const std::vector<float> x = numbers(rows * cols, random);
  const std::vector<float> together = on_one_thread<F>(w, {x.data(), rows, cols});
  for (std::size_t row = 0; row < rows; ++row) {
    const std::vector<float> alone = on_one_thread<F>(w, {x.data() + row * cols, 1, cols});
    CHECK(std::equal(alone.begin(), alone.end(), together.begin() + static_cast<std::ptrdiff_t>(row * outputs)));
  }
}

TEST_CASE_TEMPLATE("a row gets the same bits from long streams as from panels one by one", F, F32, BF16, Q8_0, Q4_0) {
  Random random(12);
  const Panels<F> w = random_weights<F>(random);
  const std::vector<float> x = numbers(cols, random);
  const std::vector<float> streams = on_one_thread<F>(w, {x.data(), 1, cols});
  kernels::InputBuffer<F> inputs(1, cols);
  for (std::size_t panel = 0; panel < w.view().panel_count(); ++panel) {
    const std::size_t first = panel * panel_rows, count = std::min(panel_rows, outputs - first);
    std::vector<float> alone(count);
    kernels::matmul(PanelsView<F>{w.view().panel(panel), count, cols}, inputs.prepare({x.data(), 1, cols}),
                    Rows<float>(alone.data(), 1, count));
    CHECK(std::equal(alone.begin(), alone.end(), streams.begin() + static_cast<std::ptrdiff_t>(first)));
  }
}

TEST_CASE("a row is added to in groups that the kernel of many rows has room for") {
  constexpr std::size_t wide = 200 * panel_rows, inputs = 8;
  Random random(13);
  Panels<F32> w(wide, inputs);
  const std::vector<float> weights = numbers(panel_rows * inputs, random);
  std::vector<const float*> lanes;
  for (std::size_t lane = 0; lane < panel_rows; ++lane) lanes.push_back(weights.data() + lane * inputs);
  for (std::size_t panel = 0; panel < w.view().panel_count(); ++panel)
    w.pack(panel, std::span<const float* const>(lanes));
  const std::vector<float> x = numbers(inputs, random);
  std::vector<float> y(wide, 1.0f);
  kernels::InputBuffer<F32> buffer(1, inputs);
  kernels::matmul_add(w.view(), buffer.prepare({x.data(), 1, inputs}), Rows<float>(y.data(), 1, wide));
  for (std::size_t i = 0; i < wide; ++i) CHECK(y[i] == y[i % panel_rows]);
  for (std::size_t i = 0; i < panel_rows; ++i) {
    double sum = 1.0;
    for (std::size_t k = 0; k < inputs; ++k) sum += double{weights[i * inputs + k]} * x[k];
    CHECK(y[i] == doctest::Approx(sum).epsilon(1e-5));
  }
}
