// SPDX-License-Identifier: Apache-2.0
#include "console.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <system_error>
#include <utility>

#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>

namespace mistral::tool {

namespace {

// false and errno where it fails
bool write_all(int descriptor, std::string_view text) noexcept {
  while (!text.empty()) {
    const auto written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// In the place of the line that was there.
void show_line(const std::string& line) { (void)write_all(STDERR_FILENO, "\r" + printable_lines(line) + "\x1b[K"); }

std::string reason(int code) { return std::generic_category().message(code); }

struct Descriptor {
  explicit Descriptor(int opened) : number(opened) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number > STDIN_FILENO) ::close(number);
  }
  int number;
};

}  // namespace

void print(std::string_view text) {
  static const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  const bool written = terminal ? write_all(STDOUT_FILENO, printable_lines(text)) : write_all(STDOUT_FILENO, text);
  if (!written) throw Error("stdout", "cannot write: " + reason(errno));
}

std::string with_escapes(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto lead = static_cast<unsigned char>(text[0]);
    const detail::Shown shown = detail::shown_in_line(text);
    if ((lead < 0x80 && lead != 0x7f) || shown.size == shown.taken) {  // ASCII is escaped already where it has to be
      out += text.substr(0, shown.taken);
    } else {
      // JSON writes what is above U+FFFF as two halves
      const char32_t code = detail::code_point(text.substr(0, shown.taken));
      const auto escape = [&](char32_t unit) { out += format("\\u%04x", static_cast<unsigned>(unit)); };
      if (code >= 0x10000) escape(0xD7C0 + (code >> 10));
      escape(code < 0x10000 ? code : 0xDC00 + (code & 0x3FF));
    }
    text.remove_prefix(shown.taken);
  }
  return out;
}

bool on_terminal() { return ::isatty(STDERR_FILENO) == 1; }

void note(std::string_view text) { (void)write_all(STDERR_FILENO, printable_lines(text)); }

void clear_progress() noexcept {
  if (on_terminal()) (void)write_all(STDERR_FILENO, "\r\x1b[K");
}

Progress::Progress(std::string what, std::size_t total) : what_(std::move(what)), total_(total) {
  if (on_terminal()) show_line(what_ + " ...");
}

Progress::~Progress() { clear_progress(); }

void Progress::at(std::size_t done) { show(done, ""); }

void Progress::at(std::size_t done, const std::string& more) {
  shown_ = -1;
  show(done, more);
}

ProgressHook Progress::hook() noexcept {
  return {[](void* context, std::uint64_t done, std::uint64_t total) {
            auto& self = *static_cast<Progress*>(context);
            self.total_ = static_cast<std::size_t>(total);
            const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - self.begin_;
            const double speed = static_cast<double>(done) / std::max(passed.count(), 1e-3);
            char left[32];
            std::snprintf(left, sizeof left, ", %.0f s left", static_cast<double>(total - done) / std::max(speed, 1.0));
            self.show(static_cast<std::size_t>(done), ", " + bytes_text(static_cast<std::size_t>(done)) + ", " +
                                                          bytes_text(static_cast<std::size_t>(speed)) + "/s" + left);
          },
          this};
}

void Progress::show(std::size_t done, const std::string& more) {
  if (total_ == 0 || !on_terminal()) return;
  const int percent = static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total_));
  if (percent == std::exchange(shown_, percent)) return;
  const auto filled = static_cast<std::size_t>(percent) * 40 / 100;
  show_line(what_ + " [" + std::string(filled, '#') + std::string(40 - filled, ' ') + "] " + std::to_string(percent) +
            "%" + more);
}

