// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The adapter of a row that has none.
inline constexpr std::size_t no_adapter = static_cast<std::size_t>(-1);

/// The next `rows` rows of a forward go through the adapter `adapter` of the model, or through none.
struct AdapterRows {
  std::size_t rows;
  std::size_t adapter;
};

}}  // namespace mistral
