// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the tests' models run, compiled once a build (kernels_of_*.cpp, reading.cpp) and not by every test: with a tile
// for each number of rows the kernels, and the reading of files, take the compiler longer than all else in most tests.
#include <mistral/format/bf16.hpp>
#include <mistral/format/f16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/iq4_nl.hpp>
#include <mistral/format/nf4.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q4_k.hpp>
#include <mistral/format/q6_k.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/generate/compiled_once.hpp>

// the kernels, in parts, so that processors share them
#define MISTRAL_TEST_KERNELS_OF_FLOATS(EXTERN)          \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, F32)             \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, F16)             \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, BF16)            \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, Exact<BF16>)     \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, NF4)             \
  MISTRAL_COMPILED_ONCE_ADAPTERS(EXTERN)                \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, F32)         \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, BF16)        \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, Exact<BF16>) \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, NF4)         \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, Q4_0)
#define MISTRAL_TEST_KERNELS_OF_BYTES(EXTERN)  \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, Q8_0)   \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, Q6_K)   \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, Q4_K)   \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, IQ4_NL) \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, Q4_0)   \
  MISTRAL_COMPILED_ONCE_ELEMENT(EXTERN, float) \
  MISTRAL_COMPILED_ONCE_ELEMENT(EXTERN, bf16)  \
  MISTRAL_COMPILED_ONCE_ELEMENT(EXTERN, q8)

// what tests' models are read by, and more that isn't kernels
#define MISTRAL_TEST_READING(EXTERN)                 \
  MISTRAL_COMPILED_ONCE(EXTERN)                      \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, F32)         \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, F16)         \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, BF16)        \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, Exact<BF16>) \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, NF4)         \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, Q8_0)        \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, Q6_K)        \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, Q4_K)        \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, IQ4_NL)      \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, Q4_0)

MISTRAL_TEST_KERNELS_OF_FLOATS(extern)
MISTRAL_TEST_KERNELS_OF_BYTES(extern)
MISTRAL_TEST_READING(extern)
