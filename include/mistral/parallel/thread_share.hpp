// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>

#include <tbb/task_arena.h>

#include <mistral/core/abi.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace parallel {

/// A number of threads that some work may use at most, whatever other work of the process uses: that of one model, or
/// of one caller. ThreadLimit limits the process.
class ThreadShare {
 public:
  /// `threads`, at least 1, among them the one that calls run(); more than the caller's arena has count as these.
  explicit ThreadShare(std::size_t threads)
      : threads_(threads), arena_(static_cast<int>(std::clamp<std::size_t>(threads, 1, thread_count()))) {}

  /// Returns the number that it was made with.
  std::size_t threads() const noexcept { return threads_; }

  /// Calls f(), whose parallel work stays on these threads, in the calling thread. One call runs at a time. Throws what
  /// f throws, and std::bad_alloc.
  template <class F>
  void run(const F& f) {
    arena_.execute(f);
  }

 private:
  std::size_t threads_;
  tbb::task_arena arena_;
};

}}}  // namespace mistral::parallel
