// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <mistral/core/abi.hpp>

/// \file
/// The knowledge of debug builds of how objects are used together: whether what one points at has moved or ended, and
/// whether two threads are in it at once. Who asks does so in assertions, and passes `asserts` where something is to be
/// kept for them. So all classes here are the same with NDEBUG and without, and units of both kinds link into one
/// program; with NDEBUG they hold a null pointer and a byte that nobody looks at.

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Whether assertions are compiled in.
#ifdef NDEBUG
constexpr bool asserts = false;
#else
constexpr bool asserts = true;
#endif

/// The record of an object's life: shared by it and by all that point at it, so that it can be asked for afterwards
/// too.
class LifeRecord {
 public:
  enum class State : std::uint8_t { alive, moved, ended };

  State state() const noexcept { return state_.load(std::memory_order_relaxed); }
  void set(State state) noexcept { state_.store(state, std::memory_order_relaxed); }

  void keep() noexcept { owners_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

 private:
  std::atomic<std::size_t> owners_{1};
  std::atomic<State> state_{State::alive};
};

/// A member of an object that others point at: tells them when it moves or ends. What is assigned to the object is no
/// end: it stays where it is.
class Lifetime {
 public:
  Lifetime() = default;
  Lifetime(Lifetime&& other) noexcept { other.over(LifeRecord::State::moved); }
  Lifetime& operator=(Lifetime&& other) noexcept {
    if (this != &other) other.over(LifeRecord::State::moved);
    return *this;
  }
  ~Lifetime() { over(LifeRecord::State::ended); }

  /// The record, kept for the caller. It is made when it is first asked for, by any thread.
  LifeRecord* record() const {
    LifeRecord* record = record_.load(std::memory_order_acquire);
    if (record == nullptr) {
      auto* const made = new LifeRecord;
      if (record_.compare_exchange_strong(record, made, std::memory_order_acq_rel)) {
        record = made;
      } else {
        made->release();
      }
    }
    record->keep();
    return record;
  }

 private:
  void over(LifeRecord::State state) noexcept {
    LifeRecord* const record = record_.exchange(nullptr, std::memory_order_acq_rel);
    if (record == nullptr) return;
    record->set(state);
    record->release();
  }

  mutable std::atomic<LifeRecord*> record_{nullptr};
};

/// A member of what points at an object: knows whether that is where it was.
class LifeWatch {
 public:
  /// `watches`: whether to do so at all.
  LifeWatch(const Lifetime& of, bool watches) : record_(watches ? of.record() : nullptr) {}
  LifeWatch(LifeWatch&& other) noexcept : record_(std::exchange(other.record_, nullptr)) {}
  LifeWatch& operator=(LifeWatch&& other) noexcept {
    std::swap(record_, other.record_);
    return *this;
  }
  ~LifeWatch() {
    if (record_ != nullptr) record_->release();
  }

  /// Whether the object has moved, or has ended. False where nobody watches.
  ///@{
  bool moved() const noexcept { return is(LifeRecord::State::moved); }
  bool ended() const noexcept { return is(LifeRecord::State::ended); }
  ///@}

 private:
  bool is(LifeRecord::State state) const noexcept { return record_ != nullptr && record_->state() == state; }

  LifeRecord* record_;
};

/// A member of what one thread may change at a time.
class InUse {
 public:
  InUse() = default;
  InUse(InUse&&) noexcept {}  // by whom the other is used is no matter of this one's
  InUse& operator=(InUse&&) noexcept { return *this; }

  /// Whether somebody changes it now, for those who only read it, of whom there may be several.
  bool used() const noexcept { return used_.load(std::memory_order_acquire); }

  /// While it lives, the object is used by somebody who changes it.
  class Scope {
   public:
    /// `watches`: whether anybody is to know.
    Scope(InUse& use, bool watches) noexcept : use_(watches ? &use : nullptr) {
      if (use_ != nullptr) alone_ = !use_->used_.exchange(true, std::memory_order_acquire);
    }
    Scope(Scope&& other) noexcept : use_(std::exchange(other.use_, nullptr)), alone_(other.alone_) {}
    ~Scope() {
      if (use_ != nullptr && alone_) use_->used_.store(false, std::memory_order_release);
    }

    /// Whether nobody used it before. True where nobody watches.
    bool alone() const noexcept { return alone_; }

   private:
    InUse* use_;
    bool alone_ = true;
  };

 private:
  std::atomic<bool> used_{false};
};

}}}  // namespace mistral::detail
