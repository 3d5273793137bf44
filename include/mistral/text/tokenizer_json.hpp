// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/text/markup_words.hpp>
#include <mistral/text/sentencepiece_model.hpp>
#include <mistral/text/tokenizer_json_steps.hpp>
#include <mistral/text/tokenizer_rules.hpp>
#include <mistral/text/vocabulary.hpp>

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// Whether `text` is one character.
inline bool is_character(std::string_view text) noexcept {
  return !text.empty() && text.size() == utf8_length(byte_at(text, 0));
}

/// Which pieces merging can give for a text: the characters, and all that merges give.
inline std::vector<bool> spelled_pieces(const SentencePieceModel& model) {
  std::vector<bool> spelled(model.pieces.size());
  for (std::size_t i = 0; i < model.rules->model_size; ++i) spelled[i] = is_character(model.pieces[i].text);
  for (const ListedMerge& merge : model.rules->merges) spelled[static_cast<std::size_t>(merge.merged)] = true;
  return spelled;
}

/// Gives the added tokens of a model their types: those that are special, BOS or EOS, or mark turns by their looks, are
/// control pieces, which no text gives; the others, and those that merging gives anyway, are found in every text.
inline void type_added_tokens(SentencePieceModel& model) {
  const std::vector<bool> spelled = spelled_pieces(model);
  for (const AddedToken& token : model.rules->added) {
    const auto i = static_cast<std::size_t>(token.id);
    PieceType& type = model.pieces[i].type;
    if (type == PieceType::unknown) continue;
    const bool named = token.content == model.bos_piece || token.content == model.eos_piece;
    const bool controls = (token.special || named || looks_like_markup(token.content)) && !spelled[i];
    type = controls ? PieceType::control : PieceType::user_defined;
  }
}

