// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstddef>
#include <exception>
#include <utility>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace parallel {

namespace detail {

/// Parts of a region at most, each of which a thread begins with: more threads than that share them.
inline constexpr std::size_t max_parts = 64;

/// The rest of a part. In cache lines of its own, since every piece is taken from it.
struct alignas(64) Part {
  std::atomic<std::size_t> next;
  std::size_t end;
};

/// Calls walk(i) for each part i < parts on the threads of TBB, and returns when none of these calls runs any more.
/// False where it left some out: TBB had no memory or no thread for a task, or the caller's own tasks were cancelled.
struct TbbTasks {
  template <class Walk>
  bool operator()(std::size_t parts, const Walk& walk) const noexcept {
    try {
      tbb::task_group_context context;
      tbb::parallel_for(
          tbb::blocked_range<std::size_t>(0, parts, 1),
          [&walk](const tbb::blocked_range<std::size_t>& range) {
            for (std::size_t i = range.begin(); i < range.end(); ++i) walk(i);
          },
          tbb::simple_partitioner{}, context);
      return !context.is_group_execution_cancelled();
    } catch (...) {  // what a piece throws doesn't come here
      return false;
    }
  }
};

/// A function of a range, by its address: what runs ranges is compiled once, and not once for each such function.
class RangeFunction {
 public:
  template <class F>
  explicit RangeFunction(const F& f) noexcept
      : object_(&f), call_([](const void* object, std::size_t begin, std::size_t end) {
          (*static_cast<const F*>(object))(begin, end);
        }) {}

  void operator()(std::size_t begin, std::size_t end) const { call_(object_, begin, end); }

 private:
  const void* object_;
  void (*call_)(const void*, std::size_t, std::size_t);
};

/// Does what for_ranges does, by tasks that are spawned as TbbTasks spawns them.
template <class Tasks>
void for_ranges_by(const Tasks& tasks, std::size_t threads, std::size_t count, std::size_t least, std::size_t most,
                   RangeFunction f) {
  const std::size_t pieces = (count + least - 1) / least;  // of the least size, of which larger ones are made
  const std::size_t most_pieces = most / least;
  const std::size_t parts = (std::min)({threads, pieces, max_parts});
  Part left[max_parts];
  for (std::size_t i = 0; i < parts; ++i) {
    left[i].next.store(pieces * i / parts, std::memory_order_relaxed);
    left[i].end = pieces * (i + 1) / parts;
  }
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // of the piece that has set `failed`
  const auto walk = [&](std::size_t first) noexcept {
    try {
      for (std::size_t i = 0; i < parts; ++i) {
        Part& part = left[(first + i) % parts];
        std::size_t begin = part.next.load(std::memory_order_relaxed);
        while (begin < part.end && !failed.load(std::memory_order_relaxed)) {
          const std::size_t end = begin + std::clamp<std::size_t>((part.end - begin) / 2, 1, most_pieces);
          if (!part.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
          f(begin * least, (std::min)(count, end * least));
          begin = part.next.load(std::memory_order_relaxed);
        }
      }
    } catch (...) {
      if (!failed.exchange(true, std::memory_order_relaxed)) error = std::current_exception();
    }
  };
  if (!tasks(parts, walk)) walk(0);  // whatever was left out, here: pieces may run anywhere
  if (error) std::rethrow_exception(std::move(error));
}

}  // namespace detail

/// Threads that the caller's TBB arena may use.
inline std::size_t thread_count() noexcept {
  try {
    return static_cast<std::size_t>(tbb::this_task_arena::max_concurrency());
  } catch (...) {  // it may have to ask the system first, for which it takes memory
    return 1;
  }
}

/// Calls f(begin, end) for pieces of [0, count) of at most `most`, on the threads of the caller's TBB arena. The pieces
/// may be any and run in any order: what f computes must not depend on them.
///
/// Each thread walks a part of the range from its beginning, since kernels ask memory for what the next piece reads,
/// and takes pieces of the others' when its own part is done. A piece is half of what is left of a part, from `least`
/// to `most`: the last ones are short, so that none waits long for another.
///
/// That is why the pieces are handed out here, and by none of TBB's partitioners: these halve a range, so that what a
/// thread takes next needn't follow what it had, they take memory for each piece, and end a loop that has none.
///
/// Throws what f throws, of several the first; the pieces that haven't begun are then left out. Where f doesn't throw,
/// nothing does, so that `noexcept` kernels may call it: what TBB has no memory for, or what somebody cancels, runs in
/// the caller's thread.
template <class F>
void for_ranges(std::size_t count, std::size_t least, std::size_t most, const F& f) {
  assert(0 < least && least <= most);
  const detail::RangeFunction function(f);
  if (count <= least) {  // nothing to share: spare the scheduler
    if (count > 0) function(0, count);
    return;
  }
  detail::for_ranges_by(detail::TbbTasks{}, thread_count(), count, least, most, function);
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

}}}  // namespace mistral::parallel
