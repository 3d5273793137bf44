// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <concepts>
#include <string>

#include <mistral/core/abi.hpp>

namespace mistral::inline MISTRAL_ABI {

/// The shortest decimal text that reads as the same number of the same type, with a decimal point whatever the host's
/// locale has: "0.1" for 0.1f. A finite number's is a number of JSON.
template <std::floating_point T>
std::string number_text(T x) {
  char text[32];  // the longest is -2.2250738585072014e-308
  return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
}

}  // namespace mistral::inline MISTRAL_ABI