std::string read_all(const std::string& path, std::string_view where, std::size_t most) {
  const bool from_stdin = path == "-";
  const auto fail = [&](const std::string& what) {
    return Error(where, (from_stdin ? std::string("standard input") : printable(path, 1000)) + ": " + what);
  };
  const Descriptor file{from_stdin ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.number < 0) throw fail("cannot open: " + reason(errno));
  // a file is read as far as it went when it was opened: somebody may write to it all the time
  struct ::stat status = {};
  const bool sized = ::fstat(file.number, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
  const std::uint64_t size = sized ? static_cast<std::uint64_t>(status.st_size) : most;
  const std::string limit = "expected at most " + std::to_string(most >> 20) + " MiB of text, got ";
  if (size > most) throw fail(limit + bytes_text(static_cast<std::size_t>(size)));
  std::string text;
  if (sized) text.reserve(static_cast<std::size_t>(size));
  std::string block(std::size_t{1} << 16, '\0');
  while (!sized || text.size() < size) {
    const auto count = ::read(file.number, block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw fail("cannot read: " + reason(errno));
    if (count == 0) break;
    text.append(block, 0, static_cast<std::size_t>(count));
    if (!sized && text.size() > most) throw fail(limit + "more");
  }
  if (sized && text.size() > size) text.resize(static_cast<std::size_t>(size));
  return text;
}

std::string read_text(const std::string& path, std::string_view where, std::size_t most) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  std::string text = read_all(path, where, most);
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) {
    throw Error(where, path == "-" ? "standard input" : printable(path, 1000), "a text in UTF-8",
                "one in UTF-16; save it as UTF-8");
  }
  std::size_t kept = 0;
  for (std::size_t i = text.starts_with(byte_order_mark) ? byte_order_mark.size() : 0; i < text.size(); ++i) {
    const bool ends_line = text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n';
    if (!ends_line) text[kept++] = text[i];
  }
  text.resize(kept);
  return text;
}

bool read_line(std::string& line) {
  constexpr std::size_t most = std::size_t{16} << 20;
  line.clear();
  std::streambuf& in = *std::cin.rdbuf();
  for (int c = in.sbumpc(); c != std::char_traits<char>::eof(); c = in.sbumpc()) {
    if (c == '\n') return true;
    if (line.size() == most) {
      throw Error("chat", "standard input", "a line of at most " + std::to_string(most) + " bytes", "a longer one");
    }
    line += static_cast<char>(c);
  }
  return !line.empty();
}

namespace {

// What is read where the command line holds no text.
std::string file_of(const TextArguments& arguments) {
  // a person who forgot the option would look at a program that waits
  if (arguments.file.empty() && ::isatty(STDIN_FILENO) == 1) {
    throw UsageError("expected a text, by an option or on standard input, got none");
  }
  return arguments.file.empty() ? "-" : arguments.file;
}

}  // namespace

std::string text_of(const TextArguments& arguments, std::string_view where, std::size_t most) {
  return arguments.text ? *arguments.text : read_text(file_of(arguments), where, most);
}

std::string bytes_of(const TextArguments& arguments, std::string_view where) {
  return arguments.text ? *arguments.text : read_all(file_of(arguments), where, max_text_bytes);
}

std::string input_path(const std::string& path) { return path == "-" ? "/dev/stdin" : path; }

std::string output_path(const std::string& out, bool json) {
  if (out != "-") return out;
  if (json) throw UsageError("--json: expected a file by --out with it, got -, where nothing else is printed");
  if (::isatty(STDOUT_FILENO) == 1) {
    throw UsageError("--out: expected a file, or - with standard output sent to a file or a pipe, got a terminal");
  }
  return "/dev/stdout";
}

std::string prompt_of(const TextArguments& arguments) {
  std::string text = text_of(arguments, "prompt", max_prompt_bytes);
  if (!arguments.text && text.ends_with('\n')) text.pop_back();
  return text;
}

std::vector<TokenId> parse_ids(std::string_view text) {
  constexpr std::string_view separators = ", \t\r\n";
  std::vector<TokenId> ids;
  while (true) {
    const std::size_t start = text.find_first_not_of(separators);
    if (start == std::string_view::npos) return ids;
    text.remove_prefix(start);
    const std::string_view word = text.substr(0, text.find_first_of(separators));
    TokenId id = 0;
    const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (failure != std::errc() || end != word.data() + word.size() || id < 0) {
      throw Error("tokens", "token " + std::to_string(ids.size()), "an id", "'" + printable(word, 40) + "'");
    }
    ids.push_back(id);
    text.remove_prefix(word.size());
  }
}

std::string ids_text(std::span<const TokenId> ids) {
  std::string text;
  for (const TokenId id : ids) text.append(text.empty() ? "" : " ").append(std::to_string(id));
  return text;
}

std::string bytes_text(std::size_t bytes) {
  constexpr const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1000.0 && unit + 1 < std::size(units); ++unit) value /= 1000.0;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
  return text;
}

std::string format(const char* pattern, ...) {
  char text[512];
  std::va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

}  // namespace mistral::tool
