// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <mistral/core/abi.hpp>
#include <mistral/core/element.hpp>
#include <mistral/io/gguf/ggml_types.hpp>
#include <mistral/simd/lanes.hpp>

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// Widens elements at any address to floats.
template <class T>
void widen(const std::byte* from, std::span<float> out) noexcept {
  for (std::size_t i = 0; i < out.size(); i += simd::lanes) {
    T elements[simd::lanes] = {};
    const std::size_t count = (std::min)(simd::lanes, out.size() - i);
    std::memcpy(elements, from + i * sizeof(T), count * sizeof(T));
    simd::Lanes::load(elements).store_some(out.data() + i, count);
  }
}

inline float half_at(const std::byte* p) noexcept {
  f16 half;
  std::memcpy(&half.bits, p, sizeof half.bits);
  return to_float(half);
}

inline unsigned at(const std::byte* p, std::size_t i) noexcept { return std::to_integer<unsigned>(p[i]); }

// Each function below decodes one block. A weight is scale x code, or scale x code + offset (- minimum). Scales have at
// most 11 + 6 bits (a half times a small integer) and codes 5, so all products but Q6_K's are exact in a float, and
// there is one rounding, the last: no order of the operations, and no fused multiply-add, changes a bit.

/// Codes of 4 bits: the block's first 16 in the lower halves of 16 bytes, the others in the upper ones.
template <class Decode>
void decode_nibbles(const std::byte* codes, float* out, Decode decode) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = decode(at(codes, i) & 0xf, i);
    out[i + 16] = decode(at(codes, i) >> 4, i + 16);
  }
}

/// half scale, 16 bytes of codes 0 ... 15 that stand for -8 ... 7
inline void decode_q4_0(const std::byte* block, float* out) noexcept {
  const float scale = half_at(block);
  decode_nibbles(block + 2, out,
                 [&](unsigned code, std::size_t) { return static_cast<float>(static_cast<int>(code) - 8) * scale; });
}

/// half scale, half offset, 16 bytes of codes 0 ... 15
inline void decode_q4_1(const std::byte* block, float* out) noexcept {
  const float scale = half_at(block);
  const float offset = half_at(block + 2);
  decode_nibbles(block + 4, out, [&](unsigned code, std::size_t) { return static_cast<float>(code) * scale + offset; });
}

/// The fifth bits of a block's 32 codes, bit i that of code i.
inline std::uint32_t fifth_bits(const std::byte* p) noexcept {
  std::uint32_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return bits;
}

/// half scale, 4 bytes of fifth bits, 16 bytes of lower bits of codes 0 ... 31 that stand for -16 ... 15
inline void decode_q5_0(const std::byte* block, float* out) noexcept {
  const float scale = half_at(block);
  const std::uint32_t high = fifth_bits(block + 2);
  decode_nibbles(block + 6, out, [&](unsigned code, std::size_t i) {
    return static_cast<float>(static_cast<int>(code | (high >> i & 1u) << 4) - 16) * scale;
  });
}

/// half scale, half offset, 4 bytes of fifth bits, 16 bytes of lower bits of codes 0 ... 31
inline void decode_q5_1(const std::byte* block, float* out) noexcept {
  const float scale = half_at(block);
  const float offset = half_at(block + 2);
  const std::uint32_t high = fifth_bits(block + 4);
  decode_nibbles(block + 8, out, [&](unsigned code, std::size_t i) {
    return static_cast<float>(code | (high >> i & 1u) << 4) * scale + offset;
  });
}

