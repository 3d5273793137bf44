// SPDX-License-Identifier: Apache-2.0
// A library that uses ours, built for one processor: MISTRAL_LOGITS is the name of its function, MISTRAL_INSTANCE that
// of the instance which is linked into it.
#include "shared.hpp"

#include <algorithm>

#include <mistral/run/instances.hpp>

extern "C" const mistral::instances::Instance MISTRAL_INSTANCE;

const char* MISTRAL_LOGITS(const char* checkpoint, const std::int32_t* tokens, std::size_t count, float* logits) {
  const auto model = MISTRAL_INSTANCE.load(checkpoint, "");
  const auto session = model->session();
  const auto last = session->prefill({tokens, count});
  std::copy(last.begin(), last.end(), logits);
  return MISTRAL_INSTANCE.arch;
}
