// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include <mistral/io/json/records.hpp>
#include <mistral/text/chat_json.hpp>

#include "commands.hpp"
#include "console.hpp"
#include "generation.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

std::string dump(const nlohmann::json& json) { return json_text(json); }

// A line of output for every conversation. One that its template refuses is a result, and so is one whose tools or
// calls are wrong; a line that holds no conversation is a fault of the file, which all the lines behind it need not
// suffer from: the first is thrown at the end.
class ChatPrinter {
 public:
  ChatPrinter(const Tokenizer& tokenizer, const ChatFormat& format) : tokenizer_(tokenizer), template_(format) {
    if (format.writer() == nullptr)
      encode_chat(tokenizer, format, {{"user", ""}});  // a tokenizer that doesn't fit is no fault of a line's
  }

  template <class Read>
  void add(const Read& read) {
    bool is_request = false;
    try {
      const JsonObject object = read();
      is_request = object.has("tools") || speaks_of_tools(object);
      const ChatRequest request = parse_chat(object);
      is_request = true;
      lines_ += dump(encode_chat(tokenizer_, template_, request));
    } catch (const Error& error) {
      lines_ += dump({{"error", error.what()}});
      if (!is_request && !fault_) fault_ = error;
    }
    if (lines_.size() >= std::size_t{1} << 16) print(std::exchange(lines_, {}));  // few writes, and little memory
  }

  void end() {
    print(lines_);
    if (fault_) throw *fault_;
  }

 private:
  static bool speaks_of_tools(const JsonObject& object) {
    for (const JsonObject& message : object.objects("messages")) {
      if (message.has("tool_calls") || message.has("tool_call_id")) return true;
    }
    return false;
  }

  const Tokenizer& tokenizer_;
  ChatFormat template_;
  std::string lines_;
  std::optional<Error> fault_;
};

void print_chats(const Tokenizer& tokenizer, const TokenizeArguments& arguments) {
  ChatPrinter printer(tokenizer, chat_format(arguments.chat_template, tokenizer));
  const std::string name = arguments.chat_file == "-" ? "standard input" : printable(arguments.chat_file, 900);
  constexpr std::size_t longest = std::size_t{16} << 20;
  JsonRecords records = arguments.chat_file == "-" ? JsonRecords(STDIN_FILENO, name, "chat", longest)
                                                   : JsonRecords(arguments.chat_file, "chat", longest);
  while (records.next()) {
    printer.add([&] { return records.object(); });
  }
  printer.end();
}

}  // namespace

void run_tokenize(const TokenizeArguments& arguments) {
  const Tokenizer tokenizer = load_tokenizer(arguments.tokenizer, arguments.folder);
  if (!arguments.chat_file.empty()) return print_chats(tokenizer, arguments);
  if (arguments.decode) {
    const std::string decoded =
        tokenizer.decode(parse_ids(text_of(arguments.text, "tokenize")), {.skip_special = arguments.skip_special});
    return print(arguments.json ? dump(decoded) : decoded + "\n");
  }

  if (arguments.bos && tokenizer.bos_id() < 0) {
    throw Error("tokenizer", "--bos", "a tokenizer with a BOS piece", "one without");
  }
  std::vector<TokenId> ids =
      tokenizer.encode(bytes_of(arguments.text, "tokenize"),
                       {.add_special = arguments.add_special, .parse_special = arguments.parse_special});
  if (arguments.bos && (ids.empty() || ids.front() != tokenizer.bos_id())) ids.insert(ids.begin(), tokenizer.bos_id());
  if (!arguments.pieces) return print(arguments.json ? dump(ids) : ids_text(ids) + "\n");
  if (arguments.json) {
    nlohmann::json json = nlohmann::json::array();
    for (const TokenId id : ids) json.push_back({{"id", id}, {"piece", tokenizer.piece(id)}});
    return print(dump(json));
  }
  std::string lines;
  for (const TokenId id : ids) {
    lines.append(std::to_string(id)).append("\t").append(printable(tokenizer.piece(id), 1000)).append("\n");
  }
  print(lines);
}

}  // namespace mistral::tool
