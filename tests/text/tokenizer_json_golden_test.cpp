// SPDX-License-Identifier: Apache-2.0
// Ids and texts that Hugging Face's `tokenizers` 0.22.2 gave for tokenizer.json files of many forms.
#include <mistral/text/tokenizer.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/tokenizer_json.hpp>

#include "../support/data.hpp"

namespace {

using mistral::TokenId;
using mistral::Tokenizer;
using Json = nlohmann::json;

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

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The tokenizer.json of that name: a file, or one with some of its fields replaced. Empty where the data are missing.
std::string tokenizer_json(const std::string& name) {
  const std::string folder = "tokenizer_json/tokenizers/";
  if (name.starts_with("v01_")) {
    const std::filesystem::path path = mistral::test::golden(folder + name + ".patch.json");
    if (path.empty()) return {};
    const Json patch = Json::parse(content(path));
    Json json = Json::parse(content(path.parent_path() / patch["base"].get<std::string>()));
    for (const auto& item : patch["replace"].items()) json[item.key()] = item.value();
    return json.dump();
  }
  const std::filesystem::path path = mistral::test::golden(folder + name + ".json");
  return path.empty() ? std::string() : content(path);
}

std::vector<Json> lines_of(const std::string& name) {
  std::vector<Json> lines;
  std::ifstream file(mistral::test::golden("tokenizer_json/cases/" + name));
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  REQUIRE(lines.size() >= 30);
  return lines;
}

Tokenizer parse(std::string_view json, std::string_view name) {
  return Tokenizer::from_bytes(std::as_bytes(std::span(json)), name);
}

const std::vector<std::string> names = {"mistral_v0.1",
                                        "mistral_v0.3",
                                        "v01_legacy",
                                        "v01_chatml_legacy",
                                        "v01_chatml_flags_padded",
                                        "small_a_01_metaspace_first",
                                        "small_a_02_legacy_prepend",
                                        "small_a_03_metaspace_always_split",
                                        "small_a_04_metaspace_old_keys",
                                        "small_a_05_metaspace_never",
                                        "small_a_06_chatml_metaspace",
                                        "small_a_07_chatml_legacy",
                                        "small_a_08_flags_metaspace",
                                        "small_a_09_flags_legacy",
                                        "small_a_10_overlapping_added",
                                        "small_a_11_eos_template",
                                        "small_a_12_no_post",
                                        "small_a_13_unk_fused",
                                        "small_a_14_unk_unfused",
                                        "small_a_15_padded64",
                                        "small_a_16_merges_pairs"};

void check_decoding(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, const Json& line) {
  CHECK(tokenizer.decode(ids) == from_base64(line["dec_b64"].get<std::string>()));
  const std::string without = from_base64(line["dec_skip_b64"].get<std::string>());
  CHECK(tokenizer.decode(ids, {.skip_special = true}) == without);
  mistral::StreamDecoder decoder{tokenizer};
  std::string streamed;
  for (const TokenId id : ids) streamed += decoder.feed(id);
  CHECK(streamed + decoder.flush() == without);
}

void check_lines(const Tokenizer& tokenizer, const std::string& name) {
  for (const Json& line : lines_of(name + ".encode.jsonl")) {
    const std::string text = from_base64(line["b64"].get<std::string>());
    CAPTURE(text);
    CHECK(tokenizer.encode(text, {.parse_special = true}) == line["ids"].get<std::vector<TokenId>>());
    const auto ids = line["ids_special"].get<std::vector<TokenId>>();
    CHECK(tokenizer.encode(text, {.add_special = true, .parse_special = true}) == ids);
    check_decoding(tokenizer, ids, line);
  }
  for (const Json& line : lines_of(name + ".decode.jsonl")) {
    const std::string ids = line["ids"].dump();
    CAPTURE(ids);
    check_decoding(tokenizer, line["ids"].get<std::vector<TokenId>>(), line);
  }
}

}  // namespace

TEST_CASE("a tokenizer.json encodes and decodes as Hugging Face's tokenizers do") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const std::string json = tokenizer_json(name);
    if (!json.empty()) check_lines(parse(json, name), name);
  }
}

