// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/utf8.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// A SentencePiece precompiled_charsmap: rules that replace a sequence of characters, such as NFKC's. The blob is the
/// size of a trie in bytes (32 bits), the trie, and the replacements, each ended by a zero.
///
/// The trie is a double array of darts-clone: units of 32 bits, bits 0-7 the label, bit 8 whether a word ends here, the
/// rest the offset to the children (bits 10-30, times 256 where bit 9 is set); a child of unit i with label c is at
/// i ^ offset ^ c. The value of a word is in the unit at i ^ offset, without its highest bit: the replacement's start.
class Charsmap {
 public:
  /// No rule: every character stays as it is.
  Charsmap() = default;

  /// Throws Error where the blob's sizes don't fit. `name` is the file that errors name.
  Charsmap(std::string_view blob, std::string_view name) : name_(name) {
    if (blob.empty()) return;
    if (blob.size() < 4) fail("at least 4 bytes", std::to_string(blob.size()));
    const std::size_t trie_bytes = unit_at(blob, 0);
    if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > blob.size() - 4) {
      fail("a trie of 4 ... " + std::to_string(blob.size() - 4) + " bytes, in units of 4", std::to_string(trie_bytes));
    }
    units_.resize(trie_bytes / 4);
    for (std::size_t i = 0; i < units_.size(); ++i) units_[i] = unit_at(blob, 4 + 4 * i);
    replacements_ = blob.substr(4 + trie_bytes);
    for (unsigned byte = 0; byte < 256; ++byte) {
      const std::size_t child = offset(units_[0]) ^ byte;
      starts_[byte] = child < units_.size() && label(units_[child]) == byte;
    }
  }

  /// Whether a rule can apply at this byte.
  bool starts_with(unsigned char byte) const noexcept { return starts_[byte]; }

  /// The longest sequence with a rule that `text` starts with: its length, 0 where there is none, and what replaces it.
  /// Throws Error where the trie points outside the replacements.
  std::pair<std::size_t, std::string_view> match(std::string_view text) const {
    std::size_t length = 0, value = 0;
    std::size_t node = offset(units_[0]);
    for (std::size_t i = 0; i < text.size() && i < max_rule_bytes; ++i) {
      const unsigned char byte = byte_at(text, i);
      node ^= byte;
      if (node >= units_.size() || label(units_[node]) != byte) break;
      const std::uint32_t unit = units_[node];
      node ^= offset(unit);
      if ((unit >> 8 & 1u) != 0 && node < units_.size()) {
        length = i + 1;
        value = units_[node] & 0x7fffffffu;
      }
    }
    if (length == 0) return {0, {}};
    return {length, replacement(value)};
  }

 private:
  // Unicode's longest rules take 4 characters and give 18. Without limits, a file could make a short text a huge one,
  // or make every character look at all the text behind it.
  static constexpr std::size_t max_rule_bytes = 1024;
  static constexpr std::size_t max_replacement_bytes = 1024;

  [[noreturn]] void fail(std::string_view expected, std::string_view found) const {
    throw Error("tokenizer", name_ + ": precompiled_charsmap", expected, found);
  }

  static std::uint32_t unit_at(std::string_view blob, std::size_t i) noexcept {
    std::uint32_t unit = 0;
    for (std::size_t b = 0; b < 4; ++b) unit |= std::uint32_t{byte_at(blob, i + b)} << (8 * b);
    return unit;
  }

  static std::uint32_t label(std::uint32_t unit) noexcept { return unit & 0x800000ffu; }
  static std::size_t offset(std::uint32_t unit) noexcept {
    return std::size_t{unit >> 10} << ((unit & (1u << 9)) >> 6);
  }

  std::string_view replacement(std::size_t begin) const {
    if (begin > replacements_.size()) fail("a replacement inside the blob", "one outside");
    const std::string_view rest = std::string_view(replacements_).substr(begin, max_replacement_bytes + 1);
    const std::size_t end = (std::min)(rest.find('\0'), rest.size());
    if (end > max_replacement_bytes) {
      fail("replacements of at most " + std::to_string(max_replacement_bytes) + " bytes", "a longer one");
    }
    return rest.substr(0, end);
  }

  std::string name_;
  std::vector<std::uint32_t> units_;
  std::string replacements_;
  std::array<bool, 256> starts_{};
};

}}}  // namespace mistral::detail
