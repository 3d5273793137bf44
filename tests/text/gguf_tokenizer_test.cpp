// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/gguf_tokenizer.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/tokenizer.hpp>

#include "../support/data.hpp"
#include "../support/gguf_builder.hpp"
#include "../support/scratch.hpp"

namespace {

using mistral::PieceType;
using mistral::SentencePieceModel;
using mistral::TokenId;
using mistral::Tokenizer;
using mistral::test::error_of;
using mistral::test::gguf_array;
using mistral::test::gguf_entry;
using mistral::test::gguf_string;
using mistral::test::gguf_u32;
using mistral::test::GgufBuilder;
using mistral::test::le;

struct Piece {
  std::string text;
  float score;
  std::int32_t type;
};

const std::vector<Piece> good_pieces = {{"<unk>", 0, 2},
                                        {"<s>", 0, 3},
                                        {"</s>", 0, 3},
                                        {"a", -1, 1},
                                        {"\xE2\x96\x81", -2, 1},
                                        {"\xE2\x96\x81"
                                         "a",
                                         -1, 1},
                                        {"<end>", 0, 4}};

struct Entries {
  std::string model = gguf_entry("tokenizer.ggml.model", "llama");
  std::string tokens, scores, types;
  std::vector<std::string> others = {gguf_u32("tokenizer.ggml.bos_token_id", 1),
                                     gguf_u32("tokenizer.ggml.eos_token_id", 2),
                                     gguf_u32("tokenizer.ggml.unknown_token_id", 0)};

  explicit Entries(const std::vector<Piece>& pieces = good_pieces) {
    for (const Piece& piece : pieces) {
      tokens += gguf_string(piece.text);
      scores += le(piece.score);
      types += le(piece.type);
    }
    tokens = gguf_entry("tokenizer.ggml.tokens", 9, gguf_array(8, pieces.size(), tokens));
    scores = gguf_entry("tokenizer.ggml.scores", 9, gguf_array(6, pieces.size(), scores));
    types = gguf_entry("tokenizer.ggml.token_type", 9, gguf_array(5, pieces.size(), types));
  }

  std::string bytes() const {
    GgufBuilder file;
    for (const std::string& entry : {model, tokens, scores, types}) {
      if (!entry.empty()) file.entries.push_back(entry);
    }
    file.entries.insert(file.entries.end(), others.begin(), others.end());
    return file.bytes();
  }

  Tokenizer tokenizer() const {
    const std::string file = bytes();
    return Tokenizer::from_bytes(std::as_bytes(std::span(file)), "f");
  }
  std::string error() const {
    return error_of([&] { tokenizer(); });
  }
};

std::string from_base64(std::string_view text) {
  static constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::size_t bits = 0, count = 0;
  for (const char c : text.substr(0, text.find('='))) {
    bits = bits << 6 | alphabet.find(c);
    count += 6;
    if (count >= 8) out += static_cast<char>(bits >> (count -= 8) & 0xff);
  }
  return out;
}

}  // namespace

TEST_CASE("pieces, scores, types and special ids come from the metadata") {
  const Tokenizer tokenizer = Entries().tokenizer();
  CHECK(tokenizer.vocab_size() == good_pieces.size());
  CHECK(tokenizer.bos_id() == 1);
  CHECK(tokenizer.eos_id() == 2);
  CHECK(tokenizer.unk_id() == 0);
  CHECK(tokenizer.pad_id() == -1);
  CHECK(tokenizer.score(4) == -2.0f);
  CHECK(tokenizer.type(6) == PieceType::user_defined);
  CHECK(tokenizer.encode("a  a") == std::vector<TokenId>{5, 4, 5});
  CHECK(tokenizer.encode("<end>") == std::vector<TokenId>{4, 6});
}

TEST_CASE("the metadata says whether a space is put in front, and whether runs of spaces stay") {
  Entries entries;
  entries.others.push_back(gguf_entry("tokenizer.ggml.add_space_prefix", 7, std::string(1, '\0')));
  CHECK(entries.tokenizer().encode("a  a") == std::vector<TokenId>{3, 4, 5});
  entries.others.push_back(gguf_entry("tokenizer.ggml.remove_extra_whitespaces", 7, "\x01"));
  CHECK(entries.tokenizer().encode("a  a") == std::vector<TokenId>{3, 5});
}

