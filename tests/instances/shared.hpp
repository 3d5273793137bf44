#pragma once

#include <cstddef>
#include <cstdint>

// What each of two shared objects has: the logits (97) after some tokens of the model in a folder. Returns the name of
// the processor that it is built for.
extern "C" {
const char* logits_x86_64_v3(const char* checkpoint, const std::int32_t* tokens, std::size_t count, float* logits);
const char* logits_x86_64_v4(const char* checkpoint, const std::int32_t* tokens, std::size_t count, float* logits);
}
