// SPDX-License-Identifier: Apache-2.0
// The program with the 7B as a unit that mistral_add_kernels leaves to compile.
#include <mistral/model.hpp>

#include <mistral/generate/compiled_once.hpp>

MISTRAL_COMPILED_ONCE(extern)
MISTRAL_COMPILED_ONCE_FORMAT(extern, BF16)
MISTRAL_COMPILED_ONCE_ELEMENT(extern, float)

#include "mistral_7b.cpp"
