// SPDX-License-Identifier: Apache-2.0
// Ids and texts that SentencePiece 0.1.97 gave, for text in many languages, code, spaces and bytes that are no UTF-8.
#include <mistral/text/tokenizer.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "../support/data.hpp"

namespace {

using mistral::TokenId;
using mistral::Tokenizer;

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

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  REQUIRE(lines.size() >= 100);
  return lines;
}

void check_against_sentencepiece(const std::filesystem::path& folder, const std::string& name) {
  CAPTURE(name);
  const Tokenizer tokenizer = Tokenizer::load((folder / (name + ".model")).string());
  for (const auto& line : lines_of(folder / (name + ".encode.jsonl"))) {
    const std::string text = from_base64(line["b64"].get<std::string>());
    const auto ids = line["ids"].get<std::vector<TokenId>>();
    CAPTURE(text);
    CHECK(tokenizer.encode(text) == ids);
    CHECK(tokenizer.decode(ids) == from_base64(line["decoded_b64"].get<std::string>()));
  }
  for (const auto& line : lines_of(folder / (name + ".decode.jsonl"))) {
    const auto ids = line["ids"].get<std::vector<TokenId>>();
    CAPTURE(line["ids"].dump());
    CHECK(tokenizer.decode(ids) == from_base64(line["decoded_b64"].get<std::string>()));
  }
}

}  // namespace

TEST_CASE("a tokenizer of 600 pieces encodes and decodes as SentencePiece does") {
  check_against_sentencepiece(std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests" / "data" / "tokenizer", "bpe600");
}

TEST_CASE("Mistral's tokenizers encode and decode as SentencePiece does") {
  for (const std::string name : {"mistral_v1", "mistral_v3", "tok512"}) {
    const std::filesystem::path model = mistral::test::golden("tokenizer/" + name + ".model");
    if (!model.empty()) check_against_sentencepiece(model.parent_path(), name);
  }
}

TEST_CASE("Mistral's tokenizers have the sizes and special pieces that SentencePiece reports") {
  const std::filesystem::path path = mistral::test::golden("tokenizer/info.json");
  if (path.empty()) return;
  const nlohmann::json info = nlohmann::json::parse(std::ifstream(path));
  for (const auto& item : info.items()) {
    const std::string& name = item.key();
    const nlohmann::json& expected = item.value();
    CAPTURE(name);
    const Tokenizer tokenizer = Tokenizer::load((path.parent_path() / (name + ".model")).string());
    CHECK(tokenizer.vocab_size() == expected["vocab"].get<std::size_t>());
    CHECK(tokenizer.bos_id() == expected["bos"].get<TokenId>());
    CHECK(tokenizer.eos_id() == expected["eos"].get<TokenId>());
    CHECK(tokenizer.unk_id() == expected["unk"].get<TokenId>());
    CHECK(tokenizer.pad_id() == expected["pad"].get<TokenId>());
    std::size_t control = 0, byte = 0;
    for (std::size_t i = 0; i < tokenizer.vocab_size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      control += tokenizer.is_control(id);
      byte += tokenizer.is_byte(id);
      CHECK(tokenizer.find(tokenizer.piece(id)) == id);
    }
    CHECK(control == expected["n_control"].get<std::size_t>());
    CHECK(byte == expected["n_byte"].get<std::size_t>());
  }
}
