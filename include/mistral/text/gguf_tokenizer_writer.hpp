// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/io/gguf/writer.hpp>
#include <mistral/text/gguf_tokenizer.hpp>
#include <mistral/text/sentencepiece_model.hpp>
#include <mistral/text/tokenizer_rules.hpp>
#include <mistral/text/vocabulary.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

namespace detail {

/// Pads a tokenizer up to a model's vocabulary; throws Error where it is larger.
inline void fit_pieces(SentencePieceModel& model, std::string_view name, std::size_t vocab_size) {
  if (model.pieces.size() > vocab_size) {
    throw Error("tokenizer", std::string(name) + ": the vocabulary",
                "at most the model's " + std::to_string(vocab_size) + " pieces", std::to_string(model.pieces.size()));
  }
  pad_pieces(model, vocab_size);
}

/// Throws Error where scores can't say what a tokenizer.json does, so that readers of GGUF other than this library
/// would give other ids: its merges must be all that the pieces allow, each piece's in a row. What a space in front of
/// a text becomes, and what white space added tokens take with them, is said to nobody else.
inline void check_expressible(const SentencePieceModel& model, std::string_view name) {
  const TokenizerRules& rules = *model.rules;
  const auto fail = [&](std::string_view expected, std::string_view found) {
    throw Error("tokenizer", std::string(name) + ": GGUF has no place for all rules of the tokenizer.json", expected,
                found);
  };
  if (!model.byte_fallback) fail("bytes for characters that have no piece", "none");
  if (rules.ignore_merges) fail("\"ignore_merges\": false", "true");
  for (const TextStep& step : rules.normalizer) {
    const bool writes_spaces = step.from == " " && step.to == space_symbol;
    if (step.kind == TextStep::Kind::replace && !writes_spaces) fail("spaces that become U+2581", "another Replace");
    if (step.kind == TextStep::Kind::prepend && step.to != space_symbol) fail("U+2581 in front", "another Prepend");
  }
  if (rules.metaspace && rules.metaspace->replacement != space_symbol) fail("U+2581 for spaces", "another Metaspace");
  const bool splits = rules.metaspace && rules.metaspace->split;
  std::vector<bool> done(model.pieces.size());
  std::set<std::pair<TokenId, TokenId>> cuts;
  TokenId last = -1;
  for (const ListedMerge& merge : rules.merges) {
    const auto merged = static_cast<std::size_t>(merge.merged);
    const std::string& text = model.pieces[merged].text;
    if (splits && text.find(space_symbol, 1) != std::string::npos)
      fail("words without spaces in them", "\"split\": true");
    if (merge.merged != last) {
      if (done[merged])
        fail("all merges of a piece in a row", "those of '" + printable(text, 40) + "' in several places");
      done[merged] = true;
      last = merge.merged;
    }
    cuts.emplace(merge.left, merge.right);
  }
  const Vocabulary vocabulary(model, name);
  for (std::size_t i = 0; i < rules.model_size; ++i) {
    const std::string_view text = vocabulary.text(static_cast<TokenId>(i));
    if (vocabulary.type(static_cast<TokenId>(i)) != PieceType::normal) continue;
    for (std::size_t at = 1; at < text.size(); ++at) {
      const TokenId left = vocabulary.find(text.substr(0, at)), right = vocabulary.find(text.substr(at));
      if (left < 0 || right < 0) continue;
      const bool merge = vocabulary.type(left) == PieceType::normal && vocabulary.type(right) == PieceType::normal;
      if (merge && cuts.count({left, right}) == 0) {
        fail("a merge for each way to cut a piece in two", "none for one of '" + printable(text, 40) + "'");
      }
    }
  }
}

}  // namespace detail

/// Whom the metadata of a tokenizer is for.
enum class GgufReaders {
  all,     ///< what other readers of GGUF need is there, or an Error says that it can't be
  only_us  ///< what this library needs is there
};

/// A tokenizer's model as GGUF metadata (`tokenizer.ggml.*`, and a tokenizer.json as it is), from which gguf_tokenizer
/// makes the same tokenizer, save for what an unknown piece is decoded to, which GGUF has no key for.
///   vocab_size  of the model whose tokenizer it is: readers of GGUF want as many pieces, so that a vocabulary that is
///               padded past its tokenizer's has pieces `[PAD510]` of type unused; 0: not known, none are added
/// Throws Error `[tokenizer] name: ...` where the model has rules that GGUF has no key for, and for more pieces than
/// vocab_size.
inline GgufMetadataWriter gguf_tokenizer_metadata(SentencePieceModel model, std::string_view name,
                                                  std::size_t vocab_size = 0, GgufReaders readers = GgufReaders::all) {
  if (vocab_size != 0) detail::fit_pieces(model, name, vocab_size);
  if (model.rules && readers == GgufReaders::all) detail::check_expressible(model, name);
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
  std::vector<std::int32_t> ends;
  for (const TokenId id : model.eos_ids) {
    if (static_cast<std::size_t>(id) < model.pieces.size()) ends.push_back(id);
  }
  for (std::size_t i = 0; i < ends.size() && i < std::size(detail::gguf_end_keys); ++i) {
    metadata.u32(detail::gguf_end_keys[i], static_cast<std::uint32_t>(ends[i]));
  }
  if (ends.size() > std::size(detail::gguf_end_keys)) metadata.integers(detail::gguf_eos_ids_key, ends);
  metadata.boolean("tokenizer.ggml.add_bos_token", model.add_bos);
  metadata.boolean("tokenizer.ggml.add_eos_token", model.add_eos);
  if (!model.chat_template.empty()) metadata.string("tokenizer.chat_template", model.chat_template);
  metadata.boolean("tokenizer.ggml.add_space_prefix", model.add_dummy_prefix);
  // the default of readers, ours among them, is that runs of spaces and all characters stay as they are
  if (model.remove_extra_whitespaces) metadata.boolean("tokenizer.ggml.remove_extra_whitespaces", true);
  if (!model.precompiled_charsmap.empty()) {
    metadata.octets("tokenizer.ggml.precompiled_charsmap", model.precompiled_charsmap);
  }
  if (model.rules) metadata.string(detail::gguf_json_key, model.rules->text);
  return metadata;
}

/// The metadata of a GGUF file's own tokenizer, as it stands there; for a model of a larger vocabulary, padded up to it
/// (see above), and none for the tokenizer of a file that has none.
inline GgufMetadataWriter gguf_tokenizer_metadata(const Gguf& file, std::size_t vocab_size = 0) {
  GgufMetadataWriter metadata;
  if (vocab_size != 0 && has_tokenizer(file)) {
    const GgufEntry* const tokens = file.metadata().find("tokenizer.ggml.tokens");
    if (tokens == nullptr || tokens->count != vocab_size) {
      return gguf_tokenizer_metadata(gguf_tokenizer(file), printable(file.file(), 1000), vocab_size);
    }
  }
  for (const GgufEntry& entry : file.metadata().entries()) {
    if (entry.key.starts_with("tokenizer.") || entry.key == detail::gguf_eos_ids_key) metadata.copy(entry);
  }
  return metadata;
}

}}  // namespace mistral
