#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/io/gguf.hpp>
#include <mistral/io/gguf_writer.hpp>
#include <mistral/text/sentencepiece_model.hpp>

namespace mistral::inline MISTRAL_ABI {
namespace detail {

/// The piece that a key of the metadata names by its id, null where there is no such key.
inline SentencePieceModel::Piece* gguf_special_piece(const GgufMetadata& metadata, std::string_view key,
                                                     SentencePieceModel& model) {
  if (!metadata.has(key)) return nullptr;
  const auto last = static_cast<std::int64_t>(model.pieces.size()) - 1;
  return &model.pieces[static_cast<std::size_t>(metadata.integer(key, 0, last))];
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
/// stay. Throws Error `[gguf] file: key 'tokenizer.ggml.model': ...` for another kind of tokenizer (`gpt2` is BPE over
/// bytes), and where lists differ in length, or types and ids are out of range.
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
  model.pad_piece.clear();
  if (const auto* const pad = detail::gguf_special_piece(metadata, "tokenizer.ggml.padding_token_id", model)) {
    model.pad_piece = pad->text;
  }
  if (auto* const unknown = detail::gguf_special_piece(metadata, "tokenizer.ggml.unknown_token_id", model)) {
    if (unknown->type != PieceType::unknown) {
      throw metadata.unexpected("tokenizer.ggml.unknown_token_id", "the id of a piece of type 2 (unknown)");
    }
  }
  return model;
}

/// A SentencePiece model as GGUF metadata (`tokenizer.ggml.*`), from which gguf_tokenizer makes the same tokenizer,
/// save for what an unknown piece is decoded to, which GGUF has no key for. BOS is to be put in front, EOS isn't to
/// follow: what Llama's and Mistral's models expect. Throws Error
/// `[tokenizer] name: ...` where the model has rules that GGUF has no key for.
inline GgufMetadataWriter gguf_tokenizer_metadata(const SentencePieceModel& model, std::string_view name) {
  if (!model.escape_whitespaces || model.treat_whitespace_as_suffix) {
    throw Error("tokenizer", name, "spaces that are put in front of words as U+2581", "other rules, which GGUF lacks");
  }
  std::vector<std::string_view> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<std::int32_t>(piece.type));
  }
  GgufMetadataWriter metadata;
  metadata.string("tokenizer.ggml.model", "llama");
  metadata.string("tokenizer.ggml.pre", "default");
  metadata.strings("tokenizer.ggml.tokens", tokens);
  metadata.floats("tokenizer.ggml.scores", scores);
  metadata.integers("tokenizer.ggml.token_type", types);
  const auto special = [&](std::string_view key, auto&& is_it) {
    for (std::size_t i = 0; i < model.pieces.size(); ++i) {
      if (is_it(model.pieces[i])) return metadata.u32(key, static_cast<std::uint32_t>(i));
    }
  };
  const auto control = [](const std::string& text) {
    return [&text](const SentencePieceModel::Piece& p) { return p.type == PieceType::control && p.text == text; };
  };
  special("tokenizer.ggml.bos_token_id", control(model.bos_piece));
  special("tokenizer.ggml.eos_token_id", control(model.eos_piece));
  special("tokenizer.ggml.padding_token_id", control(model.pad_piece));
  special("tokenizer.ggml.unknown_token_id",
          [](const SentencePieceModel::Piece& p) { return p.type == PieceType::unknown; });
  metadata.boolean("tokenizer.ggml.add_bos_token", true);
  metadata.boolean("tokenizer.ggml.add_eos_token", false);
  metadata.boolean("tokenizer.ggml.add_space_prefix", model.add_dummy_prefix);
  // the default of readers, ours among them, is that runs of spaces and all characters stay as they are
  if (model.remove_extra_whitespaces) metadata.boolean("tokenizer.ggml.remove_extra_whitespaces", true);
  if (!model.precompiled_charsmap.empty()) {
    metadata.octets("tokenizer.ggml.precompiled_charsmap", model.precompiled_charsmap);
  }
  return metadata;
}

/// The metadata of a GGUF file's own tokenizer, as it stands there.
inline GgufMetadataWriter gguf_tokenizer_metadata(const Gguf& file) {
  GgufMetadataWriter metadata;
  for (const GgufEntry& entry : file.metadata().entries()) {
    if (entry.key.starts_with("tokenizer.")) metadata.copy(entry);
  }
  return metadata;
}

}  // namespace mistral::inline MISTRAL_ABI
