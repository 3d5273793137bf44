// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/token.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/sentencepiece_model.hpp>
#include <mistral/text/token_texts.hpp>
#include <mistral/text/vocabulary.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

class Tokenizer;

namespace detail {

/// What decoding needs to know beside the pieces.
struct DecodingRules {
  DecodingRules(const SentencePieceModel& model, const Vocabulary& vocabulary)
      : unk_surface(model.unk_surface.substr(0, model.unk_surface.find('\0'))),
        strip_first_space(model.add_dummy_prefix || model.remove_extra_whitespaces),
        strip_all_first_spaces(model.remove_extra_whitespaces) {
    if (model.rules) texts.emplace(vocabulary, *model.rules);
  }

  std::string unk_surface;
  bool strip_first_space;
  bool strip_all_first_spaces;
  std::optional<TokenTexts> texts;  // of a tokenizer.json, for which nothing else here counts
};

}  // namespace detail

/// How ids become a text.
struct DecodeOptions {
  /// Special tokens of a tokenizer.json, such as `<s>`, are left out. Control pieces of a SentencePiece model have no
  /// text anyway.
  bool skip_special = false;
};

/// Turns token ids into text as they come, for output that appears while it is generated. The texts that feed() and
/// flush() give back, one after the other, are what Tokenizer::decode() makes of all the ids with the same options;
/// feed() holds back a character of which some bytes are still to come, and all bytes of a run of byte pieces where
/// the tokenizer is a tokenizer.json, by which one ill-formed byte spoils the run.
///
///     StreamDecoder decoder{tokenizer};
///     while (...) std::cout << decoder.feed(token) << std::flush;
///     std::cout << decoder.flush();
class StreamDecoder {
 public:
  /// Shares the tokenizer's vocabulary, and keeps it alive. A text that is read while it is generated has no special
  /// tokens in it, unless the options say so.
  explicit StreamDecoder(const Tokenizer& tokenizer, DecodeOptions options = {.skip_special = true});

  /// Makes a decoder of a tokenizer's parts.
  StreamDecoder(std::shared_ptr<const Vocabulary> vocabulary, std::shared_ptr<const detail::DecodingRules> rules,
                DecodeOptions options = {.skip_special = true})
      : vocabulary_(std::move(vocabulary)), rules_(std::move(rules)), options_(options) {}

  /// The text that is final once `token` has come; often empty. Throws Error where `token` is out of range; the decoder
  /// is then as it was, and so where there is no memory.
  std::string feed(TokenId token) {
    std::string text;
    feed(token, text);
    return text;
  }

  /// Appends to `text` what the overload above returns; nothing where it throws.
  void feed(TokenId token, std::string& text) {
    vocabulary_->check(token);
    if (rules_->texts) return feed_by_rules(token, text);
    const PieceType type = vocabulary_->type(token);
    const std::string_view piece = vocabulary_->text(token);
    make_room(text, type == PieceType::byte, type == PieceType::unknown ? rules_->unk_surface.size() : piece.size());
    if (type == PieceType::byte) {
      pending_ += static_cast<char>(Vocabulary::byte_of(piece));
      settle(text, false);
      return;
    }
    settle(text, true);
    if (first_space_seen_ || started_) at_start_ = false;
    first_space_seen_ = false;
    if (type == PieceType::control) return;
    if (type == PieceType::unknown) {
      append(text, rules_->unk_surface);
    } else {
      append_piece(text, piece);
    }
  }

  /// The end of the text: what was held back, an incomplete character as U+FFFD. The decoder then stands at the start
  /// of a new text.
  std::string flush() {
    std::string text;
    flush(text);
    return text;
  }

  /// Appends to `text` what the overload above returns; nothing where it throws.
  void flush(std::string& text) {
    make_room(text, 0, 0);
    if (rules_->texts) {
      settle_run(text);
    } else {
      settle(text, true);
    }
    at_start_ = true;
    first_space_seen_ = started_ = false;
    cut_ = 0;
  }

