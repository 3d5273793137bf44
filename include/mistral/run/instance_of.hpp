// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The definition of an instance, in a translation unit that is compiled for one processor. For the units that
/// mistral_add_instances makes; a program includes run/instances.hpp.

#include <mistral/core/abi.hpp>
#include <mistral/run/instances.hpp>
#include <mistral/run/model_type.hpp>
#include <mistral/simd/cpu.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Returns the instance of this unit's instruction set: a constant, data alone.
template <class Model, KvElement KV, Purpose P = Purpose::inference>
constexpr Instance instance_of(const char* preset, const char* arch) noexcept {
  return {preset, arch, simd::compiled_features(), []() -> const AnyModelType& { return model_type<Model, KV, P>; }};
}

}}  // namespace mistral
