#pragma once

#include <cstdint>

#include <mistral/core/abi.hpp>

namespace mistral::inline MISTRAL_ABI {

/// The number of a piece of the vocabulary: 0 ... vocab_size - 1.
using TokenId = std::int32_t;

}  // namespace mistral::inline MISTRAL_ABI