TEST_CASE("a piece that is named as EOS by its id is control, whatever its type, so that no text contains it") {
  Entries entries;
  entries.others = {gguf_u32("tokenizer.ggml.eos_token_id", 6), gguf_u32("tokenizer.ggml.padding_token_id", 2)};
  const Tokenizer tokenizer = entries.tokenizer();
  CHECK(tokenizer.eos_id() == 6);
  CHECK(tokenizer.bos_id() == -1);
  CHECK(tokenizer.pad_id() == 2);
  CHECK(tokenizer.is_control(6));
  for (const TokenId id : tokenizer.encode("<end>")) CHECK(id != 6);
}

TEST_CASE("a tokenizer of another kind, or one that contradicts itself, is refused") {
  const auto with = [](auto&& change) {
    Entries entries;
    change(entries);
    return entries.error();
  };
  const std::string key = "[gguf] f: key 'tokenizer.ggml.";
  CHECK(with([](Entries& e) { e.model = gguf_entry("tokenizer.ggml.model", "gpt2"); }) ==
        key + "model': expected 'llama' (SentencePiece BPE), got 'gpt2'");
  CHECK(with([](Entries& e) { e.model = gguf_entry("tokenizer.ggml.model", "no_vocab"); }) ==
        key + "model': expected 'llama' (SentencePiece BPE), got 'no_vocab'");
  CHECK(with([](Entries& e) { e.model.clear(); }) == key + "model' is missing");
  CHECK(with([](Entries& e) { e.tokens.clear(); }) == key + "tokens' is missing");
  CHECK(with([](Entries& e) { e.scores.clear(); }) == key + "scores' is missing");
  CHECK(with([](Entries& e) { e.types.clear(); }) == key + "token_type' is missing");
  CHECK(with([](Entries& e) { e.tokens = gguf_entry("tokenizer.ggml.tokens", 9, gguf_array(8, 0, "")); }) ==
        key + "tokens': expected pieces, got an array of 0 string");
  CHECK(with([](Entries& e) { e.scores = gguf_entry("tokenizer.ggml.scores", 9, gguf_array(6, 1, le(1.0f))); }) ==
        key + "scores': expected as many as tokenizer.ggml.tokens, 7, got an array of 1 f32");
  CHECK(with([](Entries& e) { e.types = gguf_entry("tokenizer.ggml.token_type", 9, gguf_array(5, 1, le(1))); }) ==
        key + "token_type': expected as many as tokenizer.ggml.tokens, 7, got an array of 1 i32");
  auto pieces = good_pieces;
  pieces[3].type = 0;
  CHECK(Entries(pieces).error() == key + "token_type': expected an integer from 1 to 6, got 0");
  CHECK(with([](Entries& e) { e.others = {gguf_u32("tokenizer.ggml.bos_token_id", 7)}; }) ==
        key + "bos_token_id': expected an integer from 0 to 6, got 7");
  CHECK(with([](Entries& e) { e.others = {gguf_u32("tokenizer.ggml.unknown_token_id", 1)}; }) ==
        key + "unknown_token_id': expected the id of a piece of type 2 (unknown), got 1");
  pieces = good_pieces;
  pieces[3].text = "<s>";
  CHECK(Entries(pieces).error() == "[tokenizer] f: piece 3 '<s>': expected once, got twice");
  pieces = good_pieces;
  pieces[0].type = 1;
  CHECK(with([&](Entries& e) { (e = Entries(pieces)).others.clear(); }) ==
        "[tokenizer] f: the unknown piece: expected one, got none");
}

