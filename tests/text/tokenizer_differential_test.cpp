// SPDX-License-Identifier: Apache-2.0
// Random text through spm_encode (Debian package sentencepiece) and through our encoder: the ids must be the same. The
// models are ours, Mistral's, and ones that spm_train makes here, for the flags that Mistral's models don't use.
#include <mistral/text/tokenizer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "../support/data.hpp"
#include "../support/rounds.hpp"
#include "../support/scratch.hpp"
#include "model_builder.hpp"

namespace {

using mistral::PieceType;
using mistral::SentencePieceModel;
using mistral::TokenId;
using mistral::Tokenizer;
using mistral::test::Scratch;

bool have(const std::string& program) {
  if (std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0) return true;
  std::fprintf(stderr, "SKIPPED: %s (Debian package sentencepiece) is missing: no comparison with it\n",
               program.c_str());
  return false;
}

std::filesystem::path own_data() { return std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests" / "data" / "tokenizer"; }

std::string utf8(std::uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  std::string tail;
  const std::uint32_t lead_bits = code < 0x800 ? 0xC0 : code < 0x10000 ? 0xE0 : 0xF0;
  const int tails = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  for (int i = 0; i < tails; ++i, code >>= 6) tail.insert(tail.begin(), static_cast<char>(0x80 | (code & 0x3f)));
  return static_cast<char>(lead_bits | code) + tail;
}

std::string random_unicode(std::mt19937& random) {
  // ranges of letters, marks, signs and spaces that rules like NFKC treat in different ways, and everything
  static constexpr std::uint32_t ranges[][2] = {
      {0x00, 0x7f},     {0xa0, 0x24f},    {0x300, 0x3ff},   {0x400, 0x4ff},     {0x5d0, 0x6ff},
      {0x900, 0x9ff},   {0x1100, 0x11ff}, {0x2000, 0x206f}, {0x2100, 0x2bff},   {0x3000, 0x33ff},
      {0x4e00, 0x9fff}, {0xac00, 0xd7a3}, {0xf900, 0xffff}, {0x1f300, 0x1f64f}, {0x80, 0x10ffff}};
  const auto& range = ranges[random() % std::size(ranges)];
  std::uint32_t code = 0;
  do code = range[0] + static_cast<std::uint32_t>(random()) % (range[1] - range[0] + 1);
  while (code >= 0xd800 && code < 0xe000);
  return utf8(code);
}

/// Lines of every kind of text that has its own way through the encoder. `pieces` are a vocabulary's.
std::vector<std::string> make_lines(const Tokenizer& tokenizer, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
  static const std::vector<std::string> words{"the",
                                              "of",
                                              "function",
                                              "return",
                                              "int",
                                              "std::vector<int>",
                                              "x",
                                              "=",
                                              "==",
                                              "{",
                                              "}",
                                              "();",
                                              "//",
                                              "naïve",
                                              "Grüße",
                                              "слово",
                                              "世界",
                                              "こんにちは",
                                              "مرحبا",
                                              "नमस्ते",
                                              "한국어",
                                              "🙂",
                                              "👩‍👩‍👧",
                                              "e\xCC\x81",
                                              "1234567890",
                                              "0x7fff",
                                              "<s>",
                                              "</s>",
                                              "<unk>",
                                              "[INST]",
                                              "[/INST]",
                                              "[REFERENCE_DOC_1]",
                                              "[REFERENCE_DOC_19]",
                                              "[UD]",
                                              "<|sep|>",
                                              "<0x0A>",
                                              "\t",
                                              "\r",
                                              "ﬁ",
                                              "①",
                                              "Ａ",
                                              "\xE2\x96\x81",
                                              "…",
                                              "don't",
                                              "U.S.A.",
                                              "snake_case_name",
                                              "CamelCaseName"};
  std::vector<std::string> lines;
  const auto add = [&](std::size_t count, auto make) {
    for (std::size_t i = 0; i < count; ++i) {
      std::string line = make();
      std::replace(line.begin(), line.end(), '\n', ' ');  // spm_encode reads lines
      lines.push_back(std::move(line));
    }
  };
  const auto repeat = [&](std::size_t count, auto make) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += make();
    return text;
  };
  add(400, [&] {
    return repeat(below(30),
                  [&] { return words[below(words.size())] + std::string(below(4) > 0 ? below(3) : below(9), ' '); });
  });
  add(400, [&] {
    return repeat(below(40),
                  [&] { return std::string(tokenizer.piece(static_cast<TokenId>(below(tokenizer.vocab_size())))); });
  });
  add(200, [&] {  // pieces cut anywhere: what almost is a piece
    return repeat(below(30), [&] {
      std::string piece(tokenizer.piece(static_cast<TokenId>(below(tokenizer.vocab_size()))));
      return piece.substr(0, 1 + below(piece.size()));
    });
  });
  add(200, [&] { return repeat(below(60), [&] { return random_unicode(random); }); });
  add(200, [&] { return repeat(below(60), [&] { return std::string(1, static_cast<char>(below(256))); }); });
  add(100, [&] { return repeat(below(60), [&] { return std::string(1, static_cast<char>('a' + below(26))); }); });
  add(60, [&] { return std::string(below(200), " a=-\t_0"[below(7)]); });
  add(30, [&] {
    const std::string part = words[below(words.size())] + words[below(words.size())];
    return repeat(below(400), [&] { return part; });
  });
  add(4, [&] { return repeat(20000, [&] { return std::string(1, static_cast<char>('a' + below(6))); }); });
  add(2, [&] { return std::string(30000, 'a'); });
  add(2, [&] { return std::string(30000, ' '); });
  add(2, [&] { return repeat(5000, [&] { return words[below(words.size())]; }); });
  return lines;
}

void compare(const std::string& model_path, std::uint32_t seed) {
  CAPTURE(model_path);
  const Tokenizer tokenizer = Tokenizer::load(model_path);
  const std::vector<std::string> lines = make_lines(tokenizer, seed);
  const Scratch scratch;
  std::string text;
  for (const std::string& line : lines) text += line + '\n';
  const std::string command = "spm_encode --model='" + model_path + "' --output_format=id <'" +
                              scratch.write("in", text) + "' >'" + scratch.path("out") + "' 2>'" + scratch.path("log") +
                              "'";
  INFO(command);
  REQUIRE_MESSAGE(std::system(command.c_str()) == 0, scratch.read("log"));
  std::ifstream out(scratch.path("out"));
  std::size_t different = 0, number = 0;
  for (const std::string& line : lines) {
    std::string numbers;
    REQUIRE(std::getline(out, numbers));
    if (mistral::test::sanitized && number++ % 8 != 0) continue;
    std::istringstream stream(numbers);
    std::vector<TokenId> expected;
    for (TokenId id = 0; stream >> id;) expected.push_back(id);
    if (tokenizer.encode(line) == expected) continue;
    if (++different <= 3) CHECK_MESSAGE(tokenizer.encode(line) == expected, line.substr(0, 300));
  }
  CHECK(different == 0);
}

SentencePieceModel own_model() {
  const std::string bytes = mistral::test::file_content(own_data() / "bpe600.model");
  return mistral::parse_sentencepiece_model(mistral::test::bytes_of(bytes), "bpe600.model");
}

void compare(const SentencePieceModel& model, std::uint32_t seed) {
  const Scratch scratch;
  compare(scratch.write("model", mistral::test::serialize(model)), seed);
}

}  // namespace

