// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/file_kind.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/os/folder_content.hpp>
#include <mistral/io/os/mapped_file.hpp>
#include <mistral/text/markup_words.hpp>
#include <mistral/text/sentencepiece_model.hpp>
#include <mistral/text/tokenizer_json.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Where a folder's tokenizer is.
struct TokenizerInFolder {
  std::string readable;  ///< path of tokenizer.json, tokenizer.model, or else the newest tokenizer.model.v<N>
  std::string other;     ///< name of a tokenizer of another kind that is there, where there is no readable one
};

/// Looks for a folder's tokenizer. A tokenizer.json goes before a tokenizer.model, as it does for transformers.
inline TokenizerInFolder find_tokenizer(const std::string& folder) {
  for (const char* const name : {"tokenizer.json", "tokenizer.model"}) {
    if (std::string path = path_in(folder, name); path_exists(path)) return {std::move(path), {}};
  }
  TokenizerInFolder found;
  for (const std::string& name : names_in(folder)) {
    const bool versioned = name.starts_with("tokenizer.model.v") || name.starts_with("tokenizer_model.v");
    if (versioned && file_kind_at(path_in(folder, name)) == FileKind::sentencepiece) {
      found.readable = path_in(folder, name);  // sorted: the last one is the newest
    }
  }
  if (!found.readable.empty()) return found;
  for (const char* const name : {"tekken.json", "vocab.json", "tokenizer.model.v3"}) {
    if (found.other.empty() && path_exists(path_in(folder, name))) found.other = name;
  }
  return found;
}

namespace detail {

/// A reader of the files beside a tokenizer, which puts what they say of texts into its model. Later files have the
/// last word.
class TextFields {
 public:
  TextFields(SentencePieceModel& model, std::string folder) : model_(model), folder_(std::move(folder)) {}

  /// Whether any field says something that the tokenizer's own file doesn't.
  bool read() {
    with("added_tokens.json", [&](const JsonObject& json) { added_tokens(json); });
    with("special_tokens_map.json", [&](const JsonObject& json) { special_tokens(json); });
    with("tokenizer_config.json", [&](const JsonObject& json) { tokenizer_config(json); });
    with("chat_template.json", [&](const JsonObject& json) {
      if (json.is_string("chat_template")) set(model_.chat_template, json.string("chat_template"));
    });
    if (const std::string path = path_in(folder_, "chat_template.jinja"); path_exists(path) && !file_is_empty(path)) {
      const MappedFile file = MappedFile::open(path, where);
      const std::optional<FileKind> kind = file_kind(file.bytes());
      if (kind && *kind != FileKind::text && *kind != FileKind::json && *kind != FileKind::html) {
        throw foreign_file(file.bytes(), *kind, where, printable(path, 1000), "a Jinja template");
      }
      set(model_.chat_template, std::string(text_of(file.bytes())));
    }
    read_eos();
    return changed_;
  }

  /// The ids that end a text, by generation_config.json, or else by config.json: a fine-tune whose turns end with a
  /// token of their own names both there.
  void read_eos() {
    bool said = false;
    with("generation_config.json", [&](const JsonObject& json) {
      // they would have other tokens chosen than the logits say
      for (const char* const name : {"suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias",
                                     "forced_bos_token_id", "forced_eos_token_id"}) {
        if (json.has(name) && !json.is_empty(name)) throw json.unexpected(name, "null, for it is not supported");
      }
      said = eos_of(json);
    });
    if (!said) with("config.json", [&](const JsonObject& json) { eos_of(json); });
  }

 private:
  static constexpr std::string_view where = "tokenizer";
  static constexpr std::size_t most_added = 65536;

  template <class Take>
  void with(const char* name, const Take& take) {
    const std::string path = path_in(folder_, name);
    if (!path_exists(path)) return;
    const MappedFile file = MappedFile::open(path, where);
    take(JsonObject::parse(file.bytes(), where, path));
  }

  template <class T>
  void set(T& value, T to) {
    if (value == to) return;
    value = std::move(to);
    changed_ = true;
  }

  bool eos_of(const JsonObject& json) {
    constexpr const char* name = "eos_token_id";
    if (!json.has(name)) return false;
    constexpr std::int64_t last = INT32_MAX;
    const std::vector<std::int64_t> ids =
        json.is_array(name) ? json.integers(name, -1, last) : std::vector<std::int64_t>{json.integer(name, -1, last)};
    for (const std::int64_t id : ids) {
      const auto token = static_cast<TokenId>(id);
      // the tokenizer's own counts anyway
      const auto i = static_cast<std::size_t>(token);
      if (token < 0 || (i < model_.pieces.size() && model_.pieces[i].text == model_.eos_piece)) continue;
      if (std::find(model_.eos_ids.begin(), model_.eos_ids.end(), token) != model_.eos_ids.end()) continue;
      model_.eos_ids.push_back(token);
      changed_ = true;
    }
    return true;
  }

