// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The one list of the library's weight formats, as a macro, since neither a message of static_assert nor an explicit
/// instantiation can be made of a list of types. Whatever is there for every format expands it: format/formats.hpp (the
/// types, the names, visiting), the message of CheckedFormat, tests, and what compiles kernels.

#include <mistral/core/abi.hpp>

/// Expands to X(format) for each weight format, with SEPARATOR() between any two: from the most bits a weight to the
/// fewest, those that GGUF files have before those that they don't have.
// clang-format off
#define MISTRAL_FORMATS(X, SEPARATOR) \
  X(F32) SEPARATOR() X(F16) SEPARATOR() X(BF16) SEPARATOR() \
  X(Q8_0) SEPARATOR() X(Q6_K) SEPARATOR() X(Q4_K) SEPARATOR() X(IQ4_NL) SEPARATOR() X(Q4_0) SEPARATOR() X(NF4)
// clang-format on

/// A separator of two formats: a comma, a comma in a literal, or nothing.
///@{
#define MISTRAL_COMMA() ,
#define MISTRAL_COMMA_TEXT() ", "
#define MISTRAL_NOTHING()
///@}

/// Expands to the format itself, or to its name as a literal.
///@{
#define MISTRAL_FORMAT_ITSELF(F) F
#define MISTRAL_FORMAT_NAME(F) #F
///@}

/// `F32, F16, ...`: all formats, as arguments of a template.
#define MISTRAL_ALL_FORMATS MISTRAL_FORMATS(MISTRAL_FORMAT_ITSELF, MISTRAL_COMMA)

/// "F32, F16, ...": the names of all formats, as a literal.
#define MISTRAL_FORMAT_NAMES MISTRAL_FORMATS(MISTRAL_FORMAT_NAME, MISTRAL_COMMA_TEXT)
