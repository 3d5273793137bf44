// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The number of no adapter: what goes through it goes through the base alone.
inline constexpr std::size_t no_adapter = static_cast<std::size_t>(-1);

/// Whether a weight format is Lora<F> (nn/lora.hpp) of some F.
template <class F>
inline constexpr bool is_lora = false;

/// A weight format whose matrices hold adapters, of which each sequence chooses one.
template <class F>
concept HoldsAdapters = is_lora<F>;

}}  // namespace mistral
