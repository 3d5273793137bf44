#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <mistral/io/json_lines.hpp>
#include <mistral/text/chat_json.hpp>

#include "commands.hpp"
#include "console.hpp"
#include "generation.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

std::string dump(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// A line of output for every line of input. A conversation that its template refuses is a result; a line that holds no
// conversation is a fault of the file, which all the lines behind it need not suffer from: the first is thrown at the
// end.
void print_chats(const Tokenizer& tokenizer, const TokenizeArguments& arguments) {
  const ChatTemplate chat_template = chat_template_named(arguments.chat_template, tokenizer);
  encode_chat(tokenizer, chat_template, {{"user", ""}});  // a tokenizer that doesn't fit is no fault of a line's
  const std::string name = arguments.chat_file == "-" ? "standard input" : printable(arguments.chat_file, 900);
  const std::string file = read_all(arguments.chat_file, "chat");
  std::string lines;
  std::optional<Error> fault;
  std::size_t number = 0;
  for (std::string_view rest = file; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    // a file of another form is at fault as a whole
    if (lines.empty()) refuse_json_over_lines(line, "chat", name + ": line " + std::to_string(number));
    std::optional<ChatRequest> request;
    try {
      request = parse_chat(line, name + ": line " + std::to_string(number));
      lines += dump(encode_chat(tokenizer, chat_template, request->messages, request->options));
    } catch (const Error& error) {
      lines += dump({{"error", error.what()}});
      if (!request && !fault) fault = error;
    }
    if (lines.size() >= std::size_t{1} << 16) print(std::exchange(lines, {}));  // few writes, and little memory
  }
  print(lines);
  if (fault) throw *fault;
}

}  // namespace

void run_tokenize(const TokenizeArguments& arguments) {
  const Tokenizer tokenizer = load_tokenizer(arguments.tokenizer, arguments.folder);
  if (!arguments.chat_file.empty()) return print_chats(tokenizer, arguments);
  const std::string text = text_of(arguments.text, "tokenize");
  if (arguments.decode) {
    const std::string decoded = tokenizer.decode(parse_ids(text));
    return print(arguments.json ? dump(decoded) : decoded + "\n");
  }

  std::vector<TokenId> ids = tokenizer.encode(text);
  if (arguments.bos) {
    if (tokenizer.bos_id() < 0) throw Error("tokenizer", "--bos", "a tokenizer with a BOS piece", "one without");
    ids.insert(ids.begin(), tokenizer.bos_id());
  }
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
