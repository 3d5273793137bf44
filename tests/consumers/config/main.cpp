// SPDX-License-Identifier: Apache-2.0
// A program whose config is made of a checkpoint when it is configured.
#include "breeze.hpp"

static_assert(breeze.dim == 128 && breeze.vocab_size == 2048);

int main() {}
