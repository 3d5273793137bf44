// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/added_tokens.hpp>
#include <mistral/text/piece_merger.hpp>
#include <mistral/text/string_hash.hpp>
#include <mistral/text/text_range.hpp>
#include <mistral/text/tokenizer_rules.hpp>
#include <mistral/text/vocabulary.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Encodes texts by the rules of a tokenizer.json: added tokens are taken out, what stands between them is normalized,
/// normalized added tokens are taken out of that, and the merger gives the ids of the rest.
class RulesEncoder {
 public:
  /// Both must outlive the encoder.
  RulesEncoder(const TokenizerRules& rules, const Vocabulary& vocabulary, const PieceMerger& merger)
      : vocabulary_(vocabulary),
        merger_(merger),
        normalizer_(rules.normalizer),
        metaspace_(rules.metaspace),
        ignore_merges_(rules.ignore_merges),
        model_size_(rules.model_size),
        all_(rules.added, *this, [](PieceType) { return true; }),
        of_text_(rules.added, *this, [](PieceType type) { return type == PieceType::user_defined; }) {
    for (const AddedToken& token : rules.added) {
      if (token.normalized && !is_of_text(token)) normalized_controls_.push_back(token.content);
    }
  }

  /// Appends the ids of a text. Added tokens that are control pieces are found where all of one stands in a trusted
  /// range; those of the text's own anywhere. The ranges are in order, and none touches the next. Bytes that are no
  /// UTF-8 count as U+FFFD each. Throws Error for a control piece that is looked for in normalized text, where a
  /// trusted range holds it and other text is normalized with it: there it can't be told whose it is.
  void encode(std::string_view text, std::span<const TextRange> trusted, std::vector<TokenId>& ids) const {
    std::string repaired;
    std::vector<TextRange> moved;
    if (!is_well_formed(text)) {
      repaired = well_formed(text, trusted, moved);
      text = repaired;
      trusted = moved;
    }
    const Finders& finders = trusted.empty() ? of_text_ : all_;
    const auto accepts = [&](const AddedToken& token, std::size_t begin, std::size_t end) {
      return is_of_text(token) || is_within(trusted, begin, end);
    };
    const auto token = [&](TokenId id) { ids.push_back(id); };
    const auto section = [&](std::string_view part, std::size_t place) {
      const bool begins = place == 0;
      const bool trusts_all = is_within(trusted, place, place + part.size());
      if (!trusts_all) refuse_normalized(text, place, place + part.size(), trusted);
      const Finders& inside = trusts_all ? all_ : of_text_;
      if (normalizer_.empty()) return encode_normalized(part, begins, inside, ids);
      encode_normalized(apply_steps(normalizer_, part), begins, inside, ids);
    };
    if (text.empty()) return;
    ids.reserve(ids.size() + text.size() / 3 + 4);
    if (finders.plain.empty()) return section(text, 0);
    finders.plain.split(text, section, token, accepts);
  }

 private:
  struct Finders {
    AddedTokenFinder plain, normalized;

    template <class Wanted>
    Finders(const std::vector<AddedToken>& tokens, const RulesEncoder& encoder, Wanted wanted) {
      std::vector<std::pair<std::string, AddedToken>> in_text, in_normalized;
      // of tokens that are the same when they are normalized, the special ones come first
      for (const bool special : {true, false}) {
        for (const AddedToken& token : tokens) {
          if (token.special != special || !wanted(encoder.vocabulary_.type(token.id))) continue;
          if (!token.normalized) {
            in_text.emplace_back(token.content, token);
            continue;
          }
          in_normalized.emplace_back(apply_steps(encoder.normalizer_, token.content), token);
          if (in_normalized.back().first.empty()) {
            throw Error("tokenizer",
                        encoder.vocabulary_.name() + ": added token '" + printable(token.content, 40) + "'",
                        "text behind the normalizer", "none");
          }
        }
      }
      plain = AddedTokenFinder(std::move(in_text));
      normalized = AddedTokenFinder(std::move(in_normalized));
    }
  };

  static bool is_well_formed(std::string_view text) noexcept {
    for (std::size_t at = 0; at < text.size();) {
      constexpr std::uint64_t high_bits = 0x8080808080808080;
      if (at + 8 <= text.size() && (load_word<std::uint64_t>(text.data() + at) & high_bits) == 0) {
        at += 8;
        continue;
      }
      if (byte_at(text, at) < 0x80) {
        ++at;
        continue;
      }
      const std::size_t length = utf8_character(text.substr(at));
      if (length == 0) return false;
      at += length;
    }
    return true;
  }