TEST_CASE("a tokenizer.json that goes to GGUF metadata and back is the same, padded to the model's vocabulary") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const std::string json = tokenizer_json(name);
    if (json.empty()) continue;
    const mistral::SentencePieceModel model = mistral::parse_tokenizer_json(std::as_bytes(std::span(json)), name);
    const std::string bytes =
        mistral::gguf_tokenizer_metadata(model, name, model.pieces.size() + 3, mistral::GgufReaders::only_us)
            .header({});
    const Tokenizer back = parse(bytes, name);
    CHECK(back.vocab_size() == model.pieces.size() + 3);
    CHECK(back.used_size() == model.pieces.size());
    CHECK(back.is_unused(static_cast<TokenId>(model.pieces.size())));
    check_lines(back, name);
  }
}

// The property that keeps a user from speaking for the system: whatever a text is made of.
TEST_CASE("no text gives a control token unless it is asked for, however it is made of the tokens' texts") {
  for (const std::string& name : names) {
    CAPTURE(name);
    const std::string json = tokenizer_json(name);
    if (json.empty()) continue;
    const Tokenizer tokenizer = parse(json, name);
    std::vector<std::string> words{" ", "", "a", "\xe2\x96\x81", "\n", "  "};
    for (std::size_t i = 0; i < tokenizer.vocab_size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      if (!tokenizer.is_control(id) || words.size() > 40) continue;
      const std::string word(tokenizer.piece(id));
      words.push_back(word);
      words.push_back(word.substr(0, word.size() / 2));
      words.push_back(word.substr(word.size() / 2));
    }
    const Json parsed = Json::parse(json);
    for (const Json& token : parsed["added_tokens"]) {
      const auto id = token["id"].get<TokenId>();
      const bool controls = tokenizer.is_control(id) || tokenizer.is_unknown(id);
      if (token["special"].get<bool>()) CHECK(controls);
    }
    std::size_t state = 1;
    std::size_t found = 0;
    for (std::size_t i = 0; i < 300; ++i) {
      std::string text;
      for (std::size_t n = 0; n < 6; ++n) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        text += words[(state >> 33) % words.size()];
      }
      for (const TokenId id : tokenizer.encode(text, {.add_special = false})) found += tokenizer.is_control(id);
    }
    CHECK(found == 0);
  }
}

TEST_CASE("the form that prepends gives a text back from its ids, and the ids of SentencePiece") {
  for (const std::string name : {"v01_legacy", "small_a_02_legacy_prepend", "small_a_15_padded64"}) {
    const std::string json = tokenizer_json(name);
    if (json.empty()) continue;
    const Tokenizer tokenizer = parse(json, name);
    std::size_t checked = 0;
    for (const Json& line : lines_of(std::string(name) + ".encode.jsonl")) {
      const std::string text = from_base64(line["b64"].get<std::string>());
      if (text.find("\xe2\x96\x81") != std::string::npos) continue;  // which is a space from then on
      CAPTURE(text);
      CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
      ++checked;
    }
    CHECK(checked > 100);
  }
  const std::filesystem::path model = mistral::test::golden("tokenizer/mistral_v1.model");
  const std::string json = tokenizer_json("v01_legacy");
  if (model.empty() || json.empty()) return;
  const Tokenizer tokenizer = parse(json, "v01_legacy");
  const Tokenizer sentencepiece = Tokenizer::load(model.string());
  std::ifstream file(model.parent_path() / "mistral_v1.encode.jsonl");
  std::size_t checked = 0;
  for (std::string line; std::getline(file, line); ++checked) {
    const std::string text = from_base64(Json::parse(line)["b64"].get<std::string>());
    CAPTURE(text);
    CHECK(tokenizer.encode(text) == sentencepiece.encode(text));
  }
  CHECK(checked > 100);
}

TEST_CASE("the scores of a tokenizer.json that prepends have a reader of scores merge as its list says") {
  for (const std::string name :
       {"v01_legacy", "v01_chatml_legacy", "small_a_07_chatml_legacy", "small_a_15_padded64"}) {
    CAPTURE(name);
    const std::string json = tokenizer_json(name);
    if (json.empty()) continue;
    mistral::SentencePieceModel model = mistral::parse_tokenizer_json(std::as_bytes(std::span(json)), name);
    CHECK_NOTHROW(mistral::gguf_tokenizer_metadata(model, name));
    const Tokenizer tokenizer(model, name);
    model.rules = nullptr;  // what others see of the metadata
    const Tokenizer other(model, name);
    for (const Json& line : lines_of(std::string(name) + ".encode.jsonl")) {
      const std::string text = from_base64(line["b64"].get<std::string>());
      CAPTURE(text);
      CHECK(other.encode(text) == tokenizer.encode(text));
    }
  }
}
