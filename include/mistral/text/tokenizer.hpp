// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/once.hpp>
#include <mistral/core/token.hpp>
#include <mistral/core/utf8.hpp>
#include <mistral/io/file_kind.hpp>
#include <mistral/io/gguf/gguf.hpp>
#include <mistral/io/os/folder_content.hpp>
#include <mistral/io/os/mapped_file.hpp>
#include <mistral/io/packed/packed_file.hpp>
#include <mistral/text/gguf_tokenizer.hpp>
#include <mistral/text/normalizer.hpp>
#include <mistral/text/piece_merger.hpp>
#include <mistral/text/prefix_trie.hpp>
#include <mistral/text/rules_encoder.hpp>
#include <mistral/text/sentencepiece_model.hpp>
#include <mistral/text/stream_decoder.hpp>
#include <mistral/text/text_fields.hpp>
#include <mistral/text/text_range.hpp>
#include <mistral/text/vocabulary.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How a text becomes ids.
struct EncodeOptions {
  /// What the model's maker has added to a text (adds_bos(), adds_eos()): BOS in front, where the text (with
  /// parse_special) doesn't begin with it, and EOS behind. With a tokenizer.json: what its template says, which puts a
  /// BOS in front of a text that begins with one too.
  bool add_special = false;
  /// Control pieces that stand in the text, such as `<s>` and `[INST]`, become their ids. What stands between two of
  /// them is encoded as a text of its own; a space behind a control piece is the one that encoding puts in front, and
  /// the space before `[/INST]` is left out, so that `[INST] Hi [/INST]` gives the ids that a chat template gives.
  /// With a tokenizer.json: all its added tokens are found, by their flags, and nothing else is left out.
  bool parse_special = false;
};

/// A tokenizer of type BPE: a SentencePiece model such as Mistral's, with the same ids as SentencePiece for every text
/// and the same text for all ids, or a Hugging Face tokenizer.json, with those of Hugging Face's `tokenizers`. It never
/// changes once it is made, so any number of threads may use it; copies are cheap and share the vocabulary.
class Tokenizer {
 public:
  /// Reads a SentencePiece `tokenizer.model`, a `tokenizer.json`, a folder's, or the tokenizer in a GGUF or packed
  /// file. Of a folder that has both, it is the tokenizer.json, which transformers' fast tokenizers take: what a
  /// fine-tune has added is there with all its flags. What the files beside either say of texts counts too: see
  /// read_text_fields. Throws Error `[tokenizer] path: ...` (or `[gguf]`, `[packed]`) where the file cannot be read, is
  /// no such model, contradicts itself, is of another type than BPE, or asks for what is not supported.
  static Tokenizer load(const std::string& path) { return load_from(path); }

  /// The same from memory. `name` stands for the path in messages.
  static Tokenizer from_bytes(std::span<const std::byte> bytes, std::string_view name) {
    if (starts_as_packed(bytes)) {
      const auto own = PackedFile::from_bytes(bytes, std::string(name)).tokenizer();
      // a packed file in a packed file, and so on, would go as deep as its maker likes
      if (own.empty() || starts_as_packed(own)) throw Error("tokenizer", name, "a tokenizer in the file", "none");
      return from_bytes(own, name);
    }
    if (starts_as_gguf(bytes)) return Tokenizer(gguf_tokenizer(Gguf::from_bytes(bytes, std::string(name))), name);
    return Tokenizer(parse_tokenizer(bytes, name), name);
  }

  /// A tokenizer of pieces and rules that come from elsewhere, such as a GGUF file. Throws Error where they break a
  /// rule of SentencePiece.
  Tokenizer(const SentencePieceModel& model, std::string_view name)
      : vocabulary_(std::make_shared<const Vocabulary>(model, name)),
        encoder_(std::make_shared<const Encoder>(model, *vocabulary_)),
        decoding_rules_(std::make_shared<const detail::DecodingRules>(model, *vocabulary_)),
        text_rules_(std::make_shared<const TextRules>(model, *vocabulary_)) {}

  /// The ids of a text, without BOS and EOS. Bytes that are no UTF-8 are encoded as U+FFFD each. Text that looks like a
  /// control piece (`<s>`) is text: no control id ever comes out. Takes time in proportion to the text's length.
  std::vector<TokenId> encode(std::string_view text) const { return encode_text(text); }

