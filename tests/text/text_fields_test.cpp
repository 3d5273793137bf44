// SPDX-License-Identifier: Apache-2.0
// Each field of docs/fields.md that says something of texts: what becomes of another value than the usual.
#include <mistral/text/text_fields.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/sentencepiece_writer.hpp>
#include <mistral/text/tokenizer.hpp>

#include "../support/fields.hpp"
#include "../support/gguf_builder.hpp"
#include "../support/scratch.hpp"
#include "json_builder.hpp"
#include "model_builder.hpp"

using namespace mistral;
using test::error_of;
using test::Field;
using test::Outcome;
using test::Scratch;

namespace {

const std::vector<Field> fields = {
    {"tokenizer_config.json", "add_bos_token", R"v(false)v", Outcome::used},
    {"tokenizer_config.json", "add_eos_token", R"v(true)v", Outcome::used},
    {"tokenizer_config.json", "add_prefix_space", R"v(false)v", Outcome::used},
    {"tokenizer_config.json", "bos_token", R"v("<end>")v", Outcome::used},
    {"tokenizer_config.json", "eos_token", R"v({"content": "<end>"})v", Outcome::used},
    {"tokenizer_config.json", "added_tokens_decoder", R"v({"6": {"content": "<more>", "special": true}})v",
     Outcome::used},
    {"tokenizer_config.json", "chat_template", R"v("{{ messages }}")v", Outcome::used},
    {"tokenizer_config.json", "do_lower_case", R"v(true)v", Outcome::refused},
    {"tokenizer_config.json", "sp_model_kwargs", R"v({"enable_sampling": true})v", Outcome::refused},
    {"tokenizer_config.json", "legacy", R"v(false)v", Outcome::without_effect},
    {"tokenizer_config.json", "clean_up_tokenization_spaces", R"v(true)v", Outcome::without_effect},
    {"tokenizer_config.json", "spaces_between_special_tokens", R"v(true)v", Outcome::without_effect},
    {"tokenizer_config.json", "use_default_system_prompt", R"v(true)v", Outcome::without_effect},
    {"tokenizer_config.json", "model_max_length", R"v(8)v", Outcome::without_effect},
    {"tokenizer_config.json", "padding_side", R"v("left")v", Outcome::without_effect},
    {"tokenizer_config.json", "pad_token", R"v("a")v", Outcome::without_effect},
    {"tokenizer_config.json", "unk_token", R"v("<unk>")v", Outcome::without_effect},
    {"tokenizer_config.json", "tokenizer_class", R"v("LlamaTokenizerFast")v", Outcome::without_effect},
    {"special_tokens_map.json", "bos_token", R"v("<end>")v", Outcome::used},
    {"special_tokens_map.json", "eos_token", R"v("<end>")v", Outcome::used},
    {"special_tokens_map.json", "pad_token", R"v("a")v", Outcome::without_effect},
    {"special_tokens_map.json", "additional_special_tokens", R"v(["<end>"])v", Outcome::without_effect},
    {"added_tokens.json", "<more>", R"v(6)v", Outcome::used},
    {"generation_config.json", "eos_token_id", R"v([2, 3])v", Outcome::used},
    {"generation_config.json", "suppress_tokens", R"v([3])v", Outcome::refused},
    {"generation_config.json", "begin_suppress_tokens", R"v([3])v", Outcome::refused},
    {"generation_config.json", "bad_words_ids", R"v([[3]])v", Outcome::refused},
    {"generation_config.json", "sequence_bias", R"v([[[3], 1.0]])v", Outcome::refused},
    {"generation_config.json", "forced_bos_token_id", R"v(3)v", Outcome::refused},
    {"generation_config.json", "forced_eos_token_id", R"v(3)v", Outcome::refused},
    {"generation_config.json", "temperature", R"v(0.1)v", Outcome::without_effect},
    {"generation_config.json", "top_p", R"v(0.1)v", Outcome::without_effect},
    {"generation_config.json", "top_k", R"v(1)v", Outcome::without_effect},
    {"generation_config.json", "do_sample", R"v(true)v", Outcome::without_effect},
    {"generation_config.json", "repetition_penalty", R"v(2.0)v", Outcome::without_effect},
    {"generation_config.json", "max_length", R"v(3)v", Outcome::without_effect},
    {"generation_config.json", "max_new_tokens", R"v(3)v", Outcome::without_effect},
    {"generation_config.json", "bos_token_id", R"v(3)v", Outcome::without_effect},
    {"generation_config.json", "pad_token_id", R"v(3)v", Outcome::without_effect},
    {"config.json, of texts", "eos_token_id", R"v([2, 3])v", Outcome::used},
    {"chat_template.json", "chat_template", R"v("{{ messages }}")v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.model", R"v(str:gpt2)v", Outcome::refused},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.pre", R"v(str:x)v", Outcome::without_effect},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.bos_token_id", R"v(u32:6)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.eos_token_id", R"v(u32:6)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.unknown_token_id", R"v(u32:3)v", Outcome::refused},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.padding_token_id", R"v(u32:3)v", Outcome::without_effect},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.seperator_token_id", R"v(u32:3)v", Outcome::without_effect},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.cls_token_id", R"v(u32:3)v", Outcome::without_effect},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.mask_token_id", R"v(u32:3)v", Outcome::without_effect},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.eot_token_id", R"v(u32:3)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.eom_token_id", R"v(u32:3)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.fim_pre_token_id", R"v(u32:3)v", Outcome::without_effect},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.add_bos_token", R"v(bool:0)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.add_eos_token", R"v(bool:1)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.add_space_prefix", R"v(bool:0)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.ggml.remove_extra_whitespaces", R"v(bool:1)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.chat_template", R"v(str:{{ messages }})v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "mistral.eos_token_ids", R"v(i32s:2,3)v", Outcome::used},
    {"GGUF metadata, of the tokenizer", "tokenizer.huggingface.json",
     "str:{\"model\": {\"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2, \"a\": 3, \"\xE2\x96\x81\": 4, \"<end>\": 5, "
     "\"<more>\": 6}, \"merges\": [], \"unk_token\": \"<unk>\"}, \"decoder\": {\"type\": \"Fuse\"}}",
     Outcome::used},
    {"tokenizer.json", "version", R"v("2.0")v", Outcome::refused},
    {"tokenizer.json", "truncation", R"v({"max_length": 8})v", Outcome::refused},
    {"tokenizer.json", "padding", R"v({"strategy": {"Fixed": 8}})v", Outcome::refused},
    {"tokenizer.json", "added_tokens", R"v([{"id": 3, "content": "a"}])v", Outcome::used},
    {"tokenizer.json", "normalizer", R"v({"type": "Prepend", "prepend": "b"})v", Outcome::used},
    {"tokenizer.json", "pre_tokenizer", R"v({"type": "Metaspace", "replacement": "b"})v", Outcome::used},
    {"tokenizer.json", "post_processor", R"v(null)v", Outcome::used},
    {"tokenizer.json", "decoder", R"v({"type": "Replace", "pattern": {"String": "a"}, "content": "q"})v",
     Outcome::used},
    {"tokenizer.json, the model", "type", R"v("Unigram")v", Outcome::refused},
    {"tokenizer.json, the model", "dropout", R"v(0.1)v", Outcome::refused},
    {"tokenizer.json, the model", "unk_token", R"v("<s>")v", Outcome::used},
    {"tokenizer.json, the model", "continuing_subword_prefix", R"v("##")v", Outcome::refused},
    {"tokenizer.json, the model", "end_of_word_suffix", R"v("</w>")v", Outcome::refused},
    {"tokenizer.json, the model", "fuse_unk", R"v(false)v", Outcome::used},
    {"tokenizer.json, the model", "byte_fallback", R"v(true)v", Outcome::used},
    {"tokenizer.json, the model", "ignore_merges", R"v(true)v", Outcome::used},
    {"tokenizer.json, the model", "merges", R"v([])v", Outcome::used},
    {"tokenizer.model", "trainer_spec.model_type", R"v(t3=1)v", Outcome::refused},
    {"tokenizer.model", "trainer_spec.treat_whitespace_as_suffix", R"v(t24=1)v", Outcome::used},
    {"tokenizer.model", "trainer_spec.unk_surface", R"v(t44:?)v", Outcome::used},
    {"tokenizer.model", "trainer_spec.bos_piece", R"v(t46:<end>)v", Outcome::used},
    {"tokenizer.model", "trainer_spec.eos_piece", R"v(t47:<end>)v", Outcome::used},
    {"tokenizer.model", "trainer_spec.vocab_size", R"v(t4=99)v", Outcome::without_effect},
    {"tokenizer.model", "trainer_spec.split_digits", R"v(t25=1)v", Outcome::without_effect},
    {"tokenizer.model", "trainer_spec.bos_id", R"v(t41=5)v", Outcome::without_effect},
    {"tokenizer.model", "normalizer_spec.name", R"v(n1:nfkc)v", Outcome::without_effect},
    {"tokenizer.model", "normalizer_spec.add_dummy_prefix", R"v(n3=0)v", Outcome::used},
    {"tokenizer.model", "normalizer_spec.remove_extra_whitespaces", R"v(n4=0)v", Outcome::used},
    {"tokenizer.model", "normalizer_spec.escape_whitespaces", R"v(n5=0)v", Outcome::used},
    {"tokenizer.model", "denormalizer_spec.precompiled_charsmap", R"v(d2:x)v", Outcome::refused},
    {"tokenizer.model", "self_test_data", R"v(s1:x)v", Outcome::without_effect},
};