TEST_CASE("our ids are spm_encode's for a tokenizer of 600 pieces") {
  if (!have("spm_encode")) return;
  for (std::uint32_t seed = 0; seed < 3; ++seed) compare((own_data() / "bpe600.model").string(), seed);
}

TEST_CASE("our ids are spm_encode's for Mistral's tokenizers") {
  if (!have("spm_encode")) return;
  for (const std::string name : {"mistral_v1", "mistral_v3", "tok512"}) {
    const std::filesystem::path model = mistral::test::golden("tokenizer/" + name + ".model");
    if (model.empty()) continue;
    for (std::uint32_t seed = 10; seed < 12; ++seed) compare(model.string(), seed);
  }
}

TEST_CASE("our ids are spm_encode's whatever the model's flags") {
  if (!have("spm_encode")) return;
  for (std::uint32_t flags = 0; flags < 16; ++flags) {
    SentencePieceModel model = own_model();
    model.add_dummy_prefix = (flags & 1) != 0;
    model.remove_extra_whitespaces = (flags & 2) != 0;
    model.escape_whitespaces = (flags & 4) != 0;
    model.treat_whitespace_as_suffix = (flags & 8) != 0;
    CAPTURE(flags);
    compare(model, 20 + flags);
  }
}

TEST_CASE("our ids are spm_encode's where pieces are unused, user-defined, or tie") {
  if (!have("spm_encode")) return;
  std::mt19937 random(5);
  for (std::uint32_t round = 0; round < 8; ++round) {
    SentencePieceModel model = own_model();
    for (auto& piece : model.pieces) {
      if (piece.type != PieceType::normal) continue;
      if (round >= 4) piece.score = -static_cast<float>(random() % 20);
      const auto kind = random() % 100;
      if (kind < 20 && round % 2 == 0) piece.type = PieceType::unused;
      if (kind >= 95 && round % 4 >= 2) piece.type = PieceType::user_defined;
    }
    CAPTURE(round);
    compare(model, 40 + round);
  }
}