  /// The ids of a text, with control ids as the options ask for them.
  std::vector<TokenId> encode(std::string_view text, EncodeOptions options) const {
    if (encoder_->by_rules) return encode_by_rules(text, options);
    const TextRange whole{0, text.size()};
    std::vector<TokenId> ids = options.parse_special ? encode_special(text, {&whole, 1}) : encode(text);
    const bool lacks_bos = ids.empty() || ids.front() != bos_id();
    if (options.add_special && adds_bos() && lacks_bos) ids.insert(ids.begin(), bos_id());
    if (options.add_special && adds_eos()) ids.push_back(eos_id());
    return ids;
  }

  /// Returns the ids of a text of which only parts are trusted with control pieces: those of parse_special, but that a
  /// control piece is found only where all of it, and a space that is left out only where it, stands in one of the
  /// ranges. These are in order, and none touches the next.
  std::vector<TokenId> encode_trusted(std::string_view text, std::span<const TextRange> trusted) const {
    if (!encoder_->by_rules) return encode_special(text, trusted);
    std::vector<TokenId> ids;
    encoder_->by_rules->encode(text, trusted, ids);
    return ids;
  }

  /// The text of the ids: without the space that encoding puts in front, nothing for control pieces, U+FFFD for every
  /// byte that belongs to no character. Of a tokenizer.json: what its decoder makes of them, in which special tokens
  /// stand as they are called unless the options leave them out. Throws Error where an id is out of range.
  std::string decode(std::span<const TokenId> ids, DecodeOptions options = {}) const {
    std::string text;
    StreamDecoder decoder{*this, options};
    for (const TokenId id : ids) decoder.feed(id, text);
    decoder.flush(text);
    return text;
  }
  /// @copydoc decode(std::span<const TokenId>, DecodeOptions) const
  std::string decode(std::initializer_list<TokenId> ids, DecodeOptions options = {}) const {
    return decode({ids.begin(), ids.size()}, options);
  }

  /// Number of ids: 0 ... vocab_size() - 1.
  std::size_t vocab_size() const noexcept { return vocabulary_->size(); }

  /// The ids of the special pieces, -1 where the model lacks one.
  TokenId bos_id() const noexcept { return vocabulary_->bos_id(); }
  /// Likewise.
  ///@{
  TokenId eos_id() const noexcept { return vocabulary_->eos_id(); }
  TokenId unk_id() const noexcept { return vocabulary_->unk_id(); }
  TokenId pad_id() const noexcept { return vocabulary_->pad_id(); }
  ///@}

  /// Whether BOS goes in front of a text, and EOS behind it: what the model's maker says (`add_bos_token`,
  /// `add_eos_token`), BOS alone where nothing is said. False where there is no such piece. encode() adds neither.
  ///@{
  bool adds_bos() const noexcept { return text_rules_->add_bos && bos_id() >= 0; }
  bool adds_eos() const noexcept { return text_rules_->add_eos && eos_id() >= 0; }
  ///@}

  /// The ids that end a text that is generated: eos_id(), where there is one, and those that the model's maker names
  /// beside it (`eos_token_id` of generation_config.json or config.json; a GGUF file's EOT and EOM).
  std::span<const TokenId> eos_ids() const noexcept { return text_rules_->eos_ids; }

  /// Whether an id is one of eos_ids().
  bool ends_text(TokenId id) const noexcept {
    return std::find(eos_ids().begin(), eos_ids().end(), id) != eos_ids().end();
  }

  /// Returns a copy of this tokenizer with more ids that end a text.
  Tokenizer with_eos_ids(std::span<const TokenId> more) const {
    auto rules = std::make_shared<TextRules>(*text_rules_);
    for (const TokenId id : more) rules->add_eos_id(id);
    Tokenizer copy = *this;
    copy.text_rules_ = std::move(rules);
    return copy;
  }

  /// The chat template of the model's maker, in Jinja; empty where there is none. It is for whoever runs it:
  /// encode_chat goes by Mistral's own.
  const std::string& jinja_template() const noexcept { return text_rules_->chat_template; }

