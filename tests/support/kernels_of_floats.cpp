// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

MISTRAL_TEST_KERNELS_OF_FLOATS()

}}}  // namespace mistral::kernels
