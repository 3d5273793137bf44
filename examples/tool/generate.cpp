// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>

#include <nlohmann/json.hpp>

#include <mistral/text/chat_json.hpp>
#include <mistral/text/tool_calls.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "generation.hpp"
#include "load.hpp"
#include "model_files.hpp"

namespace mistral::tool {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// A session that can be rolled back by so many tokens takes back the end of a prompt that was changed, and an answer,
// though its window has wrapped.
constexpr std::size_t state_rollback = 256;

// What a run took.
struct Statistics {
  std::size_t state_tokens = 0;    // of the prompt, that came from the state
  std::size_t prompt_tokens = 0;   // of the prompt, that were computed
  std::size_t decoded_tokens = 0;  // that went through the model: the last token chosen hasn't
  double prefill_seconds = 0;
  double decode_seconds = 0;
  std::int64_t wraps = 0;

  double prefill_speed() const { return static_cast<double>(prompt_tokens) / prefill_seconds; }
  double decode_speed() const { return static_cast<double>(decoded_tokens) / decode_seconds; }
};

std::string report(const Statistics& s, const Generated& made, const ModelInfo& info, std::uint64_t seed) {
  char text[512];
  std::string lookup;
  if (made.lookup.drafted > 0) {
    lookup = "lookup: " + std::to_string(made.lookup.accepted) + " of " + std::to_string(made.lookup.drafted) +
             " drafted tokens accepted, " + std::to_string(made.lookup.forwards) + " forwards\n";
  }
  std::snprintf(text, sizeof text,
                "prefill: %zu tokens in %.3f s, %.1f tokens/s\n"
                "decode: %zu tokens in %.3f s, %.1f tokens/s\n"
                "cache: %s, wrapped %lld times\n"
                "ended by: %s; weights: %s; seed: %llu\n",
                s.prompt_tokens, s.prefill_seconds, s.prefill_speed(), s.decoded_tokens, s.decode_seconds,
                s.decoded_tokens > 0 ? s.decode_speed() : 0.0, bytes_text(info.cache_bytes).c_str(),
                static_cast<long long>(s.wraps), name_of(made.reason), describe(info).c_str(),
                static_cast<unsigned long long>(seed));
  return lookup + text;
}

// What an answer to a request says, and which calls it makes: printed as it comes, unless all is printed at the end.
class AnswerPrinter {
 public:
  ///   reads_calls  whether the answer may hold calls
  AnswerPrinter(const Tokenizer& tokenizer, bool reads_calls, std::uint64_t seed, bool json) : json_(json) {
    if (reads_calls) reader_.emplace(tokenizer, seed);
  }

  void token(TokenId id) {
    if (reader_) take(reader_->feed(id));
  }

  // what generate makes of all tokens, which counts where there is no reader
  bool operator()(std::string_view text) {
    if (!reader_ && !json_) print(text);
    return true;
  }

  void end() {
    if (reader_) take(reader_->finish());
  }

  bool reads_calls() const { return reader_.has_value(); }
  const std::string& text() const { return text_; }
  const nlohmann::ordered_json& calls() const { return calls_; }
  const std::string& error() const { return reader_->error(); }

