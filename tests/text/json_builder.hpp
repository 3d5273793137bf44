// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <mistral/text/tokenizer.hpp>

namespace mistral::test {

using Json = nlohmann::ordered_json;

/// A tokenizer.json of the form that prepends: 0 <unk>, 1 <s>, 2 </s>, 3 a, 4 b, 5 "_", 6 "_a", 7 "ab", 8 "_b", 9 "zz",
/// which no merge gives, and the bytes, which it doesn't fall back to. (`_` is U+2581.)
inline Json small_json() {
  Json json = Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 0, "content": "<unk>", "special": true, "normalized": false},
      {"id": 1, "content": "<s>", "special": true, "normalized": false},
      {"id": 2, "content": "</s>", "special": true, "normalized": false}],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
      "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": false, "ignore_merges": false,
      "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "\u2581": 5, "\u2581a": 6, "ab": 7, "\u2581b": 8,
                "\u2581zz": 9},
      "merges": ["\u2581 a", "a b", "\u2581 b"]}})");
  constexpr std::string_view hex = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    json["model"]["vocab"][std::string("<0x") + hex[byte / 16] + hex[byte % 16] + ">"] = 10 + byte;
  }
  return json;
}

/// An added token without flags.
inline Json token_json(int id, const std::string& content, std::initializer_list<const char*> flags = {}) {
  Json token = {{"id", id}, {"content", content}};
  for (const char* const flag : {"special", "lstrip", "rstrip", "single_word", "normalized"}) token[flag] = false;
  for (const char* const flag : flags) token[flag] = true;
  return token;
}

inline Tokenizer tokenizer_of(const Json& json) {
  const std::string text = json.dump();
  return Tokenizer::from_bytes(std::as_bytes(std::span(text)), "t");
}

}  // namespace mistral::test
