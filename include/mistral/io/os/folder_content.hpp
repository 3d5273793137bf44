// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/file_kind.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// `folder/name`
inline std::string path_in(const std::string& folder, std::string_view name) {
  std::string path = folder;
  if (!path.empty() && path.back() != '/') path += '/';
  return path.append(name);
}

/// Whether something stands at that path, whatever it is.
inline bool path_exists(const std::string& path) {
  struct ::stat status = {};
  return ::stat(path.c_str(), &status) == 0;
}

/// Whether a folder stands at that path.
inline bool is_folder(const std::string& path) {
  struct ::stat status = {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// Whether a regular file stands at that path: no folder, no pipe, no device.
inline bool is_regular_file(const std::string& path) {
  struct ::stat status = {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

/// Whether the file at `path` has no bytes.
inline bool file_is_empty(const std::string& path) {
  struct ::stat status = {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0;
}

/// The names of what a folder holds, sorted; none where it can't be read. At most 10,000.
inline std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  ::DIR* const directory = ::opendir(folder.c_str());
  if (directory == nullptr) return names;
  while (const ::dirent* const entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.' && names.size() < 10'000) names.emplace_back(entry->d_name);
  }
  ::closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

/// The kind of the regular file at `path`; none where it tells nothing, or can't be read.
inline std::optional<FileKind> file_kind_at(const std::string& path) noexcept {
  // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return std::nullopt;
  std::byte bytes[512];
  const auto count = ::read(file, bytes, sizeof bytes);
  ::close(file);
  if (count <= 0) return std::nullopt;
  return file_kind(std::span<const std::byte>(bytes, static_cast<std::size_t>(count)));
}

/// Whether a path at which nothing stands reads as the name of a model or a data set on a hub:
/// `mistralai/Mistral-7B-v0.1`, whose first part is no folder here.
inline bool is_hub_name(const std::string& path) {
  const std::size_t slash = path.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == path.size()) return false;
  if (path.find('/', slash + 1) != std::string::npos || path.starts_with('.') || path.starts_with('~')) return false;
  for (const std::string_view ending : {".gguf", ".json", ".jsonl", ".model", ".safetensors", ".txt", ".mistral"}) {
    if (path.ends_with(ending)) return false;
  }
  const bool named = std::all_of(path.begin(), path.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-_./").find(c) != std::string_view::npos;
  });
  return named && !path_exists(path) && !path_exists(path.substr(0, slash));
}

/// Returns what is to be done about a path that reads as a hub's name; empty for any other.
inline std::string hub_remedy(const std::string& path) {
  if (!is_hub_name(path)) return {};
  return "download it first (`hf download " + printable(path, 200) + " --local-dir FOLDER`) and give the folder";
}

}}  // namespace mistral
