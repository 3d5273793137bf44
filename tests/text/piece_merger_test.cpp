// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/piece_merger.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../support/rounds.hpp"
#include "model_builder.hpp"

namespace {

using mistral::PieceType;
using mistral::SentencePieceModel;
using mistral::TokenId;
using mistral::Vocabulary;
using mistral::detail::PieceMerger;
using mistral::test::small_model;
using mistral::test::with_bytes;

/// The twin: strings in a list, all pairs looked through before each merge, nothing cut and nothing remembered but what
/// unused pieces are taken apart into.
class NaiveMerger {
 public:
  explicit NaiveMerger(const SentencePieceModel& model) : model_(model) {
    for (std::size_t i = 0; i < model.pieces.size(); ++i) {
      const PieceType type = model.pieces[i].type;
      if (type == PieceType::normal || type == PieceType::unused || type == PieceType::user_defined) {
        ids_[model.pieces[i].text] = i;
      }
    }
  }

  std::vector<TokenId> encode(std::string_view text) {
    std::vector<std::pair<std::string, bool>> symbols;  // text, frozen
    while (!text.empty()) {
      std::size_t length = 0;
      for (const auto& [piece, id] : ids_) {
        if (model_.pieces[id].type == PieceType::user_defined && text.starts_with(piece)) {
          length = std::max(length, piece.size());
        }
      }
      const bool frozen = length > 0;
      if (!frozen) {
        const auto lead = static_cast<unsigned char>(text[0]);
        length = std::min<std::size_t>(text.size(), lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4);
      }
      symbols.emplace_back(text.substr(0, length), frozen);
      text.remove_prefix(length);
    }
    const auto merged = [&](std::size_t i) {
      const auto it =
          symbols[i].second || symbols[i + 1].second ? ids_.end() : ids_.find(symbols[i].first + symbols[i + 1].first);
      return it == ids_.end() ? std::size_t{0} : it->second;
    };
    const auto offer = [&](std::size_t i) {
      if (merged(i) > 0) halves_[symbols[i].first + symbols[i + 1].first] = {symbols[i].first, symbols[i + 1].first};
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) offer(i);
    for (;;) {
      std::size_t best = symbols.size();
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        if (merged(i) == 0) continue;
        if (best == symbols.size() || model_.pieces[merged(i)].score > model_.pieces[merged(best)].score) best = i;
      }
      if (best == symbols.size()) break;
      symbols[best].first += symbols[best + 1].first;
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      if (best > 0) offer(best - 1);
      if (best + 1 < symbols.size()) offer(best);
    }
    std::vector<TokenId> out;
    for (const auto& [symbol, frozen] : symbols) emit(symbol, out);
    return out;
  }

 private:
  void emit(const std::string& symbol, std::vector<TokenId>& out) {
    const auto it = ids_.find(symbol);
    if (it == ids_.end() && model_.byte_fallback) {
      const auto first = model_.pieces.size() - 256;
      for (const char c : symbol) out.push_back(static_cast<TokenId>(first + static_cast<unsigned char>(c)));
    } else if (it == ids_.end()) {
      if (out.empty() || out.back() != 0) out.push_back(0);
    } else if (model_.pieces[it->second].type == PieceType::unused && halves_.count(symbol) > 0) {
      emit(halves_[symbol].first, out);
      emit(halves_[symbol].second, out);
    } else {
      out.push_back(static_cast<TokenId>(it->second));
    }
  }

  const SentencePieceModel& model_;
  std::map<std::string, std::size_t> ids_;  // 0, the unknown piece, is no merge's result
  std::map<std::string, std::pair<std::string, std::string>> halves_;
};

std::string random_text(std::mt19937& random, std::size_t max_length) {
  static const std::vector<std::string> alphabet{
      "a", "b", "c", "\xE2\x96\x81", "\xC3\xA9", "\xE2\x96\x82", "\xF0\x9F\x98\x80"};
  const std::size_t kinds = 1 + random() % alphabet.size();
  std::string text;
  for (std::size_t n = random() % (max_length + 1); n > 0; --n) text += alphabet[random() % kinds];
  return text;
}

SentencePieceModel random_model(std::mt19937& random, bool unused) {
  SentencePieceModel model = small_model({});
  std::map<std::string, bool> taken;
  const std::size_t score_levels = 1 + random() % 30;
  for (std::size_t n = random() % 60; n > 0; --n) {
    const std::string piece = random_text(random, 1 + random() % 6);
    if (piece.empty() || std::exchange(taken[piece], true)) continue;
    const auto kind = random() % 16;
    const PieceType type = kind == 0            ? PieceType::user_defined
                           : kind < 5 && unused ? PieceType::unused
                                                : PieceType::normal;
    model.pieces.push_back({piece, -static_cast<float>(random() % score_levels), type});
  }
  return random() % 2 == 0 ? with_bytes(model) : model;
}

