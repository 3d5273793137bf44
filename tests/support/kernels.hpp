// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the tests' models run, compiled once a build (kernels_of_*.cpp, reading.cpp) and not by every test: with a tile
// for each number of rows the kernels, and the reading of files, take the compiler longer than all else in most tests.
#include <mistral/format/formats.hpp>
#include <mistral/generate/compiled_once.hpp>

// the kernels, in parts, so that processors share them
#define MISTRAL_TEST_MATMUL_HERE(F) MISTRAL_COMPILED_ONCE_MATMUL(, F)
#define MISTRAL_TEST_MATMUL_ELSEWHERE(F) MISTRAL_COMPILED_ONCE_MATMUL(extern, F)
#define MISTRAL_TEST_KERNELS_OF_THE_REST(EXTERN)        \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, Exact<BF16>)     \
  MISTRAL_COMPILED_ONCE_ADAPTERS(EXTERN)                \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, F32)         \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, BF16)        \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, Exact<BF16>) \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, NF4)         \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, Q4_0)        \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, Q8_0)        \
  MISTRAL_COMPILED_ONCE_ELEMENT(EXTERN, float)          \
  MISTRAL_COMPILED_ONCE_ELEMENT(EXTERN, bf16)           \
  MISTRAL_COMPILED_ONCE_ELEMENT(EXTERN, q8)

// what tests' models are read by, and more that isn't kernels
#define MISTRAL_TEST_READING_HERE(F) MISTRAL_COMPILED_ONCE_READING(, F)
#define MISTRAL_TEST_READING_ELSEWHERE(F) MISTRAL_COMPILED_ONCE_READING(extern, F)
#define MISTRAL_TEST_READING_OF_THE_REST(EXTERN) \
  MISTRAL_COMPILED_ONCE(EXTERN)                  \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, Exact<BF16>)

MISTRAL_FORMATS(MISTRAL_TEST_MATMUL_ELSEWHERE, MISTRAL_NOTHING)
MISTRAL_TEST_KERNELS_OF_THE_REST(extern)
MISTRAL_FORMATS(MISTRAL_TEST_READING_ELSEWHERE, MISTRAL_NOTHING)
MISTRAL_TEST_READING_OF_THE_REST(extern)
