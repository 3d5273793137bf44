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
#include <mistral/format/formats.hpp>
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

// Whether a page is compiled with all that it needs (0), or leaves what no config changes to other objects (1): the
// pages of run/page.hpp that are compiled once for many models.
#ifndef MISTRAL_PARTS_ELSEWHERE
#define MISTRAL_PARTS_ELSEWHERE 0
#endif

// The functions of mistral/c.h, which a library shows.
#if MISTRAL_PARTS_ELSEWHERE
#define MISTRAL_C_INTERFACE
#else
#include <mistral/run/c_interface.hpp>
#endif

#define MISTRAL_ENTRY_OF_MODEL(MODEL, KV, PURPOSE)                                               \
  extern "C" [[gnu::visibility("default")]] const mistral::CompiledModel mistral_compiled_model; \
  constinit const mistral::CompiledModel mistral_compiled_model{                                 \
      "MISTLIB",                                                                                 \
      MISTRAL_VERSION_TEXT,                                                                      \
      MISTRAL_TEXT(MISTRAL_ABI),                                                                 \
      MISTRAL_HEADERS,                                                                           \
      mistral::simd::compiled_features(),                                                        \
      []() -> const mistral::AnyModelType& { return mistral::model_type<MODEL, KV, PURPOSE>; }}; \
  MISTRAL_C_INTERFACE

/// Defines what a compiled library shows. `MODEL` is a Transformer, `KV` the elements of its cache, `PURPOSE` a
/// Purpose.
#if MISTRAL_PARTS_ELSEWHERE
#define MISTRAL_COMPILED_MODEL(MODEL, KV, PURPOSE)                                       \
  MISTRAL_COMPILED_ONCE(extern)                                                          \
  MISTRAL_COMPILED_ONCE_FORMAT(extern, mistral::detail::MatrixFormat<MODEL::Format>)     \
  MISTRAL_COMPILED_ONCE_ELEMENT(extern, KV)                                              \
  MISTRAL_COMPILED_ONCE_ADAPTERS(extern)                                                 \
  MISTRAL_COMPILED_ONCE_TRANSPOSED(extern, mistral::detail::MatrixFormat<MODEL::Format>) \
  MISTRAL_ENTRY_OF_MODEL(MODEL, KV, PURPOSE)
#else
#define MISTRAL_COMPILED_MODEL(MODEL, KV, PURPOSE) MISTRAL_ENTRY_OF_MODEL(MODEL, KV, PURPOSE)
#endif
