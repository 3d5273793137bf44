// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A model whose instruction set is chosen when the program runs. A program holds one instance of each preset for each
/// of several processors (mistral_add_instances in CMake makes their translation units), asks best_instance() for the
/// one that this processor runs best, and meets it through the interface of run/any_model.hpp:
///
///     const mistral::AnyModelType& type = mistral::best_instance(app_instances(), "mistral-7b").type();
///     const std::unique_ptr<mistral::AnyModel> model = type.load("checkpoint/", {});
///
/// The types of that interface are the program's own, Error among them, since the units of an instance are compiled
/// with the program's MISTRAL_ABI. That is safe because each processor's units become one object whose symbols are
/// local: whatever else is in them under a name of the program's stays there.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/error.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/simd/cpu.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A preset as it is compiled for one processor: data that any processor can look at.
struct Instance {
  const char* preset;             ///< its name
  const char* arch;               ///< the processor, as -march names it
  std::uint64_t needs;            ///< simd::CpuFeatures that a processor must have to run it
  const AnyModelType& (*type)();  ///< the type of model; to be called where the processor has what it needs
};

/// Returns the last of a preset's instances that a processor with these features runs: they stand from the plainest to
/// the richest. Throws Error where there is none.
inline const Instance& best_instance(std::span<const Instance* const> all, std::string_view preset,
                                     simd::CpuFeatures present = simd::cpu_features()) {
  const Instance* best = nullptr;
  std::string known;
  for (const Instance* instance : all) {
    known.append(known.empty() ? "" : ", ").append(instance->preset).append(" for ").append(instance->arch);
    if (instance->preset == preset && (instance->needs & present) == instance->needs) best = instance;
  }
  if (best == nullptr) {
    throw Error("instances", "preset '" + std::string(preset) + "' for this processor",
                "one of " + (known.empty() ? std::string("none") : known), "none that it runs");
  }
  return *best;
}

}}  // namespace mistral
