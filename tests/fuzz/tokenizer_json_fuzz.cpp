// SPDX-License-Identifier: Apache-2.0
// seeds: small_a_*.json
// Loads the input as a tokenizer.json; what loads encodes any text, without a control id unless it is asked for,
// decodes in a stream as at once, and goes to GGUF metadata and back.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/stream_decoder.hpp>
#include <mistral/text/tokenizer.hpp>
#include <mistral/text/tokenizer_json.hpp>

#include "attempt.hpp"

using namespace mistral;

namespace {

std::vector<TokenId> use(const Tokenizer& tokenizer) {
  std::vector<std::string> texts{"  the theme ab\tof  1234<s>[INST]\xe2\x96\x81 ", "\xc3\xa9\xff\xe2\x82", ""};
  // what the tokens are called, which random bytes would hardly meet
  std::string own;
  std::vector<TokenId> ids;
  for (std::size_t i = tokenizer.vocab_size() - 1, n = 0; n < 64; ++n) {
    own += tokenizer.piece(static_cast<TokenId>(i));
    own += n % 3 == 0 ? " " : "";
    ids.push_back(static_cast<TokenId>(i));
    i = i > 0 ? i - 1 : tokenizer.vocab_size() - 1;
  }
  texts.push_back(own.substr(0, 4096));
  for (const std::string& text : texts) {
    for (const TokenId id : tokenizer.encode(text)) {
      fuzz::require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size() && !tokenizer.is_control(id));
      ids.push_back(id);
    }
    for (const TokenId id : tokenizer.encode(text, {.add_special = true, .parse_special = true})) {
      fuzz::require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size());
      ids.push_back(id);
    }
  }
  for (const bool skip : {false, true}) {
    StreamDecoder decoder{tokenizer, {.skip_special = skip}};
    std::string streamed;
    for (const TokenId id : ids) decoder.feed(id, streamed);
    decoder.flush(streamed);
    fuzz::require(streamed == tokenizer.decode(ids, {.skip_special = skip}));
  }
  return ids;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  fuzz::attempt([&] {
    const SentencePieceModel model = parse_tokenizer_json(bytes, "input");
    const std::vector<TokenId> ids = use(Tokenizer(model, "input"));
    fuzz::attempt([&] { gguf_tokenizer_metadata(model, "input", model.pieces.size() + 1); });
    const std::string file = gguf_tokenizer_metadata(model, "input", 0, GgufReaders::only_us).header({});
    fuzz::require(use(Tokenizer::from_bytes(std::as_bytes(std::span(file)), "again")) == ids);
  });
  return 0;
}
