#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>

namespace mistral::inline MISTRAL_ABI {

/// `text` made fit for a one-line message, whatever a file holds: control characters become `\xNN`, and what is longer
/// than `limit` bytes is cut and ends in `...`.
inline std::string printable(std::string_view text, std::size_t limit = 200) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string line;
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else {
      line.append("\\x").append(1, hex[byte >> 4]).append(1, hex[byte & 0xf]);
    }
  }
  if (text.size() > limit) line += "...";
  return line;
}

}  // namespace mistral::inline MISTRAL_ABI