 private:
  void feed_by_rules(TokenId token, std::string& text) {
    const detail::TokenTexts& texts = *rules_->texts;
    if (options_.skip_special && texts.special(token)) return;
    const int byte = texts.byte(token);
    const bool differs = at_start_ && texts.first_differs();
    const std::string first = differs ? texts.first_text(vocabulary_->text(token)) : std::string();
    const std::string_view own = differs ? std::string_view(first) : texts.text(token);
    make_room(text, byte >= 0, own.size());
    at_start_ = false;
    if (byte >= 0) {
      pending_ += static_cast<char>(byte);
      return;
    }
    settle_run(text);
    append_cut(text, own);
  }

  /// Gives out a run of bytes that is over: as it is, or as U+FFFD for each byte where it is ill-formed anywhere.
  void settle_run(std::string& text) {
    bool good = true;
    for (std::string_view rest = pending_; good && !rest.empty();) {
      const std::size_t length = detail::utf8_character(rest);
      good = length > 0;
      rest.remove_prefix(length);
    }
    for (std::size_t i = 0; !good && i < pending_.size(); ++i) append_cut(text, detail::replacement_character);
    if (good) append_cut(text, pending_);
    pending_.clear();
  }

  /// Appends a part of the text, from whose beginning the decoder's last step takes something away.
  void append_cut(std::string& text, std::string_view part) {
    const TextStep& end = rules_->texts->end();
    while (!started_ && cut_ < end.count && part.starts_with(end.from)) {
      part.remove_prefix(end.from.size());
      ++cut_;
    }
    append(text, part);
  }

  /// Takes the memory for all that a call may append, so that nothing throws once anything has changed: of what is held
  /// back with `bytes` more, and `rest`. Twice as much as there is, so that many calls take time in proportion.
  void make_room(std::string& text, std::size_t bytes, std::size_t rest) {
    pending_.reserve(pending_.size() + bytes);
    const std::size_t room = detail::replacement_character.size() * (pending_.size() + bytes) + rest;
    if (text.capacity() - text.size() < room) text.reserve((std::max)(text.size() + room, 2 * text.capacity()));
  }

  /// Gives out the bytes that make up characters, and U+FFFD for each byte that cannot; at the `end` of a run of byte
  /// pieces, no character can be completed any more.
  void settle(std::string& text, bool end) {
    std::string_view bytes = pending_;
    while (!bytes.empty()) {
      const std::size_t length = detail::utf8_character(bytes);
      if (length == 0 && !end && detail::utf8_incomplete(bytes)) break;
      append(text, length > 0 ? bytes.substr(0, length) : detail::replacement_character);
      bytes.remove_prefix(length > 0 ? length : 1);
    }
    pending_.erase(0, pending_.size() - bytes.size());
  }

  void append_piece(std::string& text, std::string_view piece) {
    if (at_start_ && rules_->strip_first_space && piece.starts_with(detail::space_symbol)) {
      piece.remove_prefix(detail::space_symbol.size());
      first_space_seen_ = !rules_->strip_all_first_spaces;
    }
    while (!piece.empty()) {
      const std::size_t space = piece.find(detail::space_symbol);
      append(text, piece.substr(0, space));
      if (space == std::string_view::npos) break;
      append(text, " ");
      piece.remove_prefix(space + detail::space_symbol.size());
    }
  }

  void append(std::string& text, std::string_view part) {
    text += part;
    started_ = started_ || !part.empty();
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::shared_ptr<const detail::DecodingRules> rules_;
  DecodeOptions options_;
  std::string pending_;            // bytes of a character that isn't whole yet, or of a run that goes on
  bool at_start_ = true;           // a space that comes now was put in front by the normaliser
  bool first_space_seen_ = false;  // by the last piece that was no byte
  bool started_ = false;           // some text has been given out
  std::size_t cut_ = 0;            // how often something was taken from the beginning
};

}}  // namespace mistral
