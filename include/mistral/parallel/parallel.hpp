#pragma once

#include <cstddef>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>

#include <mistral/core/abi.hpp>

namespace mistral::inline MISTRAL_ABI::parallel {

/// Calls f(begin, end) for pieces of [0, count) of at most `grain`, on the threads of the caller's TBB arena. The
/// pieces may be any and run in any order: what f computes must not depend on them.
template <class F>
void for_ranges(std::size_t count, std::size_t grain, const F& f) {
  if (count <= grain) {  // nothing to share: spare the scheduler
    if (count > 0) f(std::size_t{0}, count);
    return;
  }
  tbb::parallel_for(
      tbb::blocked_range<std::size_t>(0, count, grain),
      [&f](const tbb::blocked_range<std::size_t>& range) { f(range.begin(), range.end()); }, tbb::simple_partitioner{});
}

/// While it lives, the process uses at most `threads` threads for parallel work.
class ThreadLimit {
 public:
  explicit ThreadLimit(std::size_t threads) : control_(tbb::global_control::max_allowed_parallelism, threads) {}

 private:
  tbb::global_control control_;
};

}  // namespace mistral::inline MISTRAL_ABI::parallel
