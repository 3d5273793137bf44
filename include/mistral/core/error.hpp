// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/core/printable.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The exception of the library for wrong data: a file, a token, an option. The message is one line that names where
/// the error was met, what it concerns, and what was expected and found:
/// `[safetensors] model.safetensors: tensor 'lm_head.weight': expected [97, 64], got [64, 97]`. Whatever is quoted in
/// it, no character of the message drives a terminal, ends the line or hides: see printable.
class Error : public std::runtime_error {
 public:
  /// `[where] what`
  Error(std::string_view where, std::string_view what) : std::runtime_error(safe(line(where, what))) {}

  /// `[where] what: expected ..., got ...`
  Error(std::string_view where, std::string_view what, std::string_view expected, std::string_view found)
      : std::runtime_error(
            safe(line(where, what).append(": expected ").append(expected).append(", got ").append(found))) {}

 private:
  static std::string line(std::string_view where, std::string_view what) {
    return std::string("[").append(where).append("] ").append(what);
  }
  static std::string safe(const std::string& text) { return printable(text, text.size()); }
};

}}  // namespace mistral
