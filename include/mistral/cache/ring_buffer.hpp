// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <mistral/core/buffer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The rolling buffer of the paper (section 2, figure 2): holds the last W entries of a sequence, entry i in slot
/// i mod W. Allocates once, when it is made, and writes no slot before an entry comes to it: a large allocation takes
/// memory from the system page by page, as entries come.
///
/// One that is made to be rolled back keeps, beside the slots, the last entries that were overwritten: what a slot held
/// before comes back when the entry that took its place goes.
template <class T, std::size_t W>
class RingBuffer {
  static_assert(W > 0, "RingBuffer: a buffer of no entries holds nothing");

 public:
  static constexpr std::size_t capacity = W;           ///< entries
  static constexpr std::size_t bytes = W * sizeof(T);  ///< of its slots

  /// `undo`: how many of the overwritten entries are kept, and so how many can be taken back at least.
  explicit RingBuffer(std::size_t undo = 0, MemoryResource* memory = std::pmr::get_default_resource())
      : slots_(W, Uninitialized{}, memory), overwritten_(undo, Uninitialized{}, memory) {}

  /// Number of entries pushed so far: the position of the next one.
  std::int64_t position() const noexcept { return position_; }

  /// Number of entries that are held: min(position, W).
  std::size_t size() const noexcept { return static_cast<std::size_t>(std::min<std::int64_t>(position_, W)); }

  /// Position of the oldest entry that is held.
  std::int64_t first_position() const noexcept { return position_ - static_cast<std::int64_t>(size()); }

  /// Position of the oldest entry that is held, or kept for rollback().
  std::int64_t oldest_position() const noexcept { return oldest_; }

  /// Number of entries that rollback() can take back: all, until the first is overwritten and not kept.
  std::int64_t revertible() const noexcept { return oldest_ == 0 ? position_ : first_position() - oldest_; }

  /// Appends an entry.
  void push(const T& entry) noexcept { push(std::span<const T>(&entry, 1)); }

  /// Appends entries in order; of more than W the last W remain.
  void push(std::span<const T> entries) noexcept {
    const std::size_t known = W + overwritten_.size();
    if (entries.size() > known) {
      position_ += static_cast<std::int64_t>(entries.size() - known);
      oldest_ = position_;
      entries = entries.last(known);
    }
    while (!entries.empty()) {
      const auto piece = entries.first((std::min)(entries.size(), W));
      keep(piece.size());
      copy_in(slots_.span(), position_, piece);
      position_ += static_cast<std::int64_t>(piece.size());
      entries = entries.subspan(piece.size());
    }
    oldest_ = (std::max)(oldest_, position_ - static_cast<std::int64_t>(known));
  }

  /// Takes the last `count` entries back, at most revertible(): what it holds then, and whatever is pushed to it, is as
  /// if they had never been there.
  void rollback(std::int64_t count) noexcept {
    assert(count >= 0 && count <= revertible());
    const std::int64_t held = first_position();
    position_ -= count;
    for (std::int64_t i = first_position(); i < (std::min)(held, position_); ++i) {
      slots_.data()[slot_of(i)] = overwritten_.data()[undo_slot_of(i)];
    }
  }

  /// The entries that are held, oldest first: the first span, then the second (empty until the buffer has wrapped).
  std::array<std::span<const T>, 2> spans() const noexcept { return run(slots_.span(), first_position(), size()); }

  /// The entries before those that are held, oldest first: what is kept for rollback().
  std::array<std::span<const T>, 2> overwritten() const noexcept {
    return run(overwritten_.span(), oldest_, static_cast<std::size_t>(first_position() - oldest_));
  }

  /// The entry at an absolute position that is held.
  const T& at(std::int64_t position) const noexcept { return slots_.data()[slot_of(position)]; }

  /// Puts it into the state of a buffer at `position`, whose last entries these are: as many as it then holds,
  /// min(position, W), or more, of which it keeps what rollback() may ask for.
  void restore(std::int64_t position, std::span<const T> entries) noexcept {
    assert(position >= 0 && entries.size() >= (std::min)(static_cast<std::uint64_t>(position), std::uint64_t{W}) &&
           entries.size() <= static_cast<std::uint64_t>(position));
    begin_at(position - static_cast<std::int64_t>(entries.size()));
    push(entries);
  }

