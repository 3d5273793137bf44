// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/core/random.hpp>
#include <mistral/train/optimizer.hpp>

using namespace mistral;

TEST_CASE("AdamW and SGD are their formulas, step by step, for any number of parameters") {
  Random random(1);
  for (const std::size_t n : {std::size_t{1}, std::size_t{15}, std::size_t{5000}}) {
    std::vector<float> p(n), g(n), m(n), v(n);
    for (float& x : p) x = random.normal();
    std::vector<double> wp(p.begin(), p.end()), wm(n), wv(n);
    std::vector<float> q = p, u(n);
    std::vector<double> wq = wp, wu(n);
    for (std::uint64_t t = 1; t <= 5; ++t) {
      const UpdateStep step{0.01f, 0.1f, 0.5f, 0.9f, 0.99f, 1e-6f, t};
      for (std::size_t i = 0; i < n; ++i) {
        g[i] = random.normal();
        const double gradient = 0.5 * static_cast<double>(g[i]);
        wm[i] = 0.9 * wm[i] + 0.1 * gradient;
        wv[i] = 0.99 * wv[i] + 0.01 * gradient * gradient;
        const double mean = wm[i] / (1.0 - std::pow(0.9, static_cast<double>(t)));
        const double square = wv[i] / (1.0 - std::pow(0.99, static_cast<double>(t)));
        wp[i] = wp[i] * (1.0 - 0.01 * 0.1) - 0.01 * mean / (std::sqrt(square) + 1e-6);
        wu[i] = 0.9 * wu[i] + gradient;
        wq[i] = wq[i] * (1.0 - 0.01 * 0.1) - 0.01 * wu[i];
      }
      adamw_update(step, p, g, m, v);
      sgd_update(step, q, g, u);
    }
    bool within = true;
    for (std::size_t i = 0; i < n; ++i) {
      // 5 steps of some ten roundings each, of numbers of size up to 5; the options themselves are floats
      within &=
          std::abs(static_cast<double>(p[i]) - wp[i]) < 5e-6 && std::abs(static_cast<double>(q[i]) - wq[i]) < 5e-6;
    }
    CHECK(within);
  }
}

TEST_CASE("schedules rise over the warm-up, fall to their end and stay there") {
  const auto at = [](Schedule schedule, std::uint64_t step) { return scheduled_rate(schedule, 2.0, 0.5, 4, 14, step); };
  for (const Schedule schedule : {Schedule::constant, Schedule::linear, Schedule::cosine}) {
    CHECK(at(schedule, 0) == 0.5);
    CHECK(at(schedule, 3) == 2.0);
    CHECK(at(schedule, 4) == 2.0);
  }
  CHECK(at(Schedule::constant, 1000) == 2.0);
  CHECK(at(Schedule::linear, 9) == doctest::Approx(1.25));
  CHECK(at(Schedule::cosine, 9) == doctest::Approx(1.25));
  CHECK(at(Schedule::cosine, 5) > at(Schedule::linear, 5));
  CHECK(at(Schedule::linear, 14) == 0.5);
  CHECK(at(Schedule::cosine, 14) == 0.5);
  CHECK(at(Schedule::linear, 1000) == 0.5);
  CHECK(scheduled_rate(Schedule::linear, 1.0, 0.0, 0, 10, 0) == 1.0);
  CHECK(scheduled_rate(Schedule::linear, 1.0, 0.25, 10, 5, 10) == 0.25);  // a warm-up past the end
}

TEST_CASE("a sum of squares is that, for lengths that don't fill a lane or a piece") {
  Random random(2);
  for (const std::size_t n : {std::size_t{0}, std::size_t{7}, std::size_t{4096}, std::size_t{100001}}) {
    std::vector<float> x(n);
    double expected = 0.0;
    for (float& v : x) {
      v = random.normal();
      expected += static_cast<double>(v) * static_cast<double>(v);
    }
    CHECK(sum_of_squares(x) == doctest::Approx(expected).epsilon(1e-6));
  }
}
