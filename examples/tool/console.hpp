// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/progress.hpp>
#include <mistral/core/token.hpp>

#include "commands.hpp"

namespace mistral::tool {

/// Writes to standard output at once: to a terminal with what would drive it made visible (see printable_lines),
/// elsewhere as it is. Throws Error where that fails, as on a full disk.
void print(std::string_view text);

/// What JSON has for characters that printable() doesn't show: `text`, which is JSON, means the same with them escaped.
std::string with_escapes(std::string_view text);

/// A line of JSON that a terminal, or a reader of lines, takes no harm from; in several lines with an indent. Bytes
/// that are no UTF-8 become U+FFFD: a vocabulary may hold such pieces, and JSON may not.
template <class Json>
std::string json_text(const Json& json, int indent = -1) {
  return with_escapes(json.dump(indent, ' ', false, Json::error_handler_t::replace)) + "\n";
}

/// Whether standard error is a terminal: where progress and statistics go.
bool on_terminal();

/// Writes to standard error, with what would drive a terminal made visible; what it cannot write is lost.
void note(std::string_view text);

/// Takes the line on the terminal away that a Progress shows, until it shows it again.
void clear_progress() noexcept;

/// A line on the terminal about work that takes long; gone when the object goes. Does nothing elsewhere.
class Progress {
 public:
  /// `what` is shown at once, and with a bar once `at` is told how far it is of `total`.
  explicit Progress(std::string what, std::size_t total = 0);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  void at(std::size_t done);

  /// The same with more to say behind the bar, which is shown each time.
  void at(std::size_t done, const std::string& more);

  /// For the library's long work; bytes, with their speed and the time that is left. The object must outlive its use.
  ProgressHook hook() noexcept;

 private:
  void show(std::size_t done, const std::string& more);

  std::string what_;
  std::size_t total_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  int shown_ = -1;
};

/// How much of a text is read. What a prompt holds goes through a model token by token; what is measured or only cut in
/// pieces may be a corpus.
inline constexpr std::size_t max_prompt_bytes = std::size_t{16} << 20;
inline constexpr std::size_t max_text_bytes = std::size_t{256} << 20;

/// The whole of a file, or of standard input for "-". Throws Error `[where] path: ...`, also for one of more than
/// `most` bytes, of which no more is read.
std::string read_all(const std::string& path, std::string_view where, std::size_t most = max_prompt_bytes);

/// The next line of standard input, without its newline; false at its end. Throws Error for one that doesn't end.
bool read_line(std::string& line);

/// Reads a whole text as read_all reads bytes: without a byte order mark, and with LF alone at the ends of its lines,
/// so that a file of Windows gives what it gives elsewhere. Throws Error for UTF-16.
std::string read_text(const std::string& path, std::string_view where, std::size_t most = max_prompt_bytes);

/// The text that is meant: from the command line as it stands there, else as read_text has it. A prompt's file has one
/// newline at its end taken off, which editors and echo put there.
std::string text_of(const TextArguments& arguments, std::string_view where, std::size_t most = max_text_bytes);
std::string prompt_of(const TextArguments& arguments);

/// Returns the text that is meant, byte by byte as it stands.
std::string bytes_of(const TextArguments& arguments, std::string_view where);

/// Where a file of lines is read from: `-` is standard input.
std::string input_path(const std::string& path);

/// Where an output that is a stream of bytes goes: `-` is standard output, on which nothing else may then be printed.
/// Throws UsageError where that is a terminal, and where `json` is to be printed there.
std::string output_path(const std::string& out, bool json);

/// Token ids from text such as `1, 2 3`, separated by commas and white space. Throws Error for what is no id.
std::vector<TokenId> parse_ids(std::string_view text);

/// `1 2 3`
std::string ids_text(std::span<const TokenId> ids);

/// `14.48 GB`
std::string bytes_text(std::size_t bytes);

/// As printf has it; what is past 511 characters is cut off.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

}  // namespace mistral::tool
