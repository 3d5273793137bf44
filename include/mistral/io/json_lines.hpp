#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/error.hpp>
#include <mistral/io/json.hpp>
#include <mistral/io/line_reader.hpp>
#include <mistral/io/printable.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Reads a file of a JSON object a line (JSONL), and hands each to `take(object, line number)`; blank lines are passed
/// over. Memory for one line, whatever the file's size. Throws Error `[where] file:line: ...` for a line that is none,
/// or of more than `max_line_bytes`, and `[where] file: ...` where the file can't be read, or a pipe doesn't end (see
/// LineReader).
template <class Take>
void for_each_json_line(const std::string& path, std::string_view where, Take&& take,
                        std::size_t max_line_bytes = std::size_t{16} << 20) {
  LineReader lines(path, where, max_line_bytes);
  while (lines.next()) {
    if (lines.line().find_first_not_of(" \t\r") == std::string::npos && !lines.too_long()) continue;
    const std::string subject = printable(path, 1000) + ":" + std::to_string(lines.number());
    if (lines.too_long()) {
      throw Error(where, subject, "a line of at most " + std::to_string(max_line_bytes) + " bytes", "a longer one");
    }
    take(JsonObject::parse(std::as_bytes(std::span(lines.line())), where, subject), lines.number());
  }
}

}  // namespace mistral::inline MISTRAL_ABI
