#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "console.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

std::string dump(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

void run_tokenize(const TokenizeArguments& arguments) {
  const Tokenizer tokenizer = load_tokenizer(arguments.tokenizer, arguments.folder);
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