// 0 <unk>, 1 <s>, 2 </s>, 3 a, 4 "_", 5 "_a", 6 "__": of control, <end>, which stands before the last
SentencePieceModel small_model() {
  SentencePieceModel model;
  model.pieces = {{"<unk>", 0, PieceType::unknown},        {"<s>", 0, PieceType::control},
                  {"</s>", 0, PieceType::control},         {"a", -1, PieceType::normal},
                  {"\xE2\x96\x81", -2, PieceType::normal}, {"<end>", 0, PieceType::control}};
  return model;
}

std::string summary(const Tokenizer& t) {
  std::ostringstream text;
  text << t.vocab_size() << ' ' << t.bos_id() << ' ' << t.eos_id() << ' ' << t.adds_bos() << ' ' << t.adds_eos() << ' '
       << t.jinja_template() << " ends";
  for (const TokenId id : t.eos_ids()) text << ' ' << id;
  text << " encoded";
  for (const TokenId id : t.encode(" a  a ")) text << ' ' << id;
  text << " decoded " << t.decode({0, 4, 3, 3, 4});
  return text.str();
}

std::string of_folder(const std::string& file, const Field* field) {
  const Scratch scratch;
  const std::string path = scratch.write("tokenizer.model", test::serialize(small_model()));
  if (field != nullptr) {
    std::string name = field->name;
    scratch.write(file.substr(0, file.find(',')), "{\"" + name + "\": " + field->value + "}");
  }
  return summary(Tokenizer::load(path));
}

