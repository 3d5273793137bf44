// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <mistral/format/weight_format.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A number that changes when the place or the meaning of any bit of a format's blocks does: it is made of the floats
/// that a fixed block stands for. It is the same on every instruction set: files that hold blocks are told apart by it.
///
/// The block's bytes are below 0x78, so that no half, bfloat16 or float among them is a NaN or an infinity; what is
/// left has one rounding at most, and so the same bits whichever instructions compute it.
template <WeightFormat F>
std::uint64_t layout_fingerprint() noexcept {
  std::byte block[F::block_bytes];
  std::uint32_t state = 1;
  for (std::byte& byte : block) {
    state = state * 1664525u + 1013904223u;  // a linear congruential generator; its upper bits are the good ones
    byte = static_cast<std::byte>((state >> 24) % 0x78u);
  }
  simd::Lanes weights[F::block_inputs];
  F::unpack(block, weights);
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, a word at a time
  for (const simd::Lanes& w : weights) {
    std::uint32_t bits[panel_rows];
    float lanes[panel_rows];
    w.store(lanes);
    std::memcpy(bits, lanes, sizeof bits);
    for (const std::uint32_t word : bits) hash = (hash ^ word) * 0x100000001b3u;
  }
  return hash;
}

}}  // namespace mistral
