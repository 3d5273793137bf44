// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/tokenizer_json.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/tokenizer.hpp>

#include "../support/scratch.hpp"
#include "json_builder.hpp"

using namespace mistral;
using test::error_of;
using test::Json;
using test::small_json;
using test::token_json;
using test::tokenizer_of;

namespace {

using Ids = std::vector<TokenId>;

constexpr EncodeOptions all{.parse_special = true};

std::string error_with(const std::string& pointer, const Json& value) {
  Json json = small_json();
  json[Json::json_pointer(pointer)] = value;
  return error_of([&] { tokenizer_of(json); });
}

std::string error_of_text(std::string_view text) {
  return error_of([&] { Tokenizer::from_bytes(std::as_bytes(std::span(text)), "t"); });
}

}  // namespace

TEST_CASE("a tokenizer.json is a tokenizer with pieces, types, special ids and a template") {
  const Tokenizer t = tokenizer_of(small_json());
  CHECK(t.vocab_size() == 266);
  CHECK(t.bos_id() == 1);
  CHECK(t.eos_id() == 2);
  CHECK(t.unk_id() == 0);
  CHECK(t.is_control(1));
  CHECK(t.is_unknown(0));
  CHECK(t.is_normal(7));
  CHECK(t.adds_bos());
  CHECK_FALSE(t.adds_eos());
  CHECK(t.encode("ab a") == Ids{6, 4, 6});
  CHECK(t.encode("ab", {.add_special = true}) == Ids{1, 6, 4});
  CHECK(t.encode("<s>ab", {.add_special = true, .parse_special = true}) == Ids{1, 1, 6, 4});
  CHECK(t.encode("").empty());
  CHECK(t.encode("", {.add_special = true}) == Ids{1});
  CHECK(t.decode({1, 6, 4}) == "<s> ab");
  CHECK(t.decode({1, 6, 4}, {.skip_special = true}) == "ab");
  CHECK(t.decode({}).empty());
}

TEST_CASE("merges go by the list alone: a piece that no merge gives doesn't come out, unless merges are ignored") {
  Json json = small_json();
  CHECK(tokenizer_of(json).encode("zz") == Ids{5, 0});
  json["model"]["ignore_merges"] = true;
  CHECK(tokenizer_of(json).encode("zz") == Ids{9});
  json["model"]["merges"] = Json::parse(R"([["a", "b"], ["▁", "a"]])");
  CHECK(tokenizer_of(json).encode("ab") == Ids{5, 7});
}

TEST_CASE("unknown characters are one piece or several, and never part of what an added token gave") {
  Json json = small_json();
  CHECK(tokenizer_of(json).encode("xyax") == Ids{5, 0, 3, 0});
  CHECK(tokenizer_of(json).encode("a<unk>xx", all) == Ids{6, 0, 5, 0});
  json["normalizer"] = nullptr;
  CHECK(tokenizer_of(json).encode("<unk>xx", all) == Ids{0, 0});
  json["model"]["fuse_unk"] = false;
  CHECK(tokenizer_of(json).encode("xx") == Ids{0, 0});
  json["model"]["byte_fallback"] = true;
  CHECK(tokenizer_of(json).encode("x") == Ids{10 + 'x'});
  CHECK(tokenizer_of(json).encode("\xff") == Ids{10 + 0xef, 10 + 0xbf, 10 + 0xbd});  // U+FFFD
}

TEST_CASE(
    "a token that was added as special, or that marks turns by its looks, is a control piece; others are text's") {
  Json json = small_json();
  json["added_tokens"].push_back(token_json(266, "<|im_start|>"));
  json["added_tokens"].push_back(token_json(267, "[X]", {"special"}));
  json["added_tokens"].push_back(token_json(268, "word"));
  const Tokenizer t = tokenizer_of(json);
  CHECK(t.is_control(266));
  CHECK(t.is_control(267));
  CHECK(t.is_user_defined(268));
  CHECK(t.encode("word").back() == 268);
  for (const char* const text : {"<|im_start|>", "[X]"}) {
    for (const TokenId id : t.encode(text)) CHECK_FALSE(t.is_control(id));
    CHECK(t.encode(text, all) == Ids{*t.find(text)});
  }
  // what is left out is by the file alone
  CHECK(t.decode({266, 267, 268}, {.skip_special = true}) == "<|im_start|>word");
}

