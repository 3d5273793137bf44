// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <mistral/parallel/parallel.hpp>

using namespace mistral;

TEST_CASE("the pieces of a range cover it once, by any number of threads") {
  for (const int threads : {1, 2, 5}) {
    tbb::task_arena arena(threads);
    for (const std::size_t count : {0u, 1u, 2u, 7u, 64u, 1001u}) {
      for (const auto& [least, most] : {std::pair<std::size_t, std::size_t>{1, 1}, {1, 8}, {3, 3}, {3, 10}}) {
        std::vector<std::atomic<int>> met(count);
        std::atomic<std::size_t> wrong{0};
        arena.execute([&, least = least, most = most] {
          parallel::for_ranges(count, least, most, [&](std::size_t begin, std::size_t end) {
            if (begin >= end || begin % least != 0 || end - begin > most) ++wrong;
            for (std::size_t i = begin; i < end; ++i) ++met[i];
          });
        });
        CHECK(wrong == 0);
        for (const std::atomic<int>& times : met) CHECK(times == 1);
      }
    }
  }
}

TEST_CASE("a piece is half of what is left of a part, in order") {
  tbb::task_arena one_thread(1);
  std::vector<std::size_t> ends;
  one_thread.execute([&] {
    parallel::for_ranges(31, 1, 8, [&](std::size_t begin, std::size_t end) {
      CHECK(begin == (ends.empty() ? 0 : ends.back()));
      ends.push_back(end);
    });
  });
  CHECK(ends == std::vector<std::size_t>{8, 16, 23, 27, 29, 30, 31});
}

TEST_CASE("whatever tasks the scheduler leaves out, every piece runs once") {
  // The scheduler runs the first `run` of the parts, and then says that it had no memory for the others.
  for (const std::size_t threads : {1u, 2u, 5u, 100u}) {
    for (const std::size_t run : {0u, 1u, 3u}) {
      for (const std::size_t count : {1u, 7u, 64u, 1001u}) {
        CAPTURE(threads);
        CAPTURE(run);
        CAPTURE(count);
        std::vector<int> met(count);
        const auto tasks = [&](std::size_t parts, const auto& walk) {
          for (std::size_t i = 0; i < std::min(run, parts); ++i) walk(i);
          return false;
        };
        const auto piece = [&](std::size_t begin, std::size_t end) {
          for (std::size_t i = begin; i < end; ++i) ++met[i];
        };
        parallel::detail::for_ranges_by(tasks, threads, count, 1, 8, parallel::detail::RangeFunction(piece));
        CHECK(met == std::vector<int>(count, 1));
      }
    }
  }
  const auto walk_nothing = [](std::size_t) {};
  CHECK(parallel::detail::TbbTasks{}(3, walk_nothing));
  CHECK_FALSE(parallel::detail::TbbTasks{}(3, [](std::size_t) { throw std::bad_alloc(); }));
}

TEST_CASE("a loop in a group of tasks that was cancelled is done all the same") {
  tbb::task_group_context context;
  tbb::task_group group(context);
  std::vector<std::atomic<int>> met(1000);
  group.run_and_wait([&] {
    context.cancel_group_execution();
    parallel::for_ranges(met.size(), 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) ++met[i];
    });
  });
  for (const std::atomic<int>& times : met) CHECK(times == 1);
}

TEST_CASE("what a piece throws comes out of the loop once, whatever its type, and pieces that haven't begun stay out") {
  for (const int threads : {1, 3}) {
    tbb::task_arena arena(threads);
    arena.execute([&] {
      std::atomic<std::size_t> begun{0};
      std::string said;
      try {
        parallel::for_ranges(100000, 1, [&](std::size_t begin, std::size_t) {
          ++begun;
          if (begin == 50) throw std::runtime_error("piece 50");
        });
      } catch (const std::runtime_error& error) {
        said = error.what();
      }
      CHECK(said == "piece 50");
      CHECK(begun < 100000);
      CHECK_THROWS_AS(parallel::for_ranges(10, 1, [](std::size_t, std::size_t) { throw 3; }), int);
    });
  }
}
