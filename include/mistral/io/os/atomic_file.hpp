// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/os/temporaries.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A file that appears whole or not at all: the bytes go to a temporary file in the target's folder, and commit() puts
/// it in the target's place once they are on the disk. Until then, and after any failure, whatever stood at the target
/// stands there still, and the temporary file goes with this object. A link is followed: its target is replaced; it is
/// an error where that isn't there. What a writer that was killed has left of the same target is taken away.
///
/// A target that is no regular file (a pipe, a device), or somebody's open file (/dev/stdout), is written to directly.
class AtomicFile {
 public:
  /// Opens `path` for writing. Every Error of this object reads `[where] path: cannot write: <reason>`.
  AtomicFile(std::string path, std::string_view where) : path_(std::move(path)), where_(where) {
    if (path_.find('\0') != std::string::npos) fail("a path holds no zero byte");
    target_ = path_;
    struct ::stat status = {};
    const bool exists = ::stat(path_.c_str(), &status) == 0;
    if (!exists) refuse_dangling_link(errno);
    if (exists && S_ISDIR(status.st_mode)) fail(EISDIR);
    if (exists && (!S_ISREG(status.st_mode) || names_open_file())) {
      descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
      if (descriptor_ < 0) fail(errno);
      return;
    }
    if (exists) resolve_links();
    remove_stale_temporaries(target_);
    // O_EXCL: never through a link that somebody else has put there, never over another writer's file
    for (unsigned attempt = 0; descriptor_ < 0; ++attempt) {
      temporary_ =
          target_ + std::string(detail::temporary_mark) + std::to_string(::getpid()) + "-" + std::to_string(attempt);
      descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (descriptor_ < 0 && (errno != EEXIST || attempt == 1000)) {
        temporary_.clear();  // not ours to remove
        fail(errno);
      }
      // somebody who clears away what killed writers left may have been faster than the lock
      if (descriptor_ >= 0 && !detail::lock_temporary(descriptor_, temporary_)) ::close(std::exchange(descriptor_, -1));
    }
    if (exists && ::fchmod(descriptor_, status.st_mode & 07777) != 0) fail(errno);
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() { discard(); }

  /// Appends bytes. Small pieces are gathered, so a failure may show in a later call.
  void write(std::span<const std::byte> bytes) {
    write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  void write(std::string_view bytes) {
    if (pending_.size() + bytes.size() < gathered) {
      pending_.append(bytes);
    } else {
      flush();
      put(bytes);
    }
  }

  /// Brings everything to the disk, so that commit() needs no more room there: for files that are to appear together,
  /// each of which is finished before the first is committed. Nothing may be written from then on.
  void finish() {
    if (finished_) return;
    flush();
    if (descriptor_ < 0) fail(not_open);
    if (!temporary_.empty()) {
      if (::fsync(descriptor_) != 0) fail(errno);
      lock_ = ::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);  // it holds the lock until the file has its name
      if (lock_ < 0) fail(errno);
    }
    if (::close(std::exchange(descriptor_, -1)) != 0) fail(errno);
    finished_ = true;
  }

  /// Brings everything to the disk, puts the file in its place, and brings the folder to the disk too. To be called
  /// once, at the end.
  void commit() {
    finish();
    if (committed_) fail(not_open);
    if (!temporary_.empty()) {
      if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
      temporary_.clear();
      // The file is whole and in its place, or after a loss of power the old one: there is no failure to speak of.
      detail::sync_folder_of(target_);
    }
    committed_ = true;
    discard();
  }

 private:
  static constexpr std::size_t gathered = std::size_t{1} << 18;
  static constexpr std::string_view not_open = "an earlier write failed, or it is written already";

  void flush() {
    put(pending_);
    pending_.clear();
  }

  void put(std::string_view bytes) {
    if (!bytes.empty() && descriptor_ < 0) fail(not_open);
    while (!bytes.empty()) {
      const auto written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(errno);
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }

  bool names_open_file() const {
    return path_.starts_with("/dev/std") || path_.starts_with("/dev/fd/") || path_.starts_with("/proc/");
  }

  // To follow such a link would be to guess what it is for; to replace it would be to lose it.
  void refuse_dangling_link(int reason) {
    struct ::stat link = {};
    if (::lstat(path_.c_str(), &link) != 0 || !S_ISLNK(link.st_mode)) return;
    if (reason != ENOENT) fail(reason);
    fail("it is a link to a file that isn't there");
  }

  void resolve_links() {
    char* const resolved = ::realpath(path_.c_str(), nullptr);
    if (resolved == nullptr) fail(errno);
    target_ = resolved;
    ::free(resolved);
  }

  void discard() noexcept {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());  // while the lock says that the name is ours
    temporary_.clear();
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
    if (lock_ >= 0) ::close(std::exchange(lock_, -1));
  }

  [[noreturn]] void fail(int code) { fail(std::generic_category().message(code)); }
  [[noreturn]] void fail(std::string_view reason) {
    discard();
    throw Error(where_, printable(path_, 1000).append(": cannot write: ").append(reason));
  }

  std::string path_;
  std::string where_;
  std::string target_;
  std::string temporary_;  // empty: the target is written directly
  std::string pending_;
  int descriptor_ = -1;
  int lock_ = -1;
  bool finished_ = false;
  bool committed_ = false;
};

}}  // namespace mistral