TEST_CASE("of a text that is trusted in parts, control pieces come from these parts alone") {
  const Tokenizer t = tokenizer_of(small_json());
  const auto encode = [&](const Tokenizer& by, std::string_view text, std::vector<TextRange> trusted) {
    return by.encode_trusted(text, trusted);
  };
  const auto behind = [&](Ids ids, TokenId id) {
    ids.push_back(id);
    return ids;
  };
  const std::string_view text = "ab</s>ab</s>";
  CHECK(encode(t, text, {{8, 12}}) == behind(t.encode("ab</s>ab"), 2));
  CHECK(encode(t, text, {{0, text.size()}}) == t.encode(text, all));
  CHECK(encode(t, text, {}) == t.encode(text));
  CHECK(encode(t, text, {{0, 4}, {9, 12}}) == t.encode(text));  // a piece across the border is text
  CHECK(encode(t, "\xff</s>", {{1, 5}}) == behind(t.encode("\xff"), 2));
  CHECK(encode(t, "\xff</s>", {{2, 5}}) == t.encode("\xff</s>"));

  // in normalized text it can't be told who wrote a piece
  Json json = small_json();
  json["added_tokens"][2]["normalized"] = true;
  const Tokenizer normalizes = tokenizer_of(json);
  CHECK(encode(normalizes, "ab</s>", {{0, 6}}) == normalizes.encode("ab</s>", all));
  CHECK(encode(normalizes, "ab</s>", {{0, 2}}) == normalizes.encode("ab</s>"));
  CHECK(error_of([&] { encode(normalizes, "ab</s>", {{2, 6}}); }).find("added token '</s>'") != std::string::npos);
}

TEST_CASE("a special token that merging gives anyway is found in every text") {
  Json json = small_json();
  json["added_tokens"].push_back(token_json(7, "ab", {"special"}));
  const Tokenizer t = tokenizer_of(json);
  CHECK(t.is_user_defined(7));
  CHECK(t.encode("ab") == Ids{7});
}

TEST_CASE("added tokens take white space with them, and are found in words or not, by their flags") {
  Json json = small_json();
  json["normalizer"] = nullptr;
  json["added_tokens"].push_back(token_json(266, "L", {"lstrip"}));
  json["added_tokens"].push_back(token_json(267, "R", {"rstrip"}));
  json["added_tokens"].push_back(token_json(268, "W", {"single_word"}));
  json["added_tokens"].push_back(token_json(269, "  "));
  const Tokenizer t = tokenizer_of(json);
  CHECK(t.encode("a \xc2\xa0\nL") == Ids{3, 266});
  CHECK(t.encode("R \xe3\x80\x80\ta") == Ids{267, 3});
  CHECK(t.encode("aW") == Ids{3, 0});
  CHECK(t.encode("\xc3\xa9W") == Ids{0});
  CHECK(t.encode("W,a") == Ids{268, 0, 3});
  // white space that a token took with it is a token of its own all the same
  CHECK(t.encode("R   a") == Ids{267, 269, 0, 3});
}

TEST_CASE("time stays in proportion where tokens of white space take white space with them") {
  Json json = small_json();
  json["added_tokens"].push_back(token_json(266, "  ", {"lstrip", "rstrip"}));
  CHECK(tokenizer_of(json).encode(std::string(1 << 20, ' ')).size() == (1 << 19));
}

TEST_CASE("the template of the post-processor may have several tokens, in front and behind") {
  Json json = small_json();
  Json& post = json["post_processor"];
  post["special_tokens"]["two"] = Json::parse(R"({"id": "two", "ids": [2, 0], "tokens": ["</s>", "<unk>"]})");
  post["single"].push_back(Json::parse(R"({"SpecialToken": {"id": "two", "type_id": 0}})"));
  const Tokenizer t = tokenizer_of(json);
  CHECK(t.encode("a", {.add_special = true}) == Ids{1, 6, 2, 0});
  json["post_processor"] = nullptr;
  CHECK(tokenizer_of(json).encode("a", {.add_special = true}) == Ids{6});
  CHECK_FALSE(tokenizer_of(json).adds_bos());
}

