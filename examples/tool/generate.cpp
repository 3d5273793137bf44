// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include <nlohmann/json.hpp>

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

std::string to_json(const Statistics& s, const Generated& made, const ModelInfo& info, std::uint64_t seed,
                    const std::vector<TokenId>& prompt, const GenerateArguments& arguments) {
  nlohmann::ordered_json json;
  json["weights"] = info.weights;
  json["kv"] = info.kv;
  json["seed"] = seed;
  json["prompt_tokens"] = prompt;
  json["tokens"] = made.tokens;
  json["text"] = made.text;
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
  if (!arguments.state.empty()) check_output("--state", arguments.state, sources);
  const AnyModelType& type = model_type(arguments.model);
  const ModelInfo& info = type.info();
  const Tokenizer tokenizer = load_tokenizer(arguments.model, info);
  const std::vector<TokenId> prompt =
      prompt_ids(tokenizer, prompt_of(arguments.prompt), {arguments.no_bos, arguments.parse_special});
  check_tokens(prompt, info);

  GenerateOptions options;
  options.sampling = arguments.sampling;
  options.sampling.seed = arguments.seed ? *arguments.seed : random_seed();
  options.max_tokens = arguments.max_tokens;
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

  const Threads threads(arguments.model.threads);
  const std::unique_ptr<AnyModel> model = load_model(arguments.model, type);
  const std::size_t rollback = arguments.state.empty() ? 0 : state_rollback;
  const std::unique_ptr<AnySession> session = model->session(std::max(rollback, arguments.lookup));
  const auto on_text = [&](std::string_view text) {
    if (!arguments.json) print(text);
    return true;
  };
  const std::size_t seen = state ? resume(*session, *state, prompt) : 0;
  options.seen = std::span(prompt).first(seen);
  const Clock::time_point begin = Clock::now();
  std::optional<Clock::time_point> prefilled;
  const auto on_logits = [&](std::span<float>) {
    if (!prefilled) prefilled = Clock::now();
  };
  const Generated made =
      generate(*session, tokenizer, std::span(prompt).subspan(seen), options, on_text, LogitsHook{on_logits});
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
  print(arguments.json ? to_json(statistics, made, info, options.sampling.seed, prompt, arguments) : "\n");
  if (arguments.verbose || on_terminal()) note(report(statistics, made, info, options.sampling.seed));
}

}  // namespace mistral::tool