  /// Ids below may be generated: those behind pad the vocabulary (pieces of type unused, `[PAD510]`).
  std::size_t used_size() const noexcept { return text_rules_->used_size; }

  /// The text of a piece as the model holds it, with U+2581 for a space; it lives as long as a copy of the tokenizer.
  /// Throws Error where the id is out of range, as do the questions below.
  std::string_view piece(TokenId id) const {
    vocabulary_->check(id);
    return vocabulary_->text(id);
  }

  /// What kind of piece an id is. Throws Error for an id outside of the vocabulary.
  PieceType type(TokenId id) const {
    vocabulary_->check(id);
    return vocabulary_->type(id);
  }

  /// The score of a piece, by which merges are chosen: the greatest first. Throws Error for an id outside of the
  /// vocabulary.
  float score(TokenId id) const {
    vocabulary_->check(id);
    return vocabulary_->score(id);
  }

  /// Whether an id is such a piece. Throws Error for an id outside of the vocabulary.
  ///@{
  bool is_normal(TokenId id) const { return type(id) == PieceType::normal; }
  bool is_unknown(TokenId id) const { return type(id) == PieceType::unknown; }
  bool is_control(TokenId id) const { return type(id) == PieceType::control; }
  bool is_user_defined(TokenId id) const { return type(id) == PieceType::user_defined; }
  bool is_unused(TokenId id) const { return type(id) == PieceType::unused; }
  bool is_byte(TokenId id) const { return type(id) == PieceType::byte; }
  ///@}

  /// The id of the piece with exactly this text, whatever its type.
  std::optional<TokenId> find(std::string_view piece) const noexcept {
    const TokenId id = vocabulary_->find(piece);
    return id < 0 ? std::nullopt : std::optional(id);
  }

 private:
  friend class StreamDecoder;

  struct Encoder {
    Encoder(const SentencePieceModel& model, const Vocabulary& vocabulary)
        : merger(model.rules ? detail::PieceMerger(vocabulary, *model.rules) : detail::PieceMerger(vocabulary)),
          normalizer(model, merger.user_defined(), vocabulary.name()),
          control(control_pieces(vocabulary)),
          puts_space_in_front(model.add_dummy_prefix && !model.treat_whitespace_as_suffix) {
      if (model.rules) by_rules.emplace(*model.rules, vocabulary, merger);
    }
    Encoder(const Encoder&) = delete;  // the normaliser refers to the merger's user-defined pieces

    static detail::PrefixTrie control_pieces(const Vocabulary& vocabulary) {
      std::vector<std::string_view> pieces;
      for (std::size_t i = 0; i < vocabulary.size(); ++i) {
        const auto id = static_cast<TokenId>(i);
        if (vocabulary.type(id) == PieceType::control) pieces.push_back(vocabulary.text(id));
      }
      return detail::PrefixTrie(std::move(pieces));
    }

    detail::PieceMerger merger;
    detail::Normalizer normalizer;
    detail::PrefixTrie control;
    bool puts_space_in_front;
    std::optional<detail::RulesEncoder> by_rules;  // of a tokenizer.json: in the place of the normalizer and the trie
  };

  // templates, so that a program may compile them in one unit for all
  template <class = detail::Once>
  static Tokenizer load_from(const std::string& path);
  template <class = detail::Once>
  std::vector<TokenId> encode_text(std::string_view text) const;

  std::vector<TokenId> encode_by_rules(std::string_view text, EncodeOptions options) const {
    const TextRules& rules = *text_rules_;
    std::vector<TokenId> ids;
    if (options.add_special && rules.add_bos) ids = rules.before;
    const TextRange whole{0, text.size()};
    encoder_->by_rules->encode(text, {&whole, options.parse_special ? 1u : 0u}, ids);
    if (options.add_special && rules.add_eos) ids.insert(ids.end(), rules.behind.begin(), rules.behind.end());
    return ids;
  }

