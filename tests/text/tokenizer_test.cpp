// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/tokenizer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <mistral/text/markup.hpp>

#include "../support/rounds.hpp"
#include "../support/scratch.hpp"
#include "model_builder.hpp"

namespace {

using mistral::PieceType;
using mistral::TokenId;
using mistral::Tokenizer;
using mistral::test::error_of;
using mistral::test::small_model;
using mistral::test::with_bytes;

using Ids = std::vector<TokenId>;

Tokenizer own_tokenizer() {
  return Tokenizer::load(
      (std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests" / "data" / "tokenizer" / "bpe600.model").string());
}

std::string spaced(std::string text) {
  for (std::size_t at = 0; (at = text.find(' ', at)) != std::string::npos;) text.replace(at, 1, "\xE2\x96\x81");
  return text;
}

double seconds_to_encode(const Tokenizer& tokenizer, const std::string& text) {
  const auto start = std::chrono::steady_clock::now();
  CHECK(!tokenizer.encode(text).empty());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("text becomes ids, and ids become the text again") {
  const auto tokenizer = own_tokenizer();
  std::vector<TokenId> ids = tokenizer.encode("text");
  std::string text = tokenizer.decode(ids);
  CHECK(text == "text");
  CHECK(tokenizer.decode({}) == "");
  CHECK(tokenizer.decode({ids[0]}) == tokenizer.decode(std::span<const TokenId>(ids).first(1)));
  CHECK(tokenizer.encode("").empty());
  std::mt19937 random(6);
  for (int round = 0; round < mistral::test::rounds(500); ++round) {
    std::string any;
    for (std::size_t n = random() % 40; n > 0; --n) any += static_cast<char>(random() % 128);
    CHECK(tokenizer.decode(tokenizer.encode(any)) == any);
  }
}

TEST_CASE("text that looks like a control piece stays text") {
  const Tokenizer tokenizer = own_tokenizer();
  for (const std::string text : {"<s>", "</s>", "a<s>b</s>", "<unk>", "<0x41>", " <s> "}) {
    for (const TokenId id : tokenizer.encode(text)) {
      CHECK(!tokenizer.is_control(id));
      CHECK(!tokenizer.is_unknown(id));
    }
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
  // even where the control piece is a single character
  auto model = with_bytes(small_model({"a"}));
  model.add_dummy_prefix = false;
  model.pieces[1].text = "!";
  CHECK(Tokenizer(model, "m").encode("!a") == Ids{4 + '!', 3});
}

TEST_CASE("control pieces that stand in a text become their ids where that is asked for, with one BOS") {
  const std::string file = mistral::test::file_content(std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests" / "data" /
                                                       "tokenizer" / "bpe600.model");
  mistral::SentencePieceModel model = mistral::parse_sentencepiece_model(mistral::test::bytes_of(file), "bpe600");
  const auto begin = static_cast<TokenId>(model.pieces.size());
  for (const char* const piece : {"[INST]", "[/INST]", "[INST"})
    model.pieces.push_back({piece, 0.0f, PieceType::control});
  const Tokenizer tokenizer(model, "bpe600");
  const TokenId bos = tokenizer.bos_id(), eos = tokenizer.eos_id();
  const auto special = [&](const std::string& text) { return tokenizer.encode(text, {.parse_special = true}); };
  const auto joined = [&](std::initializer_list<Ids> parts) {
    Ids all;
    for (const Ids& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  };
  CHECK(tokenizer.encode("the cat", {}) == tokenizer.encode("the cat"));
  CHECK(special("the cat") == tokenizer.encode("the cat"));
  CHECK(special("") == Ids{});
  CHECK(special("<s></s>") == Ids{bos, eos});
  CHECK(special("[INST") == Ids{begin + 2});  // the longest that fits
  CHECK(special("[INST]") == Ids{begin});
  // as the template writes it down: each text by itself, the spaces beside [INST] and [/INST] not part of it
  const Ids wanted = joined({{bos, begin}, tokenizer.encode("the cat"), {begin + 1}, tokenizer.encode("sat"), {eos}});
  CHECK(special("<s>[INST] the cat [/INST] sat</s>") == wanted);
  CHECK(special("<s>[INST]the cat[/INST]sat</s>") == wanted);
  CHECK(special("<s>[INST]  the cat [/INST]") == joined({{bos, begin}, tokenizer.encode(" the cat"), {begin + 1}}));
  CHECK(special("the </s> cat") == joined({tokenizer.encode("the "), {eos}, tokenizer.encode("cat")}));
  CHECK(special("<unk> <0x41>") == tokenizer.encode("<unk> <0x41>"));  // no control pieces

  CHECK(tokenizer.encode("the cat", {.add_special = true}) == joined({{bos}, tokenizer.encode("the cat")}));
  CHECK(tokenizer.encode("", {.add_special = true}) == Ids{bos});
  CHECK(tokenizer.encode("<s>", {.add_special = true}) == joined({{bos}, tokenizer.encode("<s>")}));
  CHECK(tokenizer.encode("<s>the cat", {.add_special = true, .parse_special = true}) ==
        joined({{bos}, tokenizer.encode("the cat")}));

  auto bare = with_bytes(small_model({"a", "\xE2\x96\x81"}));
  bare.add_dummy_prefix = false;
  CHECK(Tokenizer(bare, "m").encode("<s> a", {.parse_special = true}) == Ids{1, 4, 3});  // where nothing puts a space
}

TEST_CASE("markup is found in a text where it stays text") {
  const Tokenizer tokenizer = own_tokenizer();
  const auto found = [&](const std::string& text, mistral::MarkupFinder::Kind kind) {
    std::set<std::string> all;
    mistral::MarkupFinder(tokenizer, kind).find(text, all);
    std::string list;
    for (const std::string& one : all) list += one + " ";
    return list;
  };
  using Kind = mistral::MarkupFinder::Kind;
  const std::string text = "<s>[INST] <<SYS>> a <s > [/INST] b</s><|im_start|> [INST] <unk> [inst]";
  CHECK(found(text, Kind::control) == "</s> <s> ");
  CHECK(found(text, Kind::foreign) == "<<SYS>> <|im_start|> [/INST] [INST] ");
  CHECK(found(text, Kind::any) == "</s> <<SYS>> <s> <|im_start|> [/INST] [INST] ");
  CHECK(found("plain < s > text", Kind::any) == "");
  CHECK(found("", Kind::any) == "");
}

TEST_CASE("pieces can be looked at by id and by text") {
  const Tokenizer tokenizer = own_tokenizer();
  CHECK(tokenizer.vocab_size() == 600);
  CHECK(tokenizer.unk_id() == 0);
  CHECK(tokenizer.bos_id() == 1);
  CHECK(tokenizer.eos_id() == 2);
  CHECK(tokenizer.pad_id() == -1);
  CHECK(tokenizer.is_unknown(0));
  CHECK(tokenizer.is_control(1));
  CHECK(tokenizer.is_user_defined(3));
  CHECK(tokenizer.piece(3) == "[UD]");
  CHECK(tokenizer.find("[UD]") == 3);
  CHECK(tokenizer.is_byte(*tokenizer.find("<0x0A>")));
  CHECK(tokenizer.is_normal(599));
  CHECK(!tokenizer.is_unused(599));
  CHECK(tokenizer.score(599) == -338.0f);
  CHECK(!tokenizer.find("no such piece"));
  CHECK(!tokenizer.find(""));
}

TEST_CASE("an id out of range is an error") {
  const Tokenizer tokenizer(small_model({"a"}), "m");
  const std::string message = "[tokenizer] m: token id: expected 0 ... 3, got ";
  CHECK(error_of([&] { tokenizer.decode({4}); }) == message + "4");
  CHECK(error_of([&] { tokenizer.decode({0, -1}); }) == message + "-1");
  CHECK(error_of([&] { tokenizer.piece(4); }) == message + "4");
  CHECK(error_of([&] { tokenizer.is_control(-5); }) == message + "-5");
}

TEST_CASE("the pad piece is found where the model has one") {
  auto model = small_model({"a"});
  model.pieces.push_back({"<pad>", 0.0f, PieceType::control});
  CHECK(Tokenizer(model, "m").pad_id() == 4);
  model.pad_piece = "a";  // no control piece
  CHECK(Tokenizer(model, "m").pad_id() == -1);
}

TEST_CASE("the model's flags say what becomes of spaces") {
  auto model = small_model({spaced(" "), "a", spaced(" a"), spaced("a "), "b"});  // 3 ... 7
  const auto encode = [&](std::string_view text) { return Tokenizer(model, "m").encode(text); };
  CHECK(encode("a  b ") == Ids{5, 3, 3, 7, 3});
  model.remove_extra_whitespaces = true;
  CHECK(encode("  a  b  ") == Ids{5, 3, 7});
  CHECK(encode("   ").empty());
  model.treat_whitespace_as_suffix = true;
  CHECK(encode(" b  a ") == Ids{7, 5, 3});
  model.add_dummy_prefix = false;
  CHECK(encode(" b a ") == Ids{7, 5});
  model.escape_whitespaces = false;
  CHECK(encode("b a") == Ids{7, 0, 4});
}

TEST_CASE("a copy shares what it was copied from, and outlives it") {
  auto original = std::make_unique<Tokenizer>(own_tokenizer());
  const Ids ids = original->encode("a copy of it");
  const Tokenizer copy = *original;
  const Tokenizer moved = std::move(*original);
  original.reset();
  CHECK(copy.encode("a copy of it") == ids);
  CHECK(moved.decode(ids) == "a copy of it");
}

TEST_CASE("several threads may use one tokenizer") {
  const Tokenizer tokenizer = own_tokenizer();
  const std::string text = "several threads may use <|sep|> one [UD] tokenizer \xF0\x9F\x98\x80 1234";
  const Ids ids = tokenizer.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> equal(4, 0);
  for (std::size_t t = 0; t < equal.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) equal[t] += tokenizer.encode(text) == ids && tokenizer.decode(ids) == text;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(equal == std::vector<int>{200, 200, 200, 200});
}

TEST_CASE("a text that can be cut nowhere takes time in proportion to its length") {
  const Tokenizer tokenizer = own_tokenizer();
  auto aa = small_model({"a"});
  for (std::size_t piece = 2; piece <= 512; piece *= 2) aa.pieces.push_back({std::string(piece, 'a'), -1.0f});
  const Tokenizer runs(aa, "m");
  std::mt19937 random(8);
  constexpr std::size_t length = mistral::test::rounds(std::size_t{1} << 20);
  std::string letters, one(length, 'a');
  while (letters.size() < length) letters += "etaoin"[random() % 6];
  for (const auto& [t, text] : {std::pair(tokenizer, letters), std::pair(tokenizer, one), std::pair(runs, one)}) {
    const double small = seconds_to_encode(t, text.substr(0, length / 16));
    const double large = seconds_to_encode(t, text);
    // 16 times the text; were it quadratic, 256 times the time
    CHECK(large < 80 * small + 0.1);
  }
}

TEST_CASE("loading takes time in proportion to the pieces' bytes, whatever their length") {
  const auto seconds_to_load = [](std::size_t count, std::size_t length, PieceType type, std::size_t alike) {
    std::mt19937 random(9);
    mistral::SentencePieceModel model = small_model({"a", "b", "c", "d"});
    const std::string begin(alike, 'a');
    for (std::size_t i = 0; i < count; ++i) {
      std::string piece = begin + std::to_string(i);
      while (piece.size() < length) piece += static_cast<char>('a' + random() % 4);
      model.pieces.push_back({piece, -static_cast<float>(i), type});
    }
    const std::string bytes = mistral::test::serialize(model);
    double least = 1e9;
    for (int run = 0; run < 3; ++run) {
      const auto start = std::chrono::steady_clock::now();
      CHECK(Tokenizer::from_bytes(mistral::test::bytes_of(bytes), "long").vocab_size() == count + 7);
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      least = std::min(least, passed.count());
    }
    return least;
  };
  const std::size_t bytes = mistral::test::rounds(2'000'000);
  for (const PieceType type : {PieceType::normal, PieceType::unused, PieceType::user_defined}) {
    const double short_pieces = seconds_to_load(bytes / 50, 50, type, 0);
    // were it quadratic, up to twenty times the time
    CHECK(seconds_to_load(bytes / 1000, 1000, type, 0) < 2 * short_pieces + 0.02);
    CHECK(seconds_to_load(bytes / 1000, 1000, type, 900) < 2 * short_pieces + 0.02);
  }
}
