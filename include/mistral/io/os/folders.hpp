// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/os/temporaries.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Makes a folder, in one that is there, unless it is there already; says whether it did. Throws Error
/// `[where] folder: cannot create: <reason>`, also where something else has that name.
inline bool make_folder(const std::string& folder, std::string_view where) {
  const auto fail = [&](std::string_view reason) {
    return Error(where, printable(folder, 1000).append(": cannot create: ").append(reason));
  };
  if (folder.find('\0') != std::string::npos) throw fail("a path holds no zero byte");
  if (::mkdir(folder.c_str(), 0777) == 0) {
    std::string path = folder;
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    detail::sync_folder_of(path);
    return true;
  }
  const int reason = errno;
  if (reason != EEXIST) throw fail(std::generic_category().message(reason));
  struct ::stat status = {};
  if (::stat(folder.c_str(), &status) != 0) throw fail("it is a link to a folder that isn't there");
  if (!S_ISDIR(status.st_mode)) throw fail(std::generic_category().message(ENOTDIR));
  return false;
}

/// A folder that files are put into. Where this object made it and keep() isn't called, it goes again with the files
/// that file() has named, unless there are others: a folder that could only be filled in part is no use to anybody.
class FolderToFill {
 public:
  /// Makes the folder unless it is there; see make_folder.
  FolderToFill(std::string folder, std::string_view where)
      : folder_(std::move(folder)), made_(make_folder(folder_, where)) {}
  FolderToFill(const FolderToFill&) = delete;
  FolderToFill& operator=(const FolderToFill&) = delete;
  ~FolderToFill() {
    if (!made_) return;
    for (const std::string& file : files_) (void)::unlink(file.c_str());
    (void)::rmdir(folder_.c_str());  // which fails where something is in it
  }

  /// The path of a file that is to be put into it.
  std::string file(std::string_view name) {
    std::string path = folder_;
    if (!path.ends_with('/')) path += '/';
    path += name;
    if (made_) files_.push_back(path);
    return path;
  }

  /// All is in it that should be.
  void keep() noexcept { made_ = false; }

 private:
  std::string folder_;
  bool made_;
  std::vector<std::string> files_;
};

/// While it lives, nobody else has such a lock on the folder: who writes files that belong together there is alone. It
/// leaves no file behind, and goes with the process however that ends. Where the file system has no locks of folders,
/// as over NFS, it holds nobody off.
class FolderLock {
 public:
  /// Throws Error `[where] folder: expected ..., got ...` where somebody else has it, and where there is no such
  /// folder.
  FolderLock(const std::string& folder, std::string_view where)
      : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (descriptor_ < 0) {
      throw Error(where, printable(folder, 1000).append(": cannot open: ") + std::generic_category().message(errno));
    }
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    ::close(descriptor_);
    throw Error(where, printable(folder, 1000), "a folder that no other run writes to",
                "one that another writes to now");
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() { ::close(descriptor_); }

 private:
  int descriptor_;
};

}}  // namespace mistral
