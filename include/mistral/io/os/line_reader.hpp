// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/os/folder_content.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Reads a text file, or a pipe, line by line: memory for one line, whatever the file's size. LF ends a line, and so do
/// CR and LF together; a byte order mark at the beginning of the file is passed over. It comes to an end whatever it
/// reads: of a file it takes as much as there was when it was opened, and of a pipe or a device, which may go on for
/// ever, at most max_stream_lines lines and max_stream_bytes bytes.
class LineReader {
 public:
  static constexpr std::size_t max_stream_bytes = std::size_t{256} << 20;
  static constexpr std::size_t max_stream_lines = 1'000'000;
  static constexpr std::size_t max_skipped_bytes = std::size_t{1} << 30;  ///< of a line that is passed over

  /// Lines of more than `max_bytes` are passed over: see too_long. Throws Error `[where] path: ...` where the file
  /// can't be opened.
  LineReader(std::string path, std::string_view where, std::size_t max_bytes)
      : path_(std::move(path)), where_(where), max_bytes_(max_bytes), buffer_(std::size_t{1} << 16, '\0') {
    if (path_.find('\0') != std::string::npos) throw error("open", "a path holds no zero byte");
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) {
      const int reason = errno;
      if (is_hub_name(path_)) {
        throw Error(where_, printable(path_, 1000) + ": download it first, and give the file", "a file",
                    "no such file, but what reads as a name on a hub");
      }
      throw error("open", std::generic_category().message(reason));
    }
    owns_ = true;
    note_size();
  }

  /// Reads a file that is open and stays open, such as standard input; `name` stands for the path in messages.
  LineReader(int descriptor, std::string name, std::string_view where, std::size_t max_bytes)
      : path_(std::move(name)),
        where_(where),
        max_bytes_(max_bytes),
        buffer_(std::size_t{1} << 16, '\0'),
        descriptor_(descriptor) {
    note_size();
  }

  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader() {
    if (owns_) ::close(descriptor_);
  }

  /// The next line, without what ends it, until the next call; false at the end of the file. Throws Error where the
  /// file can't be read, and where a stream has more than this class reads.
  bool next() {
    if (too_long_) skip_line();
    line_.clear();
    too_long_ = false;
    if (rest_.empty() && !fill()) return false;
    ++number_;
    if (stream_ && number_ > max_stream_lines) throw endless(std::to_string(max_stream_lines) + " lines");
    do {
      const std::size_t end = rest_.find('\n');
      std::string_view part = rest_.substr(0, end);
      if (end != std::string_view::npos) {
        if (part.ends_with('\r')) {
          part.remove_suffix(1);
        } else if (part.empty() && line_.ends_with('\r')) {  // the buffer ended between the two
          line_.pop_back();
        }
      }
      if (part.size() > max_bytes_ - line_.size()) {
        too_long_ = true;  // which is said now: the line's end may never come
        line_.clear();
        return true;
      }
      line_.append(part);
      rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
      if (end != std::string_view::npos) return true;
    } while (!rest_.empty() || fill());
    return true;  // the last line may lack its newline
  }

  const std::string& line() const noexcept { return line_; }

  /// Whether the line has more than max_bytes; line() is empty then.
  bool too_long() const noexcept { return too_long_; }

  /// The line's number, from 1 on.
  std::size_t number() const noexcept { return number_; }

  /// Some of the bytes that come next, empty at the end of the file: for readers of what goes over lines. Throws Error
  /// where the file can't be read, and where a stream has more than this class reads.
  std::string_view ahead() {
    if (stream_ && number_ > max_stream_lines) throw endless(std::to_string(max_stream_lines) + " lines");
    if (rest_.empty()) fill();
    return rest_;
  }

  /// Passes over the first `count` bytes of ahead(), and counts the lines that end in them.
  void pass(std::size_t count) noexcept {
    const std::string_view passed = rest_.substr(0, count);
    number_ += static_cast<std::size_t>(std::count(passed.begin(), passed.end(), '\n'));
    rest_.remove_prefix(passed.size());
  }

 private:
  bool fill() {
    constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
    std::size_t held = read_to(0);
    if (!std::exchange(begun_, true)) {
      // a pipe may give it in pieces; what can't become one isn't waited for
      while (held > 0 && held < byte_order_mark.size() &&
             byte_order_mark.starts_with(std::string_view(buffer_).substr(0, held))) {
        const std::size_t more = read_to(held);
        if (more == 0) break;
        held += more;
      }
      rest_ = std::string_view(buffer_).substr(0, held);
      if (rest_.starts_with("\xff\xfe") || rest_.starts_with("\xfe\xff")) {
        throw error("read", "it is UTF-16; save it as UTF-8");
      }
      if (!rest_.starts_with(byte_order_mark)) return held > 0;
      rest_.remove_prefix(byte_order_mark.size());
      return !rest_.empty() || fill();
    }
    rest_ = std::string_view(buffer_).substr(0, held);
    return held > 0;
  }

  // Reads into the buffer from `at` on; 0 at the end of the file.
  std::size_t read_to(std::size_t at) {
    for (;;) {
      const std::size_t wanted = (std::min<std::uint64_t>)(buffer_.size() - at, left_);
      if (wanted == 0 && stream_) throw endless(std::to_string(max_stream_bytes >> 20) + " MiB");
      const auto count = wanted == 0 ? 0 : ::read(descriptor_, buffer_.data() + at, wanted);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw error("read", std::generic_category().message(errno));
      left_ -= static_cast<std::uint64_t>(count);
      return static_cast<std::size_t>(count);
    }
  }

  // a file of the system's own (/proc) says that it has no bytes, and is read as a pipe is
  void note_size() {
    struct ::stat status = {};
    stream_ = ::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0;
    left_ = stream_ ? max_stream_bytes : static_cast<std::uint64_t>(status.st_size);
  }

  void skip_line() {
    std::size_t skipped = 0;
    while (!rest_.empty() || fill()) {
      const std::size_t end = rest_.find('\n');
      skipped += rest_.size();
      if (end == std::string_view::npos && skipped > max_skipped_bytes) {
        throw Error(where_, printable(path_, 1000) + ":" + std::to_string(number_), "the end of a line within a GiB",
                    "a longer one");
      }
      rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
      if (end != std::string_view::npos) return;
    }
  }

  Error endless(const std::string& most) const {
    return Error(where_, printable(path_, 1000), "at most " + most + " from what is no file (write it to one)", "more");
  }

  Error error(std::string_view verb, std::string_view reason) const {
    return Error(where_, printable(path_, 1000).append(": cannot ").append(verb).append(": ").append(reason));
  }

  std::string path_;
  std::string where_;
  std::size_t max_bytes_;
  std::string buffer_;
  std::string_view rest_;  // of the buffer, not yet in a line
  std::string line_;
  std::size_t number_ = 0;
  std::uint64_t left_ = 0;  // bytes that are still read
  int descriptor_ = -1;
  bool owns_ = false;
  bool stream_ = false;
  bool too_long_ = false;
  bool begun_ = false;
};

}}  // namespace mistral
