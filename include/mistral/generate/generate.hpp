#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <mistral/core/token.hpp>
#include <mistral/generate/lookup.hpp>
#include <mistral/generate/sampler.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/generate/stop.hpp>
#include <mistral/text/stream_decoder.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral::inline MISTRAL_ABI {

/// When and how `generate` goes on.
struct GenerateOptions {
  SamplingOptions sampling{};
  std::size_t max_tokens = 256;             ///< tokens to generate at most
  std::vector<TokenId> stop_ids{};          ///< tokens that end the text and aren't part of it, such as EOS
  std::vector<std::string> stop_strings{};  ///< texts that end the text and aren't part of it
  /// The ids that the session took before the prompt: part of the history that the repetition penalty looks at.
  std::span<const TokenId> seen{};
  /// The text doesn't continue the prompt's but is one of its own, as an answer is: what Tokenizer::decode() makes of
  /// the tokens, without the space that encoding puts in front.
  bool own_text = false;
  /// Tokens at most that are drafted from the text so far and go through the model together (see LookupDecoder); 0:
  /// none. The text is the same, and comes sooner where it repeats itself. A model with a window needs a session that
  /// can be rolled back by as many.
  std::size_t lookup = 0;
};

enum class StopReason {
  max_tokens,   ///< as many as were asked for
  stop_id,      ///< a token of stop_ids
  stop_string,  ///< a text of stop_strings
  context,      ///< a model without a window has come to the end of its context
  cancelled,    ///< on_text returned false
};

/// What `generate` made.
struct Generated {
  std::vector<TokenId> tokens;  ///< the tokens chosen, without one that stopped
  std::string text;             ///< their text, up to a text that stopped
  StopReason reason = StopReason::max_tokens;
  LookupCounts lookup{};  ///< the forwards after the prompt's, and what came of drafts
};

/// Continues a prompt token by token.
///   prompt   ids that the session hasn't seen; BOS first, where a text begins
///   on_text  is handed each piece of text as soon as it is final, a std::string_view; where it returns a bool, false
///            ends the text
///   tape     a tape for the forwards (nn/tape.hpp), and more: a member logits(std::span<float>) sees the logits
///            (vocab_size) of each step before a token is chosen, and may write to them
/// The last token chosen has not gone through the session: it belongs at the head of whatever is to follow.
/// Throws Error for a wrong prompt or options, before anything is computed.
template <class Session, class OnText, class Tape = NoTape>
Generated generate(Session& session, const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                   const GenerateOptions& options, OnText&& on_text, Tape&& tape = {}) {
  constexpr ModelConfig config = std::remove_cvref_t<decltype(session.model())>::config;
  if (tokenizer.vocab_size() > config.vocab_size) {
    throw Error("generate", "the tokenizer's vocabulary", "at most " + std::to_string(config.vocab_size) + " pieces",
                std::to_string(tokenizer.vocab_size()));
  }
  Sampler sampler(options.sampling, config.vocab_size);
  StopStrings stop(options.stop_strings);
  StreamDecoder decoder(tokenizer);
  Generated out;
  out.tokens.reserve(std::min<std::size_t>(options.max_tokens, 65536));

  // Hands text on; false where it is to end.
  const auto show = [&](const std::string& text) {
    out.text += text;
    if (text.empty()) return true;
    if constexpr (std::is_same_v<std::invoke_result_t<OnText&, std::string_view>, bool>) {
      return on_text(std::string_view(text));
    } else {
      on_text(std::string_view(text));
      return true;
    }
  };
  std::vector<TokenId> history;  // what drafts may be taken from
  if (options.lookup > 0) {
    history.assign(options.seen.begin(), options.seen.end());
    history.insert(history.end(), prompt.begin(), prompt.end());
  }
  LookupDecoder<Session> lookup(session, options.lookup, history);
  const auto finish = [&](StopReason reason) {
    out.reason = reason;
    out.lookup = lookup.counts();
    if (reason != StopReason::stop_string && reason != StopReason::cancelled) {
      std::string rest = stop.push(decoder.flush());
      if (stop.stopped()) out.reason = StopReason::stop_string;
      if (!stop.stopped()) rest += stop.flush();
      if (!show(rest)) out.reason = StopReason::cancelled;
    }
    return std::move(out);
  };

  // A model's vocabulary may be padded past its tokenizer's: such an id has no text.
  const auto has_text = [&](TokenId id) { return static_cast<std::size_t>(id) < tokenizer.vocab_size(); };

  std::span<const float> logits = session.prefill(prompt, tape);
  std::string prompt_text;  // dropped: the decoder meets the prompt to know a space inside the text from one in front
  for (const std::span<const TokenId> tokens : {options.seen, prompt}) {
    for (const TokenId token : tokens) {
      sampler.accept(token);
      if (has_text(token) && !options.own_text) decoder.feed(token, prompt_text);
    }
  }
  std::vector<float> choosable(config.vocab_size);
  while (out.tokens.size() < options.max_tokens) {
    std::copy(logits.begin(), logits.end(), choosable.begin());
    if constexpr (requires { tape.logits(std::span<float>(choosable)); }) tape.logits(std::span<float>(choosable));
    const TokenId token = sampler.sample(choosable);
    sampler.accept(token);
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) != options.stop_ids.end()) {
      return finish(StopReason::stop_id);
    }
    out.tokens.push_back(token);
    const bool go_on = show(stop.push(has_text(token) ? decoder.feed(token) : std::string()));
    if (stop.stopped()) return finish(StopReason::stop_string);
    if (!go_on) return finish(StopReason::cancelled);
    if (out.tokens.size() == options.max_tokens) break;
    if (config.window_size == 0 && static_cast<std::size_t>(lookup.position()) == config.context_len) {
      return finish(StopReason::context);
    }
    logits = lookup.next(token, options.max_tokens - out.tokens.size(), tape);
  }
  return finish(StopReason::max_tokens);
}

/// As above, without being told of the text on the way.
template <class Session>
Generated generate(Session& session, const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                   const GenerateOptions& options = {}) {
  return generate(session, tokenizer, prompt, options, [](std::string_view) {});
}

}  // namespace mistral::inline MISTRAL_ABI
