// SPDX-License-Identifier: Apache-2.0
// seeds: none
// Edits a GGUF file that holds a tokenizer: what loads encodes any text, and decodes in a stream as at once.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <mistral/io/gguf/writer.hpp>
#include <mistral/text/gguf_tokenizer.hpp>
#include <mistral/text/gguf_tokenizer_writer.hpp>
#include <mistral/text/stream_decoder.hpp>
#include <mistral/text/tokenizer.hpp>

#include "attempt.hpp"

using namespace mistral;

namespace {

std::string good_file() {
  const fuzz::Folder folder;
  SentencePieceModel model;
  const auto piece = [&](std::string text, float score, PieceType type) {
    model.pieces.push_back({std::move(text), score, type});
  };
  piece("<unk>", 0.0f, PieceType::unknown);
  piece("<s>", 0.0f, PieceType::control);
  piece("</s>", 0.0f, PieceType::control);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
    piece(text, 0.0f, PieceType::byte);
  }
  for (const char* const text : {"\xe2\x96\x81", "a", "b", "th", "t", "h", "e", "the", "\xe2\x96\x81the", "ab"}) {
    piece(text, -static_cast<float>(model.pieces.size()), PieceType::normal);
  }
  piece("[UD]", 0.0f, PieceType::user_defined);
  GgufMetadataWriter metadata;
  metadata.string("general.architecture", "llama");
  metadata.append(gguf_tokenizer_metadata(model, "fuzz"));
  GgufWriter file(folder.path("file"), metadata, {});
  file.commit();
  return folder.read("file");
}

void use(const Tokenizer& tokenizer) {
  std::vector<TokenId> ids;
  for (const std::string text : {"  the theme ab\tof  1234<s>[UD]\xe2\x96\x81 ", "\xc3\xa9\xff\xe2\x82"}) {
    fuzz::attempt([&] {
      for (const TokenId id : tokenizer.encode(text)) {
        fuzz::require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size());
        ids.push_back(id);
      }
    });
  }
  for (std::size_t i = 0; i < tokenizer.vocab_size() && i < 300; ++i) ids.push_back(static_cast<TokenId>(i));
  for (const TokenId id : {tokenizer.bos_id(), tokenizer.eos_id()}) {
    fuzz::require(id >= -1 && id < static_cast<TokenId>(tokenizer.vocab_size()));
  }
  StreamDecoder decoder{tokenizer};
  std::string streamed;
  for (const TokenId id : ids) decoder.feed(id, streamed);
  decoder.flush(streamed);
  fuzz::require(streamed == tokenizer.decode(ids));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::string good = good_file();
  const std::string file = fuzz::edited({good}, std::span(data, size))[0];
  const auto bytes = std::as_bytes(std::span(file));
  fuzz::attempt([&] {
    const Gguf gguf = Gguf::from_bytes(bytes, "input");
    if (!has_tokenizer(gguf)) return;
    use(Tokenizer(gguf_tokenizer(gguf), "input"));
  });
  return 0;
}
