// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <string>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The shortest decimal text that reads as the same number of the same type, with a decimal point whatever the host's
/// locale has: "0.1" for 0.1f, "1000000", "1e-05". A finite number's is a number of JSON; of others it is
/// "inf", "-inf" or "nan".
template <std::floating_point T>
std::string number_text(T x) {
  if (std::isnan(x)) return "nan";  // which may have a sign
  const T magnitude = std::abs(x);
  const bool plain = magnitude == T(0) || (magnitude >= T(1e-4) && magnitude < T(1e9));  // as people write it
  char text[32];  // the longest is -2.2250738585072014e-308
  char* const end = text + sizeof text;
  return std::string(text,
                     (plain ? std::to_chars(text, end, x, std::chars_format::fixed) : std::to_chars(text, end, x)).ptr);
}

}}  // namespace mistral
