// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Throws Error `[where] path: expected ..., got ...` unless the file at `path` is a regular one that belongs to the
/// user or to the system's administrator, and that nobody else may write: code that is run as the user's own.
inline void check_trusted_file(const std::string& path, std::string_view where) {
  const std::string name = printable(path, 1000);
  struct ::stat status = {};
  if (::stat(path.c_str(), &status) != 0) {
    throw Error(where, name + ": cannot open: " + std::generic_category().message(errno));
  }
  if (!S_ISREG(status.st_mode)) throw Error(where, name, "a file", "a folder, a pipe or a device");
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    throw Error(where, name, "a file of your own (user " + std::to_string(::geteuid()) + ")",
                "one of user " + std::to_string(status.st_uid));
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    throw Error(where, name + ": take away others' right to write it (chmod go-w)", "a file that you alone may write",
                "one that others may write too");
  }
}

/// Opens a shared library, whose symbols stay its own, for as long as the process lives. Throws Error as
/// check_trusted_file does, and where the system can't open it.
inline void* open_shared_library(const std::string& path, std::string_view where) {
  check_trusted_file(path, where);
  // a name without a slash would be searched in the system's folders
  const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
  void* const library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) return library;
  const char* const reason = ::dlerror();
  throw Error(where, printable(path, 1000) + ": cannot open: " +
                         printable(reason != nullptr ? reason : "the system doesn't say why", 1000));
}

/// Returns the address of what a library calls by that name; null where there is none.
inline const void* symbol_in(void* library, const char* name) { return ::dlsym(library, name); }

}}  // namespace mistral
