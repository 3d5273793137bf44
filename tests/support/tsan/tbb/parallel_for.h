// SPDX-License-Identifier: Apache-2.0
#pragma once

// Stands in for TBB's parallel_for under ThreadSanitizer, which doesn't see into TBB's library: where the library makes
// threads meet, it would report races that aren't. Here they meet at a mutex, so that what it reports is ours.

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/partitioner.h>
#include <tbb/task_group.h>

namespace mistral::test {

class Team {
 public:
  static Team& get() {
    static Team team;
    return team;
  }

  /// Runs every piece once, on two threads, or on one where TBB may use no more.
  void run(const std::vector<std::function<void()>>& pieces) {
    std::unique_lock lock(mutex_);
    if (pieces_ != nullptr) {  // a loop inside a loop, or a second caller: alone, as TBB may choose to do as well
      lock.unlock();
      for (const auto& piece : pieces) piece();
      return;
    }
    pieces_ = &pieces;
    next_ = 0;
    unfinished_ = pieces.size();
    error_ = nullptr;
    const std::size_t limit = tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism);
    shared_ = limit > 1;
    work_.notify_all();
    take_pieces(lock);
    done_.wait(lock, [&] { return unfinished_ == 0; });
    pieces_ = nullptr;
    if (error_ != nullptr) std::rethrow_exception(error_);
  }

 private:
  Team() : helper_([this] { help(); }) {}
  ~Team() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_.notify_all();
    helper_.join();
  }

  bool more() const { return pieces_ != nullptr && next_ < pieces_->size(); }

  void take_pieces(std::unique_lock<std::mutex>& lock) {
    while (more()) {
      const auto& piece = (*pieces_)[next_++];
      lock.unlock();
      std::exception_ptr error;
      try {
        piece();
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error != nullptr) error_ = error;
      if (--unfinished_ == 0) done_.notify_all();
    }
  }

  void help() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [&] { return stop_ || (shared_ && more()); });
      if (stop_) return;
      take_pieces(lock);
    }
  }

  std::mutex mutex_;
  std::condition_variable work_, done_;
  const std::vector<std::function<void()>>* pieces_ = nullptr;
  std::size_t next_ = 0, unfinished_ = 0;
  std::exception_ptr error_;
  bool shared_ = false, stop_ = false;
  std::thread helper_;  // last: it uses the others
};

}  // namespace mistral::test

namespace tbb {

template <class Range, class Body, class Partitioner>
void parallel_for(const Range& range, const Body& body, const Partitioner&, task_group_context&) {
  std::vector<Range> ranges{range};
  for (std::size_t i = 0; i < ranges.size();) {
    if (ranges[i].is_divisible()) {
      ranges.push_back(Range(ranges[i], split{}));
    } else {
      ++i;
    }
  }
  std::vector<std::function<void()>> pieces;
  for (const Range& piece : ranges) pieces.push_back([&body, &piece] { body(piece); });
  mistral::test::Team::get().run(pieces);
}

}  // namespace tbb
