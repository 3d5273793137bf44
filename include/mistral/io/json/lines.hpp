// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/json/records.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Reads a file of a JSON object a line (JSONL), or of one array of objects, and hands each to `take(object, number)`:
/// the number of its line, or of the array's element; blank lines are passed over. Memory for one object, whatever the
/// file's size. Throws Error `[where] file:line: ...` for a line, or an element, that is none, or of more than
/// `max_line_bytes`, and `[where] file: ...` where the file can't be read, or a pipe doesn't end (see LineReader).
template <class Take>
void for_each_json_line(const std::string& path, std::string_view where, Take&& take,
                        std::size_t max_line_bytes = std::size_t{16} << 20) {
  JsonRecords records(path, where, max_line_bytes);
  while (records.next()) take(records.object(), records.number());
}

}}  // namespace mistral