TEST_CASE("the tokenizer of a GGUF file gives the same ids as the SentencePiece file that it was made from") {
  const auto gguf = mistral::test::golden("gguf/stories260k_q8_0.gguf");
  const auto folder = mistral::test::golden("tokenizer/tok512.model").parent_path();
  if (gguf.empty() || folder.empty()) return;
  const Tokenizer ours = Tokenizer::load(gguf.string());
  const Tokenizer theirs = Tokenizer::load((folder / "tok512.model").string());
  REQUIRE(ours.vocab_size() == theirs.vocab_size());
  CHECK(ours.bos_id() == theirs.bos_id());
  CHECK(ours.eos_id() == theirs.eos_id());
  CHECK(ours.unk_id() == theirs.unk_id());
  for (TokenId id = 0; static_cast<std::size_t>(id) < ours.vocab_size(); ++id) {
    CHECK(ours.piece(id) == theirs.piece(id));
    CHECK(ours.type(id) == theirs.type(id));
    CHECK(ours.score(id) == theirs.score(id));
  }

  // GGUF doesn't hold this model's rules for spaces and characters: runs of spaces stay
  const mistral::MappedFile file = mistral::MappedFile::open((folder / "tok512.model").string(), "tokenizer");
  SentencePieceModel plain = mistral::parse_sentencepiece_model(file.bytes(), "tok512");
  CHECK(plain.remove_extra_whitespaces);
  plain.remove_extra_whitespaces = false;
  plain.precompiled_charsmap.clear();
  const Tokenizer same(plain, "tok512");
  std::ifstream lines(folder / "tok512.encode.jsonl");
  int equal = 0, all = 0;
  for (std::string line; std::getline(lines, line); ++all) {
    const nlohmann::json json = nlohmann::json::parse(line);
    const std::string text = from_base64(json["b64"].get<std::string>());
    const auto ids = ours.encode(text);
    CAPTURE(text);
    CHECK(ids == same.encode(text));
    CHECK(ours.decode(ids) == same.decode(ids));
    equal += ids == json["ids"].get<std::vector<TokenId>>();
  }
  CHECK(all >= 100);
  CHECK(2 * equal > all);
}

TEST_CASE("a tokenizer.model written as GGUF metadata is the same tokenizer") {
  for (const char* const name : {"tokenizer/mistral_v1.model", "tokenizer/mistral_v3.model", "tokenizer/tok512.model",
                                 "tokenizer/bpe600.model"}) {
    const auto path = mistral::test::golden(name);
    if (path.empty()) continue;
    CAPTURE(name);
    const mistral::MappedFile file = mistral::MappedFile::open(path.string(), "test");
    const SentencePieceModel model = mistral::parse_sentencepiece_model(file.bytes(), name);
    const std::string bytes = mistral::gguf_tokenizer_metadata(model, name).header({});
    const Tokenizer written = Tokenizer::from_bytes(std::as_bytes(std::span(bytes)), "f");
    const Tokenizer original(model, name);
    REQUIRE(written.vocab_size() == original.vocab_size());
    CHECK(written.bos_id() == original.bos_id());
    CHECK(written.eos_id() == original.eos_id());
    CHECK(written.unk_id() == original.unk_id());
    CHECK(written.pad_id() == original.pad_id());
    std::vector<TokenId> ids;
    for (TokenId id = 0; static_cast<std::size_t>(id) < original.vocab_size(); ++id) {
      // GGUF has no key for what an unknown piece is decoded to
      if (!original.is_unknown(id)) ids.push_back(id);
      CHECK(written.piece(id) == original.piece(id));
      CHECK(written.type(id) == original.type(id));
      CHECK(written.score(id) == original.score(id));
    }
    CHECK(written.decode(ids) == original.decode(ids));
    for (const char* const text :
         {"Once upon a time", "  two  spaces ", "\xEF\xBC\xA1\xC3\xA9\t\xF0\x9F\x98\x80 [INST] 1234\n\n</s>"}) {
      CHECK(written.encode(text) == original.encode(text));
    }

    // and copied from file to file
    const mistral::Gguf gguf = mistral::Gguf::from_bytes(std::as_bytes(std::span(bytes)), "f");
    const std::string copy = mistral::gguf_tokenizer_metadata(gguf).header({});
    CHECK(Tokenizer::from_bytes(std::as_bytes(std::span(copy)), "f").encode("Once upon") ==
          original.encode("Once upon"));
  }
}

TEST_CASE("rules for spaces that GGUF has no key for are refused") {
  SentencePieceModel model;
  model.treat_whitespace_as_suffix = true;
  CHECK(error_of([&] { mistral::gguf_tokenizer_metadata(model, "f"); }) ==
        "[tokenizer] f: expected spaces that are put in front of words as U+2581, got other rules, which GGUF lacks");
}
