// SPDX-License-Identifier: Apache-2.0
#pragma once

// The formats of the library that have something in common, as tuples for TEST_CASE_TEMPLATE_APPLY: a format that is
// added to the list is tested with the others.
#include <tuple>
#include <type_traits>
#include <utility>

#include <mistral/format/formats.hpp>

namespace mistral::test {

namespace detail {

template <bool kept, class F>
using Kept = std::conditional_t<kept, std::tuple<F>, std::tuple<>>;

template <class... Fs>
using FileFormats = decltype(std::tuple_cat(std::declval<Kept<FileFormat<Fs>, Fs>>()...));
template <class... Fs>
using IntegerFormats = decltype(std::tuple_cat(std::declval<Kept<IntegerFormat<Fs>, Fs>>()...));
template <class... Fs>
using FloatFormats = std::tuple<std::conditional_t<IntegerFormat<Fs>, Exact<Fs>, Fs>...>;

}  // namespace detail

// All formats.
using AllFormats = WithAllFormats<std::tuple>;

// Those that keep the blocks of GGUF files.
using FileFormats = WithAllFormats<detail::FileFormats>;

// Those that are multiplied as integers.
using IntegerFormats = WithAllFormats<detail::IntegerFormats>;

// All formats as they are multiplied in floats.
using FloatFormats = WithAllFormats<detail::FloatFormats>;

}  // namespace mistral::test