std::string gguf_value(const std::string& key, const std::string& value) {
  const std::string text = value.substr(value.find(':') + 1);
  if (value.starts_with("u32:")) return test::gguf_u32(key, static_cast<std::uint32_t>(std::stoul(text)));
  if (value.starts_with("bool:")) return test::gguf_entry(key, 7, std::string(1, text == "1" ? '\1' : '\0'));
  if (value.starts_with("i32s:")) {
    return test::gguf_entry(key, 9, test::gguf_array(5, 2, test::le(std::int32_t{2}) + test::le(std::int32_t{3})));
  }
  return test::gguf_entry(key, text);
}

std::string gguf_bytes(const Field* field) {
  test::GgufBuilder file;
  std::string tokens, scores, types;
  SentencePieceModel model = small_model();
  model.pieces.push_back({"<more>", 0, PieceType::control});
  for (const auto& piece : model.pieces) {
    tokens += test::gguf_string(piece.text);
    scores += test::le(piece.score);
    types += test::le(static_cast<std::int32_t>(piece.type));
  }
  const auto array = [&](const char* key, std::uint32_t type, const std::string& bytes) {
    file.entries.push_back(test::gguf_entry(key, 9, test::gguf_array(type, model.pieces.size(), bytes)));
  };
  array("tokenizer.ggml.tokens", 8, tokens);
  array("tokenizer.ggml.scores", 6, scores);
  array("tokenizer.ggml.token_type", 5, types);
  for (const auto& [key, value] : {std::pair("tokenizer.ggml.model", "str:llama"),
                                   {"tokenizer.ggml.bos_token_id", "u32:1"},
                                   {"tokenizer.ggml.eos_token_id", "u32:2"},
                                   {"tokenizer.ggml.unknown_token_id", "u32:0"}}) {
    if (field == nullptr || field->name != key) file.entries.push_back(gguf_value(key, value));
  }
  if (field != nullptr) file.entries.push_back(gguf_value(field->name, field->value));
  return file.bytes();
}