TEST_CASE("a run of byte tokens is a text as a whole, or U+FFFD for each byte") {
  Json json = small_json();
  json["model"]["byte_fallback"] = true;
  const Tokenizer t = tokenizer_of(json);
  const Ids good{10 + 0xc3, 10 + 0xa9}, spoilt{10 + 0xc3, 10 + 0xa9, 10 + 0xff};
  CHECK(t.decode(good) == "\xc3\xa9");
  CHECK(t.decode(spoilt) == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  StreamDecoder decoder{t};
  CHECK(decoder.feed(good[0]).empty());
  CHECK(decoder.feed(good[1]).empty());
  CHECK(decoder.feed(1).empty());  // left out, and so no end of the run
  CHECK(decoder.feed(3) ==
        "\xc3\xa9"
        "a");
  CHECK(decoder.flush().empty());
  StreamDecoder shown{t, {}};
  CHECK(shown.feed(1) == "<s>");
}

TEST_CASE("what a tokenizer.json asks for that is not supported is an error that names it") {
  const std::map<std::string, Json> values = {
      {"/version", "2.0"},
      {"/truncation", {{"max_length", 8}}},
      {"/padding", Json::parse(R"({"strategy": {"Fixed": 8}})")},
      {"/normalizer", Json::parse(R"({"type": "NFKC"})")},
      {"/normalizer/normalizers/1/pattern", Json::parse(R"({"Regex": " "})")},
      {"/normalizer/normalizers/1/pattern/String", ""},
      {"/normalizer/normalizers/1/content", std::string(5000, 'x')},
      {"/pre_tokenizer", Json::parse(R"({"type": "Digits"})")},
      {"/post_processor/type", "BertProcessing"},
      {"/post_processor/single/1/Sequence/id", "B"},
      {"/post_processor/single/0/SpecialToken/id", "<other>"},
      {"/post_processor/special_tokens/<s>/ids/0", 266},
      {"/decoder", nullptr},
      {"/decoder/decoders/3/stop", 1},
      {"/decoder/decoders/3/content", "ab"},
      {"/decoder/decoders/1/type", "CTC"},
      {"/decoder/decoders/2/type", "ByteFallback"},
      {"/model/type", "Unigram"},
      {"/model/dropout", 0.5},
      {"/model/continuing_subword_prefix", "##"},
      {"/model/end_of_word_suffix", "</w>"},
      {"/model/unk_token", "nowhere"},
      {"/model/other", 1},
      {"/other", 1},
  };
  for (const auto& item : values) {  // clang 14 has no capture of a structured binding
    const std::string& pointer = item.first;
    CAPTURE(pointer);
    std::string name = pointer.substr(pointer.rfind('/') + 1);
    if (name == "0") name = "ids";
    if (pointer.ends_with("SpecialToken/id")) name = "<other>";
    if (pointer == "/padding") name = "strategy";
    const std::string error = error_with(pointer, item.second);
    CAPTURE(error);
    const bool names_it = error.find("[tokenizer] t: ") == 0 && (error.find("'" + name + "'") != std::string::npos ||
                                                                 error.find("'type'") != std::string::npos);
    CHECK(names_it);
  }
}

TEST_CASE("a tokenizer.json that contradicts itself is an error that names the place") {
  CHECK(error_with("/model/vocab/a", 4).find("expected another id than that of") != std::string::npos);
  CHECK(error_with("/model/vocab/a", 266).find("field 'a': expected an integer from 0 to 265, got 266") !=
        std::string::npos);
  CHECK(error_with("/model/vocab/a", -1).find("got -1") != std::string::npos);
  CHECK(error_with("/model/vocab/a", "x").find("got 'x'") != std::string::npos);
  CHECK(error_with("/model/vocab", Json::object()).find("expected pieces, got none") != std::string::npos);
  CHECK(error_with("/model/merges/0", "a q").ends_with("merges[0]: expected pieces of the vocabulary, got 'q'"));
  CHECK(error_with("/model/merges/0", "b b").ends_with("merges[0]: expected pieces of the vocabulary, got 'bb'"));
  CHECK(error_with("/model/merges/0", "ab").find("two pieces with a space between them, got 'ab'") !=
        std::string::npos);
  CHECK(error_with("/model/merges/0", "a  b").find("two pieces with a space") != std::string::npos);
  CHECK(error_with("/model/merges/0", "a b").find("merges[1]: expected a pair once") != std::string::npos);
  CHECK(error_with("/model/merges/1", 3).find("field 'merges'") != std::string::npos);
  CHECK(error_with("/model/merges", Json::parse(R"([["a"]])")).find("merges[0]: expected two pieces, got 1") !=
        std::string::npos);
  CHECK(error_with("/model/byte_fallback", true) == "no error");
  CHECK(error_with("/added_tokens/1/id", 5).find("expected 1, the content's in the vocabulary, got 5") !=
        std::string::npos);
  CHECK(error_with("/added_tokens/3", token_json(300, "new")).find("expected 266, the next free one, got 300") !=
        std::string::npos);
  CHECK(error_with("/added_tokens/3", token_json(1, "<s>")).find("expected a token once, got '<s>' twice") !=
        std::string::npos);
  CHECK(error_with("/added_tokens/3", token_json(266, "")).find("'content': expected text") != std::string::npos);
  CHECK(error_with("/added_tokens/3", token_json(266, std::string(2000, 'x'))).find("at most 1024 bytes") !=
        std::string::npos);
  Json json = small_json();
  json["model"]["vocab"].erase("<0x41>");
  json["model"]["vocab"]["other"] = 10 + 0x41;
  json["model"]["byte_fallback"] = true;
  CHECK(error_of([&] { tokenizer_of(json); }).find("of which the vocabulary has 255") != std::string::npos);
  json = small_json();
  json["model"]["unk_token"] = nullptr;
  CHECK(error_of([&] { tokenizer_of(json); }).find("characters that have none have no bytes") != std::string::npos);
  json["model"]["byte_fallback"] = true;
  CHECK(tokenizer_of(json).unk_id() == -1);
}

TEST_CASE("what is no tokenizer.json, or is cut off anywhere, is an error") {
  CHECK(error_of_text("{}") == "[tokenizer] t: field 'model': expected the model of a tokenizer.json, got nothing");
  CHECK(error_of_text("[]").find("expected a JSON object, got an array") != std::string::npos);
  const std::string whole = small_json().dump();
  for (std::size_t size = 1; size < whole.size(); size += 7) {
    CHECK(error_of_text(std::string_view(whole).substr(0, size)).find("[tokenizer] t: not valid JSON") == 0);
  }
  CHECK(error_of_text("{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}}}").find("'a' is there twice") !=
        std::string::npos);
  CHECK(error_of_text("{\"model\": \"\xff\"}").find("not valid JSON") != std::string::npos);
  std::string deep = "{\"normalizer\": ";
  for (int i = 0; i < 20; ++i) deep += "{\"type\": \"Sequence\", \"normalizers\": [";
  for (int i = 0; i < 20; ++i) deep += "]}";
  Json json = small_json();
  json["normalizer"] = Json::parse(deep.substr(15));
  CHECK(error_of([&] { tokenizer_of(json); }).find("fewer Sequences in each other") != std::string::npos);
}

TEST_CASE("steps that each make a text longer can't make it huge together") {
  Json json = small_json();
  json["normalizer"] = Json::parse(R"({"type": "Sequence", "normalizers": []})");
  for (int i = 0; i < 5; ++i) {
    json["normalizer"]["normalizers"].push_back(
        {{"type", "Replace"}, {"pattern", {{"String", "x"}}}, {"content", std::string(16, 'x')}});
  }
  CHECK(error_of([&] { tokenizer_of(json); }).find("make less long") != std::string::npos);
}

TEST_CASE("the files beside a tokenizer.json say which tokens are BOS and EOS, add tokens and change their flags") {
  const test::Scratch scratch;
  Json json = small_json();
  json["added_tokens"].push_back(token_json(266, "<|im_end|>"));
  const std::string path = scratch.write("tokenizer.json", json.dump());
  scratch.write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true, "eos_token": "<|im_end|>",
    "added_tokens_decoder": {"266": {"content": "<|im_end|>", "special": true},
                             "267": {"content": "[R]", "rstrip": true}}, "chat_template": "{{ x }}"})");
  scratch.write("special_tokens_map.json", R"({"bos_token": {"content": "<s>"}})");
  scratch.write("added_tokens.json", R"({"<|im_end|>": 266})");
  scratch.write("generation_config.json", R"({"eos_token_id": [2, 266]})");
  for (const std::string& from : {path, scratch.path("")}) {
    const Tokenizer t = Tokenizer::load(from);
    CHECK(t.vocab_size() == 268);
    CHECK(t.eos_id() == 266);
    CHECK(t.encode("a", {.add_special = true}) == Ids{6, 266});
    CHECK(t.encode("[R]  a") == Ids{267, 6});
    CHECK(t.decode({266}, {.skip_special = true}).empty());
    CHECK(t.jinja_template() == "{{ x }}");
    CHECK(Ids(t.eos_ids().begin(), t.eos_ids().end()) == Ids{266, 2});
  }
  // and so it is passed on
  const SentencePieceModel model = read_sentencepiece_model(path);
  const std::string bytes = gguf_tokenizer_metadata(model, "t", 270, GgufReaders::only_us).header({});
  const Tokenizer back = Tokenizer::from_bytes(std::as_bytes(std::span(bytes)), "f");
  CHECK(back.vocab_size() == 270);
  CHECK(back.used_size() == 268);
  CHECK(back.eos_id() == 266);
  CHECK(back.encode("[R]  a", {.add_special = true}) == Ids{267, 6, 266});
  CHECK(back.decode({266}, {.skip_special = true}).empty());

  const auto error_with_file = [&](const std::string& name, const std::string& content) {
    const std::string before = scratch.read(name);
    scratch.write(name, content);
    const std::string error = error_of([&] { Tokenizer::load(path); });
    scratch.write(name, before);
    return error;
  };
  CHECK(error_with_file("added_tokens.json", R"({"x": 266})").find("field 'x': expected a token of tokenizer.json") !=
        std::string::npos);
  CHECK(error_with_file("tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "q"}}})")
            .find("expected 'a', as in tokenizer.json, got 'q'") != std::string::npos);
  CHECK(error_with_file("tokenizer_config.json", R"({"added_tokens_decoder": {"300": {"content": "q"}}})")
            .find("expected a token of tokenizer.json, or the next one") != std::string::npos);
  CHECK(
      error_with_file("tokenizer_config.json", R"({"eos_token": "ab"})").find("expected a token that no text gives") !=
      std::string::npos);
  CHECK(error_with_file("tokenizer_config.json", R"({"add_prefix_space": false})").find("what tokenizer.json says") !=
        std::string::npos);
}

