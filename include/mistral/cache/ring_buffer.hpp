#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <mistral/core/buffer.hpp>

namespace mistral::inline MISTRAL_ABI {

/// The rolling buffer of the paper (section 2, figure 2): holds the last W entries of a sequence, entry i in slot
/// i mod W. Allocates once, when it is made.
template <class T, std::size_t W>
class RingBuffer {
  static_assert(W > 0, "RingBuffer: a buffer of no entries holds nothing");

 public:
  static constexpr std::size_t capacity = W;
  static constexpr std::size_t bytes = W * sizeof(T);

  RingBuffer() : slots_(W) {}

  /// Number of entries pushed so far: the position of the next one.
  std::int64_t position() const noexcept { return position_; }

  /// Number of entries that are held: min(position, W).
  std::size_t size() const noexcept { return static_cast<std::size_t>(std::min<std::int64_t>(position_, W)); }

  /// Position of the oldest entry that is held.
  std::int64_t first_position() const noexcept { return position_ - static_cast<std::int64_t>(size()); }

  void push(const T& entry) noexcept { push(std::span<const T>(&entry, 1)); }

  /// Appends entries in order; of more than W the last W remain.
  void push(std::span<const T> entries) noexcept {
    const std::size_t skipped = entries.size() - std::min(entries.size(), W);
    position_ += static_cast<std::int64_t>(skipped);
    entries = entries.subspan(skipped);
    const std::size_t slot = slot_of(position_);
    const std::size_t before_wrap = std::min(entries.size(), W - slot);
    std::copy_n(entries.data(), before_wrap, slots_.data() + slot);
    std::copy_n(entries.data() + before_wrap, entries.size() - before_wrap, slots_.data());
    position_ += static_cast<std::int64_t>(entries.size());
  }

  /// The entries that are held, oldest first: the first span, then the second (empty until the buffer has wrapped).
  std::array<std::span<const T>, 2> spans() const noexcept {
    const std::size_t first = slot_of(first_position());
    const std::size_t before_wrap = std::min(size(), W - first);
    return {std::span<const T>(slots_.data() + first, before_wrap),
            std::span<const T>(slots_.data(), size() - before_wrap)};
  }

  /// The entry at an absolute position that is held.
  const T& at(std::int64_t position) const noexcept { return slots_.data()[slot_of(position)]; }

  /// Puts it into the state of a buffer at `position`, whose last entries these are: as many as it then holds,
  /// min(position, W).
  void restore(std::int64_t position, std::span<const T> entries) noexcept {
    assert(position >= 0 && entries.size() == std::min(static_cast<std::uint64_t>(position), std::uint64_t{W}));
    position_ = position - static_cast<std::int64_t>(entries.size());
    push(entries);
  }

  /// Forgets everything: the next entry has position 0.
  void clear() noexcept { position_ = 0; }

 private:
  static std::size_t slot_of(std::int64_t position) noexcept { return static_cast<std::size_t>(position) % W; }

  Buffer<T> slots_;
  std::int64_t position_ = 0;
};

}  // namespace mistral::inline MISTRAL_ABI
