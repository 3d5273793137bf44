// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/text/sentencepiece_model.hpp>
#include <mistral/text/string_hash.hpp>
#include <mistral/text/tokenizer_rules.hpp>
#include <mistral/text/vocabulary.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// What merging works on: the id of a piece; or, from vocabulary.size() on, a character that only occurs inside pieces;
/// or a negative number, which never merges.
using Symbol = std::int32_t;

inline constexpr Symbol no_symbol = -1;  // a character that occurs in no piece

/// What two neighbouring symbols become, and how early: pairs of lower rank go first.
struct Merge {
  static constexpr std::uint32_t never = (std::numeric_limits<std::uint32_t>::max)();

  std::uint32_t rank = never;
  Symbol merged = no_symbol;
};

/// The merges of a vocabulary, by pair: those that its pieces allow, or those of a list. SentencePiece merges two
/// neighbours whenever the text of both together is a piece, so a piece is entered once for every way to cut it into
/// two symbols.
class MergeTable {
 public:
  explicit MergeTable(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
    ascii_.fill(no_symbol);
    rank_pieces();
    add_characters();
    add_pairs();
  }

  /// The merges of a tokenizer.json, and no others, each with a rank of its own.
  MergeTable(const Vocabulary& vocabulary, const TokenizerRules& rules) : vocabulary_(vocabulary) {
    ascii_.fill(no_symbol);
    check_count(static_cast<std::int64_t>(rules.model_size));
    for (std::size_t i = 0; i < rules.model_size; ++i) {
      const auto id = static_cast<TokenId>(i);
      const std::string_view piece = vocabulary_.text(id);
      if (piece.size() == character_length(piece) && is_text(vocabulary_.type(id))) add_character(piece, id);
    }
    add_pairs(rules.merges);
  }

  /// The length of the first character of `text`, which is not empty, as merging sees it.
  static std::size_t character_length(std::string_view text) noexcept {
    const std::size_t length = utf8_length(byte_at(text, 0));
    return length < text.size() ? length : text.size();
  }

  Symbol symbol_of_character(std::string_view character) const noexcept {
    if (character.size() == 1 && byte_at(character, 0) < 0x80) return ascii_[byte_at(character, 0)];
    const auto it = characters_.find(key(character));
    return it == characters_.end() ? no_symbol : it->second;
  }

  Merge find(Symbol left, Symbol right) const noexcept {
    if ((left | right) < 0) return {};
    const std::uint64_t key = pair_key(left, right);
    for (std::size_t i = hash_word(key) & (pairs_.size() - 1);; i = (i + 1) & (pairs_.size() - 1)) {
      const std::uint64_t pair = pairs_[i];
      if (pair >> slot_bits == key) return merges_[pair & max_slot];
      if (pair == no_pair) return {};
    }
  }

  /// Whether merging may ever cross the boundary between two neighbouring characters, given their classes: where no
  /// piece has such neighbours inside, the text on either side is encoded as if it stood alone.
  bool joins(unsigned left, unsigned right) const noexcept {
    return (joins_[left * 4 + right / 64] >> (right % 64) & 1u) != 0;
  }

  /// The class, 0 ... 255, of a character for joins(): ASCII and the space symbol have one each, others share.
  static unsigned class_of_character(std::string_view character) noexcept {
    const unsigned char lead = byte_at(character, 0);
    if (lead < 0x80) return lead;
    if (character == space_symbol) return 0x80;
    unsigned hash = 0;
    for (const char c : character) hash = hash * 31 + static_cast<unsigned char>(c);
    return 0x81 + hash % 127;
  }

  /// Whether pieces of this type can come out of a merge.
  static bool merges(PieceType type) noexcept { return type == PieceType::normal || type == PieceType::unused; }

  /// Whether pieces of this type stand for a text that a list of merges gives.
  static bool is_text(PieceType type) noexcept { return type == PieceType::normal || type == PieceType::user_defined; }

 private:
  // A pair and the place of what it becomes fill one word: two symbols of 21 bits, and 22. The last symbol is left out,
  // so that no entry is a word of ones.
  static constexpr unsigned symbol_bits = 21;
  static constexpr std::uint64_t max_symbol = (std::uint64_t{1} << symbol_bits) - 1;
  static constexpr unsigned slot_bits = 64 - 2 * symbol_bits;
  static constexpr std::uint64_t max_slot = (std::uint64_t{1} << slot_bits) - 1;
  using Slot = std::uint32_t;
  static constexpr std::uint64_t no_pair = ~std::uint64_t{0};

  static std::uint64_t pair_key(Symbol left, Symbol right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << symbol_bits | static_cast<std::uint32_t>(right);
  }

  static std::uint64_t key(std::string_view character) noexcept {
    std::uint64_t key = character.size();
    for (const char c : character) key = key << 8 | static_cast<unsigned char>(c);
    return key;
  }