 private:
  void take(const AnswerPiece& piece) {
    text_ += piece.text;
    if (!json_) print(piece.text);
    for (const ToolCall& call : piece.calls) {
      calls_.push_back(
          {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
      if (!json_) print((calls_.size() > 1 ? "\n" : "") + calls_.back().dump());
    }
  }

  std::optional<AnswerReader> reader_;
  bool json_;
  std::string text_;
  nlohmann::ordered_json calls_ = nlohmann::ordered_json::array();
};

std::string to_json(const Statistics& s, const Generated& made, const AnswerPrinter& answer, const ModelInfo& info,
                    std::uint64_t seed, const std::vector<TokenId>& prompt, const GenerateArguments& arguments) {
  nlohmann::ordered_json json;
  json["weights"] = info.weights;
  json["kv"] = info.kv;
  json["seed"] = seed;
  json["prompt_tokens"] = prompt;
  json["tokens"] = made.tokens;
  json["text"] = answer.reads_calls() ? answer.text() : made.text;
  if (answer.reads_calls()) {
    json["tool_calls"] = answer.calls();
    if (!answer.error().empty()) json["tool_calls_error"] = answer.error();
  }
  json["stop_reason"] = name_of(made.reason);
  json["prefill_seconds"] = s.prefill_seconds;
  json["prefill_tokens_per_second"] = s.prefill_speed();  // null where it isn't finite
  json["decode_seconds"] = s.decode_seconds;
  json["decode_tokens_per_second"] = s.decode_speed();
  json["cache_bytes"] = info.cache_bytes;
  json["wraps"] = s.wraps;
  if (!arguments.state.empty()) json["state_tokens"] = s.state_tokens;
  if (arguments.lookup > 0) {
    const LookupCounts& counts = made.lookup;
    json["lookup"] = {{"forwards", counts.forwards}, {"drafted", counts.drafted}, {"accepted", counts.accepted}};
    json["lookup"]["acceptance"] = static_cast<double>(counts.accepted) / static_cast<double>(counts.drafted);
  }
  return json_text(json);
}

// Puts a session where what the state's file holds agrees with the prompt, less a token, whose logits are needed; at
// the beginning where it cannot be rolled back so far. Returns the number of tokens that it then holds.
std::size_t resume(AnySession& session, const SessionFile& state, std::span<const TokenId> prompt) {
  session.restore(state);
  const std::span<const TokenId> tokens = state.tokens();
  const auto differ = std::mismatch(tokens.begin(), tokens.end(), prompt.begin(), prompt.end() - 1).first;
  const auto back = static_cast<std::int64_t>(tokens.end() - differ);
  if (back > session.revertible()) {
    session.clear();
  } else {
    session.rollback(back);
  }
  return static_cast<std::size_t>(session.position());
}

}  // namespace

void run_generate(const GenerateArguments& arguments) {
  // All that can be wrong is looked at before the weights, which take long, are.
  std::vector<std::string> sources = sources_of(arguments.model);
  sources.push_back(arguments.prompt.file);
  sources.push_back(arguments.chat_file);
  if (!arguments.state.empty()) check_output("--state", arguments.state, sources);
  const AnyModelType& type = model_type(arguments.model);
  const ModelInfo& info = type.info();
  const Tokenizer tokenizer = load_tokenizer(arguments.model, info);
  std::optional<ChatRequest> request;
  std::vector<TokenId> forced;  // what the answer begins with
  std::vector<TokenId> prompt;
  if (arguments.chat_file.empty()) {
    prompt = prompt_ids(tokenizer, prompt_of(arguments.prompt), {arguments.no_bos, arguments.parse_special});
  } else {
    const std::string name = arguments.chat_file == "-" ? "standard input" : printable(arguments.chat_file, 900);
    request = parse_chat(read_all(arguments.chat_file, "chat"), name);
    prompt = encode_chat(tokenizer, chat_format(arguments.chat_template, tokenizer), *request);
    forced = forced_answer(tokenizer, *request);
    prompt.insert(prompt.end(), forced.begin(), forced.end());
  }
  GenerateOptions options;
  check_tokens(prompt, info);

  options.sampling = arguments.sampling;
  options.sampling.seed = arguments.seed ? *arguments.seed : random_seed();
  options.max_tokens = arguments.max_tokens;
  if (arguments.settings) options.max_tokens = arguments.settings->max_tokens(prompt.size(), arguments.max_tokens);
  options.own_text = request && !request->options.continue_final_message;
  options.stop_strings = arguments.stop;
  options.lookup = arguments.lookup;
  std::optional<SessionFile> state;
  if (!arguments.state.empty() && path_exists(arguments.state)) {
    state.emplace(SessionFile::open(arguments.state));
    state->check(info.config, info.kv);
    if (state->tokens().empty() && state->position() > 0) {
      throw Error("state", printable(arguments.state, 1000), "the session's tokens", "none");
    }
  }
  if (!arguments.ignore_eos) options.stop_ids.assign(tokenizer.eos_ids().begin(), tokenizer.eos_ids().end());
  options.stop_ids.insert(options.stop_ids.end(), arguments.stop_ids.begin(), arguments.stop_ids.end());
  AnswerPrinter answer(tokenizer, request && !request->tools.empty() && options.own_text, options.sampling.seed,
                       arguments.json);

  const Threads threads(arguments.model.threads);
  const std::unique_ptr<AnyModel> model = load_model(arguments.model, type);
  const std::size_t rollback = arguments.state.empty() ? 0 : state_rollback;
  const std::unique_ptr<AnySession> session = model->session(std::max(rollback, arguments.lookup));
  const std::size_t seen = state ? resume(*session, *state, prompt) : 0;
  options.seen = std::span(prompt).first(seen);
  const Clock::time_point begin = Clock::now();
  std::optional<Clock::time_point> prefilled;
  const std::optional<TokenId> calls_id = tokenizer.find("[TOOL_CALLS]");
  const bool bans_calls = request && request->tool_choice == ToolChoice::none && calls_id;
  const auto on_logits = [&](std::span<float> logits) {
    if (!prefilled) prefilled = Clock::now();
    if (bans_calls) logits[static_cast<std::size_t>(*calls_id)] = -std::numeric_limits<float>::infinity();
  };
  for (const TokenId id : forced) answer.token(id);
  const Generated made =
      generate(*session, tokenizer, std::span(prompt).subspan(seen), options, answer, LogitsHook{on_logits});
  answer.end();
  const Clock::time_point end = Clock::now();

  if (!arguments.state.empty()) {
    std::vector<TokenId> tokens = prompt;
    tokens.insert(tokens.end(), made.tokens.begin(), made.tokens.end());
    tokens.resize(static_cast<std::size_t>(session->position()));  // without a last token, which only was chosen
    session->save(tokens, arguments.state);
  }

  const Statistics statistics{.state_tokens = seen,
                              .prompt_tokens = prompt.size() - seen,
                              .decoded_tokens = static_cast<std::size_t>(session->position()) - prompt.size(),
                              .prefill_seconds = seconds_between(begin, prefilled.value_or(end)),
                              .decode_seconds = seconds_between(prefilled.value_or(end), end),
                              .wraps = session->wraps()};
  print(arguments.json ? to_json(statistics, made, answer, info, options.sampling.seed, prompt, arguments) : "\n");
  if (answer.reads_calls() && !answer.error().empty()) {
    note("mistral: warning: " + printable(answer.error(), 1000) + "; the answer's calls are printed as its text\n");
  }
  if (arguments.verbose || on_terminal()) note(report(statistics, made, info, options.sampling.seed));
}

}  // namespace mistral::tool
