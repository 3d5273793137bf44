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
#include <mistral/io/printable.hpp>

namespace mistral::inline MISTRAL_ABI {

/// A file mapped into memory to be read: its bytes are brought in by the system when they are touched, and go when the
/// object does. A file that somebody shortens while it is mapped is beyond what a reader can check.
class MappedFile {
 public:
  /// Maps the regular file at `path`. Throws Error `[where] path: ...` where it cannot be opened, is no regular file,
  /// or is empty.
  static MappedFile open(const std::string& path, std::string_view where) {
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
    if (size > std::numeric_limits<std::ptrdiff_t>::max()) throw fail(": too large for this machine's addresses");

    void* const data = ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_PRIVATE, file.number, 0);
    if (data == MAP_FAILED) throw fail(": cannot map: " + reason(errno));
    return MappedFile({static_cast<const std::byte*>(data), static_cast<std::size_t>(size)});
  }

  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile() {
    if (!bytes_.empty()) ::munmap(address(bytes_.data()), bytes_.size());
  }

  /// The whole file. The first byte stands at the start of a page.
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

  /// Asks the system to bring in `part`, a part of bytes(), while the caller goes on.
  void prefetch(std::span<const std::byte> part) const noexcept {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t before = static_cast<std::size_t>(part.data() - bytes_.data()) % page;
    if (!part.empty()) ::madvise(address(part.data() - before), part.size() + before, MADV_WILLNEED);
  }

  /// Gives back the memory of the whole pages inside `part`, a part of bytes(): for a loader that has converted it.
  /// The bytes stay readable; touching them again reads them from the file again.
  void release(std::span<const std::byte> part) const noexcept {
    if (part.empty()) return;
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

  explicit MappedFile(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  // mmap's relatives take a pointer to non-const, though none of them writes to a mapping that is only read
  static void* address(const std::byte* p) noexcept { return const_cast<std::byte*>(p); }

  std::span<const std::byte> bytes_;
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

}  // namespace mistral::inline MISTRAL_ABI