  /// Number of entries, from oldest_position() on, that pushing `count` more may overwrite.
  std::size_t overwritten_by(std::size_t count) const noexcept {
    const std::size_t room = W - size();
    return static_cast<std::size_t>(first_position() - oldest_) + (std::min)(size(), count - (std::min)(count, room));
  }

  /// Copies as many entries as `out` has, from oldest_position() on.
  void save(std::span<T> out) const noexcept {
    for (const auto& spans : {overwritten(), spans()}) {
      for (const std::span<const T> entries : spans) {
        const std::size_t count = (std::min)(entries.size(), out.size());
        std::copy_n(entries.data(), count, out.data());
        out = out.subspan(count);
      }
    }
  }

  /// Takes back whatever was pushed since the buffer stood at `position`, with `entries` from `oldest` on saved then.
  void put_back(std::int64_t position, std::int64_t oldest, std::span<const T> entries) noexcept {
    position_ = position;
    oldest_ = oldest;
    const auto kept = static_cast<std::size_t>(first_position() - oldest);
    copy_in(overwritten_.span(), oldest, entries.first(kept));
    copy_in(slots_.span(), first_position(), entries.subspan(kept));
  }

  /// Becomes what another buffer is. It can be rolled back as far as both keep what they need for it.
  void assign(const RingBuffer& other) noexcept {
    if (this == &other) return;
    begin_at(other.oldest_);
    for (const auto& spans : {other.overwritten(), other.spans()}) {
      for (const std::span<const T> entries : spans) push(entries);
    }
  }

  /// Forgets everything: the next entry has position 0. Keeps the memory of the slots.
  void clear() noexcept { begin_at(0); }

 private:
  static std::size_t slot_of(std::int64_t position) noexcept { return static_cast<std::size_t>(position) % W; }
  std::size_t undo_slot_of(std::int64_t position) const noexcept {
    return static_cast<std::size_t>(position) % overwritten_.size();
  }

  void begin_at(std::int64_t position) noexcept { position_ = oldest_ = position; }

  // `ring`: entry i in slot i mod ring.size()
  static void copy_in(std::span<T> ring, std::int64_t position, std::span<const T> entries) noexcept {
    if (entries.empty()) return;
    const std::size_t slot = static_cast<std::size_t>(position) % ring.size();
    const std::size_t before_wrap = (std::min)(entries.size(), ring.size() - slot);
    std::copy_n(entries.data(), before_wrap, ring.data() + slot);
    std::copy_n(entries.data() + before_wrap, entries.size() - before_wrap, ring.data());
  }

  static std::array<std::span<const T>, 2> run(std::span<const T> ring, std::int64_t first,
                                               std::size_t count) noexcept {
    if (count == 0) return {};
    const std::size_t slot = static_cast<std::size_t>(first) % ring.size();
    const std::size_t before_wrap = (std::min)(count, ring.size() - slot);
    return {ring.subspan(slot, before_wrap), ring.first(count - before_wrap)};
  }

  // Before `count` entries, at most W, take their slots: keeps the last of what they overwrite.
  void keep(std::size_t count) noexcept {
    if (overwritten_.size() == 0) return;
    const std::int64_t end = position_ + static_cast<std::int64_t>(count) - static_cast<std::int64_t>(W);
    const std::int64_t begin =
        (std::max)(end - static_cast<std::int64_t>(overwritten_.size()), (std::max)(first_position(), oldest_));
    if (begin >= end) return;
    std::int64_t position = begin;
    for (const auto& entries : run(slots_.span(), begin, static_cast<std::size_t>(end - begin))) {
      copy_in(overwritten_.span(), position, entries);
      position += static_cast<std::int64_t>(entries.size());
    }
  }

  Buffer<T> slots_;
  Buffer<T> overwritten_;  // entry i in slot i mod size: those of [oldest_, first_position())
  std::int64_t position_ = 0;
  std::int64_t oldest_ = 0;  // position of the oldest entry that is held or kept
};

}}  // namespace mistral
