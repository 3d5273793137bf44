#include <atomic>
#include <cstddef>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <tbb/task_arena.h>

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
