// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <string>
#include <string_view>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/os/shared_library.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/run/compiled_entry.hpp>
#include <mistral/simd/cpu.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Opens a compiled model. Throws Error `[compiled] path: ...` where the file isn't the user's own or others may write
/// it, where it is no compiled model, or one of other headers, of another interface, or for another processor.
///   headers  the fingerprint of the headers that the caller is compiled from, as `mistral compile` counts it
inline const AnyModelType& open_compiled_model(const std::string& path, std::string_view headers) {
  const std::string name = printable(path, 1000);
  void* const library = open_shared_library(path, "compiled");
  const auto* const model = static_cast<const CompiledModel*>(symbol_in(library, compiled_model_symbol));
  if (model == nullptr || std::memcmp(model->magic, "MISTLIB", sizeof model->magic) != 0) {
    throw Error("compiled", name, "a model that mistral compile made", "another library");
  }
  const auto text = [](const char* c) { return printable(c, 100); };
  if (std::string_view(model->abi) != MISTRAL_TEXT(MISTRAL_ABI) || headers != model->headers) {
    throw Error("compiled", name + ": compile it again (mistral compile), by this build of the program",
                "one of version " MISTRAL_VERSION_TEXT " and interface " + printable(headers, 40),
                "one of version " + text(model->version) + " and interface " + text(model->headers));
  }
  if (const simd::CpuFeatures missing = model->needs & ~simd::cpu_features(); missing != 0) {
    throw Error("compiled", name + ": compile it again on this machine", "a model for this processor",
                "one for a processor that has more instructions");
  }
  return model->type();
}

}}  // namespace mistral
