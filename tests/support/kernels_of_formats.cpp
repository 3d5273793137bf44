// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

MISTRAL_FORMATS(MISTRAL_TEST_MATMUL_HERE, MISTRAL_NOTHING)
