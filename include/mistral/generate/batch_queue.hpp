// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/generate/batch_request.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The sequences that wait to run, in their order, and which of all are called off: what any thread may ask a batch for
/// at any time. Its memory is bounded by the options.
class BatchQueue {
 public:
  struct Waiting {
    SequenceId id;
    BatchRequest request;
    BatchStart start;
  };

  explicit BatchQueue(const BatchOptions& options)
      : max_waiting_(options.max_waiting), max_tokens_(options.max_waiting_tokens) {}

  /// Throws Error where as many wait as may, and where the queue is closed.
  SequenceId push(BatchRequest&& request, const BatchStart& start) {
    const std::size_t tokens = request.prompt.size();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) throw Error("batch", "closed: no more sequences join");
    if (waiting_.size() >= max_waiting_) {
      throw Error("batch", "waiting sequences", "at most " + std::to_string(max_waiting_) + " (max_waiting)",
                  "one more");
    }
    if (tokens > max_tokens_ - tokens_) {
      throw Error("batch", "tokens of waiting prompts",
                  "at most " + std::to_string(max_tokens_) + " (max_waiting_tokens)", std::to_string(tokens_ + tokens));
    }
    const auto living = living_.emplace(next_id_, false).first;
    try {
      waiting_.push_back({next_id_, std::move(request), start});
    } catch (...) {
      living_.erase(living);
      throw;
    }
    tokens_ += tokens;
    changed_.notify_all();
    return next_id_++;
  }

  /// The oldest that waits and of which `may(waiting)` is true. `may` must not ask the queue, nor throw.
  template <class May>
  std::optional<Waiting> pop(const May& may) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(waiting_.begin(), waiting_.end(), may);
    if (found == waiting_.end()) return std::nullopt;
    std::optional<Waiting> out(std::move(*found));
    waiting_.erase(found);
    tokens_ -= out->request.prompt.size();
    return out;
  }

  /// Calls a sequence off, which waits or runs. False where that was done before, or where it has ended.
  bool cancel(SequenceId id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = living_.find(id);
    if (found == living_.end() || found->second) return false;
    return found->second = true;
  }

  /// Calls off all that wait or run. Returns how many of them weren't before.
  std::size_t cancel_all() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::size_t count = 0;
    for (auto& [id, called_off] : living_) count += std::exchange(called_off, true) ? 0 : 1;
    return count;
  }

  /// Takes no more sequences, and wakes all that wait for one.
  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  bool closed() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return closed_;
  }

  /// Blocks until a sequence has joined that hasn't ended, or until the queue is closed: whether there is such a one.
  bool wait() const {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !living_.empty() || closed_; });
    return !living_.empty();
  }

  /// Does as wait(), until `end` at most.
  template <class Clock, class Duration>
  bool wait_until(const std::chrono::time_point<Clock, Duration>& end) const {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_until(lock, end, [this] { return !living_.empty() || closed_; });
    return !living_.empty();
  }

  /// Whether a sequence that hasn't ended was called off.
  bool cancelled(SequenceId id) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return living_.at(id);
  }

  /// Takes those that were called off out of the queue, and says so in `results`, which then has room for `more`.
  /// Without memory for that it throws, and nothing has changed.
  void drop_cancelled(std::vector<BatchResult>& results, std::size_t more) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto off = [this](const Waiting& waiting) { return living_.at(waiting.id); };
    const auto count = static_cast<std::size_t>(std::count_if(waiting_.begin(), waiting_.end(), off));
    results.reserve(results.size() + count + more);
    if (count == 0) return;
    for (const Waiting& waiting : waiting_) {
      if (!off(waiting)) continue;
      tokens_ -= waiting.request.prompt.size();
      results.push_back({waiting.id, {{}, {}, StopReason::cancelled}, {}, {}, waiting.request.tag});
    }
    std::erase_if(waiting_, off);
  }

  /// These have ended, and whoever asked for them is told.
  void ended(const std::vector<BatchResult>& results) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const BatchResult& result : results) living_.erase(result.id);
  }

  /// Whether all that were ever pushed have ended.
  bool empty() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return living_.empty();
  }

  std::size_t waiting() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return waiting_.size();
  }

 private:
  std::size_t max_waiting_;
  std::size_t max_tokens_;
  mutable std::mutex mutex_;                 // of what follows
  mutable std::condition_variable changed_;  // a sequence has joined, or none will
  bool closed_ = false;
  std::deque<Waiting> waiting_;
  std::size_t tokens_ = 0;             // of their prompts
  std::map<SequenceId, bool> living_;  // those that haven't ended: whether they were called off
  SequenceId next_id_ = 1;
};

}}  // namespace mistral
