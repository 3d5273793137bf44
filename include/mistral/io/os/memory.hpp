// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// The start of a small file of the system's, empty where it cannot be read.
inline std::string system_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  std::string text(std::size_t{1} << 16, '\0');
  const auto count = ::read(file, text.data(), text.size());
  ::close(file);
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

/// The number behind `key` at the start of a line of `text`; an empty key is the text's own start.
inline std::optional<std::uint64_t> number_after(std::string_view text, std::string_view key) {
  for (std::size_t line = 0; line < text.size(); line = (std::min)(text.find('\n', line), text.size()) + 1) {
    std::string_view rest = text.substr(line);
    if (!rest.starts_with(key)) continue;
    rest.remove_prefix((std::min)(rest.find_first_not_of(" \t", key.size()), rest.size()));
    if (rest.empty() || rest[0] < '0' || rest[0] > '9') return std::nullopt;
    std::uint64_t number = 0;
    for (; !rest.empty() && rest[0] >= '0' && rest[0] <= '9'; rest.remove_prefix(1)) {
      const auto digit = static_cast<std::uint64_t>(rest[0] - '0');
      if (number > ((std::numeric_limits<std::uint64_t>::max)() - digit) / 10) return std::nullopt;
      number = number * 10 + digit;
    }
    return number;
  }
  return std::nullopt;
}

/// Returns the bytes that a group of processes may still take: its limit less what it uses, save for the pages of
/// files, which give way.
inline std::optional<std::uint64_t> group_memory(const std::string& folder, std::string_view limit_file,
                                                 std::string_view usage_file) {
  const auto limit = number_after(system_file(std::string(folder).append(limit_file)), "");
  const auto usage = number_after(system_file(std::string(folder).append(usage_file)), "");
  if (!limit || !usage) return std::nullopt;  // "max" is no limit
  const std::string statistics = system_file(folder + "/memory.stat");
  const std::uint64_t files =
      number_after(statistics, "inactive_file ").value_or(0) + number_after(statistics, "active_file ").value_or(0);
  const std::uint64_t used = *usage - (std::min)(*usage, files);
  return *limit - (std::min)(*limit, used);
}

}  // namespace detail

/// Bytes of memory that the process can take without anything being swapped out, by Linux's estimate (MemAvailable of
/// /proc/meminfo) and the limits of its control groups (memory.max, or version 1's memory.limit_in_bytes). None where
/// the system doesn't say.
///   root  where the system's files are looked for, for tests
inline std::optional<std::uint64_t> available_memory(const std::string& root = "") {
  std::optional<std::uint64_t> least;
  const auto take = [&](std::optional<std::uint64_t> bytes) {
    if (bytes && (!least || *bytes < *least)) least = bytes;
  };
  const auto kilobytes = detail::number_after(detail::system_file(root + "/proc/meminfo"), "MemAvailable:");
  if (kilobytes) take(*kilobytes * 1024);

  // lines of number:controllers:path; version 2 names no controllers. A container may show its own group as the root.
  const std::string groups = detail::system_file(root + "/proc/self/cgroup");
  for (std::size_t line = 0; line < groups.size(); line = (std::min)(groups.find('\n', line), groups.size()) + 1) {
    const std::string_view entry = std::string_view(groups).substr(line, groups.find('\n', line) - line);
    const std::size_t first = entry.find(':');
    const std::size_t second = entry.find(':', (std::min)(first, entry.size() - 1) + 1);
    if (second >= entry.size()) continue;
    const std::string_view controllers = entry.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && controllers.find("memory") == std::string_view::npos) continue;
    const std::string mount = root + (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    // the limits of all that the group lies in hold too
    for (std::string path(entry.substr(second + 1));; path.resize(path.rfind('/'))) {
      const std::string folder = mount + (path == "/" ? "" : path);
      take(unified ? detail::group_memory(folder, "/memory.max", "/memory.current")
                   : detail::group_memory(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes"));
      if (path.find('/') == std::string::npos) break;
    }
  }
  return least;
}

}}  // namespace mistral