std::string of_gguf(const Field* field) {
  const std::string bytes = gguf_bytes(field);
  return summary(Tokenizer::from_bytes(std::as_bytes(std::span(bytes)), "f"));
}

// `t24=1`: a number in field 24 of trainer_spec; `n2:x`: a text in field 2 of normalizer_spec; d: denormalizer_spec
std::string of_model(const Field* field) {
  std::string bytes = test::serialize(small_model());
  if (field != nullptr) {
    const std::string& v = field->value;
    const std::size_t at = v.find_first_of("=:");
    const auto number = static_cast<unsigned>(std::stoul(v.substr(1, at - 1)));
    const std::string inner = v[at] == '=' ? test::number_field(number, std::stoul(v.substr(at + 1)))
                                           : test::text_field(number, v.substr(at + 1));
    const unsigned message = v[0] == 't' ? 2 : v[0] == 'n' ? 3 : v[0] == 's' ? 4 : 5;
    bytes += test::text_field(message, inner);
  }
  return summary(Tokenizer::from_bytes(test::bytes_of(bytes), "f"));
}

std::string of_json(const std::string& file, const Field* field) {
  test::Json json = test::small_json();
  if (field != nullptr) {
    test::Json& fields_of = file == "tokenizer.json" ? json : json["model"];
    fields_of[field->name] = test::Json::parse(field->value);
  }
  const Tokenizer t = test::tokenizer_of(json);
  std::string text = summary(t);
  for (const char* const word : {"<s>xx", "zz"}) {
    for (const TokenId id : t.encode(word, {.add_special = true, .parse_special = true})) {
      text += ' ' + std::to_string(id);
    }
  }
  return text;
}

std::string of(const std::string& file, const Field* field) {
  if (file.starts_with("tokenizer.json")) return of_json(file, field);
  if (file.starts_with("GGUF")) return of_gguf(field);
  return file == "tokenizer.model" ? of_model(field) : of_folder(file, field);
}

}  // namespace

TEST_CASE("every field that says something of texts is used, refused or without effect as the page says") {
  for (const Field& field : fields) {
    CAPTURE(field.file);
    CAPTURE(field.name);
    const std::string usual = of(field.file, nullptr);
    std::string found;
    const std::string error = error_of([&] { found = of(field.file, &field); });
    CAPTURE(error);
    CAPTURE(found);
    if (field.outcome == Outcome::refused) {
      const std::string name = field.name.substr(0, field.name.find('.') == std::string::npos ? std::string::npos : 9);
      CHECK(error != "no error");
      CHECK((error.find(name) != std::string::npos || error.find("model_type") != std::string::npos));
    } else if (field.outcome == Outcome::used) {
      CHECK(error == "no error");
      CHECK(found != usual);
    } else {
      CHECK(error == "no error");
      CHECK(found == usual);
    }
  }
}

TEST_CASE("the page of fields has those of texts, behind the others") {
  const std::vector<Field> documented = test::documented_fields();
  REQUIRE(documented.size() > fields.size());
  const bool same = std::equal(fields.rbegin(), fields.rend(), documented.rbegin());
  CHECK(same);
}

