// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace simd {

/// Rows that lie the same distance apart. Sixteen addresses would fill all registers: from four of them and two
/// distances the processor makes the others as it loads.
class StridedRows {
 public:
  StridedRows(const std::byte* first, std::size_t stride) noexcept
      : quarters_{first, first + 4 * stride, first + 8 * stride, first + 12 * stride},
        stride_(stride),
        thrice_(3 * stride) {}

  const std::byte* operator[](std::size_t i) const noexcept {
    const std::byte* const quarter = quarters_[i / 4];
    return i % 4 == 3 ? quarter + thrice_ : quarter + i % 4 * stride_;
  }

 private:
  const std::byte* quarters_[4];
  std::size_t stride_;
  std::size_t thrice_;
};

/// Turns 16 rows of `words` 32-bit words at any address to a panel: word w of row i goes to lane i of step w. This is
/// how keys become a panel, each key an output row; what a word holds (a float, two bfloat16, four bytes) is taken
/// apart in registers, when the step is met.
///   rows  rows[i] is the address of row i
template <class RowAddresses>
inline void transpose_words(const RowAddresses& rows, std::size_t words, std::byte* panel) noexcept {
  const auto row = [&](std::size_t i, std::size_t w) { return rows[i] + w * sizeof(std::uint32_t); };
  constexpr std::size_t together = Instructions::transposed_words;
  std::size_t w = 0;
  for (; w < words / together * together; w += together) Instructions::transpose(row, w, panel);
  for (; w < words; ++w) Scalar::transpose(row, w, panel);
}

/// And back: word w of lane i, of step w, goes to row i, at any address.
inline void untranspose_words(const std::byte* panel, std::size_t words, std::byte* const* rows) noexcept {
  for (std::size_t w = 0; w < words; ++w) {
    for (std::size_t i = 0; i < lanes; ++i) {
      std::memcpy(rows[i] + w * sizeof(std::uint32_t), panel + w * word_bytes + i * sizeof(std::uint32_t),
                  sizeof(std::uint32_t));
    }
  }
}

}}}  // namespace mistral::simd
