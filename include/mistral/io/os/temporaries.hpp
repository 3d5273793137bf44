// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

// A temporary file is called TARGET.tmp-PROCESS-NUMBER, and its writer holds a lock on it (flock). The lock says
// whether there still is a writer, the process's number doesn't: of a container or of a host that shares the folder, it
// is another process here, or none.

namespace detail {

inline constexpr std::string_view temporary_mark = ".tmp-";

/// The folder that a path lies in, with a slash at its end where it isn't `.`.
inline std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

/// Brings a folder's list of files to the disk, where the system can: after a rename, what a loss of power leaves is
/// the new file. Where it fails, there is nothing left to be done about it.
inline void sync_folder_of(const std::string& path) {
  const int folder = ::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  (void)::fsync(folder);
  ::close(folder);
}

/// Whether an open file is the one of that name.
inline bool is_named(int file, const char* path) noexcept {
  struct ::stat opened = {}, named = {};
  return ::fstat(file, &opened) == 0 && ::lstat(path, &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

/// Locks a temporary file that was just made. False where somebody has it already, or has taken it away.
inline bool lock_temporary(int file, const std::string& path) noexcept {
  // a file system without locks has no writers that could be told from killed ones, and none is taken away there
  if (::flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return false;
  return is_named(file, path.c_str());
}

/// Whether `name` ends as the temporary files do that come after `.tmp-`: two numbers with `-` between them.
constexpr bool ends_as_temporary(std::string_view end) noexcept {
  const std::size_t dash = end.find('-');
  const auto is_number = [](std::string_view digits) {
    return !digits.empty() && digits.find_first_not_of("0123456789") == std::string_view::npos;
  };
  return dash != std::string_view::npos && is_number(end.substr(0, dash)) && is_number(end.substr(dash + 1));
}

}  // namespace detail

/// Removes the temporary files that writers of `path` left behind when they were killed: those that nobody has locked.
/// A file of a live writer stays, whatever container or host it runs in, where the file system's locks reach.
inline void remove_stale_temporaries(const std::string& path) {
  const std::string folder = detail::folder_of(path);
  const std::string start = path.substr(path.rfind('/') + 1) + std::string(detail::temporary_mark);  // npos + 1 is 0
  ::DIR* const entries = ::opendir(folder.c_str());
  if (entries == nullptr) return;
  while (const ::dirent* const entry = ::readdir(entries)) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(start) || !detail::ends_as_temporary(name.substr(start.size()))) continue;
    constexpr int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int file = ::openat(::dirfd(entries), entry->d_name, O_WRONLY | flags);  // which locks over a network want
    if (file < 0 && errno == EACCES) file = ::openat(::dirfd(entries), entry->d_name, O_RDONLY | flags);
    if (file < 0) continue;
    struct ::stat opened = {}, named = {};
    if (::flock(file, LOCK_EX | LOCK_NB) == 0 && ::fstat(file, &opened) == 0 && S_ISREG(opened.st_mode) &&
        ::fstatat(::dirfd(entries), entry->d_name, &named, AT_SYMLINK_NOFOLLOW) == 0 && opened.st_dev == named.st_dev &&
        opened.st_ino == named.st_ino) {
      ::unlinkat(::dirfd(entries), entry->d_name, 0);
    }
    ::close(file);
  }
  ::closedir(entries);
}

/// Removes the temporary files that this process is writing: for the handler of a signal that ends it, in which no
/// destructor runs. Takes no memory and no lock, and keeps nothing: the system says which files are open (Linux, macOS;
/// elsewhere it does nothing).
inline void remove_own_temporaries() noexcept {
  const auto append_number = [](char* to, unsigned long number) {
    char digits[24];
    std::size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0);
    while (count > 0) *to++ = digits[--count];
    return to;
  };
  char own[40] = {};  // ".tmp-1234-"
  char* end = std::copy(detail::temporary_mark.begin(), detail::temporary_mark.end(), own);
  end = append_number(end, static_cast<unsigned long>(::getpid()));
  *end++ = '-';
  const std::string_view mark(own, static_cast<std::size_t>(end - own));

  const long limit = ::sysconf(_SC_OPEN_MAX);
  const int files = static_cast<int>(limit < 0 ? 1024 : (std::min)(limit, 65536L));
  for (int file = 0; file < files; ++file) {
    char path[PATH_MAX + 1];
#if defined(F_GETPATH)
    if (::fcntl(file, F_GETPATH, path) != 0) continue;
    const std::string_view name(path);
#elif defined(__linux__)
    char link[40] = "/proc/self/fd/";
    *append_number(link + 14, static_cast<unsigned long>(file)) = '\0';
    const auto size = ::readlink(link, path, PATH_MAX);
    if (size <= 0 || size == PATH_MAX) continue;
    path[size] = '\0';
    const std::string_view name(path, static_cast<std::size_t>(size));
#else
    path[0] = '\0';
    const std::string_view name(path, 0);
#endif
    const std::size_t at = name.rfind(mark);
    if (at == std::string_view::npos || !detail::ends_as_temporary(name.substr(at + detail::temporary_mark.size()))) {
      continue;
    }
    if (detail::is_named(file, path)) ::unlink(path);
  }
}

}}  // namespace mistral
