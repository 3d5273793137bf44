#pragma once

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
