// Many rows walk more panels together than few: that changes no bit.

#include <cstddef>
#include <span>
#include <vector>

#include <doctest/doctest.h>
#include <tbb/task_arena.h>

#include <mistral/core/random.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/kernels/matmul.hpp>

using namespace mistral;

TEST_CASE_TEMPLATE("rows get the same bits in groups of many panels as one by one", F, F32, BF16) {
  constexpr std::size_t rows = 70, cols = 300, outputs = 65 * panel_rows - 3;  // the last group has a part of a panel
  Random random(11);
  const auto numbers = [&](std::size_t count) {
    std::vector<float> out(count);
    for (float& x : out) x = 2.0f * static_cast<float>(random.uniform()) - 1.0f;
    return out;
  };
  Panels<F> w(outputs, cols);
  for (std::size_t first = 0; first < outputs; first += panel_rows) {
    const std::vector<float> weights = numbers(panel_rows * cols);
    std::vector<const float*> lanes;
    for (std::size_t lane = 0; lane < panel_rows && first + lane < outputs; ++lane) {
      lanes.push_back(weights.data() + lane * cols);
    }
    w.pack(first / panel_rows, std::span<const float* const>(lanes));
  }
  const std::vector<float> x = numbers(rows * cols);
  std::vector<float> together(rows * outputs), alone(outputs);
  kernels::InputBuffer<F> inputs(rows, cols);
  tbb::task_arena one_thread(1);  // leaves each thread enough groups of the largest size
  one_thread.execute([&] {
    REQUIRE(kernels::panels_together<F>(w.view().panel_count(), w.view().panel_bytes(), rows) ==
            kernels::most_group_panels);
    kernels::matmul(w.view(), inputs.prepare({x.data(), rows, cols}), Rows<float>(together.data(), rows, outputs));
  });
  for (std::size_t row = 0; row < rows; ++row) {
    kernels::matmul(w.view(), inputs.prepare({x.data() + row * cols, 1, cols}), Rows<float>(alone.data(), 1, outputs));
    bool same = true;
    for (std::size_t i = 0; i < outputs; ++i) same = same && alone[i] == together[row * outputs + i];
    CHECK(same);
  }
}