TEST_CASE("of a folder with both, tokenizer.json is the tokenizer, as for transformers") {
  const test::Scratch scratch;
  scratch.write("tokenizer.model", "no model");
  const std::string path = scratch.write("tokenizer.json", small_json().dump());
  CHECK(find_tokenizer(scratch.path("")).readable == path);
  CHECK(Tokenizer::load(scratch.path("")).vocab_size() == 266);
}

TEST_CASE("added tokens can be written into the text of a tokenizer.json, wherever it has its own") {
  const std::vector<AddedToken> tokens{{.id = 3, .content = "a\"b", .special = true}};
  for (const std::string text : {R"({"x": {"added_tokens": [1]}, "added_tokens": [{"a": "]}"}], "y": "added_tokens"})",
                                 R"({"x": "\"added_tokens\": 1", "y": [2]})", R"({ "added_tokens" : null })"}) {
    CAPTURE(text);
    Json expected = Json::parse(text);
    expected["added_tokens"] = Json::parse(
        R"([{"id": 3, "content": "a\"b", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
             "special": true}])");
    CHECK(nlohmann::json(Json::parse(detail::with_added_tokens(text, tokens))) == nlohmann::json(expected));
  }
}

TEST_CASE("rules that other readers of GGUF couldn't follow are an error, and are passed on to us all the same") {
  const auto error = [](const Json& json) {
    const std::string text = json.dump();
    const SentencePieceModel model = parse_tokenizer_json(std::as_bytes(std::span(text)), "t");
    CHECK_NOTHROW(gguf_tokenizer_metadata(model, "t", 0, GgufReaders::only_us));
    return error_of([&] { gguf_tokenizer_metadata(model, "t"); });
  };
  Json json = small_json();
  CHECK(error(json).ends_with("expected bytes for characters that have no piece, got none"));
  json["model"]["byte_fallback"] = true;
  CHECK(error(json) == "no error");
  json["model"]["ignore_merges"] = true;
  CHECK(error(json).ends_with("expected \"ignore_merges\": false, got true"));
  json["model"]["ignore_merges"] = false;
  json["model"]["merges"].erase(1);
  CHECK(error(json).find("a merge for each way to cut a piece in two, got none for one of 'ab'") != std::string::npos);
}

TEST_CASE("a tokenizer.json in GGUF metadata must be that of the file's pieces") {
  Json json = small_json();
  json["model"]["byte_fallback"] = true;
  const std::string text = json.dump();
  SentencePieceModel model = parse_tokenizer_json(std::as_bytes(std::span(text)), "t");
  model.pieces[3].text = "c";
  const std::string bytes = gguf_tokenizer_metadata(model, "t", 0, GgufReaders::only_us).header({});
  CHECK(error_of([&] { Tokenizer::from_bytes(std::as_bytes(std::span(bytes)), "f"); }).find("the file's piece 3") !=
        std::string::npos);
}
