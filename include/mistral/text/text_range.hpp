// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The bytes begin ... end - 1 of a text.
struct TextRange {
  std::size_t begin = 0;  ///< the first byte
  std::size_t end = 0;    ///< behind the last byte
  /// Both ends are equal.
  friend bool operator==(const TextRange&, const TextRange&) = default;
};

namespace detail {

/// Whether one of the ranges holds all bytes begin ... end - 1. The ranges are in order, and none touches the next.
inline bool is_within(std::span<const TextRange> ranges, std::size_t begin, std::size_t end) noexcept {
  const auto range = std::upper_bound(ranges.begin(), ranges.end(), begin,
                                      [](std::size_t place, const TextRange& r) { return place < r.end; });
  return range != ranges.end() && range->begin <= begin && end <= range->end;
}

}  // namespace detail

}}  // namespace mistral
