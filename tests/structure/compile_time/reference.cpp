// SPDX-License-Identifier: Apache-2.0
#include <regex>
#include <string>

#include <tbb/parallel_for.h>
#include <xsimd/xsimd.hpp>

// What a compiler does with the headers that ours stand on, and with templates that aren't ours.
bool found(const std::string& text) { return std::regex_search(text, std::regex("a+b")); }
