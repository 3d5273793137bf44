// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <mistral/run/any_model.hpp>
#include <mistral/run/page.hpp>

/// \file
/// Types of models that are compiled when they are first needed, and kept in a folder of the user's.

namespace mistral::tool {

/// The folder that compiled models are kept in: $MISTRAL_CACHE, else mistral in $XDG_CACHE_HOME, else .cache/mistral in
/// $HOME. Throws Error where none of them is set.
std::string cache_folder();

/// Returns the type of a choice, which the compiler that built this program compiles, or the one that $MISTRAL_CXX
/// names: from the cache folder, where it is put first when it isn't there, with a word about the time that this takes.
/// Throws Error `[compile] ...` in one line where there is no compiler, where it fails, and where the folder can't be
/// used.
const AnyModelType& compiled_type(const ModelChoice& choice);

/// Compiles a choice to a file, which appears whole or not at all. Throws Error as compiled_type does.
void compile_to(const ModelChoice& choice, const std::string& out);

/// A model in the cache folder.
struct CachedModel {
  std::string path;
  std::string description;  // what describe() says of it
  std::size_t bytes = 0;
};

/// Lists the models in the cache folder, in the order of their names.
std::vector<CachedModel> cached_models();

/// Empties the cache folder of what this program puts there. Returns the number of models that went.
std::size_t clear_cached_models();

}  // namespace mistral::tool
