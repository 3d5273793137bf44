// SPDX-License-Identifier: Apache-2.0
#include "compiled_once.hpp"

// What is the same for all models, for this program's units and for the models that it compiles, which find these
// functions in it.
MISTRAL_COMPILED_ONCE()
