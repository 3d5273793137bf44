// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/token.hpp>
#include <mistral/text/sentencepiece_model.hpp>
#include <mistral/text/string_hash.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The pieces of a tokenizer, by id and by text, checked: no piece is empty, very long, or there twice, no score is a
/// NaN, one piece is the unknown one (a tokenizer.json may do without), and bytes are all there where the model falls
/// back to them.
class Vocabulary {
 public:
  /// Throws Error where the model's pieces break a rule of SentencePiece. `name` is what errors name.
  Vocabulary(const SentencePieceModel& model, std::string_view name) : name_(name) {
    if (model.pieces.size() > static_cast<std::size_t>((std::numeric_limits<TokenId>::max)())) {
      fail("pieces", "at most 2147483647", std::to_string(model.pieces.size()));
    }
    std::size_t bytes = 0;
    for (const auto& piece : model.pieces) bytes += piece.text.size();
    if (bytes > (std::numeric_limits<std::uint32_t>::max)()) fail("pieces", "at most 4 GiB of text", "more");
    text_.reserve(bytes);
    begin_.reserve(model.pieces.size() + 1);
    slots_.assign(detail::table_slots(model.pieces.size()), Slot{});
    byte_id_.fill(-1);
    for (const auto& piece : model.pieces) add(piece, model.byte_fallback);
    begin_.push_back(static_cast<std::uint32_t>(text_.size()));

    if (unk_id_ < 0 && !model.rules) fail("the unknown piece", "one", "none");
    for (std::size_t byte = 0; model.byte_fallback && byte < 256; ++byte) {
      if (byte_id_[byte] < 0) fail("byte pieces", "256", "none for byte " + std::to_string(byte));
    }
    bos_id_ = control_id(model.bos_piece);
    eos_id_ = control_id(model.eos_piece);
    pad_id_ = control_id(model.pad_piece);
  }

  std::size_t size() const noexcept { return types_.size(); }

  /// The file that the pieces come from, for messages.
  const std::string& name() const noexcept { return name_; }

  /// The text, score and type of a piece; `id` must be in range.
  std::string_view text(TokenId id) const noexcept {
    const auto i = static_cast<std::size_t>(id);
    return std::string_view(text_).substr(begin_[i], begin_[i + 1] - begin_[i]);
  }
  float score(TokenId id) const noexcept { return scores_[static_cast<std::size_t>(id)]; }
  PieceType type(TokenId id) const noexcept { return types_[static_cast<std::size_t>(id)]; }

  /// Throws Error where `id` is no piece's.
  void check(TokenId id) const {
    if (id < 0 || static_cast<std::size_t>(id) >= size()) {
      fail("token id", "0 ... " + std::to_string(size() - 1), std::to_string(id));
    }
  }

  /// The piece of this text, whatever its type, or -1.
  TokenId find(std::string_view piece) const noexcept {
    const std::uint64_t hash = detail::hash_string(piece);
    for (std::size_t i = hash & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
      const Slot slot = slots_[i];
      if (slot.id < 0) return -1;
      if (slot.tag == static_cast<std::uint32_t>(hash >> 32) && text(slot.id) == piece) return slot.id;
    }
  }

  TokenId bos_id() const noexcept { return bos_id_; }
  TokenId eos_id() const noexcept { return eos_id_; }
  TokenId unk_id() const noexcept { return unk_id_; }
  TokenId pad_id() const noexcept { return pad_id_; }

  /// The piece that stands for a byte, or -1 where the model has no byte pieces.
  TokenId byte_id(unsigned char byte) const noexcept { return byte_id_[byte]; }

  /// The byte that the piece "<0xNN>" stands for, or -1 where `piece` has another form.
  static int byte_of(std::string_view piece) noexcept {
    if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    const int high = digit(piece[3]), low = digit(piece[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
  }

 private:
  // Trainers make pieces of 16 characters. Work that grows with the square of a piece's length, or with the length for
  // every place in a text, stays bounded.
  static constexpr std::size_t max_piece_bytes = 1024;

  struct Slot {
    std::uint32_t tag = 0;  // the upper half of the hash
    TokenId id = -1;
  };

  [[noreturn]] void fail(const std::string& what, std::string_view expected, std::string_view found) const {
    throw Error("tokenizer", name_ + ": " + what, expected, found);
  }

  void add(const SentencePieceModel::Piece& piece, bool byte_fallback) {
    const auto id = static_cast<TokenId>(size());
    const auto describe = [&] { return "piece " + std::to_string(id) + " '" + printable(piece.text, 40) + "'"; };
    if (piece.text.empty()) fail(describe(), "text", "none");
    if (piece.text.size() > max_piece_bytes) {
      fail(describe(), "at most " + std::to_string(max_piece_bytes) + " bytes", std::to_string(piece.text.size()));
    }
    if (std::isnan(piece.score)) fail(describe(), "a score", "NaN");

    const std::uint64_t hash = detail::hash_string(piece.text);
    std::size_t slot = hash & (slots_.size() - 1);
    for (std::size_t probes = 0; slots_[slot].id >= 0; slot = (slot + 1) & (slots_.size() - 1), ++probes) {
      if (text_at(slots_[slot].id) == piece.text) fail(describe(), "once", "twice");
      if (probes == detail::max_probes) fail(describe(), "pieces that differ", "pieces made to collide");
    }
    slots_[slot] = {static_cast<std::uint32_t>(hash >> 32), id};

    if (piece.type == PieceType::unknown) {
      if (unk_id_ >= 0) fail(describe(), "one unknown piece", "two");
      unk_id_ = id;
    }
    if (piece.type == PieceType::byte) {
      const int byte = byte_of(piece.text);
      if (!byte_fallback) fail(describe(), "byte_fallback", "a byte piece without it");
      if (byte < 0) fail(describe(), "a byte piece <0x00> ... <0xFF>", "another text");
      byte_id_[static_cast<std::size_t>(byte)] = id;
    }
    begin_.push_back(static_cast<std::uint32_t>(text_.size()));
    text_ += piece.text;
    scores_.push_back(piece.score);
    types_.push_back(piece.type);
  }

  // while pieces are still added, the last one's end is the end of the text
  std::string_view text_at(TokenId id) const noexcept {
    const auto i = static_cast<std::size_t>(id);
    const std::size_t end = i + 1 < begin_.size() ? begin_[i + 1] : text_.size();
    return std::string_view(text_).substr(begin_[i], end - begin_[i]);
  }

  TokenId control_id(std::string_view piece) const noexcept {
    const TokenId id = find(piece);
    return id >= 0 && type(id) == PieceType::control ? id : -1;
  }

  std::string name_;
  std::string text_;                  // of all pieces, one after the other
  std::vector<std::uint32_t> begin_;  // of piece i in text_, and the end
  std::vector<float> scores_;
  std::vector<PieceType> types_;
  std::vector<Slot> slots_;
  std::array<TokenId, 256> byte_id_;
  TokenId bos_id_ = -1, eos_id_ = -1, unk_id_ = -1, pad_id_ = -1;
};

}}  // namespace mistral
