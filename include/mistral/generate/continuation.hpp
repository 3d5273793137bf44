// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/once.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/lookup.hpp>
#include <mistral/generate/sampler.hpp>
#include <mistral/generate/stop.hpp>
#include <mistral/text/stream_decoder.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// When and how a text goes on.
struct GenerateOptions {
  SamplingOptions sampling{};               ///< how tokens are chosen
  std::size_t max_tokens = 256;             ///< tokens to generate at most
  std::size_t max_prompt_tokens = 0;        ///< tokens of the prompt at most, a longer one is an error; 0: any number
  std::vector<TokenId> stop_ids{};          ///< tokens that end the text and aren't in it: see Tokenizer::eos_ids
  std::vector<std::string> stop_strings{};  ///< texts that end the text and aren't part of it
  /// The ids that the model took before the prompt: part of the history that the repetition penalty looks at.
  std::span<const TokenId> seen{};
  /// The text doesn't continue the prompt's but is one of its own, as an answer is: what Tokenizer::decode() makes of
  /// the tokens, without the space that encoding puts in front.
  bool own_text = false;
  /// Tokens at most that are drafted from the text so far and go through the model together (see LookupDecoder); 0:
  /// none. The text is the same, and comes sooner where it repeats itself. A model with a window needs a session that
  /// can be rolled back by as many. In a SessionBatch it counts for nothing.
  std::size_t lookup = 0;
};

/// Why a text ended.
enum class StopReason {
  max_tokens,   ///< as many as were asked for
  stop_id,      ///< a token of stop_ids
  stop_string,  ///< a text of stop_strings
  context,      ///< a model without a window has come to the end of its context
  cancelled,    ///< on_text returned false, the session's token asked to stop, or the text was called off
};

/// The text that was made of a prompt.
struct Generated {
  std::vector<TokenId> tokens;                 ///< the tokens chosen, without one that stopped
  std::string text;                            ///< their text, up to a text that stopped
  StopReason reason = StopReason::max_tokens;  ///< why it ended
  LookupCounts lookup{};                       ///< the forwards after the prompt's, and what came of drafts
};

/// Whether what takes a text's pieces is told of its tokens too, each before its text: see generate.
template <class Show>
concept TakesTokens = requires(Show& show, TokenId token) {
  show.token(token);
};

namespace detail {

/// Throws Error where a prompt has more tokens than an option allows.
inline void check_prompt(std::string_view where, std::size_t tokens, std::size_t most) {
  if (most == 0 || tokens <= most) return;
  throw Error(where, "prompt", "at most " + std::to_string(most) + " tokens (max_prompt_tokens)",
              std::to_string(tokens));
}

}  // namespace detail

/// A text on its way, as it is between two forwards: chooses tokens from logits, makes text of them, and knows when it
/// ends. What a text is doesn't depend on who runs the forwards: `generate` for one sequence, a SessionBatch for many.
class Continuation {
 public:
  /// Without a tokenizer (null) there are tokens and no text. Throws Error for wrong options, for a tokenizer of more
  /// pieces than the model, and for stop strings without a tokenizer.
  template <class = detail::Once>
  Continuation(const Tokenizer* tokenizer, const GenerateOptions& options, std::size_t vocab_size);

  /// Takes what stands before the text: ids of the vocabulary, `seen` those of options.seen.
  template <class = detail::Once>
  void begin(std::span<const TokenId> seen, std::span<const TokenId> prompt);

  /// Whether `next` is going to choose: not where no token is asked for at all.
  bool choosing() const noexcept { return choices() > 0; }

  /// How many tokens may yet be chosen.
  std::size_t choices() const noexcept { return max_tokens_ - (std::min)(made_.tokens.size(), max_tokens_); }

  /// Chooses the next token, which go_on() must then be given; nothing where none is asked for. An id that only pads
  /// the vocabulary past the tokenizer's pieces is none to choose, unless it is one of stop_ids. Touches nothing but
  /// this text: several may choose at once.
  ///   logits  (vocab_size) after all tokens so far; may be overwritten
  /// Throws what the sampler throws; the text then ends with what has been made.
  template <class = detail::Once>
  std::optional<TokenId> choose(std::span<float> logits);

