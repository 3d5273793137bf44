// SPDX-License-Identifier: Apache-2.0
#include <mistral/text/stream_decoder.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <mistral/text/tokenizer.hpp>

#include "../support/rounds.hpp"
#include "../support/scratch.hpp"
#include "model_builder.hpp"

namespace {

using mistral::StreamDecoder;
using mistral::TokenId;
using mistral::Tokenizer;
using mistral::test::small_model;
using mistral::test::with_bytes;

// ids: 0 <unk>, 1 <s>, 2 </s>, 3 space, 4 space a, 5 b, 6 two spaces, and byte b is 7 + b
Tokenizer tiny(bool remove_extra_whitespaces = false) {
  auto model = with_bytes(small_model({"\xE2\x96\x81",
                                       "\xE2\x96\x81"
                                       "a",
                                       "b", "\xE2\x96\x81\xE2\x96\x81"}));
  model.remove_extra_whitespaces = remove_extra_whitespaces;
  return Tokenizer(model, "tiny");
}

constexpr TokenId byte(unsigned value) { return static_cast<TokenId>(7 + value); }

}  // namespace

TEST_CASE("the parts of a stream make up the text of all its ids") {
  std::mt19937 random(3);
  for (const bool remove : {false, true}) {
    const Tokenizer tokenizer = tiny(remove);
    const std::vector<TokenId> favourites{0,          1,          2,          3,          4,          5,        6,
                                          byte(0xE2), byte(0x82), byte(0xAC), byte(0xF0), byte(0x9F), byte('x')};
    StreamDecoder decoder{tokenizer};  // one for all: flush() must leave it as new
    for (int round = 0; round < mistral::test::rounds(3000); ++round) {
      std::vector<TokenId> ids;
      std::string streamed;
      for (std::size_t n = random() % 12; n > 0; --n) {
        ids.push_back(random() % 4 > 0 ? favourites[random() % favourites.size()]
                                       : static_cast<TokenId>(random() % tokenizer.vocab_size()));
        streamed += decoder.feed(ids.back());
      }
      streamed += decoder.flush();
      CHECK(streamed == tokenizer.decode(ids));
    }
  }
}

TEST_CASE("every part of a stream is whole UTF-8, given out as early as can be") {
  const Tokenizer tokenizer = tiny();
  StreamDecoder decoder{tokenizer};
  CHECK(decoder.feed(byte(0xF0)) == "");
  CHECK(decoder.feed(byte(0x9F)) == "");
  CHECK(decoder.feed(byte(0x98)) == "");
  CHECK(decoder.feed(byte(0x80)) == "\xF0\x9F\x98\x80");
  CHECK(decoder.feed(byte(0xE2)) == "");
  CHECK(decoder.feed(byte('x')) == "\xEF\xBF\xBDx");
  CHECK(decoder.feed(byte(0xE2)) == "");
  CHECK(decoder.feed(byte(0x82)) == "");
  CHECK(decoder.feed(5) ==
        "\xEF\xBF\xBD\xEF\xBF\xBD"
        "b");
  CHECK(decoder.feed(byte(0xFF)) == "\xEF\xBF\xBD");
  CHECK(decoder.feed(byte(0xED)) == "");
  CHECK(decoder.feed(byte(0xA0)) == "\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate: nothing can make it right
  CHECK(decoder.feed(byte(0xC3)) == "");
  CHECK(decoder.flush() == "\xEF\xBF\xBD");
  CHECK(decoder.flush() == "");
}

TEST_CASE("only the space that encoding puts in front is taken away") {
  const Tokenizer tokenizer = tiny();
  CHECK(tokenizer.decode({4, 4}) == "a a");
  CHECK(tokenizer.decode({1, 4, 2}) == "a");
  CHECK(tokenizer.decode({3, 4}) == " a");
  CHECK(tokenizer.decode({6, 5}) == " b");
  CHECK(tokenizer.decode({5, 4}) == "b a");
  CHECK(tokenizer.decode({byte('x'), 4}) == "x a");
  CHECK(tiny(true).decode({3, 3, 4}) == "a");
}

TEST_CASE("an id out of range is an error that leaves the stream as it was") {
  std::optional<Tokenizer> tokenizer = tiny();
  StreamDecoder decoder{*tokenizer};
  tokenizer.reset();  // the decoder keeps what it needs
  CHECK(decoder.feed(byte(0xC3)) == "");
  CHECK(mistral::test::error_of([&] { decoder.feed(263); }) ==
        "[tokenizer] tiny: token id: expected 0 ... 262, got 263");
  CHECK(mistral::test::error_of([&] { decoder.feed(-1); }) == "[tokenizer] tiny: token id: expected 0 ... 262, got -1");
  CHECK(decoder.feed(byte(0xA9)) == "\xC3\xA9");
}
