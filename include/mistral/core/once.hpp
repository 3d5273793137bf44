// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The argument of functions that depend on no type, and are templates all the same. A template's definition stands in
/// a header, and yet a program can compile it in one unit for all, by `extern template`: an inline function has no such
/// way. They stand where much code begins that is the same for every model, such as the reading of files;
/// generate/compiled_once.hpp lists them.
struct Once;

}}}  // namespace mistral::detail
