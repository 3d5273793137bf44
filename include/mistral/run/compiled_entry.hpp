// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <mistral/core/abi.hpp>

#define MISTRAL_TEXT_OF(...) #__VA_ARGS__
#define MISTRAL_TEXT(...) MISTRAL_TEXT_OF(__VA_ARGS__)
#define MISTRAL_VERSION_TEXT MISTRAL_TEXT(MISTRAL_VERSION_MAJOR.MISTRAL_VERSION_MINOR.MISTRAL_VERSION_PATCH)

namespace mistral { inline namespace MISTRAL_ABI {

class AnyModelType;

/// The one object that a compiled library shows: data that any processor can look at, in a layout that no version
/// changes.
struct CompiledModel {
  char magic[8];                  ///< "MISTLIB", then a zero byte
  const char* version;            ///< of the library: "0.1.0"
  const char* abi;                ///< the namespace of its interface (core/abi.hpp)
  const char* headers;            ///< the fingerprint of the headers that it was compiled from
  std::uint64_t needs;            ///< simd::CpuFeatures that a processor must have to run it
  const AnyModelType& (*type)();  ///< the type of model
};

/// The name of the symbol.
inline constexpr const char* compiled_model_symbol = "mistral_compiled_model";

}}  // namespace mistral
