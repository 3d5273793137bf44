// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <string_view>

#include <mistral/core/error.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The exception of long work that was asked to stop by its StopToken. What it was to change is as it was before.
class Cancelled : public Error {
 public:
  using Error::Error;
};

/// Asks long work to stop: it looks at a flag of the caller's, which another thread, or a signal's handler, sets, and
/// ends with Cancelled soon after. Without a flag it never stops. The flag must outlive the work.
///
/// It is no std::stop_token: of that the standard library of Xcode 15 has none, nor may a signal's handler request a
/// stop of it. Who has one sets the flag by a std::stop_callback.
class StopToken {
 public:
  /// Never asks.
  StopToken() = default;
  /// Asks once `flag` is true.
  StopToken(const std::atomic<bool>& flag) noexcept : flag_(&flag) {}  // not explicit: {.stop = flag}
  /// A flag that ends with the statement can't be set by anyone.
  StopToken(const std::atomic<bool>&&) = delete;

  /// Whether it has a flag.
  bool can_stop() const noexcept { return flag_ != nullptr; }

  /// Whether work is to stop. May be asked by any thread.
  bool requested() const noexcept { return flag_ != nullptr && flag_->load(std::memory_order_relaxed); }

  /// Throws Cancelled `[where] what` where work is to stop.
  void check(std::string_view where, std::string_view what = "cancelled on request") const {
    if (requested()) throw Cancelled(where, what);
  }

 private:
  const std::atomic<bool>* flag_ = nullptr;
};

}}  // namespace mistral
