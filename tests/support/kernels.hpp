// SPDX-License-Identifier: Apache-2.0
#pragma once

// The kernels that the tests' models run, compiled once a build (kernels_of_*.cpp) and not by every test: with a
// tile for each number of rows they take the compiler longer than all else in most tests.
#include <span>

#include <mistral/format/bf16.hpp>
#include <mistral/format/f16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/iq4_nl.hpp>
#include <mistral/format/nf4.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q4_k.hpp>
#include <mistral/format/q6_k.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/kernels/matmul.hpp>
#include <mistral/kernels/matmul_backward.hpp>
#include <mistral/kernels/online_softmax.hpp>

#define MISTRAL_TEST_MATMUL(EXTERN, F)                                                    \
  EXTERN template void matmul<F>(std::span<const Product<F>>, const Inputs<F>&) noexcept; \
  EXTERN template void matmul<F>(const PanelsView<F>&, const Inputs<F>&, Rows<float>) noexcept;
#define MISTRAL_TEST_MATMUL_TRANSPOSED(EXTERN, F) \
  EXTERN template void matmul_transposed<F>(const PanelsView<F>&, Rows<const float>, Rows<float>, SumFrom) noexcept;
#define MISTRAL_TEST_ATTENTION(EXTERN, T) EXTERN template void OnlineSoftmax<T>::run(const HeadContext&) noexcept;

// in two parts, so that two processors share them
#define MISTRAL_TEST_KERNELS_OF_FLOATS(EXTERN)                                                            \
  MISTRAL_TEST_MATMUL(EXTERN, F32)                                                                        \
  MISTRAL_TEST_MATMUL(EXTERN, F16)                                                                        \
  MISTRAL_TEST_MATMUL(EXTERN, BF16)                                                                       \
  MISTRAL_TEST_MATMUL(EXTERN, Exact<BF16>)                                                                \
  MISTRAL_TEST_MATMUL(EXTERN, NF4)                                                                        \
  EXTERN template void matmul_add<F32>(const PanelsView<F32>&, const Inputs<F32>&, Rows<float>) noexcept; \
  MISTRAL_TEST_MATMUL_TRANSPOSED(EXTERN, F32)                                                             \
  MISTRAL_TEST_MATMUL_TRANSPOSED(EXTERN, BF16)                                                            \
  MISTRAL_TEST_MATMUL_TRANSPOSED(EXTERN, Exact<BF16>)                                                     \
  MISTRAL_TEST_MATMUL_TRANSPOSED(EXTERN, NF4)                                                             \
  MISTRAL_TEST_MATMUL_TRANSPOSED(EXTERN, Q4_0)
#define MISTRAL_TEST_KERNELS_OF_BYTES(EXTERN) \
  MISTRAL_TEST_MATMUL(EXTERN, Q8_0)           \
  MISTRAL_TEST_MATMUL(EXTERN, Q6_K)           \
  MISTRAL_TEST_MATMUL(EXTERN, Q4_K)           \
  MISTRAL_TEST_MATMUL(EXTERN, IQ4_NL)         \
  MISTRAL_TEST_MATMUL(EXTERN, Q4_0)           \
  MISTRAL_TEST_ATTENTION(EXTERN, float)       \
  MISTRAL_TEST_ATTENTION(EXTERN, bf16)        \
  MISTRAL_TEST_ATTENTION(EXTERN, q8)

namespace mistral { inline namespace MISTRAL_ABI { namespace kernels {

MISTRAL_TEST_KERNELS_OF_FLOATS(extern)
MISTRAL_TEST_KERNELS_OF_BYTES(extern)

}}}  // namespace mistral::kernels
