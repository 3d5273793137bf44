// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include <mistral/core/abi.hpp>
#include <mistral/core/stop_token.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Is told how far long work has come: a function, and what it is called with. Called by the thread that asked for the
/// work, with `done` growing up to `total`, bytes as a rule. The default tells nobody. Work that tells how far it is
/// looks at `stop` as often, and ends with Cancelled where that asks it to; what it was to write isn't there then.
struct ProgressHook {
  void (*function)(void* context, std::uint64_t done, std::uint64_t total) = nullptr;  ///< null: nobody is told
  void* context = nullptr;                                                             ///< handed back to the function
  StopToken stop = {};                                                                 ///< asks the work to stop

  /// Tells it that `done` of `total` is done. Throws Cancelled where the work is to stop.
  void operator()(std::uint64_t done, std::uint64_t total) const {
    if (function != nullptr) function(context, done, total);
    if (stop.requested()) {
      throw Cancelled("stop", "cancelled on request, at " + std::to_string(done) + " of " + std::to_string(total));
    }
  }
};

}}  // namespace mistral