  /// Takes what was chosen. Returns it where it is to go through the model, and nothing where the text is over.
  ///   room  whether the sequence can take one more token
  ///   show  bool(std::string_view): handed each piece of text as soon as it is final; false ends the text. A member
  ///         token(TokenId), where it has one, is handed each token of the text before
  /// Throws what `show` throws; the text then ends with what has been made.
  template <class Show>
  std::optional<TokenId> go_on(std::optional<TokenId> chosen, bool room, Show&& show) {
    if (!chosen) return finish(StopReason::max_tokens, show);
    const TokenId token = *chosen;
    sampler_.accept(token);
    if (ends(token)) {
      return finish(StopReason::stop_id, show);
    }
    made_.tokens.push_back(token);
    if constexpr (TakesTokens<std::remove_reference_t<Show>>) show.token(token);
    const bool wanted = give(text_of(token), show);
    if (stop_.stopped()) return finish(StopReason::stop_string, show);
    if (!wanted) return finish(StopReason::cancelled, show);
    if (made_.tokens.size() == max_tokens_) return finish(StopReason::max_tokens, show);
    if (!room) return finish(StopReason::context, show);
    return token;
  }

  /// Ends the text here and now.
  void cancel() noexcept { made_.reason = StopReason::cancelled; }

  /// Returns what has been made so far; all of it once the text is over.
  const Generated& made() const noexcept { return made_; }
  /// The same, handed over.
  Generated take() noexcept { return std::move(made_); }

 private:
  bool ends(TokenId id) const noexcept { return std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end(); }

  // A model's vocabulary may be padded past its tokenizer's: such an id has no text, and is never chosen.
  bool has_text(TokenId id) const noexcept { return static_cast<std::size_t>(id) < pieces_; }

  // What may be shown once a token is taken.
  template <class = detail::Once>
  std::string text_of(TokenId token);

  // What was held back, once the text is over.
  template <class = detail::Once>
  std::string rest();

  // Hands text on; false where it is to end.
  template <class Show>
  bool give(const std::string& text, Show& show) {
    made_.text += text;
    return text.empty() || show(std::string_view(text));
  }

  template <class Show>
  std::nullopt_t finish(StopReason reason, Show& show) {
    made_.reason = reason;
    if (reason == StopReason::stop_string || reason == StopReason::cancelled || !decoder_) return std::nullopt;
    if (!give(rest(), show)) made_.reason = StopReason::cancelled;
    return std::nullopt;
  }

  Sampler sampler_;
  StopStrings stop_;
  std::optional<StreamDecoder> decoder_;
  std::vector<TokenId> stop_ids_;
  std::size_t max_tokens_;
  bool own_text_;
  std::size_t pieces_ = 0;                                        // ids below have text
  std::size_t used_ = (std::numeric_limits<std::size_t>::max)();  // ids below may be chosen
  Generated made_;
};

// Out of the class, and so no inline functions: a program may compile them in one unit for all.
template <class>
Continuation::Continuation(const Tokenizer* tokenizer, const GenerateOptions& options, std::size_t vocab_size)
    : sampler_(options.sampling, vocab_size),
      stop_(options.stop_strings),
      stop_ids_(options.stop_ids),
      max_tokens_(options.max_tokens),
      own_text_(options.own_text) {
  if (tokenizer != nullptr) {
    if (tokenizer->vocab_size() > vocab_size) {
      throw Error("generate", "the tokenizer's vocabulary", "at most " + std::to_string(vocab_size) + " pieces",
                  std::to_string(tokenizer->vocab_size()));
    }
    decoder_.emplace(*tokenizer);
    pieces_ = tokenizer->vocab_size();
    used_ = tokenizer->used_size();
  } else if (!options.stop_strings.empty()) {
    throw Error("generate", "stop_strings", "none where there is no tokenizer",
                std::to_string(options.stop_strings.size()));
  }
  made_.tokens.reserve(std::min<std::size_t>(max_tokens_, 65536));
}

template <class>
void Continuation::begin(std::span<const TokenId> seen, std::span<const TokenId> prompt) {
  std::string text;  // dropped: the decoder meets the prompt to know a space inside the text from one in front
  for (const std::span<const TokenId> tokens : {seen, prompt}) {
    for (const TokenId token : tokens) {
      sampler_.accept(token);
      if (has_text(token) && !own_text_) decoder_->feed(token, text);
    }
  }
}

template <class>
std::optional<TokenId> Continuation::choose(std::span<float> logits) {
  if (!choosing()) return std::nullopt;
  for (std::size_t id = used_; id < logits.size(); ++id) {
    if (!ends(static_cast<TokenId>(id))) logits[id] = -std::numeric_limits<float>::infinity();
  }
  return sampler_.sample(logits);
}

template <class>
std::string Continuation::text_of(TokenId token) {
  return stop_.push(has_text(token) ? decoder_->feed(token) : std::string());
}

template <class>
std::string Continuation::rest() {
  std::string text = stop_.push(decoder_->flush());
  if (stop_.stopped()) {
    made_.reason = StopReason::stop_string;
  } else {
    text += stop_.flush();
  }
  return text;
}

}}  // namespace mistral
