// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/text/sentencepiece_model.hpp>
#include <mistral/text/tokenizer_json.hpp>

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// The piece that a key of the metadata names by its id, null where there is no such key.
inline SentencePieceModel::Piece* gguf_special_piece(const GgufMetadata& metadata, std::string_view key,
                                                     SentencePieceModel& model) {
  if (!metadata.has(key)) return nullptr;
  const auto last = static_cast<std::int64_t>(model.pieces.size()) - 1;
  return &model.pieces[static_cast<std::size_t>(metadata.integer(key, 0, last))];
}

/// Ids beside BOS and EOS: one that is out of range names no piece. llama.cpp's converter writes -1 as 4294967295 where
/// a model has no padding.
inline bool gguf_id_in_range(const GgufMetadata& metadata, std::string_view key, std::size_t pieces) {
  const GgufEntry* const entry = metadata.find(key);
  if (entry == nullptr) return false;
  if (entry->type == GgufType::u64) {
    std::uint64_t id = 0;
    std::memcpy(&id, entry->bytes.data(), sizeof id);
    return id < pieces;
  }
  const std::int64_t id = metadata.integer(key, INT64_MIN, INT64_MAX);
  return id >= 0 && static_cast<std::uint64_t>(id) < pieces;
}

/// Ids that end a text besides EOS, by llama.cpp's keys: the end of a turn, the end of a message.
inline constexpr std::string_view gguf_end_keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};

/// All of them in an array of this library's own, where they are more than llama.cpp has keys for.
inline constexpr std::string_view gguf_eos_ids_key = "mistral.eos_token_ids";

/// A whole tokenizer.json, by a key of GGUF's specification, for those who can go by it.
inline constexpr std::string_view gguf_json_key = "tokenizer.huggingface.json";

/// The model of the metadata's tokenizer.json, whose pieces must be the file's; those that the file has behind them pad
/// the vocabulary.
inline SentencePieceModel gguf_tokenizer_json(const Gguf& file, const std::vector<std::string_view>& tokens) {
  const GgufMetadata& metadata = file.metadata();
  const std::string_view text = metadata.string(gguf_json_key);
  const std::string name = printable(file.file(), 1000) + ": " + std::string(gguf_json_key);
  SentencePieceModel model = parse_tokenizer_json(std::as_bytes(std::span(text)), name);
  const std::size_t own = model.pieces.size();
  if (own > tokens.size()) {
    throw metadata.unexpected(gguf_json_key, "at most the " + std::to_string(tokens.size()) + " pieces of the file");
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i < own && model.pieces[i].text == tokens[i]) continue;
    if (i < own) throw metadata.unexpected(gguf_json_key, "the file's piece " + std::to_string(i));
    model.pieces.push_back({std::string(tokens[i]), padding_score, PieceType::unused});
  }
  return model;
}

}  // namespace detail

/// Whether a GGUF file holds a tokenizer at all; a file of weights may say that it has "no_vocab".
inline bool has_tokenizer(const Gguf& file) noexcept {
  const GgufEntry* const model = file.metadata().find("tokenizer.ggml.model");
  if (model == nullptr || model->type != GgufType::string) return false;
  const std::string_view name = file.metadata().string(model->key);
  return name != "no_vocab" && name != "none";
}

