// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

// What each of two shared objects has, for the second and the third of the processors that the test is built for: the
// logits (97) after some tokens of the model in a folder. Returns the name of the processor that it is built for.
extern "C" {
const char* logits_second(const char* checkpoint, const std::int32_t* tokens, std::size_t count, float* logits);
const char* logits_third(const char* checkpoint, const std::int32_t* tokens, std::size_t count, float* logits);
}
