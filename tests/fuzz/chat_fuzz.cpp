// SPDX-License-Identifier: Apache-2.0
// seeds: *.jsonl *.json
// Reads the input as conversations, a JSON object a line: their ids begin with the only BOS and are the vocabulary's,
// those with tools too, and what is written of a request is read as the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <mistral/io/json/lines.hpp>
#include <mistral/text/chat_json.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/text_fields.hpp>
#include <mistral/text/tokenizer.hpp>
#include <mistral/text/tool_calls.hpp>

#include "attempt.hpp"

using namespace mistral;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder;
  static const Tokenizer tokenizer = [] {
    SentencePieceModel model = read_sentencepiece_model(MISTRAL_SOURCE_DIR "/tests/data/tokenizer/bpe600.model");
    for (const char* const piece : {"[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                                    "[TOOL_RESULTS]", "[/TOOL_RESULTS]"}) {
      model.pieces.push_back({piece, 0.0f, PieceType::control});
    }
    return Tokenizer(model, "bpe600");
  }();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto check = [&](const ChatRequest& request) {
    for (const ChatTemplate chat_template : {ChatTemplate::v1, ChatTemplate::v3}) {
      fuzz::attempt([&] {
        const auto ids = encode_chat(tokenizer, chat_template, request);
        fuzz::require(!ids.empty() && ids.front() == tokenizer.bos_id());
        fuzz::require(std::count(ids.begin(), ids.end(), tokenizer.bos_id()) == 1);
        for (const TokenId id : ids) fuzz::require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size());
        (void)tokenizer.decode(ids);
        const ChatRequest again = parse_chat(chat_json(request), "again");
        fuzz::require(again.messages == request.messages && again.tools == request.tools);
        fuzz::require(encode_chat(tokenizer, chat_template, again) == ids);
        (void)forced_answer(tokenizer, request);
      });
    }
  };
  fuzz::attempt([&] { check(parse_chat(text, "input")); });
  const std::string path = folder.write("chat.jsonl", text);
  fuzz::attempt([&] {
    for_each_json_line(
        path, "chat", [&](const JsonObject& object, std::size_t) { check(parse_chat(object)); }, 4096);
  });
  return 0;
}
