// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <nlohmann/json.hpp>

#include <mistral/generate/finite_logits.hpp>
#include <mistral/io/npy.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "load.hpp"
#include "model_files.hpp"

namespace mistral::tool {

namespace {

// The ids that the arguments name; `tokenizer` is loaded only where there is a text to encode.
std::vector<TokenId> tokens_of(const LogitsArguments& arguments, const ModelInfo& info) {
  if (arguments.tokens) return parse_ids(*arguments.tokens);
  if (!arguments.tokens_file.empty()) return parse_ids(read_text(arguments.tokens_file, "tokens"));
  const Tokenizer tokenizer = load_tokenizer(arguments.model, info);
  return prompt_ids(tokenizer, prompt_of(arguments.prompt), {arguments.no_bos, arguments.parse_special, true});
}

}  // namespace

void run_logits(const LogitsArguments& arguments) {
  const std::string out = output_path(arguments.out, arguments.json);
  std::vector<std::string> sources = sources_of(arguments.model);
  sources.insert(sources.end(), {arguments.tokens_file, arguments.prompt.file});
  check_output("--out", arguments.out, sources);
  const AnyModelType& type = model_type(arguments.model);
  const ModelInfo& info = type.info();
  const std::vector<TokenId> tokens = tokens_of(arguments, info);
  check_tokens(tokens, info);

  const Threads threads(arguments.model.threads);
  const std::unique_ptr<AnyModel> model = load_model(arguments.model, type);
  const std::unique_ptr<AnySession> session = model->session();
  {
    NpyWriter file(out, tokens.size(), info.config.vocab_size, "logits");
    Progress progress("logits of " + std::to_string(tokens.size()) + " tokens", tokens.size());
    constexpr std::size_t chunk = 512;
    for (std::size_t done = 0; done < tokens.size(); done += chunk) {
      const std::size_t count = std::min(chunk, tokens.size() - done);
      const Rows<const float> logits = session->forward(std::span(tokens).subspan(done, count));
      check_finite(*session, logits, std::span(tokens).first(done + count));
      for (std::size_t i = 0; i < count; ++i) file.write(logits.row(i));
      progress.at(done + count);
    }
    file.commit();
  }

  if (!arguments.json) return;
  nlohmann::ordered_json json;
  json["weights"] = info.weights;
  json["kv"] = info.kv;
  json["out"] = arguments.out;
  json["tokens"] = tokens;
  json["shape"] = {tokens.size(), info.config.vocab_size};
  print(json_text(json));
}

}  // namespace mistral::tool