/// The SentencePiece model in a GGUF file's metadata (`tokenizer.ggml.*`). The file holds the pieces, their scores and
/// types, and which of them are special; of the rules for spaces only whether one is put in front. llama.cpp's
/// converter leaves out the others, and llama.cpp goes by the rules of Llama's and Mistral's own models: runs of spaces
/// stay. Where the metadata holds a tokenizer.json (`tokenizer.huggingface.json`), its rules count. Throws Error
/// `[gguf] file: key 'tokenizer.ggml.model': ...` for another kind of tokenizer (`gpt2` is BPE over bytes), and where
/// lists differ in length, or types and ids are out of range.
inline SentencePieceModel gguf_tokenizer(const Gguf& file) {
  const GgufMetadata& metadata = file.metadata();
  if (metadata.string("tokenizer.ggml.model") != "llama") {
    throw metadata.unexpected("tokenizer.ggml.model", "'llama' (SentencePiece BPE)");
  }
  constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
  const std::vector<std::string_view> tokens = metadata.strings(tokens_key);
  if (tokens.empty()) throw metadata.unexpected(tokens_key, "pieces");
  // the tables built from them are many times their size; see max_sentencepiece_model_bytes
  if (metadata.find(tokens_key)->bytes.size() > max_sentencepiece_model_bytes) {
    throw metadata.unexpected(tokens_key, "at most " + std::to_string(max_sentencepiece_model_bytes) + " bytes");
  }
  const std::string count = "as many as tokenizer.ggml.tokens, " + std::to_string(tokens.size());
  for (const std::string_view key : {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
    if (metadata.array_size(key) != tokens.size()) throw metadata.unexpected(key, count);
  }
  const std::vector<float> scores = metadata.floats("tokenizer.ggml.scores");
  const std::vector<std::int64_t> types = metadata.integers("tokenizer.ggml.token_type", 1, 6);

  SentencePieceModel model;
  if (metadata.has(detail::gguf_json_key)) {
    model = detail::gguf_tokenizer_json(file, tokens);
  } else {
    model.remove_extra_whitespaces = false;
    constexpr std::string_view prefix = "tokenizer.ggml.add_space_prefix";
    if (metadata.has(prefix)) model.add_dummy_prefix = metadata.boolean(prefix);
    constexpr std::string_view extra = "tokenizer.ggml.remove_extra_whitespaces";
    if (metadata.has(extra)) model.remove_extra_whitespaces = metadata.boolean(extra);
    constexpr std::string_view charsmap = "tokenizer.ggml.precompiled_charsmap";
    if (metadata.has(charsmap)) model.precompiled_charsmap = metadata.octets(charsmap);
    model.pieces.reserve(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto type = static_cast<PieceType>(types[i]);
      model.byte_fallback = model.byte_fallback || type == PieceType::byte;
      model.pieces.push_back({std::string(tokens[i]), scores[i], type});
    }
  }

  // Which pieces are special is said by id; a SentencePiece model says it by text. Fine-tuned models name a piece of
  // their own as EOS and mark it as user-defined: it is control all the same, or a text could end the answer.
  const auto name_control = [&](std::string_view key, std::string& text) {
    text.clear();
    SentencePieceModel::Piece* const piece = detail::gguf_special_piece(metadata, key, model);
    if (piece == nullptr || piece->type == PieceType::unknown) return;
    piece->type = PieceType::control;
    text = piece->text;
  };
  name_control("tokenizer.ggml.bos_token_id", model.bos_piece);
  name_control("tokenizer.ggml.eos_token_id", model.eos_piece);
  const auto in_range = [&](std::string_view key) { return detail::gguf_id_in_range(metadata, key, tokens.size()); };
  model.pad_piece.clear();
  if (constexpr std::string_view pad = "tokenizer.ggml.padding_token_id"; in_range(pad)) {
    model.pad_piece = detail::gguf_special_piece(metadata, pad, model)->text;
  }
  if (constexpr std::string_view unknown = "tokenizer.ggml.unknown_token_id"; in_range(unknown)) {
    if (detail::gguf_special_piece(metadata, unknown, model)->type != PieceType::unknown) {
      throw metadata.unexpected(unknown, "the id of a piece of type 2 (unknown)");
    }
  }
  for (const std::string_view key : detail::gguf_end_keys) {
    if (!in_range(key)) continue;
    SentencePieceModel::Piece* const piece = detail::gguf_special_piece(metadata, key, model);
    if (piece->type == PieceType::user_defined) piece->type = PieceType::control;
    model.eos_ids.push_back(static_cast<TokenId>(piece - model.pieces.data()));
  }
  if (metadata.has(detail::gguf_eos_ids_key)) {
    for (const std::int64_t id : metadata.integers(detail::gguf_eos_ids_key, 0, INT32_MAX)) {
      model.eos_ids.push_back(static_cast<TokenId>(id));
    }
  }
  constexpr std::string_view add_bos = "tokenizer.ggml.add_bos_token";
  if (metadata.has(add_bos)) model.add_bos = metadata.boolean(add_bos);
  constexpr std::string_view add_eos = "tokenizer.ggml.add_eos_token";
  if (metadata.has(add_eos)) model.add_eos = metadata.boolean(add_eos);
  constexpr std::string_view chat_template = "tokenizer.chat_template";
  if (metadata.has(chat_template)) model.chat_template = metadata.string(chat_template);
  return model;
}

/// What is odd about the tokenizer in a GGUF file but keeps nobody from using it: a line for each special id, unused,
/// that is out of range.
inline std::vector<std::string> gguf_tokenizer_warnings(const Gguf& file) {
  std::vector<std::string> warnings;
  const GgufMetadata& metadata = file.metadata();
  const GgufEntry* const tokens = metadata.find("tokenizer.ggml.tokens");
  if (tokens == nullptr || tokens->type != GgufType::array) return warnings;
  for (const GgufEntry& entry : metadata.entries()) {
    if (!entry.key.starts_with("tokenizer.ggml.") || !entry.key.ends_with("_token_id")) continue;
    if (entry.type == GgufType::array || entry.type == GgufType::string) continue;
    if (detail::gguf_id_in_range(metadata, entry.key, static_cast<std::size_t>(tokens->count))) continue;
    const std::string what = metadata.unexpected(entry.key, "an id below " + std::to_string(tokens->count)).what();
    warnings.push_back(what + "; nothing uses it");
  }
  return warnings;
}

}}  // namespace mistral
