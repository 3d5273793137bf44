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

}  // namespace mistral::inline MISTRAL_ABI