  std::vector<TokenId> encode_special(std::string_view text, std::span<const TextRange> trusted) const {
    std::vector<TokenId> ids;
    std::size_t begin = 0;  // from here on nothing is encoded yet
    bool behind_control = false;
    const auto is_trusted = [&](std::size_t at) { return detail::is_within(trusted, at, at + 1); };
    const auto take = [&](std::size_t end, bool before_inst) {
      if (before_inst && end > begin && text[end - 1] == ' ' && is_trusted(end - 1)) --end;
      const bool leaves_space = behind_control && encoder_->puts_space_in_front;
      if (leaves_space && end > begin && text[begin] == ' ' && is_trusted(begin)) ++begin;
      const std::vector<TokenId> more = encode(text.substr(begin, end - begin));
      ids.insert(ids.end(), more.begin(), more.end());
    };
    for (const TextRange& range : trusted) {
      for (std::size_t at = range.begin; at < range.end;) {
        const bool may_be = encoder_->control.starts_with(detail::byte_at(text, at));
        const std::size_t length = may_be ? encoder_->control.match(text.substr(at, range.end - at)) : 0;
        if (length == 0) {
          ++at;
          continue;
        }
        const std::string_view piece = text.substr(at, length);
        take(at, piece == "[/INST]");
        ids.push_back(vocabulary_->find(piece));
        behind_control = true;
        begin = at += length;
      }
    }
    take(text.size(), false);
    return ids;
  }

  /// What is said of texts, beside the pieces.
  struct TextRules {
    TextRules(const SentencePieceModel& model, const Vocabulary& vocabulary)
        : add_bos(model.add_bos),
          add_eos(model.add_eos),
          chat_template(model.chat_template),
          used_size(model.pieces.size()) {
      if (model.rules) {
        before = model.rules->before;
        behind = model.rules->behind;
      }
      if (before.empty() && vocabulary.bos_id() >= 0) before = {vocabulary.bos_id()};
      if (behind.empty() && vocabulary.eos_id() >= 0) behind = {vocabulary.eos_id()};
      add_eos_id(vocabulary.eos_id());
      for (const TokenId id : model.eos_ids) add_eos_id(id);
      while (used_size > 0 && model.pieces[used_size - 1].type == PieceType::unused) --used_size;
    }

    void add_eos_id(TokenId id) {
      if (id >= 0 && std::find(eos_ids.begin(), eos_ids.end(), id) == eos_ids.end()) eos_ids.push_back(id);
    }

    bool add_bos;
    bool add_eos;
    std::string chat_template;
    std::size_t used_size;
    std::vector<TokenId> eos_ids;
    std::vector<TokenId> before, behind;  // what stands around a text where add_bos and add_eos say so
  };

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::shared_ptr<const Encoder> encoder_;
  std::shared_ptr<const detail::DecodingRules> decoding_rules_;
  std::shared_ptr<const TextRules> text_rules_;
};

template <class>
Tokenizer Tokenizer::load_from(const std::string& path) {
  const std::string name = printable(path, 1000);
  if (!path_exists(path)) {
    if (const std::string remedy = hub_remedy(path); !remedy.empty()) {
      throw Error("tokenizer", name + ": " + remedy, "a tokenizer.model, a tokenizer.json, or a .gguf or packed file",
                  "no such file, but what reads as a name on a hub");
    }
  }
  if (is_folder(path)) {
    const TokenizerInFolder found = find_tokenizer(path);
    if (!found.readable.empty()) return load(found.readable);
    throw Error("tokenizer", name, "a folder with tokenizer.model or tokenizer.json",
                found.other.empty() ? "neither" : found.other);
  }
  const MappedFile file = MappedFile::open(path, "tokenizer");
  if (starts_as_packed(file.bytes()) || starts_as_gguf(file.bytes())) return from_bytes(file.bytes(), name);
  SentencePieceModel model = parse_tokenizer(file.bytes(), name);
  read_text_fields(model, folder_of(path));
  return Tokenizer(model, name);
}

template <class>
std::vector<TokenId> Tokenizer::encode_text(std::string_view text) const {
  std::vector<TokenId> ids;
  if (encoder_->by_rules) {
    encoder_->by_rules->encode(text, {}, ids);
    return ids;
  }
  const std::string normalized = encoder_->normalizer.normalize(text);
  ids.reserve(normalized.size() / 3 + 4);
  encoder_->merger.encode(normalized, ids);
  return ids;
}

inline StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, DecodeOptions options)
    : StreamDecoder(tokenizer.vocabulary_, tokenizer.decoding_rules_, options) {}

}}  // namespace mistral