  template <class Visit>
  void for_each_mergeable(Visit visit) const {
    for (std::size_t i = 0; i < vocabulary_.size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      if (merges(vocabulary_.type(id))) visit(id, vocabulary_.text(id));
    }
  }

  /// Equal scores have equal ranks: among those, SentencePiece merges the leftmost pair first.
  void rank_pieces() {
    std::vector<TokenId> ids;
    for_each_mergeable([&](TokenId id, std::string_view) { ids.push_back(id); });
    std::sort(ids.begin(), ids.end(),
              [&](TokenId a, TokenId b) { return vocabulary_.score(a) > vocabulary_.score(b); });
    merges_.assign(vocabulary_.size(), Merge{});
    std::uint32_t rank = 0;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i > 0 && vocabulary_.score(ids[i]) < vocabulary_.score(ids[i - 1])) ++rank;
      merges_[static_cast<std::size_t>(ids[i])] = {rank, ids[i]};
    }
  }

  void add_characters() {
    auto next = static_cast<Symbol>(vocabulary_.size());
    check_count(next);
    for_each_mergeable([&](TokenId, std::string_view piece) {
      add_joins(piece);
      for (std::size_t at = 0; at < piece.size();) {
        const std::string_view character = piece.substr(at, character_length(piece.substr(at)));
        at += character.size();
        if (symbol_of_character(character) != no_symbol) continue;
        const TokenId id = vocabulary_.find(character);
        const Symbol symbol = id >= 0 && merges(vocabulary_.type(id)) ? id : next++;
        check_count(next);
        add_character(character, symbol);
      }
    });
  }

  void add_character(std::string_view character, Symbol symbol) {
    if (character.size() == 1 && byte_at(character, 0) < 0x80) {
      ascii_[byte_at(character, 0)] = symbol;
    } else {
      characters_.emplace(key(character), symbol);
    }
  }

  /// Notes which characters are neighbours inside a piece.
  void add_joins(std::string_view piece) {
    unsigned previous = 0;
    for (std::size_t at = 0; at < piece.size();) {
      const std::string_view character = piece.substr(at, character_length(piece.substr(at)));
      const unsigned current = class_of_character(character);
      if (at > 0) joins_[previous * 4 + current / 64] |= std::uint64_t{1} << (current % 64);
      previous = current;
      at += character.size();
    }
  }

  void check_count(std::int64_t count) const {
    if (static_cast<std::uint64_t>(count) > max_symbol) {
      throw Error("tokenizer", vocabulary_.name() + ": pieces and characters", "less than 2097152", "more");
    }
  }

  // Up to here, looking up each part of a piece, which takes the square of its length, is the faster way.
  static constexpr std::size_t long_piece = 64;

  /// For each of the texts by id, of which those that are empty don't count, the longest other one that it begins with,
  /// or -1; going on from there gives all of them. Takes the time of sorting them.
  static std::vector<TokenId> longest_parts(const std::vector<std::string_view>& texts) {
    std::vector<TokenId> sorted;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (!texts[i].empty()) sorted.push_back(static_cast<TokenId>(i));
    }
    const auto text = [&](TokenId id) { return texts[static_cast<std::size_t>(id)]; };
    std::sort(sorted.begin(), sorted.end(), [&](TokenId a, TokenId b) { return text(a) < text(b); });
    std::vector<TokenId> longest(texts.size(), -1);
    TokenId last = -1;  // the piece before, which stands behind all that it begins with
    for (const TokenId id : sorted) {
      while (last >= 0 && !text(id).starts_with(text(last))) last = longest[static_cast<std::size_t>(last)];
      longest[static_cast<std::size_t>(id)] = last;
      last = id;
    }
    return longest;
  }

  Symbol symbol_of_part(std::string_view part) const noexcept {
    if (part.size() == character_length(part)) return symbol_of_character(part);
    const TokenId id = vocabulary_.find(part);
    return id >= 0 && merges(vocabulary_.type(id)) ? id : no_symbol;
  }

  template <class Visit>
  void for_each_cut_of_short(TokenId id, std::string_view piece, Visit& visit) const {
    for (std::size_t at = character_length(piece); at < piece.size(); at += character_length(piece.substr(at))) {
      const Symbol left = symbol_of_part(piece.substr(0, at));
      if (left == no_symbol) continue;
      const Symbol right = symbol_of_part(piece.substr(at));
      if (right != no_symbol) visit(id, left, right);
    }
  }

  /// What long pieces begin and end with: see longest_parts.
  struct LongPieces {
    std::vector<TokenId> beginnings, ends;         // empty where no piece is long
    mutable std::vector<Symbol> left, right = {};  // of one piece, by the place of the cut: in front of it, behind it
  };

  template <class Visit>
  void for_each_cut_of_long(TokenId id, std::string_view piece, const LongPieces& pieces, Visit& visit) const {
    const auto parts = [&](const std::vector<TokenId>& longest, auto&& take) {
      for (TokenId part = longest[static_cast<std::size_t>(id)]; part >= 0;
           part = longest[static_cast<std::size_t>(part)]) {
        take(vocabulary_.text(part).size(), part);
      }
    };
    pieces.left.assign(piece.size() + 1, no_symbol);
    pieces.right.assign(piece.size() + 1, no_symbol);
    parts(pieces.beginnings, [&](std::size_t size, TokenId part) { pieces.left[size] = part; });
    parts(pieces.ends, [&](std::size_t size, TokenId part) { pieces.right[piece.size() - size] = part; });
    const std::size_t first = character_length(piece);
    pieces.left[first] = symbol_of_character(piece.substr(0, first));
    for (std::size_t at = first, next = 0; at < piece.size(); at = next) {
      next = at + character_length(piece.substr(at));
      if (next == piece.size()) pieces.right[at] = symbol_of_character(piece.substr(at));
      if (pieces.left[at] != no_symbol && pieces.right[at] != no_symbol) visit(id, pieces.left[at], pieces.right[at]);
    }
  }

  /// The two symbols that a piece may be cut into, for every way to do that.
  template <class Visit>
  void for_each_cut(const LongPieces& pieces, Visit visit) const {
    for_each_mergeable([&](TokenId id, std::string_view piece) {
      if (piece.size() > long_piece) {
        for_each_cut_of_long(id, piece, pieces, visit);
      } else {
        for_each_cut_of_short(id, piece, visit);
      }
    });
  }

  LongPieces long_pieces() const {
    LongPieces pieces;
    bool any = false;
    std::vector<std::string_view> texts(vocabulary_.size());
    for_each_mergeable([&](TokenId id, std::string_view piece) {
      texts[static_cast<std::size_t>(id)] = piece;
      any = any || piece.size() > long_piece;
    });
    if (!any) return pieces;
    pieces.beginnings = longest_parts(texts);
    std::string backwards;
    for (const std::string_view text : texts) backwards.append(text.rbegin(), text.rend());
    std::size_t at = 0;
    for (std::string_view& text : texts) {
      text = std::string_view(backwards).substr(at, text.size());
      at += text.size();
    }
    pieces.ends = longest_parts(texts);
    return pieces;
  }

  void add_pairs() {
    const LongPieces pieces = long_pieces();
    std::size_t count = 0;
    for_each_cut(pieces, [&](TokenId, Symbol, Symbol) { ++count; });
    pairs_.assign(table_slots(count), no_pair);
    for_each_cut(pieces, [&](TokenId id, Symbol left, Symbol right) { add_pair(left, right, static_cast<Slot>(id)); });
  }

  void add_pairs(const std::vector<ListedMerge>& merges) {
    if (merges.size() > max_slot) {
      throw Error("tokenizer", vocabulary_.name() + ": merges", "less than 4194304", std::to_string(merges.size()));
    }
    pairs_.assign(table_slots(merges.size()), no_pair);
    merges_.reserve(merges.size());
    for (const ListedMerge& merge : merges) {
      if (find(merge.left, merge.right).rank != Merge::never) {
        throw Error("tokenizer", vocabulary_.name() + ": merges[" + std::to_string(merges_.size()) + "]", "a pair once",
                    "'" + printable(vocabulary_.text(merge.merged), 40) + "' of the same pieces twice");
      }
      if (!is_text(vocabulary_.type(merge.merged))) {  // no text may give a control piece
        throw Error("tokenizer", vocabulary_.name() + ": merges[" + std::to_string(merges_.size()) + "]",
                    "a piece of text", "'" + printable(vocabulary_.text(merge.merged), 40) + "', which is none");
      }
      add_joins(vocabulary_.text(merge.merged));
      const auto slot = static_cast<Slot>(merges_.size());
      merges_.push_back({slot, merge.merged});
      add_pair(merge.left, merge.right, slot);
    }
  }

  void add_pair(Symbol left, Symbol right, Slot slot) {
    const std::uint64_t key = pair_key(left, right);
    std::size_t i = hash_word(key) & (pairs_.size() - 1);
    for (std::size_t probes = 0; pairs_[i] != no_pair; i = (i + 1) & (pairs_.size() - 1)) {
      if (++probes > max_probes) {
        throw Error("tokenizer", vocabulary_.name() + ": pieces", "pieces that differ", "pieces made to collide");
      }
    }
    pairs_[i] = key << slot_bits | slot;
  }

  const Vocabulary& vocabulary_;
  std::array<Symbol, 128> ascii_;
  std::unordered_map<std::uint64_t, Symbol> characters_;
  std::array<std::uint64_t, 256 * 4> joins_{};
  std::vector<std::uint64_t> pairs_;
  std::vector<Merge> merges_;  // by slot: that of a piece is its id, that of a list's merge its place in it
};

}}}  // namespace mistral::detail
