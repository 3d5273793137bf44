#pragma once

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstddef>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <mistral/core/abi.hpp>

namespace mistral::inline MISTRAL_ABI::parallel {

namespace detail {

/// Parts of a region at most, each of which a thread begins with: more threads than that share them.
inline constexpr std::size_t max_parts = 64;

/// What is left of a part. In cache lines of its own, since every piece is taken from it.
struct alignas(64) Part {
  std::atomic<std::size_t> next;
  std::size_t end;
};

}  // namespace detail

/// Threads that the caller's TBB arena may use.
inline std::size_t thread_count() noexcept { return static_cast<std::size_t>(tbb::this_task_arena::max_concurrency()); }

/// Calls f(begin, end) for pieces of [0, count) of at most `most`, on the threads of the caller's TBB arena. The pieces
/// may be any and run in any order: what f computes must not depend on them.
///
/// Each thread walks a part of the range from its beginning, since kernels ask memory for what the next piece reads,
/// and takes pieces of the others' when its own part is done. A piece is half of what is left of a part, from `least`
/// to `most`: the last ones are short, so that none waits long for another.
template <class F>
void for_ranges(std::size_t count, std::size_t least, std::size_t most, const F& f) {
  assert(0 < least && least <= most);
  if (count <= least) {  // nothing to share: spare the scheduler
    if (count > 0) f(std::size_t{0}, count);
    return;
  }
  const std::size_t pieces = (count + least - 1) / least;  // of the least size, of which larger ones are made
  const std::size_t most_pieces = most / least;
  const std::size_t parts = std::min({thread_count(), pieces, detail::max_parts});
  detail::Part left[detail::max_parts];
  for (std::size_t i = 0; i < parts; ++i) {
    left[i].next.store(pieces * i / parts, std::memory_order_relaxed);
    left[i].end = pieces * (i + 1) / parts;
  }
  const auto walk = [&](std::size_t first) {
    for (std::size_t i = 0; i < parts; ++i) {
      detail::Part& part = left[(first + i) % parts];
      std::size_t begin = part.next.load(std::memory_order_relaxed);
      while (begin < part.end) {
        const std::size_t end = begin + std::clamp<std::size_t>((part.end - begin) / 2, 1, most_pieces);
        if (!part.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
        f(begin * least, std::min(count, end * least));
        begin = part.next.load(std::memory_order_relaxed);
      }
    }
  };
  tbb::parallel_for(
      tbb::blocked_range<std::size_t>(0, parts, 1),
      [&walk](const tbb::blocked_range<std::size_t>& range) {
        for (std::size_t i = range.begin(); i < range.end(); ++i) walk(i);
      },
      tbb::simple_partitioner{});
}

/// The same with pieces of `grain`.
template <class F>
void for_ranges(std::size_t count, std::size_t grain, const F& f) {
  for_ranges(count, grain, grain, f);
}

/// While it lives, the process uses at most `threads` threads for parallel work.
class ThreadLimit {
 public:
  explicit ThreadLimit(std::size_t threads) : control_(tbb::global_control::max_allowed_parallelism, threads) {}

 private:
  tbb::global_control control_;
};

}  // namespace mistral::inline MISTRAL_ABI::parallel
