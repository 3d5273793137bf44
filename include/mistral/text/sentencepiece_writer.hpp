// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/text/sentencepiece_model.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

namespace detail {

/// A protobuf message in the making (the wire format of protobuf.dev/programming-guides/encoding).
class ProtobufWriter {
 public:
  void number(std::uint32_t field, std::uint64_t value) {
    varint(std::uint64_t{field} << 3);
    varint(value);
  }
  void float32(std::uint32_t field, float value) {
    varint(std::uint64_t{field} << 3 | 5);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (unsigned i = 0; i < 4; ++i) bytes_ += static_cast<char>(bits >> (8 * i));
  }
  void text(std::uint32_t field, std::string_view value) {
    varint(std::uint64_t{field} << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }

  const std::string& bytes() const noexcept { return bytes_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

}  // namespace detail

/// A model as a tokenizer.model holds it, from which parse_sentencepiece_model makes the same again; what other files
/// say (add_bos, add_eos, eos_ids, chat_template) has no place in it.
inline std::string serialize_sentencepiece_model(const SentencePieceModel& model) {
  detail::ProtobufWriter out;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    detail::ProtobufWriter message;
    message.text(1, piece.text);
    message.float32(2, piece.score);
    message.number(3, static_cast<std::uint64_t>(piece.type));
    out.text(1, message.bytes());
  }
  detail::ProtobufWriter trainer;
  trainer.number(3, 2);  // BPE
  trainer.number(24, model.treat_whitespace_as_suffix);
  trainer.number(35, model.byte_fallback);
  trainer.text(44, model.unk_surface);
  trainer.text(46, model.bos_piece);
  trainer.text(47, model.eos_piece);
  trainer.text(48, model.pad_piece);
  out.text(2, trainer.bytes());
  detail::ProtobufWriter normalizer;
  normalizer.text(2, model.precompiled_charsmap);
  normalizer.number(3, model.add_dummy_prefix);
  normalizer.number(4, model.remove_extra_whitespaces);
  normalizer.number(5, model.escape_whitespaces);
  out.text(3, normalizer.bytes());
  return out.bytes();
}

}}  // namespace mistral
