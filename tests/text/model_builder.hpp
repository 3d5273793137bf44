// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include <mistral/text/sentencepiece_model.hpp>

namespace mistral::test {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

inline std::string file_content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

inline std::string number_field(unsigned field, std::uint64_t value) { return varint(field << 3) + varint(value); }

inline std::string text_field(unsigned field, std::string_view text) {
  return varint(field << 3 | 2) + varint(text.size()) + std::string(text);
}

inline std::string float_field(unsigned field, float value) {
  std::string out = varint(field << 3 | 5);
  for (unsigned i = 0; i < 4; ++i) out += static_cast<char>(std::bit_cast<std::uint32_t>(value) >> (8 * i));
  return out;
}

inline std::string piece_field(const SentencePieceModel::Piece& piece) {
  return text_field(1, text_field(1, piece.text) + float_field(2, piece.score) +
                           number_field(3, static_cast<std::uint64_t>(piece.type)));
}

/// A tokenizer.model, as SentencePiece would write it.
inline std::string serialize(const SentencePieceModel& model, std::uint64_t model_type = 2) {
  std::string out;
  for (const auto& piece : model.pieces) out += piece_field(piece);
  out += text_field(2, number_field(3, model_type) + number_field(24, model.treat_whitespace_as_suffix) +
                           number_field(35, model.byte_fallback) + text_field(44, model.unk_surface) +
                           text_field(46, model.bos_piece) + text_field(47, model.eos_piece) +
                           text_field(48, model.pad_piece));
  out += text_field(3, text_field(2, model.precompiled_charsmap) + number_field(3, model.add_dummy_prefix) +
                           number_field(4, model.remove_extra_whitespaces) + number_field(5, model.escape_whitespaces));
  return out;
}

/// A model of `<unk>`, `<s>`, `</s>` and these pieces, with scores 0, -1, -2, ...
inline SentencePieceModel small_model(std::initializer_list<std::string> pieces) {
  SentencePieceModel model;
  model.remove_extra_whitespaces = false;
  model.pieces = {
      {"<unk>", 0.0f, PieceType::unknown}, {"<s>", 0.0f, PieceType::control}, {"</s>", 0.0f, PieceType::control}};
  float score = 0.0f;
  for (const std::string& piece : pieces) model.pieces.push_back({piece, score--, PieceType::normal});
  return model;
}

/// `model` with the 256 byte pieces behind its own.
inline SentencePieceModel with_bytes(SentencePieceModel model) {
  static constexpr char hex[] = "0123456789ABCDEF";
  model.byte_fallback = true;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::string piece = std::string("<0x") + hex[byte / 16] + hex[byte % 16] + ">";
    model.pieces.push_back({piece, 0.0f, PieceType::byte});
  }
  return model;
}

}  // namespace mistral::test
