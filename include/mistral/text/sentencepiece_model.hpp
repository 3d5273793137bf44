// SPDX-License-Identifier: Apache-2.0
#pragma once

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
#include <mistral/core/token.hpp>
#include <mistral/text/protobuf.hpp>
#include <mistral/text/tokenizer_rules.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// What a piece of the vocabulary stands for; the numbers are those of sentencepiece_model.proto and of GGUF.
enum class PieceType : std::uint8_t {
  normal = 1,
  unknown = 2,       ///< stands for what the vocabulary cannot spell
  control = 3,       ///< `<s>`, `</s>`, `[INST]`: never produced from text, nothing in text
  user_defined = 4,  ///< found in the text before anything else, and never merged
  unused = 5,        ///< merges go through it, but it is taken apart again
  byte = 6,          ///< `<0x00>` ... `<0xFF>`: one byte of a character that the vocabulary lacks
};

/// The content of a SentencePiece `tokenizer.model`, as far as encoding and decoding with BPE need it. The defaults are
/// those of sentencepiece_model.proto. It is plain data: Tokenizer checks it.
struct SentencePieceModel {
  struct Piece {
    std::string text;
    float score = 0.0f;
    PieceType type = PieceType::normal;
  };

  std::vector<Piece> pieces;  ///< by id

  bool byte_fallback = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;
  std::string precompiled_charsmap;  ///< empty: characters are left as they are

  std::string unk_surface = " \xE2\x81\x87 ";  ///< what an unknown piece is decoded to
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  std::string pad_piece = "<pad>";

  // What isn't in a tokenizer.model, but beside it or in a GGUF file: see read_text_fields and gguf_tokenizer.
  bool add_bos = true;             ///< BOS goes in front of a text
  bool add_eos = false;            ///< EOS goes behind a text
  std::vector<TokenId> eos_ids{};  ///< ids that end a text, besides that of eos_piece
  std::string chat_template{};     ///< the model maker's, in Jinja; empty: none

  /// The rules of a tokenizer.json (see parse_tokenizer_json), by which texts are then encoded and decoded in the place
  /// of those above; null: none.
  std::shared_ptr<const TokenizerRules> rules{};
};

namespace detail {

/// The score of a piece that no merge gives, as llama.cpp's converter has it.
inline constexpr float padding_score = -10000.0f;

/// Whether a piece stands for an id that a vocabulary is only padded with: `[PAD510]`.
inline bool is_padding(std::string_view text) noexcept {
  return text.starts_with("[PAD") && text.ends_with("]") && text.size() > 5 &&
         text.substr(4, text.size() - 5).find_first_not_of("0123456789") == std::string_view::npos;
}

/// Pieces `[PAD<id>]` of type unused behind the others, until there are `count`: what llama.cpp's converter calls the
/// ids of a vocabulary that is padded past its tokenizer's.
inline void pad_pieces(SentencePieceModel& model, std::size_t count) {
  while (model.pieces.size() < count) {
    std::string text = "[PAD";
    text += std::to_string(model.pieces.size()) + "]";
    model.pieces.push_back({std::move(text), padding_score, PieceType::unused});
  }
}

}  // namespace detail

/// No tokenizer.model in use is larger than 5 MB. Tables built from a file are up to 40 times its size.
inline constexpr std::size_t max_sentencepiece_model_bytes = std::size_t{16} << 20;

namespace detail {

inline SentencePieceModel::Piece read_piece(ProtobufReader reader, std::string_view name) {
  SentencePieceModel::Piece piece;
  while (reader.next()) {
    switch (reader.field()) {
      case 1:
        piece.text = reader.text();
        break;
      case 2:
        piece.score = reader.float32();
        break;
      case 3: {
        const std::uint64_t type = reader.varint();
        if (type < 1 || type > 6) {
          throw Error("tokenizer", std::string(name) + ": a piece's type", "1 ... 6", std::to_string(type));
        }
        piece.type = static_cast<PieceType>(type);
        break;
      }
      default:
        reader.skip();
    }
  }
  return piece;
}

/// Reads a TrainerSpec into `model` and gives back its model_type where it names one.
inline std::uint64_t read_trainer_spec(ProtobufReader reader, SentencePieceModel& model, std::uint64_t model_type) {
  while (reader.next()) {
    switch (reader.field()) {
      case 3:
        model_type = reader.varint();
        break;
      case 24:
        model.treat_whitespace_as_suffix = reader.boolean();
        break;
      case 35:
        model.byte_fallback = reader.boolean();
        break;
      case 44:
        model.unk_surface = reader.text();
        break;
      case 46:
        model.bos_piece = reader.text();
        break;
      case 47:
        model.eos_piece = reader.text();
        break;
      case 48:
        model.pad_piece = reader.text();
        break;
      default:
        reader.skip();
    }
  }
  return model_type;
}

inline void read_normalizer_spec(ProtobufReader reader, SentencePieceModel& model) {
  while (reader.next()) {
    switch (reader.field()) {
      case 2:
        model.precompiled_charsmap = reader.text();
        break;
      case 3:
        model.add_dummy_prefix = reader.boolean();
        break;
      case 4:
        model.remove_extra_whitespaces = reader.boolean();
        break;
      case 5:
        model.escape_whitespaces = reader.boolean();
        break;
      default:
        reader.skip();
    }
  }
}

inline void refuse_denormalizer(ProtobufReader reader, std::string_view name) {
  while (reader.next()) {
    if (reader.field() != 2) {
      reader.skip();
    } else if (!reader.text().empty()) {
      throw Error("tokenizer", std::string(name) + ": denormalizer_spec", "no precompiled_charsmap", "one");
    }
  }
}

}  // namespace detail

/// Reads a serialised sentencepiece.ModelProto. Throws Error where the bytes are no such message, or where they need
/// what Mistral's tokenizers don't have: a model type other than BPE, a denormaliser. `name` is the file that errors
/// name.
inline SentencePieceModel parse_sentencepiece_model(std::span<const std::byte> bytes, std::string_view name) {
  if (bytes.size() > max_sentencepiece_model_bytes) {
    throw Error("tokenizer", std::string(name) + ": size",
                "at most " + std::to_string(max_sentencepiece_model_bytes) + " bytes", std::to_string(bytes.size()));
  }
  SentencePieceModel model;
  std::uint64_t model_type = 1;
  detail::ProtobufReader reader{bytes, name};
  while (reader.next()) {
    switch (reader.field()) {
      case 1:
        model.pieces.push_back(detail::read_piece(reader.message(), name));
        break;
      case 2:
        model_type = detail::read_trainer_spec(reader.message(), model, model_type);
        break;
      case 3:
        detail::read_normalizer_spec(reader.message(), model);
        break;
      case 5:
        detail::refuse_denormalizer(reader.message(), name);
        break;
      default:
        reader.skip();
    }
  }
  if (model.pieces.empty()) {
    throw Error("tokenizer", std::string(name) + ": not a SentencePiece model", "pieces", "none");
  }
  if (model_type != 2) {
    throw Error("tokenizer", std::string(name) + ": model_type", "2 (BPE)", std::to_string(model_type));
  }
  return model;
}

}}  // namespace mistral