void compare_with_twin(bool unused) {
  std::mt19937 random(unused ? 7 : 11);
  for (int round = 0; round < mistral::test::rounds(300); ++round) {
    const SentencePieceModel model = random_model(random, unused);
    const Vocabulary vocabulary(model, "random");
    const PieceMerger merger(vocabulary);
    for (int i = 0; i < 12; ++i) {
      const std::string text = random_text(random, i < 10 ? 40 : 300);
      CAPTURE(round);
      CAPTURE(text);
      std::vector<TokenId> ids;
      merger.encode(text, ids);
      CHECK(ids == NaiveMerger(model).encode(text));
    }
  }
}

std::vector<TokenId> merge(const SentencePieceModel& model, std::string_view text) {
  const Vocabulary vocabulary(model, "small");
  std::vector<TokenId> ids;
  PieceMerger(vocabulary).encode(text, ids);
  return ids;
}

using Ids = std::vector<TokenId>;

}  // namespace

TEST_CASE("random texts are merged as by a twin that knows no shortcut") { compare_with_twin(false); }

TEST_CASE("random texts are merged as by a twin where some pieces are unused") { compare_with_twin(true); }

TEST_CASE("texts are merged as by a twin where pieces are as long as sentences") {
  std::mt19937 random(5);
  std::size_t long_ids = 0;
  for (int round = 0; round < mistral::test::rounds(12); ++round) {
    SentencePieceModel model = small_model({"a", "\xC3\xA9"});
    std::map<std::string, bool> taken{{"a", true}, {"\xC3\xA9", true}};
    const auto add = [&](const std::string& piece) {
      if (piece.empty() || piece.size() > 200 || std::exchange(taken[piece], true)) return;
      const PieceType type = random() % 8 == 0 && round % 2 == 0 ? PieceType::unused : PieceType::normal;
      // as trainers have it, most parts come before what is made of them
      model.pieces.push_back({piece, -static_cast<float>(model.pieces.size() + random() % 4), type});
    };
    const auto any = [&] { return model.pieces[3 + random() % (model.pieces.size() - 3)].text; };
    for (int i = 0; i < 6; ++i) add(random_text(random, 4));
    std::string grown = "a";
    while (grown.size() < 120)
      add(grown = round % 3 == 0 ? random_text(random, 1) + grown : grown + random_text(random, 1));
    // each put together from others, so that it can be merged from its parts in many ways
    for (int i = 0; i < 150; ++i) add(any() + any());
    const Vocabulary vocabulary(model, "long");
    const PieceMerger merger(vocabulary);
    for (int i = 0; i < 3; ++i) {
      std::string text;
      while (text.size() < 150) text += any();
      CAPTURE(round);
      CAPTURE(text);
      std::vector<TokenId> ids;
      merger.encode(text, ids);
      CHECK(ids == NaiveMerger(model).encode(text));
      for (const TokenId id : ids) long_ids += vocabulary.text(id).size() > 64;
    }
  }
  CHECK(long_ids > 0);
}

TEST_CASE("the best score goes first, and the leftmost pair among equals") {
  // a=3 b=4 c=5 ab=6 bc=7
  CHECK(merge(small_model({"a", "b", "c", "ab", "bc"}), "abc") == Ids{6, 5});
  CHECK(merge(small_model({"a", "b", "c", "bc", "ab"}), "abc") == Ids{3, 6});
  SentencePieceModel equal = small_model({"a", "aa"});
  CHECK(merge(equal, "aaaaa") == Ids{4, 4, 3});
}

TEST_CASE("a merge needs no piece of either half") {
  CHECK(merge(small_model({"ab"}), "ab") == Ids{3});
  CHECK(merge(small_model({"ab"}), "ba") == Ids{0});
  CHECK(merge(with_bytes(small_model({"ab"})), "ba") == Ids{4 + 'b', 4 + 'a'});
}

TEST_CASE("a run of unknown characters is one unknown piece without byte pieces") {
  CHECK(merge(small_model({"a"}), "xyza\xC3\xA9z") == Ids{0, 3, 0});
}

TEST_CASE("the longest user-defined piece is found first and never merges") {
  SentencePieceModel model = small_model({"a", "b", "aab", "ab", "aa", "bb"});
  model.pieces.push_back({"ab", 0.0f, PieceType::user_defined});
  model.pieces[6].text = "cc";
  model.pieces.push_back({"abb", 0.0f, PieceType::user_defined});
  CHECK(merge(model, "aab") == Ids{3, 9});
  CHECK(merge(model, "aabb") == Ids{3, 10});
  CHECK(merge(model, "bbab") == Ids{8, 9});
}
