// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A model that is compiled to a shared library: the symbols that such a library shows, which are that of CompiledModel
/// and the functions of mistral/c.h, and the macro that defines them. `mistral compile` writes the page of C++ that
/// uses it; a page by hand is three lines:
///
///     #include <mistral/run/compiled_model.hpp>
///     using Model = mistral::Transformer<mistral::mistral_7b_v0_1, mistral::Q4_0>;
///     MISTRAL_COMPILED_MODEL(Model, mistral::bf16, mistral::Purpose::inference)
///
/// The library and the program that opens it must be compiled from the same headers, for the interface between them is
/// C++: CompiledModel says which. Their instruction sets may differ where both are given one MISTRAL_ABI, since all
/// else that a library holds is hidden (-fvisibility=hidden).

#include <mistral/core/abi.hpp>
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
#include <mistral/nn/transformer.hpp>
#include <mistral/run/compiled_entry.hpp>
#include <mistral/run/model_type.hpp>
#include <mistral/simd/cpu.hpp>

// Of the headers that a library is compiled from: a text that changes with each of their bytes. `mistral compile` gives
// it.
#ifndef MISTRAL_HEADERS
#define MISTRAL_HEADERS ""
#endif

// A page is compiled as a whole, or as two halves that two processors share (MISTRAL_HALF is 1 and 2): the second
// instantiates the kernels of its format and what SecondHalf has.
#ifndef MISTRAL_HALF
#define MISTRAL_HALF 0
#endif

// Whether the library shows the functions of mistral/c.h. A tokenizer with its files is among what they need, and adds
// a fifth to the time that a model takes to compile: the tool leaves them out of models that it compiles for itself.
// They are in the first half, which reads the same files, and which the tool optimizes less.
#ifndef MISTRAL_SHOWS_C
#define MISTRAL_SHOWS_C 1
#endif
#if MISTRAL_SHOWS_C && MISTRAL_HALF != 2
#include <mistral/run/c_interface.hpp>
#else
#define MISTRAL_C_INTERFACE
#endif

#define MISTRAL_HALF_OF_MODEL(EXTERN, MODEL, KV, PURPOSE)                            \
  MISTRAL_COMPILED_ONCE_MATMUL(EXTERN, mistral::detail::MatrixFormat<MODEL::Format>) \
  MISTRAL_COMPILED_ONCE_ELEMENT(EXTERN, KV)                                          \
  EXTERN template struct mistral::detail::SecondHalf<MODEL, KV, PURPOSE>;

#define MISTRAL_ENTRY_OF_MODEL(MODEL, KV, PURPOSE)                                               \
  extern "C" [[gnu::visibility("default")]] const mistral::CompiledModel mistral_compiled_model; \
  constinit const mistral::CompiledModel mistral_compiled_model{                                 \
      "MISTLIB",                                                                                 \
      MISTRAL_VERSION_TEXT,                                                                      \
      MISTRAL_TEXT(MISTRAL_ABI),                                                                 \
      MISTRAL_HEADERS,                                                                           \
      mistral::simd::compiled_features(),                                                        \
      []() -> const mistral::AnyModelType& {                                                     \
        static const mistral::ModelTypeOf<MODEL, KV, PURPOSE> type;                              \
        return type;                                                                             \
      }};                                                                                        \
  MISTRAL_C_INTERFACE

/// Defines what a compiled library shows. `MODEL` is a Transformer, `KV` the elements of its cache, `PURPOSE` a
/// Purpose.
#if MISTRAL_HALF == 2
#define MISTRAL_COMPILED_MODEL(MODEL, KV, PURPOSE) MISTRAL_HALF_OF_MODEL(, MODEL, KV, PURPOSE)
#elif MISTRAL_HALF == 1
#define MISTRAL_COMPILED_MODEL(MODEL, KV, PURPOSE)  \
  MISTRAL_HALF_OF_MODEL(extern, MODEL, KV, PURPOSE) \
  MISTRAL_ENTRY_OF_MODEL(MODEL, KV, PURPOSE)
#else
#define MISTRAL_COMPILED_MODEL(MODEL, KV, PURPOSE) MISTRAL_ENTRY_OF_MODEL(MODEL, KV, PURPOSE)
#endif
