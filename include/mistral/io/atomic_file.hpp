#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/io/printable.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Makes a folder, in one that is there, unless it is there already. Throws Error `[where] folder: cannot create:
/// <reason>`.
inline void make_folder(const std::string& folder, std::string_view where) {
  if (::mkdir(folder.c_str(), 0777) == 0 || errno == EEXIST) return;
  throw Error(where, printable(folder, 1000) + ": cannot create: " + std::generic_category().message(errno));
}

/// A file that appears whole or not at all: the bytes go to a temporary file in the target's folder, and commit() puts
/// it in the target's place once they are on the disk. Until then, and after any failure, whatever stood at the target
/// stands there still, and the temporary file goes with this object. A link is followed: its target is replaced.
///
/// What is no regular file (a pipe, a device), or somebody's open file (/dev/stdout), is written to directly.
class AtomicFile {
 public:
  /// Opens `path` for writing. Every Error of this object reads `[where] path: cannot write: <reason>`.
  AtomicFile(std::string path, std::string_view where) : path_(std::move(path)), where_(where) {
    if (path_.find('\0') != std::string::npos) fail("a path holds no zero byte");
    target_ = path_;
    struct ::stat status = {};
    const bool exists = ::stat(path_.c_str(), &status) == 0;
    if (exists && S_ISDIR(status.st_mode)) fail(EISDIR);
    if (exists && (!S_ISREG(status.st_mode) || names_open_file())) {
      descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
      if (descriptor_ < 0) fail(errno);
      return;
    }
    if (exists) resolve_links();
    // O_EXCL: never through a link that somebody else has put there, never over another writer's file
    for (unsigned attempt = 0; descriptor_ < 0; ++attempt) {
      temporary_ = target_ + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
      descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (descriptor_ < 0 && (errno != EEXIST || attempt == 1000)) {
        temporary_.clear();  // not ours to remove
        fail(errno);
      }
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

  /// Brings everything to the disk and puts the file in its place. To be called once, at the end.
  void commit() {
    flush();
    if (descriptor_ < 0) fail("an earlier write failed, or it is written already");
    if (!temporary_.empty() && ::fsync(descriptor_) != 0) fail(errno);
    if (::close(std::exchange(descriptor_, -1)) != 0) fail(errno);
    if (temporary_.empty()) return;
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
    temporary_.clear();
  }

 private:
  static constexpr std::size_t gathered = std::size_t{1} << 18;

  void flush() {
    put(pending_);
    pending_.clear();
  }

  void put(std::string_view bytes) {
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

  void resolve_links() {
    char* const resolved = ::realpath(path_.c_str(), nullptr);
    if (resolved == nullptr) fail(errno);
    target_ = resolved;
    ::free(resolved);
  }

  void discard() noexcept {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    temporary_.clear();
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
};

/// Removes the temporary files that writers of `path` left behind when they were killed: those of processes that are no
/// more.
inline void remove_stale_temporaries(const std::string& path) noexcept {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const std::string start = path.substr(slash + 1) + ".tmp-";  // npos + 1 is 0
  ::DIR* const entries = ::opendir(folder.c_str());
  if (entries == nullptr) return;
  while (const ::dirent* const entry = ::readdir(entries)) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(start)) continue;
    ::pid_t process = 0;
    const auto [end, failure] = std::from_chars(name.data() + start.size(), name.data() + name.size(), process);
    if (failure != std::errc() || process <= 0 || end == name.data() + name.size() || *end != '-') continue;
    if (::kill(process, 0) == 0 || errno != ESRCH) continue;
    ::unlinkat(::dirfd(entries), entry->d_name, 0);
  }
  ::closedir(entries);
}

}  // namespace mistral::inline MISTRAL_ABI
