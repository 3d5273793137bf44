// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Ends a compilation that can't succeed with one line, before it comes to anything else of the library: core/abi.hpp,
/// which all other headers begin with, includes this first.
///
/// g++ and clang++ go on after an `#error`, to thousands of lines that don't say what is wrong, or, where our headers
/// are the system's, to a program that ends at its first exception. At an `#include` of what isn't there they stop, so
/// that for these two the message is a header's name. Other compilers stop at an `#error`.

#if __cplusplus < 202002L && (!defined(_MSVC_LANG) || _MSVC_LANG < 202002L)
#if defined(__GNUC__) || defined(__clang__)
#include <mistral needs C++20: compile with -std=c++20 or newer>  // an #error that ends the compilation
#else
#error "mistral needs C++20: compile with /std:c++20 or newer"
#endif
#elif !defined(__cpp_exceptions) && !defined(__EXCEPTIONS) && !defined(_CPPUNWIND)
#if defined(__GNUC__) || defined(__clang__)
#include <mistral needs exceptions: compile without -fno-exceptions>  // an #error that ends the compilation
#else
#error "mistral needs exceptions: compile with /EHsc"
#endif
#endif