  /// {"<|im_end|>": 32000, ...}
  void added_tokens(const JsonObject& json) {
    std::map<std::int64_t, std::string> by_id;
    for (const std::string& name : json.names()) by_id[json.integer(name, 0, INT32_MAX)] = name;
    for (const auto& [id, text] : by_id) {
      if (model_.rules) {
        const auto i = static_cast<std::size_t>(id);
        const bool same = i < model_.pieces.size() && model_.pieces[i].text == text;
        if (!same) throw json.unexpected(text, "a token of tokenizer.json and its id");
      } else {
        add(json, id, text, looks_like_markup(text) ? PieceType::control : PieceType::user_defined);
      }
    }
  }

  /// {"bos_token": "<s>", "eos_token": {"content": "</s>", ...}, ...}
  void special_tokens(const JsonObject& json) {
    const auto content = [&](const char* name) -> std::string {
      if (!json.has(name)) return {};
      return json.is_string(name) ? json.string(name) : json.object(name).string("content");
    };
    const auto special = [&](const char* name, std::string& piece) {
      const std::string text = content(name);
      if (text.empty()) return;
      const auto found = std::find_if(model_.pieces.begin(), model_.pieces.end(),
                                      [&](const SentencePieceModel::Piece& p) { return p.text == text; });
      if (found == model_.pieces.end()) throw json.unexpected(name, "a piece of the tokenizer");
      if (model_.rules) return special_by_rules(json, name, static_cast<TokenId>(found - model_.pieces.begin()), piece);
      if (found->type != PieceType::unknown) set(found->type, PieceType::control);
      if (found->type == PieceType::control) set(piece, text);
    };
    special("bos_token", model_.bos_piece);
    special("eos_token", model_.eos_piece);
  }

  /// BOS or EOS of a tokenizer.json: a special token, whether it is there an added token or not.
  void special_by_rules(const JsonObject& json, const char* name, TokenId id, std::string& piece) {
    const auto i = static_cast<std::size_t>(id);
    if (model_.pieces[i].type == PieceType::unknown) return;
    set(piece, model_.pieces[i].text);
    if (model_.pieces[i].type == PieceType::control) return;
    AddedToken token{.id = id, .content = model_.pieces[i].text, .special = true};
    for (const AddedToken& known : model_.rules->added) {
      if (known.id == id) token = known;
    }
    add_token(model_, std::move(token));
    changed_ = true;
    if (model_.pieces[i].type != PieceType::control) throw json.unexpected(name, "a token that no text gives");
  }

  /// A token of added_tokens_decoder, beside a tokenizer.json: its flags have the last word.
  void add_by_rules(const JsonObject& json, std::int64_t id) {
    const auto flag = [&](const char* name) { return json.has(name) && json.boolean(name); };
    AddedToken token{.id = static_cast<TokenId>(id),
                     .content = json.string("content"),
                     .special = flag("special"),
                     .lstrip = flag("lstrip"),
                     .rstrip = flag("rstrip"),
                     .single_word = flag("single_word"),
                     .normalized = flag("normalized")};
    const auto i = static_cast<std::size_t>(id);
    const std::size_t size = model_.pieces.size();
    if (token.content.empty() || i > size || (i < size && model_.pieces[i].text != token.content)) {
      throw json.unexpected("content", i < size ? "'" + printable(model_.pieces[i].text, 60) + "', as in tokenizer.json"
                                                : "a token of tokenizer.json, or the next one");
    }
    const auto& added = model_.rules->added;
    if (std::find(added.begin(), added.end(), token) != added.end()) return;
    add_token(model_, std::move(token));
    changed_ = true;
  }

