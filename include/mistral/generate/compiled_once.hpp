// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The functions that a program can compile in one unit for all, listed by macros for `extern template`. The
/// compiler is quicker by as much in every unit that declares them. The CMake function mistral_add_kernels writes both
/// sides. By hand, a header that all units include before they use a model declares them,
///
///   #include <mistral/generate/compiled_once.hpp>
///   MISTRAL_COMPILED_ONCE(extern)
///   MISTRAL_COMPILED_ONCE_FORMAT(extern, Q4_0)
///   MISTRAL_COMPILED_ONCE_ELEMENT(extern, bf16)
///
/// and one unit, compiled with the same options, defines them: the same lines with nothing in the place of `extern`.
/// They stand outside of all namespaces; names are looked up in the library's.

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/checkpoint/load.hpp>
#include <mistral/core/buffer.hpp>
#include <mistral/core/once.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/panels.hpp>
#include <mistral/generate/continuation.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/io/json/parser.hpp>
#include <mistral/io/packed/packed_file.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/kernels/head_context.hpp>
#include <mistral/kernels/inputs.hpp>
#include <mistral/kernels/matmul.hpp>
#include <mistral/kernels/matmul_backward.hpp>
#include <mistral/kernels/online_softmax.hpp>
#include <mistral/text/tokenizer.hpp>

/// Declares or defines the functions that no model's type changes: files, tokenizers, the choice of tokens.
#define MISTRAL_COMPILED_ONCE(EXTERN)                                                                          \
  namespace mistral { inline namespace MISTRAL_ABI {                                                           \
  EXTERN template JsonDocument detail::JsonParser::document<detail::Once>();                                   \
  EXTERN template void Gguf::read<detail::Once>(std::span<const std::byte>);                                   \
  EXTERN template void Safetensors::read<detail::Once>(std::span<const std::byte>);                            \
  EXTERN template Checkpoint Checkpoint::open_path<detail::Once>(const std::string&);                          \
  EXTERN template Checkpoint detail::open_to_load<detail::Once>(const std::string&, const detail::LoadedType&, \
                                                                const LoadOptions&);                           \
  EXTERN template void detail::CheckpointReader::read<detail::Once>(const std::string&, Buffer<float>&);       \
  EXTERN template Tokenizer Tokenizer::load_from<detail::Once>(const std::string&);                            \
  EXTERN template std::vector<TokenId> Tokenizer::encode_text<detail::Once>(std::string_view) const;           \
  EXTERN template Continuation::Continuation(const Tokenizer*, const GenerateOptions&, std::size_t);           \
  EXTERN template void Continuation::begin<detail::Once>(std::span<const TokenId>, std::span<const TokenId>);  \
  EXTERN template std::optional<TokenId> Continuation::choose<detail::Once>(std::span<float>);                 \
  EXTERN template std::string Continuation::text_of<detail::Once>(TokenId);                                    \
  EXTERN template std::string Continuation::rest<detail::Once>();                                              \
  }}

/// Declares or defines the functions of a weight format: how its matrices are read, and multiplied with activations.
#define MISTRAL_COMPILED_ONCE_FORMAT(EXTERN, ...)    \
  MISTRAL_COMPILED_ONCE_READING(EXTERN, __VA_ARGS__) \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, __VA_ARGS__)

/// The parts of MISTRAL_COMPILED_ONCE_FORMAT.
///@{
#define MISTRAL_COMPILED_ONCE_READING(EXTERN, ...)                                                           \
  namespace mistral { inline namespace MISTRAL_ABI {                                                         \
  EXTERN template PackedLayout packed_layout<__VA_ARGS__>();                                                 \
  EXTERN template void detail::CheckpointReader::read<__VA_ARGS__>(const std::string&, Panels<__VA_ARGS__>&, \
                                                                   std::size_t);                             \
  }}
#define MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, ...)                                                               \
  namespace mistral { inline namespace MISTRAL_ABI {                                                            \
  EXTERN template void kernels::matmul<__VA_ARGS__>(std::span<const kernels::Product<__VA_ARGS__>>,             \
                                                    const kernels::Inputs<__VA_ARGS__>&) noexcept;              \
  EXTERN template void kernels::matmul<__VA_ARGS__>(const PanelsView<__VA_ARGS__>&,                             \
                                                    const kernels::Inputs<__VA_ARGS__>&, Rows<float>) noexcept; \
  }}
///@}

/// Declares or defines the functions of the cache's element: attention over it.
#define MISTRAL_COMPILED_ONCE_ELEMENT(EXTERN, ...)                                                     \
  namespace mistral { inline namespace MISTRAL_ABI {                                                   \
  EXTERN template void kernels::OnlineSoftmax<__VA_ARGS__>::run(const kernels::HeadContext&) noexcept; \
  }}

/// Declares or defines the products of adapters, in float whatever the base's format is.
#define MISTRAL_COMPILED_ONCE_ADAPTERS(EXTERN)                                                       \
  namespace mistral { inline namespace MISTRAL_ABI {                                                 \
  EXTERN template void kernels::matmul_add<F32>(const PanelsView<F32>&, const kernels::Inputs<F32>&, \
                                                Rows<float>) noexcept;                               \
  }}

/// Declares or defines what training adds for a weight format: the product with the transposed matrix.
#define MISTRAL_COMPILED_ONCE_TRANSPOSED(EXTERN, ...)                                                             \
  namespace mistral { inline namespace MISTRAL_ABI {                                                              \
  EXTERN template void kernels::matmul_transposed<__VA_ARGS__>(const PanelsView<__VA_ARGS__>&, Rows<const float>, \
                                                               Rows<float>, kernels::SumFrom) noexcept;           \
  }}
