// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/token.hpp>
#include <mistral/text/merge_table.hpp>
#include <mistral/text/prefix_trie.hpp>
#include <mistral/text/vocabulary.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// Byte pair encoding as SentencePiece defines it: a normalised text starts as its characters (and the user-defined
/// pieces in it, which never merge), and as long as two neighbours make up a piece together, the pair with the best
/// score is merged, the leftmost of equals first.
class PieceMerger {
 public:
  explicit PieceMerger(const Vocabulary& vocabulary) : vocabulary_(vocabulary), table_(vocabulary) {
    std::vector<std::string_view> user_defined;
    whole_.assign(vocabulary.size(), false);
    for (std::size_t i = 0; i < vocabulary.size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      if (vocabulary.type(id) == PieceType::unused) has_unused_ = true;
      if (vocabulary.type(id) != PieceType::user_defined) continue;
      if (vocabulary.text(id).find('\0') != std::string_view::npos) {
        throw Error("tokenizer", vocabulary.name() + ": user-defined piece " + std::to_string(id), "text without zeros",
                    "a zero byte");
      }
      user_defined.push_back(vocabulary.text(id));
    }
    if (!user_defined.empty()) user_defined_ = PrefixTrie(std::move(user_defined));
    if (!has_unused_) find_whole_pieces(vocabulary.size());
  }

  /// One that merges by the list of a tokenizer.json, which takes added tokens out of a text before.
  PieceMerger(const Vocabulary& vocabulary, const TokenizerRules& rules)
      : vocabulary_(vocabulary), table_(vocabulary, rules), fuses_unknown_(rules.fuse_unknown) {
    whole_.assign(vocabulary.size(), false);
    find_whole_pieces(rules.model_size);
  }

  const PrefixTrie& user_defined() const noexcept { return user_defined_; }

  /// Appends the ids of a normalised text. Throws Error where a part of it that must be looked at as a whole has more
  /// than 2^31 characters.
  void encode(std::string_view text, std::vector<TokenId>& ids) const {
    if (has_unused_) {
      encode_with_unused(text, ids);
      return;
    }
    while (!text.empty()) {
      if (user_defined_.starts_with(byte_at(text, 0))) {
        if (const std::size_t length = user_defined_.match(text)) {
          ids.push_back(vocabulary_.find(text.substr(0, length)));
          text.remove_prefix(length);
          continue;
        }
      }
      const std::size_t length = segment_length(text);
      encode_segment(text.substr(0, length), ids);
      text.remove_prefix(length);
    }
  }

 private:
  static constexpr std::size_t short_segment = 32;  // up to here, looking through all pairs beats a heap

  static std::string_view first_character(std::string_view text) noexcept {
    return text.substr(0, MergeTable::character_length(text));
  }

  /// The length of the first part of `text` that no merge can leave.
  std::size_t segment_length(std::string_view text) const noexcept {
    const std::string_view first = first_character(text);
    unsigned left = MergeTable::class_of_character(first);
    std::size_t at = first.size();
    while (at < text.size()) {
      unsigned right = byte_at(text, at);
      std::size_t length = 1;
      if (right >= 0x80) {
        const std::string_view character = first_character(text.substr(at));
        right = MergeTable::class_of_character(character);
        length = character.size();
      }
      if (!table_.joins(left, right)) break;
      if (user_defined_.starts_with(byte_at(text, at)) && user_defined_.match(text.substr(at)) > 0) break;
      left = right;
      at += length;
    }
    return at;
  }

  void encode_segment(std::string_view segment, std::vector<TokenId>& ids) const {
    const TokenId whole = vocabulary_.find(segment);
    if (whole >= 0 && whole_[static_cast<std::size_t>(whole)]) {
      ids.push_back(whole);
    } else {
      merge_segment(segment, ids);
    }
  }

  void merge_segment(std::string_view segment, std::vector<TokenId>& ids) const {
    std::array<Symbol, short_segment> symbols;
    std::size_t count = 0;
    for (std::size_t at = 0; at < segment.size(); ++count) {
      if (count == short_segment) {
        merge_long(segment, ids);
        return;
      }
      const std::string_view character = first_character(segment.substr(at));
      symbols[count] = table_.symbol_of_character(character);
      at += character.size();
    }
    count = merge_short(symbols, count);
    for (std::size_t i = 0; i < count; ++i) segment.remove_prefix(append_id(symbols[i], segment, ids));
  }