  void tokenizer_config(const JsonObject& json) {
    for (const char* const name : {"do_lower_case", "sp_model_kwargs"}) {
      if (json.has(name) && !json.is_empty(name)) throw json.unexpected(name, "nothing, for it is not supported");
    }
    if (json.has("added_tokens_decoder")) {
      const JsonObject tokens = json.object("added_tokens_decoder");
      std::map<std::int64_t, std::string> by_id;
      for (const std::string& name : tokens.names()) by_id[id_of(tokens, name)] = name;
      for (const auto& [id, name] : by_id) {
        const JsonObject token = tokens.object(name, "token");
        if (model_.rules) {
          add_by_rules(token, id);
          continue;
        }
        const bool is_special = token.has("special") && token.boolean("special");
        add(token, id, token.string("content"), is_special ? PieceType::control : PieceType::user_defined);
      }
    }
    special_tokens(json);
    if (json.has("add_bos_token")) set(model_.add_bos, json.boolean("add_bos_token"));
    if (json.has("add_eos_token")) set(model_.add_eos, json.boolean("add_eos_token"));
    if (json.has("add_prefix_space") && !json.boolean("add_prefix_space")) {
      if (model_.rules && model_.add_dummy_prefix)
        throw json.unexpected("add_prefix_space", "what tokenizer.json says");
      set(model_.add_dummy_prefix, false);
    }
    constexpr const char* name = "chat_template";
    if (json.is_string(name)) set(model_.chat_template, json.string(name));
    if (!json.is_array(name)) return;
    for (const JsonObject& named : json.objects(name)) {  // [{"name": "default", "template": ...}, ...]
      if (named.string("name") == "default" || model_.chat_template.empty()) {
        set(model_.chat_template, named.string("template"));
      }
    }
  }

  static std::int64_t id_of(const JsonObject& tokens, const std::string& name) {
    std::int64_t id = 0;
    for (const char c : name) {
      if (c < '0' || c > '9' || id > INT32_MAX) throw tokens.unexpected(name, "the id of a token for its name");
      id = 10 * id + (c - '0');
    }
    return id;
  }

  /// A token that is found in texts before anything else, or, of type control, in none: a piece of the vocabulary, or
  /// one behind it.
  void add(const JsonObject& json, std::int64_t id, const std::string& text, PieceType type) {
    auto& pieces = model_.pieces;
    const auto i = static_cast<std::size_t>(id);
    if (text.empty()) throw json.error("token " + std::to_string(id) + ": expected text, got none");
    if (i < pieces.size()) {
      // a piece that spells spaces its own way is the same one
      if (pieces[i].text == text && pieces[i].type != PieceType::unknown && type == PieceType::control) {
        set(pieces[i].type, type);
      }
      if (pieces[i].text == text || pieces[i].type == PieceType::byte || pieces[i].type == PieceType::control) return;
      if (pieces[i].type == PieceType::unused || is_padding(pieces[i].text)) {
        set(pieces[i].text, text);
        set(pieces[i].type, type);
      }
      return;
    }
    if (i - pieces.size() > most_added) {
      throw json.error("token '" + printable(text, 60) + "': expected an id of at most " +
                       std::to_string(pieces.size() + most_added) + ", got " + std::to_string(id));
    }
    pad_pieces(model_, i);
    pieces.push_back({text, padding_score, type});
    changed_ = true;
  }

  SentencePieceModel& model_;
  std::string folder_;
  bool changed_ = false;
};

}  // namespace detail

/// Puts what the files beside a tokenizer say of texts into its model: added_tokens.json,
/// special_tokens_map.json, tokenizer_config.json, chat_template.json and .jinja, generation_config.json, config.json
/// (docs/fields.md has each field). Returns whether that was anything new. Throws Error for files that can't be read,
/// and for fields that are not supported.
inline bool read_text_fields(SentencePieceModel& model, const std::string& folder) {
  return detail::TextFields(model, folder).read();
}

/// The folder that a file stands in.
inline std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// Reads the model in the bytes of a tokenizer.model or a tokenizer.json. Throws Error `[tokenizer] name: ...` for what
/// is neither.
inline SentencePieceModel parse_tokenizer(std::span<const std::byte> bytes, std::string_view name) {
  constexpr std::string_view wanted = "a SentencePiece model (tokenizer.model) or a tokenizer.json";
  const std::optional<FileKind> kind = file_kind(bytes);
  if (kind == FileKind::json) return parse_tokenizer_json(bytes, name);
  if (!kind || *kind == FileKind::sentencepiece) return parse_sentencepiece_model(bytes, name);
  if (*kind == FileKind::safetensors) throw Error("tokenizer", name, wanted, "a model's weights in safetensors");
  throw foreign_file(bytes, *kind, "tokenizer", name, wanted);
}

/// Reads a tokenizer.model or a tokenizer.json, and the files beside it. `told` is set where these say something that
/// it doesn't.
inline SentencePieceModel read_sentencepiece_model(const std::string& path, bool* told = nullptr) {
  const MappedFile file = MappedFile::open(path, "tokenizer");
  SentencePieceModel model = parse_tokenizer(file.bytes(), printable(path, 1000));
  const bool any = read_text_fields(model, folder_of(path));
  if (told != nullptr) *told = any;
  return model;
}

}}  // namespace mistral