TEST_CASE(
    "the ids that end a text come from generation_config.json, or else from config.json, beside the tokenizer's") {
  const Scratch scratch;
  const std::string path = scratch.write("tokenizer.model", test::serialize(small_model()));
  const auto ends = [&] {
    const Tokenizer t = Tokenizer::load(scratch.path(""));
    return std::vector<TokenId>(t.eos_ids().begin(), t.eos_ids().end());
  };
  CHECK(ends() == std::vector<TokenId>{2});
  scratch.write("config.json", R"({"eos_token_id": [2, 3]})");
  CHECK(ends() == std::vector<TokenId>{2, 3});
  scratch.write("generation_config.json", R"({"eos_token_id": 5.0})");
  CHECK(ends() == std::vector<TokenId>{2, 5});
  scratch.write("generation_config.json", R"({"eos_token_id": null})");
  CHECK(ends() == std::vector<TokenId>{2, 3});
  scratch.write("generation_config.json", R"({"eos_token_id": [-1, 40]})");  // an id that only the model has
  CHECK(ends() == std::vector<TokenId>{2, 40});
  CHECK(Tokenizer::load(path).with_eos_ids(std::vector<TokenId>{2, 4}).ends_text(4));
  scratch.write("config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  scratch.write("generation_config.json", "{}");
  CHECK(error_of(ends).find("config.json: run `git lfs pull`") != std::string::npos);
}

TEST_CASE("added tokens are pieces behind those of tokenizer.model, special ones found in no text") {
  const Scratch scratch;
  scratch.write("tokenizer.model", test::serialize(small_model()));
  scratch.write("added_tokens.json", R"({"<|im_end|>": 8, "word": 6})");
  scratch.write("tokenizer_config.json", R"({"added_tokens_decoder": {
      "1": {"content": "<s>", "special": true},
      "6": {"content": "word", "special": false},
      "8": {"content": "<|im_end|>", "special": true}}, "eos_token": "<|im_end|>"})");
  const Tokenizer t = Tokenizer::load(scratch.path("tokenizer.model"));
  CHECK(t.vocab_size() == 9);
  CHECK(t.is_user_defined(6));
  CHECK(t.piece(7) == "[PAD7]");
  CHECK(t.is_unused(7));
  CHECK(t.is_control(8));
  CHECK(t.eos_id() == 8);
  CHECK(t.used_size() == 9);
  const std::vector<TokenId> ids = t.encode("word<|im_end|>");
  CHECK(std::count(ids.begin(), ids.end(), 6) == 1);
  CHECK(std::count(ids.begin(), ids.end(), 8) == 0);
  scratch.write("added_tokens.json", R"({"x": 2000000})");
  CHECK(error_of([&] { Tokenizer::load(scratch.path("")); }).find("expected an id of at most") != std::string::npos);
}

TEST_CASE("a folder's tokenizer is tokenizer.json, tokenizer.model, or the newest of these with a version behind it") {
  const Scratch scratch;
  const std::string bytes = test::serialize(small_model());
  CHECK(find_tokenizer(scratch.path("")).readable.empty());
  scratch.write("tekken.json", "{}");
  CHECK(find_tokenizer(scratch.path("")).other == "tekken.json");
  CHECK(error_of([&] { Tokenizer::load(scratch.path("")); }).ends_with("got tekken.json"));
  scratch.write("tokenizer.model.v1", bytes);
  scratch.write("tokenizer.model.v3", bytes);
  CHECK(find_tokenizer(scratch.path("")).readable == scratch.path("tokenizer.model.v3"));
  CHECK(Tokenizer::load(scratch.path("")).vocab_size() == 6);
  scratch.write("tokenizer.model", bytes);
  CHECK(find_tokenizer(scratch.path("")).readable == scratch.path("tokenizer.model"));
  scratch.write("tokenizer.json", "{}");
  CHECK(find_tokenizer(scratch.path("")).readable == scratch.path("tokenizer.json"));
}