/// Where the value of a field of the outermost object stands in a JSON text that has been parsed: its begin and its
/// end, or twice the place behind the object's first bracket where there is no such field.
inline std::pair<std::size_t, std::size_t> place_of_field(std::string_view text, std::string_view name) {
  const std::size_t first = text.find('{') + 1;
  std::size_t begin = 0, word = 0;
  int depth = 0;
  bool wanted = false;
  for (std::size_t at = first; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '"') {
      word = at + 1;
      for (++at; text[at] != '"'; ++at) at += text[at] == '\\' ? 1 : 0;
      if (depth == 0 && begin == 0) wanted = text.substr(word, at - word) == name;
    } else if (c == ':' && depth == 0 && begin == 0) {
      begin = at + 1;
    } else if (depth == 0 && (c == ',' || c == '}')) {
      if (wanted && begin != 0) return {begin, at};
      begin = 0;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return {first, first};
}

/// The text of a tokenizer.json with these added tokens in the place of its own.
inline std::string with_added_tokens(std::string_view text, const std::vector<AddedToken>& tokens) {
  JsonWriter json;
  json.begin_array();
  for (const AddedToken& token : tokens) {
    json.begin_object().field("id", token.id).field("content", token.content).field("single_word", token.single_word);
    json.field("lstrip", token.lstrip).field("rstrip", token.rstrip).field("normalized", token.normalized);
    json.field("special", token.special).end_object();
  }
  json.end_array();
  const auto [begin, end] = place_of_field(text, "added_tokens");
  std::string value(json.text());
  if (begin == end) value = "\"added_tokens\": " + value + ", ";
  return std::string(text.substr(0, begin)).append(value).append(text.substr(end));
}

/// Has a model's rules add a token, or change the flags of one: its id is a piece's of the same text, or the next one.
inline void add_token(SentencePieceModel& model, AddedToken token) {
  auto rules = std::make_shared<TokenizerRules>(*model.rules);
  if (static_cast<std::size_t>(token.id) == model.pieces.size()) {
    model.pieces.push_back({token.content, padding_score, PieceType::user_defined});
  }
  const auto at = std::lower_bound(rules->added.begin(), rules->added.end(), token.id,
                                   [](const AddedToken& a, TokenId id) { return a.id < id; });
  if (at != rules->added.end() && at->id == token.id) {
    *at = std::move(token);
  } else {
    rules->added.insert(at, std::move(token));
  }
  rules->text = with_added_tokens(rules->text, rules->added);
  model.rules = std::move(rules);
  type_added_tokens(model);
}

/// Scores by which SentencePiece merges as the list says, where that can be: the first merges have the greatest, then
/// come pieces that no merge gives. Of bytes and of added tokens they don't matter.
inline void score_pieces(SentencePieceModel& model) {
  std::vector<bool> scored(model.pieces.size());
  float next = 0.0f;
  const auto score = [&](std::size_t i) {
    if (scored[i]) return;
    scored[i] = true;
    model.pieces[i].score = next--;
  };
  for (const ListedMerge& merge : model.rules->merges) score(static_cast<std::size_t>(merge.merged));
  for (std::size_t i = 0; i < model.rules->model_size; ++i) {
    if (model.pieces[i].type == PieceType::normal) score(i);
  }
}

/// Reads a tokenizer.json of type BPE.
class TokenizerJsonReader {
 public:
  TokenizerJsonReader(const JsonObject& file, std::string_view name) : file_(file), name_(name) {}

  /// `text` is all of the file.
  SentencePieceModel read(std::string_view text) {
    check_fields(file_, {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                         "post_processor", "decoder", "model"});
    if (!file_.is_object("model")) throw file_.unexpected("model", "the model of a tokenizer.json");
    if (file_.has("version") && file_.string("version") != "1.0") throw file_.unexpected("version", "'1.0'");
    check_lengths();
    const JsonObject json = file_.object("model");
    read_model(json);
    read_added_tokens();
    TokenizerJsonSteps(rules_, model_.pieces.size()).read(file_);
    rules_.text = text;
    model_.rules = std::make_shared<const TokenizerRules>(std::move(rules_));
    type_added_tokens(model_);
    score_pieces(model_);
    name_special_pieces();
    return std::move(model_);
  }

 private:
  // a text that is cut off, or made longer, has other ids
  void check_lengths() const {
    if (file_.has("truncation")) throw file_.unexpected("truncation", "null, for it is not supported");
    if (!file_.has("padding")) return;
    const JsonObject padding = file_.object("padding");
    if (!padding.is_string("strategy") || padding.string("strategy") != "BatchLongest") {
      throw padding.unexpected("strategy", "'BatchLongest', for no other is supported");
    }
    if (padding.has("pad_to_multiple_of")) {
      throw padding.unexpected("pad_to_multiple_of", "null, for it is not supported");
    }
  }

  void read_model(const JsonObject& json) {
    check_fields(json, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                        "byte_fallback", "ignore_merges", "vocab", "merges"});
    if (json.has("type") && json.string("type") != "BPE") throw json.unexpected("type", "'BPE'");
    if (json.has("dropout") && json.number("dropout") != 0.0) {
      throw json.unexpected("dropout", "null, for it is not supported");
    }
    for (const char* const affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (json.has(affix) && !json.string(affix).empty()) {
        throw json.unexpected(affix, "null, for it is not supported");
      }
    }
    const auto flag = [&](const char* name) { return json.has(name) && json.boolean(name); };
    rules_.fuse_unknown = flag("fuse_unk");
    rules_.ignore_merges = flag("ignore_merges");
    read_vocabulary(json.object("vocab"));
    const Vocabulary lookup(model_, name_);
    read_merges(json, lookup);
    read_types(json, lookup, flag("byte_fallback"));
  }

  void read_vocabulary(const JsonObject& json) {
    const std::vector<std::string> names = json.names();
    if (names.empty()) throw file_.error("field 'model': the vocabulary: expected pieces, got none");
    model_.rules = std::make_shared<const TokenizerRules>();  // those that the pieces are checked by
    model_.pieces.resize(names.size());
    for (const std::string& name : names) {
      const auto last = static_cast<std::int64_t>(names.size()) - 1;
      auto& piece = model_.pieces[static_cast<std::size_t>(json.integer(name, 0, last))];
      if (name.empty()) throw json.unexpected(name, "text for a piece");
      if (!piece.text.empty()) {
        throw json.unexpected(name, "another id than that of '" + printable(piece.text, 40) + "'");
      }
      piece.text = name;
    }
    rules_.model_size = names.size();
  }

  /// "a b", or ["a", "b"]
  void read_merges(const JsonObject& json, const Vocabulary& lookup) {
    const auto add = [&](std::size_t i, std::string_view left, std::string_view right) {
      const auto fail = [&](std::string_view expected, std::string_view piece) {
        throw Error("tokenizer", std::string(name_) + ": field 'model': merges[" + std::to_string(i) + "]", expected,
                    "'" + printable(piece, 40) + "'");
      };
      const auto id_of = [&](std::string_view piece) {
        const TokenId id = lookup.find(piece);
        if (id < 0) fail("pieces of the vocabulary", piece);
        return id;
      };
      const std::string both = std::string(left) + std::string(right);
      rules_.merges.push_back({id_of(left), id_of(right), id_of(both)});
    };
    if (json.holds_strings("merges")) {
      const std::vector<std::string> lines = json.strings("merges");
      rules_.merges.reserve(lines.size());
      for (std::size_t i = 0; i < lines.size(); ++i) {
        const std::string_view line = lines[i];
        if (line.starts_with("#version")) continue;
        const std::size_t space = line.find(' ');
        if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
          throw Error("tokenizer", std::string(name_) + ": field 'model': merges[" + std::to_string(i) + "]",
                      "two pieces with a space between them", "'" + printable(line, 40) + "'");
        }
        add(i, line.substr(0, space), line.substr(space + 1));
      }
      return;
    }
    const std::vector<std::vector<std::string>> pairs = json.string_lists("merges");
    rules_.merges.reserve(pairs.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      if (pairs[i].size() != 2) {
        throw Error("tokenizer", std::string(name_) + ": field 'model': merges[" + std::to_string(i) + "]",
                    "two pieces", std::to_string(pairs[i].size()));
      }
      add(i, pairs[i][0], pairs[i][1]);
    }
  }

  void read_types(const JsonObject& json, const Vocabulary& lookup, bool byte_fallback) {
    std::vector<TokenId> others;  // that stand for what has no piece
    if (json.has("unk_token")) {
      const std::string& text = json.string("unk_token");
      const TokenId id = lookup.find(text);
      if (id < 0 || is_character(text)) throw json.unexpected("unk_token", "a piece of more than one character");
      model_.pieces[static_cast<std::size_t>(id)].type = PieceType::unknown;
      others.push_back(id);
    }
    std::vector<TokenId> bytes;
    for (std::size_t i = 0; byte_fallback && i < model_.pieces.size(); ++i) {
      if (Vocabulary::byte_of(model_.pieces[i].text) >= 0) bytes.push_back(static_cast<TokenId>(i));
    }
    if (!bytes.empty() && bytes.size() != 256) {
      throw json.unexpected("byte_fallback", "all or none of <0x00> ... <0xFF>, of which the vocabulary has " +
                                                 std::to_string(bytes.size()));
    }
    model_.byte_fallback = !bytes.empty();
    for (const TokenId id : bytes) model_.pieces[static_cast<std::size_t>(id)].type = PieceType::byte;
    if (others.empty() && bytes.empty()) {
      throw json.unexpected("unk_token", "a piece, where characters that have none have no bytes");
    }
    for (std::size_t i = 0; i < rules_.merges.size(); ++i) {
      const ListedMerge& merge = rules_.merges[i];
      for (const TokenId id : {merge.left, merge.right, merge.merged}) {
        if (model_.pieces[static_cast<std::size_t>(id)].type == PieceType::normal) continue;
        throw json.error("merges[" + std::to_string(i) + "]: expected pieces of text, got '" +
                         printable(lookup.text(id), 40) + "'");
      }
    }
  }

  void read_added_tokens() {
    if (!file_.has("added_tokens")) return;
    const Vocabulary lookup(model_, name_);
    for (const JsonObject& json : file_.objects("added_tokens")) {
      check_fields(json, {"id", "content", "special", "lstrip", "rstrip", "single_word", "normalized"});
      AddedToken token = added_token(json);
      if (token.content.empty()) throw json.unexpected("content", "text");
      const TokenId known = lookup.find(token.content);
      const auto next = static_cast<TokenId>(model_.pieces.size());
      // a library that reads the file goes by the content, and gives new tokens the next ids
      const TokenId id = known >= 0 ? known : next;
      token.id = static_cast<TokenId>(json.integer("id", 0, INT32_MAX));
      if (token.id != id) {
        throw json.unexpected("id", known >= 0 ? std::to_string(id) + ", the content's in the vocabulary"
                                               : std::to_string(id) + ", the next free one");
      }
      if (known < 0) model_.pieces.push_back({token.content, padding_score, PieceType::user_defined});
      rules_.added.push_back(std::move(token));
    }
    std::sort(rules_.added.begin(), rules_.added.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    const auto twice = std::adjacent_find(rules_.added.begin(), rules_.added.end(),
                                          [](const AddedToken& a, const AddedToken& b) { return a.id == b.id; });
    if (twice != rules_.added.end()) {
      throw file_.error("added_tokens: expected a token once, got '" + printable(twice->content, 40) + "' twice");
    }
  }

  static AddedToken added_token(const JsonObject& json) {
    const auto flag = [&](const char* name) { return json.has(name) && json.boolean(name); };
    return {.content = json.string("content"),
            .special = flag("special"),
            .lstrip = flag("lstrip"),
            .rstrip = flag("rstrip"),
            .single_word = flag("single_word"),
            .normalized = flag("normalized")};
  }

  /// BOS and EOS are what the template puts around a text; else they are called as in all files.
  void name_special_pieces() {
    const TokenizerRules& rules = *model_.rules;
    const auto name = [&](const std::vector<TokenId>& ids, std::string& piece) {
      if (ids.size() != 1) return;
      const auto& only = model_.pieces[static_cast<std::size_t>(ids[0])];
      if (only.type == PieceType::control) piece = only.text;
    };
    name(rules.before, model_.bos_piece);
    name(rules.behind, model_.eos_piece);
    model_.add_bos = !rules.before.empty();
    model_.add_eos = !rules.behind.empty();
    // what SentencePiece's rules come closest by
    model_.remove_extra_whitespaces = false;
    model_.add_dummy_prefix = rules.metaspace && rules.metaspace->prepend != Metaspace::Prepend::never;
    for (const TextStep& step : rules.normalizer) {
      model_.add_dummy_prefix = model_.add_dummy_prefix || step.kind == TextStep::Kind::prepend;
    }
  }

  const JsonObject& file_;
  std::string_view name_;
  SentencePieceModel model_;
  TokenizerRules rules_;
};

}  // namespace detail

/// Reads a Hugging Face tokenizer.json: its pieces with types and scores, and SentencePieceModel::rules. Throws Error
/// `[tokenizer] name: ...` where the bytes are none, contradict themselves, or use what is not supported: another model
/// than BPE, a step that TokenizerJsonSteps doesn't know, truncation.
inline SentencePieceModel parse_tokenizer_json(std::span<const std::byte> bytes, std::string_view name) {
  if (bytes.size() > JsonDocument::max_file_bytes) {
    throw Error("tokenizer", std::string(name) + ": size",
                "at most " + std::to_string(JsonDocument::max_file_bytes) + " bytes", std::to_string(bytes.size()));
  }
  constexpr std::size_t most_values = 4'000'000;  // a merge that is a pair takes three; the largest files have 10^6
  const JsonObject file = JsonObject::parse(bytes, "tokenizer", name, most_values);
  return detail::TokenizerJsonReader(file, name).read(detail::text_of(bytes));
}

}}  // namespace mistral
