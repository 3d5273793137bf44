// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A file in memory, to be read. A large one is mapped: its bytes are brought in by the system when they are touched,
/// and go when the object does; where somebody shortens it meanwhile, touching what is gone raises SIGBUS
/// (docs/guest.md). One of at most `read_bytes` is read at once instead, and is whatever it was.
class MappedFile {
 public:
  static constexpr std::uint64_t read_bytes = std::uint64_t{16} << 20;

  /// Maps the regular file at `path`. Throws Error `[where] path: ...` where it cannot be opened, is no regular file,
  /// is empty, or has more than `most` bytes.
  static MappedFile open(const std::string& path, std::string_view where,
                         std::uint64_t most = (std::numeric_limits<std::uint64_t>::max)()) {
    const auto fail = [&](std::string_view what) { return Error(where, printable(path, 1000).append(what)); };
    const auto reason = [](int code) { return std::generic_category().message(code); };

    // a path comes in a std::string, but the system reads it up to the first zero
    if (path.find('\0') != std::string::npos) throw fail(": cannot open: a path holds no zero byte");
    // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.number < 0) throw fail(": cannot open: " + reason(errno));
    struct ::stat status = {};
    if (::fstat(file.number, &status) != 0) throw fail(": cannot open: " + reason(errno));
    if (S_ISDIR(status.st_mode)) throw fail(": expected a file, got a directory");
    if (!S_ISREG(status.st_mode)) throw fail(": expected a regular file, got a device, a pipe or a socket");
    if (status.st_size <= 0) throw fail(": the file is empty");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > most) {
      throw fail(": expected at most " + std::to_string(most) + " bytes, got " + std::to_string(size));
    }
    if (size > (std::numeric_limits<std::ptrdiff_t>::max)()) throw fail(": too large for this machine's addresses");

    const bool read = size <= read_bytes;
    void* const data = read ? ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                            : ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_PRIVATE, file.number, 0);
    if (data == MAP_FAILED) throw fail(": cannot map: " + reason(errno));
    MappedFile mapped({static_cast<const std::byte*>(data), static_cast<std::size_t>(size)}, read);
    for (std::size_t done = 0; read && done < size;) {
      const auto count =
          ::read(file.number, static_cast<std::byte*>(data) + done, static_cast<std::size_t>(size) - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw fail(": cannot read: " + reason(errno));
      if (count == 0) throw fail(": cannot read: somebody shortens the file");
      done += static_cast<std::size_t>(count);
    }
    if (read) (void)::mprotect(data, static_cast<std::size_t>(size), PROT_READ);
    return mapped;
  }

  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})), read_(other.read_) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(read_, other.read_);
    return *this;
  }
  ~MappedFile() {
    if (!bytes_.empty()) ::munmap(address(bytes_.data()), bytes_.size());
  }

  /// The whole file. The first byte stands at the start of a page.
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

  /// Asks the system to bring in `part`, a part of bytes(), while the caller goes on.
  void prefetch(std::span<const std::byte> part) const noexcept {
    if (read_) return;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t before = static_cast<std::size_t>(part.data() - bytes_.data()) % page;
    if (!part.empty()) ::madvise(address(part.data() - before), part.size() + before, MADV_WILLNEED);
  }

  /// Gives back the memory of the whole pages inside `part`, a part of bytes(): for a loader that has converted it.
  /// The bytes stay readable; touching them again reads them from the file again.
  void release(std::span<const std::byte> part) const noexcept {
    if (part.empty() || read_) return;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto start = static_cast<std::size_t>(part.data() - bytes_.data());
    const std::size_t stop = start + part.size();
    const std::size_t first = (start + page - 1) / page * page;
    // the file's last page may be cut short: it is whole when the part reaches the file's end
    const std::size_t last = stop == bytes_.size() ? stop : stop / page * page;
    if (first < last) ::madvise(address(bytes_.data() + first), last - first, MADV_DONTNEED);
  }

 private:
  struct Descriptor {
    explicit Descriptor(int opened) : number(opened) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
      if (number >= 0) ::close(number);
    }
    int number;
  };

  MappedFile(std::span<const std::byte> bytes, bool read) noexcept : bytes_(bytes), read_(read) {}

  // mmap's relatives take a pointer to non-const, though none of them writes to a mapping that is only read
  static void* address(const std::byte* p) noexcept { return const_cast<std::byte*>(p); }

  std::span<const std::byte> bytes_;
  bool read_;  // into memory that no file stands behind
};

/// Whether the file at `path` can be read and starts with `start`, of at most 8 bytes.
inline bool file_starts_with(const std::string& path, std::string_view start) noexcept {
  // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return false;
  char bytes[8] = {};
  const auto count = ::read(file, bytes, start.size());
  ::close(file);
  return count == static_cast<::ssize_t>(start.size()) && std::string_view(bytes, start.size()) == start;
}

}}  // namespace mistral