/// half scale, 32 signed bytes
inline void decode_q8_0(const std::byte* block, float* out) noexcept {
  const float scale = half_at(block);
  for (std::size_t i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * scale;
}

/// half scale, 16 bytes of codes that stand for 16 fixed levels, denser around zero
inline void decode_iq4_nl(const std::byte* block, float* out) noexcept {
  static constexpr float levels[16] = {-127.0f, -104.0f, -83.0f, -65.0f, -49.0f, -35.0f, -22.0f, -10.0f,
                                       1.0f,    13.0f,   25.0f,  38.0f,  53.0f,  69.0f,  89.0f,  113.0f};
  const float scale = half_at(block);
  decode_nibbles(block + 2, out, [&](unsigned code, std::size_t) { return levels[code] * scale; });
}

// The K formats: 256 weights a block, in groups of 16 or 32 that have scales of 4 to 8 bits; the scales have a scale.
// Codes of 2 bits lie in 64 bytes: group g of 32 takes bits 2 (g mod 4) of the 32 bytes from 32 (g / 4).

/// 16 bytes of group scales (lower halves) and minima (upper), 64 bytes of codes, half scale, half scale of the minima
inline void decode_q2_k(const std::byte* block, float* out) noexcept {
  const std::byte* const codes = block + 16;
  const float scale = half_at(block + 80);
  const float minimum = half_at(block + 82);
  for (unsigned group = 0; group < 16; ++group) {
    const float group_scale = scale * static_cast<float>(at(block, group) & 0xf);
    const float group_minimum = minimum * static_cast<float>(at(block, group) >> 4);
    const std::byte* const from = codes + group / 8 * 32 + group % 2 * 16;
    const unsigned shift = group / 2 % 4 * 2;
    for (std::size_t i = 0; i < 16; ++i) {
      out[group * 16 + i] = group_scale * static_cast<float>(at(from, i) >> shift & 3u) - group_minimum;
    }
  }
}

/// 32 bytes of third bits (clear: the code is less by 4), 64 bytes of lower bits, 12 bytes of group scales (6 bits,
/// raised by 32), half scale
inline void decode_q3_k(const std::byte* block, float* out) noexcept {
  const std::byte* const scales = block + 96;
  const float scale = half_at(block + 108);
  for (unsigned group = 0; group < 16; ++group) {
    const unsigned low = at(scales, group % 8) >> group / 8 * 4 & 0xfu;
    const unsigned high = at(scales, 8 + group % 4) >> group / 4 * 2 & 3u;
    const float group_scale = scale * static_cast<float>(static_cast<int>(low | high << 4) - 32);
    const std::byte* const from = block + 32 + group / 8 * 32 + group % 2 * 16;
    const std::byte* const third = block + group % 2 * 16;
    const unsigned shift = group / 2 % 4 * 2;
    for (std::size_t i = 0; i < 16; ++i) {
      const unsigned code = (at(from, i) >> shift & 3u) | (at(third, i) >> group / 2 & 1u) << 2;
      out[group * 16 + i] = group_scale * static_cast<float>(static_cast<int>(code) - 4);
    }
  }
}

struct GroupScale {
  unsigned scale;
  unsigned minimum;
};

/// The scale and minimum of group 0 ... 7, 6 bits each, of the 12 bytes of Q4_K and Q5_K. The first four groups have
/// a byte for each; the upper 2 bits of those bytes and the last 4 bytes make up the other groups'.
inline GroupScale scale_of_group(const std::byte* packed, std::size_t group) noexcept {
  if (group < 4) return {at(packed, group) & 63u, at(packed, group + 4) & 63u};
  const unsigned low = at(packed, group + 4);
  return {(low & 0xfu) | at(packed, group - 4) >> 6 << 4, low >> 4 | at(packed, group) >> 6 << 4};
}

/// half scale, half scale of the minima, 12 bytes of group scales and minima, [32 bytes of fifth bits,] 128 bytes of
/// codes: groups 2n and 2n + 1 of 32 are the lower and the upper halves of the 32 bytes from 32 n
template <bool five_bits>
void decode_q4_or_q5_k(const std::byte* block, float* out) noexcept {
  const float scale = half_at(block);
  const float minimum = half_at(block + 2);
  const std::byte* const fifth = block + 16;
  const std::byte* const codes = five_bits ? fifth + 32 : fifth;
  for (unsigned group = 0; group < 8; ++group) {
    const GroupScale packed = scale_of_group(block + 4, group);
    const float group_scale = scale * static_cast<float>(packed.scale);
    const float group_minimum = minimum * static_cast<float>(packed.minimum);
    const std::byte* const from = codes + group / 2 * 32;
    const unsigned shift = group % 2 * 4;
    for (std::size_t i = 0; i < 32; ++i) {
      unsigned code = at(from, i) >> shift & 0xfu;
      if constexpr (five_bits) code |= (at(fifth, i) >> group & 1u) << 4;
      out[group * 32 + i] = group_scale * static_cast<float>(code) - group_minimum;
    }
  }
}

/// 128 bytes of lower halves, 64 bytes of upper 2 bits of codes 0 ... 63 that stand for -32 ... 31, 16 signed bytes of
/// group scales, half scale. Of each half of 128 weights, the lower bits of groups 0 to 3 of 32 are the lower halves
/// of bytes 0 to 63, then the upper ones.
inline void decode_q6_k(const std::byte* block, float* out) noexcept {
  const float scale = half_at(block + 208);
  for (unsigned group = 0; group < 16; ++group) {
    const float group_scale = scale * static_cast<float>(static_cast<std::int8_t>(block[192 + group]));
    const unsigned quarter = group / 2 % 4;
    const std::byte* const low = block + group / 8 * 64 + quarter % 2 * 32 + group % 2 * 16;
    const std::byte* const high = block + 128 + group / 8 * 32 + group % 2 * 16;
    const unsigned low_shift = quarter / 2 * 4;
    const unsigned high_shift = quarter * 2;
    for (std::size_t i = 0; i < 16; ++i) {
      const unsigned code = (at(low, i) >> low_shift & 0xfu) | (at(high, i) >> high_shift & 3u) << 4;
      out[group * 16 + i] = group_scale * static_cast<float>(static_cast<int>(code) - 32);
    }
  }
}

}  // namespace detail

/// Decodes out.size() elements at `from`, at any address, to floats: the same bits as ggml's own code gives. The number
/// of elements is a multiple of the type's block; from holds as many bytes as they take.
inline void dequantize_row(GgmlType type, const std::byte* from, std::span<float> out) noexcept {
  const GgmlTypeInfo& shape = info(type);
  const auto blocks = [&](auto decode) {
    for (std::size_t i = 0; i + shape.block <= out.size(); i += shape.block, from += shape.bytes) {
      decode(from, out.data() + i);
    }
  };
  switch (type) {
    case GgmlType::f32:
      return detail::widen<float>(from, out);
    case GgmlType::f16:
      return detail::widen<f16>(from, out);
    case GgmlType::bf16:
      return detail::widen<bf16>(from, out);
    case GgmlType::q4_0:
      return blocks(detail::decode_q4_0);
    case GgmlType::q4_1:
      return blocks(detail::decode_q4_1);
    case GgmlType::q5_0:
      return blocks(detail::decode_q5_0);
    case GgmlType::q5_1:
      return blocks(detail::decode_q5_1);
    case GgmlType::q8_0:
      return blocks(detail::decode_q8_0);
    case GgmlType::q2_k:
      return blocks(detail::decode_q2_k);
    case GgmlType::q3_k:
      return blocks(detail::decode_q3_k);
    case GgmlType::q4_k:
      return blocks(detail::decode_q4_or_q5_k<false>);
    case GgmlType::q5_k:
      return blocks(detail::decode_q4_or_q5_k<true>);
    case GgmlType::q6_k:
      return blocks(detail::decode_q6_k);
    case GgmlType::iq4_nl:
      return blocks(detail::decode_iq4_nl);
  }
}

}}  // namespace mistral