TEST_CASE("a tokenizer goes to GGUF and back with all that is said of texts, padded to the model's vocabulary") {
  SentencePieceModel model = small_model();
  model.remove_extra_whitespaces = false;
  model.add_bos = false;
  model.add_eos = true;
  model.chat_template = "{{ x }}";
  model.eos_ids = {3, 4, 5};
  const std::string bytes = gguf_tokenizer_metadata(model, "t", 9).header({});
  const Tokenizer back = Tokenizer::from_bytes(std::as_bytes(std::span(bytes)), "f");
  CHECK(back.vocab_size() == 9);
  CHECK(back.used_size() == 6);
  CHECK(back.piece(8) == "[PAD8]");
  CHECK(back.is_unused(8));
  CHECK_FALSE(back.adds_bos());
  CHECK(back.adds_eos());
  CHECK(back.jinja_template() == "{{ x }}");
  CHECK(std::vector<TokenId>(back.eos_ids().begin(), back.eos_ids().end()) == std::vector<TokenId>{2, 3, 4, 5});
  // again, from the file, to a larger model
  const Gguf file = Gguf::from_bytes(std::as_bytes(std::span(bytes)), "f");
  const std::string larger = gguf_tokenizer_metadata(file, 12).header({});
  CHECK(Tokenizer::from_bytes(std::as_bytes(std::span(larger)), "f").vocab_size() == 12);
  CHECK(gguf_tokenizer_metadata(file, 9).header({}) == gguf_tokenizer_metadata(file).header({}));
  CHECK(error_of([&] { gguf_tokenizer_metadata(model, "t", 5); }) ==
        "[tokenizer] t: the vocabulary: expected at most the model's 5 pieces, got 6");
}

TEST_CASE("a tokenizer.model that is written is the one that was read") {
  SentencePieceModel model = small_model();
  model.treat_whitespace_as_suffix = true;
  model.add_dummy_prefix = false;
  model.unk_surface = "?";
  model.eos_piece = "<end>";
  CHECK(serialize_sentencepiece_model(model) == test::serialize(model));
}

TEST_CASE("special ids of a GGUF file that are out of range and unused are warnings; BOS and EOS are errors") {
  const Field pad{"", "tokenizer.ggml.padding_token_id", "u32:4294967295", Outcome::without_effect};
  const std::string bytes = gguf_bytes(&pad);
  const Gguf file = Gguf::from_bytes(std::as_bytes(std::span(bytes)), "f");
  CHECK(Tokenizer::from_bytes(std::as_bytes(std::span(bytes)), "f").pad_id() == -1);
  CHECK(gguf_tokenizer_warnings(file) ==
        std::vector<std::string>{"[gguf] f: key 'tokenizer.ggml.padding_token_id': expected an id below 7, got "
                                 "4294967295; nothing uses it"});
  for (const char* const key : {"tokenizer.ggml.unknown_token_id", "tokenizer.ggml.eot_token_id"}) {
    const Field other{"", key, "u32:4294967295", Outcome::without_effect};
    CHECK(error_of([&] { of_gguf(&other); }) == "no error");
  }
  for (const char* const key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"}) {
    const Field used{"", key, "u32:4294967295", Outcome::refused};
    CHECK(error_of([&] { of_gguf(&used); }).find(key) != std::string::npos);
  }
}

TEST_CASE("what is no SentencePiece model is named as what it is") {
  const auto error = [](std::string bytes) {
    return error_of([&] { Tokenizer::from_bytes(std::as_bytes(std::span(bytes)), "t"); });
  };
  CHECK(
      error("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n") ==
      "[tokenizer] t: run `git lfs pull` in its repository to download the file itself: expected a SentencePiece model "
      "(tokenizer.model) or a tokenizer.json, got a git-lfs pointer");
  CHECK(error("Entry not found") ==
        "[tokenizer] t: expected a SentencePiece model (tokenizer.model) or a tokenizer.json, got a text that begins "
        "with "
        "'Entry not found'");
  CHECK(error(std::string("\x10\0\0\0\0\0\0\0{\"a\":1}", 15)).ends_with("got a model's weights in safetensors"));
}
