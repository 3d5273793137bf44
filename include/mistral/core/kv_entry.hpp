// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include <mistral/core/element.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Names an element of 8 bits in a cache of keys and values: a code of -127 ... 127, times one float for each head and
/// position. Half the bytes of bf16. An element is off by at most half a code: by 1/254 of the largest of its head.
struct q8 {};

/// A type that a cache may hold the numbers of a key or a value as.
template <class T>
concept KvElement = std::same_as<T, float> || std::same_as<T, bf16> || std::same_as<T, q8>;

/// `CheckedElement<T>::value` is true or fails to compile with a message that names the elements there are.
template <class T>
struct CheckedElement {
  static_assert(KvElement<T>,
                "a cache holds its keys and values as float, mistral::bf16 or mistral::q8: Session<Model>, "
                "Session<Model, mistral::bf16> or Session<Model, mistral::q8>");
  static constexpr bool value = true;  ///< or fails to compile
};

/// A type that a user may write for a KvElement: another type is told of by CheckedElement.
template <class T>
concept NamedElement = CheckedElement<T>::value && KvElement<T>;

/// How one head of a key or a value (head_dim elements) lies in memory: a scale (q8 only: a float), then the elements,
/// then zeros to a whole number of 32-bit words. Kernels read it as such words.
template <KvElement T>
struct KvLayout {
  using Code = T;                                            ///< what an element is in memory
  static constexpr std::size_t codes_at = 0;                 ///< bytes before the first element
  static constexpr std::size_t per_word = 4 / sizeof(Code);  ///< elements in a word
};

/// A float scale, then bytes: an element is scale x byte.
template <>
struct KvLayout<q8> {
  using Code = std::int8_t;                               ///< what an element is in memory
  static constexpr std::size_t codes_at = sizeof(float);  ///< bytes before the first element
  static constexpr std::size_t per_word = 4;              ///< elements in a word
};

/// Words that the elements of a head take.
template <KvElement T>
constexpr std::size_t kv_words(std::size_t head_dim) noexcept {
  return (head_dim + KvLayout<T>::per_word - 1) / KvLayout<T>::per_word;
}

/// Bytes of a head, and from one position to the next.
template <KvElement T>
constexpr std::size_t kv_entry_bytes(std::size_t head_dim) noexcept {
  return KvLayout<T>::codes_at + 4 * kv_words<T>(head_dim);
}

/// Rounds a head to elements T: writes kv_entry_bytes<T>(x.size()). Where a number isn't finite, the whole of a q8 head
/// becomes NaN.
template <KvElement T>
inline void write_kv_entry(std::span<const float> x, std::byte* entry) noexcept {
  using Code = typename KvLayout<T>::Code;
  std::byte* const codes = entry + KvLayout<T>::codes_at;
  const std::size_t used = x.size() * sizeof(Code);
  std::memset(codes + used, 0, 4 * kv_words<T>(x.size()) - used);
  if constexpr (std::same_as<T, q8>) {
    float largest = 0.0f;
    float finite = 0.0f;  // becomes NaN at the first number that isn't
    for (const float v : x) {
      largest = (std::max)(largest, std::abs(v));
      finite += v * 0.0f;
    }
    // one NaN for all: processors differ in the sign of those that they make
    const float scale = finite == 0.0f ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
    std::memcpy(entry, &scale, sizeof(scale));
    for (std::size_t i = 0; i < x.size(); ++i) {
      // A scale among the subnormals is coarse, so that a quotient may lie past the last code.
      const float code = scale > 0.0f ? std::clamp(std::nearbyint(x[i] / scale), -127.0f, 127.0f) : 0.0f;
      codes[i] = static_cast<std::byte>(static_cast<std::int8_t>(code));
    }
  } else {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Code code = from_float<Code>(x[i]);
      std::memcpy(codes + i * sizeof(Code), &code, sizeof(Code));
    }
  }
}

/// Reads what an entry holds, as floats: the inverse of write_kv_entry, up to its rounding.
template <KvElement T>
inline void read_kv_entry(const std::byte* entry, std::span<float> x) noexcept {
  using Code = typename KvLayout<T>::Code;
  float scale = 1.0f;
  if constexpr (std::same_as<T, q8>) std::memcpy(&scale, entry, sizeof(scale));
  for (std::size_t i = 0; i < x.size(); ++i) {
    Code code;
    std::memcpy(&code, entry + KvLayout<T>::codes_at + i * sizeof(Code), sizeof(Code));
    if constexpr (std::same_as<T, q8>) {
      x[i] = scale * static_cast<float>(code);
    } else {
      x[i] = to_float(code);
    }
  }
}

/// One head of a key or a value at one position: what a ring of the cache holds.
template <KvElement T, std::size_t HeadDim>
struct KvEntry {
  static_assert(kv_entry_bytes<T>(HeadDim) % alignof(std::uint32_t) == 0);

  alignas(std::uint32_t) std::array<std::byte, kv_entry_bytes<T>(HeadDim)> bytes;  ///< as KvLayout says

  /// Rounds head_dim floats to elements, and gives back what they stand for.
  ///@{
  void write(std::span<const float, HeadDim> x) noexcept { write_kv_entry<T>(x, bytes.data()); }
  void read(std::span<float, HeadDim> x) const noexcept { read_kv_entry<T>(bytes.data(), x); }
  ///@}
};

}}  // namespace mistral
