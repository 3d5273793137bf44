// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The number of a piece of the vocabulary: 0 ... vocab_size - 1.
using TokenId = std::int32_t;

/// Positions begin ... end - 1 of a sequence of ids.
struct TokenRange {
  std::size_t begin = 0;  ///< the first token
  std::size_t end = 0;    ///< behind the last token

  /// Both ends are equal.
  friend bool operator==(const TokenRange&, const TokenRange&) = default;
};

}}  // namespace mistral
