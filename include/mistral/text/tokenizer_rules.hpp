// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/token.hpp>
#include <mistral/text/added_tokens.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Two pieces that become a third one when they meet.
struct ListedMerge {
  TokenId left;    ///< the piece in front
  TokenId right;   ///< the piece behind it
  TokenId merged;  ///< what they become
};

/// A step of a normalizer or a decoder.
struct TextStep {
  /// The kind of a step.
  enum class Kind {
    prepend,   ///< puts `to` in front of a text that isn't empty
    replace,   ///< puts `to` in the place of each `from`
    strip,     ///< takes `from`, a character, away from the front, up to `count` times
    metaspace  ///< puts `to` in the place of each `from`, and nothing in the first token
  };
  Kind kind = Kind::replace;  ///< which of these
  std::string from{};         ///< what it looks for
  std::string to{};           ///< what it puts there
  std::size_t count = 0;      ///< how often, of strip
};

/// The pre-tokenizer Metaspace, which writes spaces as a character that can be seen.
struct Metaspace {
  /// Which parts of a text a space is put in front of.
  enum class Prepend {
    always,  ///< of each that stands between added tokens
    first,   ///< of the one that begins the text
    never    ///< of none
  };

  std::string replacement;            ///< mostly U+2581
  Prepend prepend = Prepend::always;  ///< which parts of a text it begins, if they don't begin with it already
  bool split = true;                  ///< no merge goes across one
};

/// The rules of a Hugging Face tokenizer.json beside its pieces. It is plain data, which parse_tokenizer_json has
/// checked.
struct TokenizerRules {
  std::vector<AddedToken> added{};          ///< by id
  std::size_t model_size = 0;               ///< ids below are in the vocabulary of the model; those behind were added
  std::vector<ListedMerge> merges{};        ///< the first ones first
  bool fuse_unknown = false;                ///< one unknown piece stands for a run of unknown characters
  bool ignore_merges = false;               ///< a text that is a piece as a whole is that piece, whatever the merges
  std::vector<TextStep> normalizer{};       ///< what becomes of a text between added tokens
  std::optional<Metaspace> metaspace{};     ///< what becomes of spaces behind the normalizer
  std::vector<TokenId> before{}, behind{};  ///< what EncodeOptions::add_special puts around a text
  std::vector<TextStep> decoder{};          ///< what becomes of each token
  bool decode_bytes = false;                ///< tokens `<0x00>` ... `<0xFF>` are bytes, then
  TextStep decoder_end{};                   ///< what becomes of the whole text at last: strip
  std::string text{};                       ///< the file's, for those who pass it on
};

namespace detail {

/// Appends `text` with `to` in the place of each `from`, which isn't empty.
inline void append_replaced(std::string& out, std::string_view text, std::string_view from, std::string_view to) {
  constexpr std::size_t block = 256;
  constexpr std::size_t most = 4;  // bytes of `to`
  if (from.size() == 1 && !to.empty() && to.size() <= most) {
    // spaces, which are everywhere: byte by byte, into a buffer that has room for a block of them
    std::array<char, most> replacement{};
    std::copy(to.begin(), to.end(), replacement.begin());
    std::array<char, block * most> buffer;
    while (!text.empty()) {
      char* end = buffer.data();
      const std::string_view part = text.substr(0, block);
      for (const char c : part) {
        if (c == from[0]) {
          std::memcpy(end, replacement.data(), most);
          end += to.size();
        } else {
          *end++ = c;
        }
      }
      out.append(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
      text.remove_prefix(part.size());
    }
    return;
  }
  for (;;) {
    const std::size_t at = text.find(from);
    out.append(text.substr(0, at));
    if (at == std::string_view::npos) return;
    out.append(to);
    text.remove_prefix(at + from.size());
  }
}

/// The text after the steps, one after the other; `first`: it is the first of the tokens that are decoded.
inline std::string apply_steps(std::span<const TextStep> steps, std::string_view text, bool first = false) {
  std::string now, next;
  std::string_view rest = text;  // what the next step works on
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const TextStep& step = steps[i];
    next.clear();
    next.reserve(rest.size() + rest.size() / 2 + step.to.size());
    switch (step.kind) {
      case TextStep::Kind::prepend:
        // what most files do, in one go: no character can be half in front of the text and half in it
        if (i + 1 < steps.size() && steps[i + 1].kind == TextStep::Kind::replace && steps[i + 1].from.size() == 1) {
          ++i;
          if (!rest.empty()) append_replaced(next, step.to, steps[i].from, steps[i].to);
          append_replaced(next, rest, steps[i].from, steps[i].to);
        } else if (!rest.empty()) {
          next.append(step.to).append(rest);
        }
        break;
      case TextStep::Kind::replace:
        append_replaced(next, rest, step.from, step.to);
        break;
      case TextStep::Kind::strip:
        for (std::size_t n = 0; n < step.count && rest.starts_with(step.from); ++n)
          rest.remove_prefix(step.from.size());
        next = rest;
        break;
      case TextStep::Kind::metaspace:
        append_replaced(next, rest, step.from, first ? std::string_view() : step.to);
        break;
    }
    now.swap(next);
    rest = now;
  }
  if (steps.empty()) now = text;
  return now;
}

}  // namespace detail
}}  // namespace mistral
