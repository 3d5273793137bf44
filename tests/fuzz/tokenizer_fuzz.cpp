// SPDX-License-Identifier: Apache-2.0
// seeds: *.model
// Loads the input as a tokenizer.model; what loads must encode and decode without a crash.
#include <mistral/text/tokenizer.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../support/clean_message.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using mistral::TokenId;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  try {
    const mistral::Tokenizer tokenizer = mistral::Tokenizer::from_bytes(bytes, "fuzz");
    std::vector<std::string> texts{
        "  the theme aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\tof  1234<s>[UD]\xe2\x96\x81 ",
        std::string("\xc3\xa9\xf0\x9f\x98\x80\0\xff\xe2\x82", 10)};
    // pieces of the vocabulary itself, which random bytes would hardly meet
    std::string own;
    std::vector<TokenId> ids;
    for (std::size_t i = 0; i < tokenizer.vocab_size() && i < 64; ++i) {
      own += tokenizer.piece(static_cast<TokenId>(i));
      ids.push_back(static_cast<TokenId>(i));
    }
    texts.push_back(own.substr(0, 4096));
    mistral::StreamDecoder decoder{tokenizer};
    for (const std::string& text : texts) {
      try {
        for (const TokenId id : tokenizer.encode(text)) ids.push_back(id);
      } catch (const mistral::Error& error) {
        mistral::test::check_message(error);
      }
    }
    std::string streamed;
    for (const TokenId id : ids) decoder.feed(id, streamed);
    decoder.flush(streamed);
    if (streamed != tokenizer.decode(ids)) __builtin_trap();
  } catch (const mistral::Error& error) {
    mistral::test::check_message(error);
  }
  return 0;
}
