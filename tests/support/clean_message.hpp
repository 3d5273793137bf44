// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <mistral/core/error.hpp>

namespace mistral::test {

/// Whether a message is one line of whole characters none of which drives a terminal, turns text round or hides. Says
/// so by itself, without the library's own ideas of UTF-8 and of what hides.
inline bool is_clean(std::string_view message) {
  for (std::size_t i = 0; i < message.size();) {
    const auto byte = [&](std::size_t k) {
      return i + k < message.size() ? static_cast<unsigned>(static_cast<unsigned char>(message[i + k])) : 0u;
    };
    const unsigned lead = byte(0);
    if (lead < 0x20 || lead == 0x7F) return false;
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xC2 ? 0
                               : lead < 0xE0 ? 2
                               : lead < 0xF0 ? 3
                               : lead < 0xF5 ? 4
                                             : 0;
    if (length == 0) return false;
    unsigned code = length == 1 ? lead : lead & (0xFFu >> (length + 1));
    for (std::size_t k = 1; k < length; ++k) {
      if ((byte(k) & 0xC0u) != 0x80u) return false;
      code = code << 6 | (byte(k) & 0x3Fu);
    }
    if ((length == 3 && code < 0x800) || (length == 4 && (code < 0x10000 || code > 0x10FFFF))) return false;
    const auto in = [&](unsigned first, unsigned last) { return code >= first && code <= last; };
    if (in(0x80, 0x9F) || in(0xD800, 0xDFFF) || in(0x200B, 0x200F) || in(0x2028, 0x202E) || in(0x2060, 0x206F)) {
      return false;
    }
    if (code == 0xAD || code == 0x61C || code == 0xFEFF || in(0xFFF9, 0xFFFB) || in(0xE0000, 0xE0FFF)) return false;
    i += length;
  }
  return true;
}

/// Ends a fuzz target where a message isn't clean.
inline void check_message(const Error& error) {
  if (is_clean(error.what())) return;
  std::fprintf(stderr, "not a clean line: %s\n", error.what());
  std::abort();
}

}  // namespace mistral::test
