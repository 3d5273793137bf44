// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

MISTRAL_TEST_KERNELS_OF_THE_REST()