  bool is_of_text(const AddedToken& token) const noexcept {
    return vocabulary_.type(token.id) == PieceType::user_defined;
  }

  void refuse_normalized(std::string_view text, std::size_t begin, std::size_t end,
                         std::span<const TextRange> trusted) const {
    for (const std::string& control : normalized_controls_) {
      for (const TextRange& range : trusted) {
        const std::size_t first = (std::max)(begin, range.begin), last = (std::min)(end, range.end);
        if (first >= last || text.substr(first, last - first).find(control) == std::string_view::npos) continue;
        throw Error("tokenizer", vocabulary_.name() + ": added token '" + printable(control, 40) + "'",
                    "one that isn't looked for in normalized text, to tell a template's from a message's",
                    "\"normalized\": true");
      }
    }
  }

  // The text with U+FFFD for bytes that are no UTF-8, and where the ranges are in it. No character stands across the
  // border of a range.
  static std::string well_formed(std::string_view text, std::span<const TextRange> ranges,
                                 std::vector<TextRange>& moved) {
    std::string good;
    const auto append = [&](std::size_t begin, std::size_t end) {
      for (std::string_view rest = text.substr(begin, end - begin); !rest.empty();) {
        const std::size_t length = utf8_character(rest);
        good += length > 0 ? rest.substr(0, length) : replacement_character;
        rest.remove_prefix(length > 0 ? length : 1);
      }
    };
    std::size_t done = 0;
    for (const TextRange& range : ranges) {
      append(done, range.begin);
      const std::size_t begin = good.size();
      append(range.begin, range.end);
      moved.push_back({begin, good.size()});
      done = range.end;
    }
    append(done, text.size());
    return good;
  }

  void encode_normalized(std::string_view text, bool begins, const Finders& finders, std::vector<TokenId>& ids) const {
    if (text.empty()) return;
    const auto part = [&](std::string_view words, std::size_t place) {
      encode_words(words, begins && place == 0, ids);
    };
    if (finders.normalized.empty()) return part(text, 0);
    finders.normalized.split(
        text, part, [&](TokenId id) { ids.push_back(id); },
        [](const AddedToken&, std::size_t, std::size_t) { return true; });
  }

  void encode_words(std::string_view text, bool begins, std::vector<TokenId>& ids) const {
    if (!metaspace_) return encode_word(text, ids);
    const std::string& space = metaspace_->replacement;
    const bool prepends = metaspace_->prepend == Metaspace::Prepend::always ||
                          (begins && metaspace_->prepend == Metaspace::Prepend::first);
    std::string words;
    words.reserve(text.size() + text.size() / 2 + 16);
    if (prepends && !text.starts_with(' ') && !text.starts_with(space)) words = space;
    append_replaced(words, text, " ", space);
    if (!metaspace_->split) return encode_word(words, ids);
    for (std::string_view rest = words; !rest.empty();) {  // a word begins at each replacement
      const std::size_t length = (std::min)(rest.find(space, 1), rest.size());
      encode_word(rest.substr(0, length), ids);
      rest.remove_prefix(length);
    }
  }

  void encode_word(std::string_view word, std::vector<TokenId>& ids) const {
    if (ignore_merges_) {
      const TokenId id = vocabulary_.find(word);
      const auto is_piece = [&](PieceType type) { return MergeTable::is_text(type) || type == PieceType::byte; };
      if (id >= 0 && static_cast<std::size_t>(id) < model_size_ && is_piece(vocabulary_.type(id))) {
        ids.push_back(id);
        return;
      }
    }
    if (ids.empty() || ids.back() != vocabulary_.unk_id()) return merger_.encode(word, ids);
    std::vector<TokenId> own;  // an unknown character in it is no part of the run before
    merger_.encode(word, own);
    ids.insert(ids.end(), own.begin(), own.end());
  }

  const Vocabulary& vocabulary_;
  const PieceMerger& merger_;
  std::vector<TextStep> normalizer_;
  std::optional<Metaspace> metaspace_;
  bool ignore_merges_;
  std::size_t model_size_;
  Finders all_, of_text_;
  std::vector<std::string> normalized_controls_;
};

}}}  // namespace mistral::detail
