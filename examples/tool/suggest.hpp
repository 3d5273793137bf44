// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

/// \file
/// What somebody probably meant whose word isn't there.

namespace mistral::tool {

/// The candidates that a word was probably meant to be, all as near: those that differ in a letter or two, or that it
/// is a part of. None where none does, or more than three.
std::vector<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

/// `; did you mean --model?`, or nothing.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace mistral::tool
