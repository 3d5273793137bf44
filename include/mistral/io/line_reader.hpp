#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/io/printable.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Reads a text file, or a pipe, line by line: memory for one line, whatever the file's size.
class LineReader {
 public:
  /// Lines of more than `max_bytes` are passed over: see too_long. Throws Error `[where] path: ...` where the file
  /// can't be opened.
  LineReader(std::string path, std::string_view where, std::size_t max_bytes)
      : path_(std::move(path)), where_(where), max_bytes_(max_bytes), buffer_(std::size_t{1} << 16, '\0') {
    if (path_.find('\0') != std::string::npos) throw error("open", "a path holds no zero byte");
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) throw error("open", std::generic_category().message(errno));
  }
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  /// The next line, without its newline, until the next call; false at the end of the file. Throws Error where the
  /// file can't be read.
  bool next() {
    line_.clear();
    too_long_ = false;
    bool any = false;
    for (;;) {
      if (rest_.empty() && !fill()) {
        if (any) ++number_;
        return any;  // the last line may lack its newline
      }
      any = true;
      const std::size_t end = rest_.find('\n');
      const std::string_view part = rest_.substr(0, end);
      if (part.size() > max_bytes_ - line_.size()) too_long_ = true;
      if (too_long_) {
        line_.clear();
      } else {
        line_.append(part);
      }
      rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
      if (end != std::string_view::npos) {
        ++number_;
        return true;
      }
    }
  }

  const std::string& line() const noexcept { return line_; }

  /// Whether the line has more than max_bytes; line() is empty then.
  bool too_long() const noexcept { return too_long_; }

  /// The line's number, from 1 on.
  std::size_t number() const noexcept { return number_; }

 private:
  bool fill() {
    for (;;) {
      const auto count = ::read(descriptor_, buffer_.data(), buffer_.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw error("read", std::generic_category().message(errno));
      rest_ = std::string_view(buffer_).substr(0, static_cast<std::size_t>(count));
      return count > 0;
    }
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
  int descriptor_ = -1;
  bool too_long_ = false;
};

}  // namespace mistral::inline MISTRAL_ABI