TEST_CASE("our ids are spm_encode's without byte pieces") {
  if (!have("spm_encode")) return;
  SentencePieceModel model = own_model();
  model.byte_fallback = false;
  model.pieces.erase(std::remove_if(model.pieces.begin(), model.pieces.end(),
                                    [](const auto& piece) { return piece.type == PieceType::byte; }),
                     model.pieces.end());
  compare(model, 60);
}

TEST_CASE("our ids are spm_encode's for models with normalisation rules, which spm_train makes") {
  if (!have("spm_encode") || !have("spm_train")) return;
  const Scratch scratch;
  const auto lines = make_lines(Tokenizer::load((own_data() / "bpe600.model").string()), 70);
  std::string text;
  for (std::size_t i = 0; i < 400; ++i) text += lines[i] + '\n';      // words
  for (std::size_t i = 1000; i < 1030; ++i) text += lines[i] + '\n';  // random characters
  const std::string corpus = scratch.write("corpus", text);
  for (const std::string rule : {"nmt_nfkc", "nmt_nfkc_cf", "nfkc"}) {
    const std::string command = "spm_train --input='" + corpus + "' --model_prefix='" + scratch.path(rule) +
                                "' --model_type=bpe --vocab_size=3000 --hard_vocab_limit=false --byte_fallback=true"
                                " --character_coverage=0.99 --user_defined_symbols='<|a b|>,ﬁ,[UD]' "
                                " --normalization_rule_name=" +
                                rule + " >'" + scratch.path("log") + "' 2>&1";
    REQUIRE_MESSAGE(std::system(command.c_str()) == 0, scratch.read("log"));
    compare(scratch.path(rule + ".model"), 71);
  }
}

TEST_CASE("our texts are spm_decode's whatever the model's flags") {
  if (!have("spm_decode")) return;
  std::mt19937 random(80);
  for (std::uint32_t flags = 0; flags < 8; ++flags) {
    SentencePieceModel model = own_model();
    model.add_dummy_prefix = (flags & 1) != 0;
    model.remove_extra_whitespaces = (flags & 2) != 0;
    model.treat_whitespace_as_suffix = (flags & 4) != 0;
    model.unk_surface = " ?? ";
    CAPTURE(flags);
    const Scratch scratch;
    const std::string path = scratch.write("model", mistral::test::serialize(model));
    const Tokenizer tokenizer = Tokenizer::load(path);
    const std::vector<TokenId> favourites{0,
                                          1,
                                          3,
                                          *tokenizer.find("\xE2\x96\x81"),
                                          *tokenizer.find("<0xE2>"),
                                          *tokenizer.find("<0x82>"),
                                          *tokenizer.find("<0xAC>")};
    std::string text, expected;
    for (int line = 0; line < 400; ++line) {
      std::vector<TokenId> ids;
      for (std::size_t n = 1 + random() % 12; n > 0; --n) {
        TokenId id = favourites[random() % favourites.size()];
        if (random() % 3 == 0) id = static_cast<TokenId>(random() % tokenizer.vocab_size());
        if (tokenizer.piece(id) == "<0x0A>") continue;  // spm_decode writes lines
        ids.push_back(id);
        text += std::to_string(id) + ' ';
      }
      text += '\n';
      expected += tokenizer.decode(ids) + '\n';
    }
    const std::string command = "spm_decode --model='" + path + "' --input_format=id <'" + scratch.write("in", text) +
                                "' >'" + scratch.path("out") + "' 2>'" + scratch.path("log") + "'";
    REQUIRE_MESSAGE(std::system(command.c_str()) == 0, scratch.read("log"));
    CHECK(scratch.read("out") == expected);
  }
}
