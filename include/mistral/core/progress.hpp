#pragma once

#include <cstdint>

#include <mistral/core/abi.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Is told how far long work has come: a function, and what it is called with. Called by the thread that asked for the
/// work, with `done` growing up to `total`, bytes as a rule. The default tells nobody.
struct ProgressHook {
  void (*function)(void* context, std::uint64_t done, std::uint64_t total) = nullptr;  ///< null: nobody is told
  void* context = nullptr;                                                             ///< handed back to the function

  /// Tells it that `done` of `total` is done.
  void operator()(std::uint64_t done, std::uint64_t total) const {
    if (function != nullptr) function(context, done, total);
  }
};

}  // namespace mistral::inline MISTRAL_ABI
