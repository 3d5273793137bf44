// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/finite.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/continuation.hpp>
#include <mistral/generate/finite_logits.hpp>
#include <mistral/generate/lookup.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// Hands a text on to what may or may not say whether it is to go on, and may want its tokens.
template <class OnText>
struct TextTaker {
  OnText& on_text;

  bool operator()(std::string_view piece) const {
    if constexpr (std::is_same_v<std::invoke_result_t<OnText&, std::string_view>, bool>) {
      return on_text(piece);
    } else {
      on_text(piece);
      return true;
    }
  }

  void token(TokenId id) const requires TakesTokens<OnText> { on_text.token(id); }
};

}  // namespace detail

/// Continues a prompt token by token.
///   prompt   ids that the session hasn't seen; BOS first, where a text begins
///   on_text  is handed each piece of text as soon as it is final, a std::string_view; where it returns a bool, false
///            ends the text. Where it has a member token(TokenId), that is handed each token of the text, control
///            tokens too, before what came of it
///   tape     a tape for the forwards (nn/tape.hpp), and more: a member logits(std::span<float>) sees the logits
///            (vocab_size) of each step before a token is chosen, and may write to them
/// The last token chosen has not gone through the session: it belongs at the head of whatever is to follow.
/// Throws Error for a wrong prompt or options, before anything is computed, and Cancelled where the session's token
/// (Session::stop_with) asks to stop while the prompt is taken, with the session as it was; asked later, it ends the
/// text as StopReason::cancelled. Then it throws where the model's logits are no finite numbers (check_finite), what
/// on_text and the tape throw, or std::bad_alloc. A tape that throws leaves the session cleared; else it has taken the
/// prompt and the tokens that were chosen, as many as its position says.
template <class Session, class OnText, class Tape = NoTape>
Generated generate(Session& session, const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                   const GenerateOptions& options, OnText&& on_text, Tape&& tape = {}) {
  const ModelConfig config = detail::config_of(session);
  detail::check_prompt("generate", prompt.size(), options.max_prompt_tokens);
  Continuation text(&tokenizer, options, config.vocab_size);
  text.begin(options.seen, {});
  std::vector<float> choosable(config.vocab_size);
  const detail::TextTaker<std::remove_reference_t<OnText>> show{on_text};
  std::vector<TokenId> history;  // what drafts may be taken from
  if (options.lookup > 0) {
    history.assign(options.seen.begin(), options.seen.end());
    history.insert(history.end(), prompt.begin(), prompt.end());
  }
  LookupDecoder<Session> lookup(session, options.lookup, history);
  std::span<const float> logits = session.prefill(prompt, tape);
  text.begin({}, prompt);
  for (;;) {
    std::copy(logits.begin(), logits.end(), choosable.begin());
    if constexpr (WatchesLogits<std::remove_reference_t<Tape>>) {
      if (text.choosing()) tape.logits(std::span<float>(choosable));
    }
    const bool room = config.window_size != 0 || static_cast<std::size_t>(lookup.position()) < config.context_len;
    std::optional<TokenId> chosen;
    try {
      chosen = text.choose(choosable);
    } catch (const Error&) {
      // what the model made can't be chosen from: say where that began rather than what the sampler found
      if (all_finite(logits)) throw;
      std::vector<TokenId> taken(options.seen.begin(), options.seen.end());
      taken.insert(taken.end(), prompt.begin(), prompt.end());
      taken.insert(taken.end(), text.made().tokens.begin(), text.made().tokens.end());
      check_finite(session, logits, taken);
      throw;
    }
    const auto token = text.go_on(chosen, room, show);
    if (!token) {
      Generated made = text.take();
      made.lookup = lookup.counts();
      return made;
    }
    try {
      logits = lookup.next(*token, text.choices(), tape);
    } catch (const Cancelled&) {  // by the session's token: the text that there is has been shown
      text.cancel();
      Generated made = text.take();
      made.lookup = lookup.counts();
      return made;
    }
  }
}

/// As above, without being told of the text on the way.
template <class Session>
Generated generate(Session& session, const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                   const GenerateOptions& options = {}) {
  return generate(session, tokenizer, prompt, options, [](std::string_view) {});
}

}}  // namespace mistral