  /// Merges the first `count` symbols in place, and gives back how many are left.
  std::size_t merge_short(std::array<Symbol, short_segment>& symbols, std::size_t count) const noexcept {
    std::array<Merge, short_segment> merges;  // merges[i] is of symbols i and i + 1
    for (std::size_t i = 0; i + 1 < count; ++i) merges[i] = table_.find(symbols[i], symbols[i + 1]);
    while (count > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < count; ++i) {
        if (merges[i].rank < merges[best].rank) best = i;
      }
      if (merges[best].rank == Merge::never) break;
      symbols[best] = merges[best].merged;
      --count;
      for (std::size_t i = best + 1; i < count; ++i) {
        symbols[i] = symbols[i + 1];
        merges[i - 1] = merges[i];
      }
      if (best > 0) merges[best - 1] = table_.find(symbols[best - 1], symbols[best]);
      if (best + 1 < count) merges[best] = table_.find(symbols[best], symbols[best + 1]);
    }
    return count;
  }

  /// Symbols in a row, each linked to its neighbours, and the merge of each with its right neighbour.
  struct Row {
    struct Node {
      Symbol symbol;
      std::uint32_t previous, next;
      Merge merge;
    };
    static constexpr std::uint32_t none = Merge::never;

    std::vector<Node> nodes;

    void add(Symbol symbol) {
      const auto i = static_cast<std::uint32_t>(nodes.size());
      nodes.push_back({symbol, i == 0 ? none : i - 1, i + 1, {}});
    }
  };

  void check_length(std::string_view segment) const {
    if (segment.size() >= std::size_t{1} << 31) {
      throw Error("tokenizer", vocabulary_.name() + ": text without a place to cut it", "less than 2 GiB",
                  std::to_string(segment.size()) + " bytes");
    }
  }

  void merge_long(std::string_view segment, std::vector<TokenId>& ids) const {
    check_length(segment);
    Row row;
    row.nodes.reserve(segment.size());
    for (std::size_t at = 0; at < segment.size();) {
      const std::string_view character = first_character(segment.substr(at));
      row.add(table_.symbol_of_character(character));
      at += character.size();
    }
    merge_row(row, [](const Merge&, Symbol, Symbol) {});
    for (std::uint32_t i = 0; i != Row::none; i = row.nodes[i].next) {
      segment.remove_prefix(append_id(row.nodes[i].symbol, segment, ids));
    }
  }

  /// Merges all that can be merged; what is left is linked, from node 0 on. A heap of (rank, position) gives the next
  /// pair. An entry is stale where the pair at its position now has another rank; where it has the same rank, it is
  /// that pair's turn, whichever entry says so. `offered` hears of every pair that could be merged, in SentencePiece's
  /// order.
  template <class Offered>
  void merge_row(Row& row, Offered offered) const {
    auto& nodes = row.nodes;
    nodes.back().next = Row::none;
    std::vector<std::uint64_t> heap;
    const auto offer = [&](std::uint32_t left) {
      Row::Node& node = nodes[left];
      node.merge = table_.find(node.symbol, nodes[node.next].symbol);
      if (node.merge.rank == Merge::never) return false;
      offered(node.merge, node.symbol, nodes[node.next].symbol);
      heap.push_back(std::uint64_t{node.merge.rank} << 32 | left);
      return true;
    };
    for (std::uint32_t i = 0; i + 1 < nodes.size(); ++i) offer(i);
    std::make_heap(heap.begin(), heap.end(), std::greater<>{});

    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), std::greater<>{});
      const std::uint64_t top = heap.back();
      heap.pop_back();
      const auto left = static_cast<std::uint32_t>(top);
      if (nodes[left].merge.rank != top >> 32) continue;

      Row::Node& node = nodes[left];
      Row::Node& right = nodes[node.next];
      node.symbol = node.merge.merged;
      node.merge = {};
      right.merge = {};
      node.next = right.next;
      if (node.next != Row::none) nodes[node.next].previous = left;
      if (node.previous != Row::none && offer(node.previous)) {
        std::push_heap(heap.begin(), heap.end(), std::greater<>{});
      }
      if (node.next != Row::none && offer(left)) std::push_heap(heap.begin(), heap.end(), std::greater<>{});
    }
  }

  /// The way that SentencePiece goes where a vocabulary has unused pieces: an unused piece is taken apart into the pair
  /// that was last offered for it anywhere in the text, so the text must be merged as a whole.
  void encode_with_unused(std::string_view text, std::vector<TokenId>& ids) const {
    if (text.empty()) return;
    check_length(text);
    Row row;
    for (std::size_t at = 0; at < text.size();) {
      const std::string_view rest = text.substr(at);
      const std::size_t length = user_defined_.starts_with(byte_at(rest, 0)) ? user_defined_.match(rest) : 0;
      if (length > 0) {
        row.add(-2 - vocabulary_.find(rest.substr(0, length)));
        at += length;
      } else {
        row.add(table_.symbol_of_character(first_character(rest)));
        at += first_character(rest).size();
      }
    }
    std::vector<std::pair<Symbol, Symbol>> halves(vocabulary_.size(), {no_symbol, no_symbol});
    merge_row(row, [&](const Merge& merge, Symbol left, Symbol right) {
      halves[static_cast<std::size_t>(merge.merged)] = {left, right};
    });

    std::vector<Symbol> parts;
    for (std::uint32_t i = 0; i != Row::none; i = row.nodes[i].next) {
      parts.push_back(row.nodes[i].symbol);
      while (!parts.empty()) {
        const Symbol symbol = parts.back();
        parts.pop_back();
        const bool is_piece = symbol >= 0 && static_cast<std::size_t>(symbol) < vocabulary_.size();
        if (symbol <= -2) {
          ids.push_back(-2 - symbol);
          text.remove_prefix(vocabulary_.text(ids.back()).size());
        } else if (is_piece && vocabulary_.type(symbol) == PieceType::unused &&
                   halves[static_cast<std::size_t>(symbol)].first != no_symbol) {
          parts.push_back(halves[static_cast<std::size_t>(symbol)].second);
          parts.push_back(halves[static_cast<std::size_t>(symbol)].first);
        } else {
          text.remove_prefix(append_id(symbol, text, ids));
        }
      }
    }
  }

  /// Appends the id of `symbol`, with which `text` starts, and gives back how much of `text` it stands for.
  std::size_t append_id(Symbol symbol, std::string_view text, std::vector<TokenId>& ids) const {
    if (symbol >= 0 && static_cast<std::size_t>(symbol) < vocabulary_.size()) {
      ids.push_back(symbol);
      return vocabulary_.text(symbol).size();
    }
    const std::string_view character = first_character(text);
    if (vocabulary_.byte_id(0) >= 0) {
      for (const char c : character) ids.push_back(vocabulary_.byte_id(static_cast<unsigned char>(c)));
    } else if (!fuses_unknown_ || ids.empty() || ids.back() != vocabulary_.unk_id()) {
      ids.push_back(vocabulary_.unk_id());  // one for a run of unknown characters
    }
    return character.size();
  }

  /// Finds the pieces whose own text is encoded as that piece: most words of a text are one, and need no merging. Those
  /// that are longer than any word are merged when they come.
  void find_whole_pieces(std::size_t end) {
    std::vector<TokenId> ids;
    for (std::size_t i = 0; i < end; ++i) {
      const auto id = static_cast<TokenId>(i);
      if (!is_candidate(vocabulary_.type(id)) || vocabulary_.text(id).size() > 4 * short_segment) continue;
      ids.clear();
      merge_segment(vocabulary_.text(id), ids);
      whole_[i] = ids.size() == 1 && ids[0] == id;
    }
  }

  // user-defined pieces are found before any merging; with a trie, in the text, and without, as added tokens
  bool is_candidate(PieceType type) const noexcept {
    return type == PieceType::normal || (type == PieceType::user_defined && user_defined_.empty());
  }

  const Vocabulary& vocabulary_;
  MergeTable table_;
  PrefixTrie user_defined_;
  std::vector<bool> whole_;  // by id
  bool has_unused_ = false;
  bool fuses_unknown_ = true;
};

}}}  // namespace mistral::detail
