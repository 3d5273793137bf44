// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

/// Keys (or values) of one head over consecutive positions, in up to three contiguous pieces: the two spans of a ring
/// buffer, then the chunk that is not in it yet. Entries lie as KvLayout<T> says, one behind the other.
struct HeadEntries {
  std::array<std::span<const std::byte>, 3> pieces;  ///< oldest first

  /// Entries that lie one behind the other.
  struct Run {
    const std::byte* first;
    std::size_t count;
  };

  /// Those from `index` places after the first on; none past the last.
  Run run(std::size_t index, std::size_t entry_bytes) const noexcept {
    for (const auto& piece : pieces) {
      const std::size_t held = piece.size() / entry_bytes;
      if (index < held) return {piece.data() + index * entry_bytes, held - index};
      index -= held;
    }
    return {nullptr, 0};
  }

  /// The address of `count` entries from `index` on: where they lie, or else a copy at `room`.
  const std::byte* together(std::size_t index, std::size_t count, std::size_t entry_bytes,
                            std::byte* room) const noexcept {
    if (const Run whole = run(index, entry_bytes); whole.count >= count) return whole.first;
    for (std::size_t done = 0; done < count;) {
      const Run part = run(index + done, entry_bytes);
      const std::size_t here = (std::min)(count - done, part.count);
      std::memcpy(room + done * entry_bytes, part.first, here * entry_bytes);
      done += here;
    }
    return room;
  }
};

/// The keys and values that the queries of one sequence which share a head of keys attend to.
struct HeadContext {
  HeadEntries keys;
  HeadEntries values;
  std::int64_t first_position;  ///< position of the first entry
};

}}}  // namespace mistral::kernels
