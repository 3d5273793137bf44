// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

namespace mistral::inline MISTRAL_ABI::kernels {

MISTRAL_TEST_KERNELS_OF_FLOATS()

}  // namespace mistral::inline MISTRAL_ABI::kernels
