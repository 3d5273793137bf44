// SPDX-License-Identifier: Apache-2.0
// A library that uses ours, built for one processor: MISTRAL_LOGITS is the name of its function, MISTRAL_INSTANCE that
// of the instance which is linked into it, and whose name of the interface it takes over.
#include "test_instances_interface.hpp"

#include "shared.hpp"

#include <algorithm>

#include <mistral/run/instances.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace instances {
extern const Instance MISTRAL_INSTANCE;
}}}  // namespace mistral::instances

const char* MISTRAL_LOGITS(const char* checkpoint, const std::int32_t* tokens, std::size_t count, float* logits) {
  const mistral::Instance& instance = mistral::instances::MISTRAL_INSTANCE;
  const auto model = instance.type().load(checkpoint, {});
  const auto session = model->session();
  const auto last = session->prefill({tokens, count});
  std::copy(last.begin(), last.end(), logits);
  return instance.arch;
}
