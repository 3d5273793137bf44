// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/sentencepiece_model.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <string_view>

#include <mistral/text/tokenizer.hpp>

#include "../support/rounds.hpp"
#include "../support/scratch.hpp"
#include "model_builder.hpp"

namespace {

using mistral::PieceType;
using mistral::SentencePieceModel;
using mistral::Tokenizer;
using mistral::test::bytes_of;
using mistral::test::error_of;
using mistral::test::float_field;
using mistral::test::number_field;
using mistral::test::serialize;
using mistral::test::small_model;
using mistral::test::text_field;
using mistral::test::varint;
using mistral::test::with_bytes;

std::string error_of_bytes(std::string_view bytes) {
  return error_of([&] { Tokenizer::from_bytes(bytes_of(bytes), "m"); });
}

std::string error_of_model(const SentencePieceModel& model) { return error_of_bytes(serialize(model)); }

std::string whole_file() {
  return mistral::test::file_content(std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests/data/tokenizer/bpe600.model");
}

}  // namespace

TEST_CASE("what a model holds is what was written") {
  SentencePieceModel model = with_bytes(small_model({"a", "b"}));
  model.add_dummy_prefix = false;
  model.treat_whitespace_as_suffix = true;
  model.unk_surface = "?";
  model.pad_piece = "<p>";
  const SentencePieceModel read = mistral::parse_sentencepiece_model(bytes_of(serialize(model)), "m");
  CHECK(serialize(read) == serialize(model));
  CHECK(read.pieces.size() == 261);
  CHECK(read.pieces[4].text == "b");
  CHECK(read.pieces[4].score == -1.0f);
  CHECK(read.pieces[1].type == PieceType::control);
}

TEST_CASE("fields that are left out have the defaults of sentencepiece_model.proto") {
  const SentencePieceModel model = mistral::parse_sentencepiece_model(
      bytes_of(text_field(1, text_field(1, "a")) + text_field(2, number_field(3, 2))), "m");
  CHECK(model.pieces[0].type == PieceType::normal);
  CHECK(model.pieces[0].score == 0.0f);
  CHECK(model.add_dummy_prefix);
  CHECK(model.remove_extra_whitespaces);
  CHECK(model.escape_whitespaces);
  CHECK(!model.byte_fallback);
  CHECK(!model.treat_whitespace_as_suffix);
  CHECK(model.unk_surface == " \xE2\x81\x87 ");
}

TEST_CASE("a model cut off anywhere is an error") {
  const std::string whole = whole_file();
  REQUIRE(whole.size() == 8872);
  CHECK(error_of_bytes(whole) == "no error");
  // the flags come last, and Mistral's differ from the defaults: a cut between the fields shows too, up to there
  for (std::size_t size = 0; size + 20 < whole.size(); ++size) {
    CAPTURE(size);
    CHECK(error_of_bytes(whole.substr(0, size)).substr(0, 15) == "[tokenizer] m: ");
  }
}

TEST_CASE("a model with broken bytes is an error or a model, never a crash") {
  const std::string whole = whole_file();
  std::mt19937 random(1);
  for (int round = 0; round < mistral::test::rounds(300); ++round) {
    std::string broken = whole;
    for (std::size_t n = 1 + random() % 4; n > 0; --n) broken[random() % broken.size()] = static_cast<char>(random());
    try {
      const Tokenizer tokenizer = Tokenizer::from_bytes(bytes_of(broken), "m");
      tokenizer.decode(tokenizer.encode("the broken <s> text 123 \xff"));
    } catch (const mistral::Error& error) {
      CHECK(std::string(error.what()).substr(0, 15) == "[tokenizer] m: ");
    }
  }
}

TEST_CASE("a file that is no tokenizer, or cannot be read, is an error that names it") {
  const mistral::test::Scratch scratch;
  const auto error_of_file = [&](const std::string& path) { return error_of([&] { Tokenizer::load(path); }); };
  const std::string missing = scratch.path("missing");
  CHECK(error_of_file(missing) == "[tokenizer] " + missing + ": cannot open: No such file or directory");
  CHECK(error_of_file(scratch.path(""))
            .ends_with("expected a folder with tokenizer.model or tokenizer.json, got neither"));
  CHECK(error_of_file(scratch.write("empty", "")).find("is empty") != std::string::npos);
  const std::string json = scratch.write("json", "{\"model\": {}}");
  CHECK(error_of_file(json) == "[tokenizer] " + json + ": field 'model': field 'vocab' is missing");
  CHECK(error_of_bytes("") == "[tokenizer] m: not a SentencePiece model: expected pieces, got none");
  CHECK(error_of_bytes(std::string((16 << 20) + 1, '\x01')) ==
        "[tokenizer] m: size: expected at most 16777216 bytes, got 16777217");
}

TEST_CASE("a length that reaches beyond the message is an error, however large it is") {
  for (const std::uint64_t length :
       {std::uint64_t{2}, std::uint64_t{1} << 31, std::uint64_t{1} << 32, std::numeric_limits<std::uint64_t>::max()}) {
    CHECK(error_of_bytes(varint(1 << 3 | 2) + varint(length) + "x").find("a field's length") != std::string::npos);
    CHECK(error_of_bytes(text_field(1, varint(1 << 3 | 2) + varint(length) + "x")).find("a field's length") !=
          std::string::npos);
  }
  CHECK(error_of_bytes(std::string(11, '\xff')).find("a varint") != std::string::npos);
  CHECK(error_of_bytes(std::string("\x02", 1)).find("a field number") != std::string::npos);
  CHECK(error_of_bytes(number_field(1, 7)).find("the wire type of field 1") != std::string::npos);
}

TEST_CASE("fields that nobody knows are skipped") {
  const std::string extra =
      number_field(300, 5) + text_field(301, "x") + float_field(302, 1.0f) + varint(303 << 3 | 1) + std::string(8, 'x');
  CHECK(error_of_bytes(extra + serialize(small_model({"a"})) + extra) == "no error");
}

TEST_CASE("a model other than BPE is an error") {
  CHECK(error_of_bytes(serialize(small_model({"a"}), 1)) == "[tokenizer] m: model_type: expected 2 (BPE), got 1");
  const std::string denormalizer = text_field(5, text_field(2, "x"));
  CHECK(error_of_bytes(serialize(small_model({"a"})) + denormalizer) ==
        "[tokenizer] m: denormalizer_spec: expected no precompiled_charsmap, got one");
}

TEST_CASE("pieces that break a rule of SentencePiece are an error") {
  const auto with = [](SentencePieceModel::Piece piece) {
    SentencePieceModel model = small_model({"a"});
    model.pieces.push_back(piece);
    return model;
  };
  CHECK(error_of_model(with({"", 0.0f, PieceType::normal})) == "[tokenizer] m: piece 4 '': expected text, got none");
  CHECK(error_of_model(with({"a", 0.0f, PieceType::normal})) == "[tokenizer] m: piece 4 'a': expected once, got twice");
  CHECK(error_of_model(with({"b", std::numeric_limits<float>::quiet_NaN(), PieceType::normal})) ==
        "[tokenizer] m: piece 4 'b': expected a score, got NaN");
  CHECK(error_of_model(with({"b", 0.0f, PieceType::unknown})) ==
        "[tokenizer] m: piece 4 'b': expected one unknown piece, got two");
  CHECK(error_of_model(with({"<0x00>", 0.0f, PieceType::byte})) ==
        "[tokenizer] m: piece 4 '<0x00>': expected byte_fallback, got a byte piece without it");
  CHECK(error_of_model(with({std::string(1025, 'b'), 0.0f, PieceType::normal})) ==
        "[tokenizer] m: piece 4 '" + std::string(40, 'b') + "...': expected at most 1024 bytes, got 1025");
  CHECK(error_of_model(with({std::string("b\0c", 3), 0.0f, PieceType::user_defined})) ==
        "[tokenizer] m: user-defined piece 4: expected text without zeros, got a zero byte");
  CHECK(error_of_model(with({"b", std::numeric_limits<float>::infinity(), PieceType::normal})) == "no error");
  CHECK(error_of_bytes(text_field(1, text_field(1, "a") + number_field(3, 7))) ==
        "[tokenizer] m: a piece's type: expected 1 ... 6, got 7");

  SentencePieceModel no_unknown = small_model({"a"});
  no_unknown.pieces[0].type = PieceType::control;
  CHECK(error_of_model(no_unknown) == "[tokenizer] m: the unknown piece: expected one, got none");
  SentencePieceModel bytes = with_bytes(small_model({"a"}));
  bytes.pieces.pop_back();
  CHECK(error_of_model(bytes) == "[tokenizer] m: byte pieces: expected 256, got none for byte 255");
  bytes.pieces.push_back({"<0xfF>", 0.0f, PieceType::byte});
  CHECK(error_of_model(bytes) ==
        "[tokenizer] m: piece 259 '<0xfF>': expected a byte piece <0x00> ... <0xFF>, got another text");
}
