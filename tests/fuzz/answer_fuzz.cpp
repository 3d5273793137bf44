// SPDX-License-Identifier: Apache-2.0
// seeds: *.answer
// Reads the input as an answer with calls: however it is cut, the same comes of it, and where no call could be read,
// all of it is text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/tool_calls.hpp>
#include <mistral/text/tool_text.hpp>

#include "attempt.hpp"

using namespace mistral;

namespace {

struct Read {
  std::string text;
  std::vector<ToolCall> calls;
  std::string error;
  friend bool operator==(const Read&, const Read&) = default;
};

Read read(std::string_view answer, std::size_t piece) {
  AnswerReader reader(std::uint64_t{1});
  Read read;
  const auto add = [&](const AnswerPiece& part) {
    read.text += part.text;
    read.calls.insert(read.calls.end(), part.calls.begin(), part.calls.end());
  };
  for (; !answer.empty(); answer.remove_prefix((std::min)(piece, answer.size())))
    add(reader.push(answer.substr(0, piece)));
  add(reader.finish());
  read.error = reader.error();
  return read;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string answer(reinterpret_cast<const char*>(data), size);
  for (const std::string& text : {answer, "[TOOL_CALLS] " + answer, "[TOOL_CALLS] [" + answer}) {
    const Read whole = read(text, text.size() + 1);
    fuzz::require(read(text, 1) == whole && read(text, 3) == whole);
    if (whole.calls.empty() && !whole.error.empty()) fuzz::require(whole.text == text);
    if (text.find("[TOOL_CALLS]") == std::string::npos) fuzz::require(whole.text == text && whole.calls.empty());
    for (const ToolCall& call : whole.calls) {
      fuzz::require(detail::is_function_name(call.name) && detail::is_call_id(call.id));
    }
    fuzz::attempt([&] { (void)detail::tool_calls_text(whole.calls); });  // arguments may be nested too deep
  }
  return 0;
}
