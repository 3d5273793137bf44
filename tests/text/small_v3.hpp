// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include <mistral/text/tokenizer.hpp>

#include "model_builder.hpp"

namespace mistral::test {

/// The tokenizer of 600 pieces with the control pieces of Mistral's v3 behind its own.
inline const Tokenizer& small_v3() {
  static const Tokenizer tokenizer = [] {
    const std::string file =
        file_content(std::filesystem::path(MISTRAL_SOURCE_DIR) / "tests/data/tokenizer/bpe600.model");
    SentencePieceModel model = parse_sentencepiece_model(bytes_of(file), "bpe600");
    for (const char* const piece : {"[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                                    "[TOOL_RESULTS]", "[/TOOL_RESULTS]"}) {
      model.pieces.push_back({piece, 0.0f, PieceType::control});
    }
    return Tokenizer(model, "bpe600");
  }();
  return tokenizer;
}

}  // namespace mistral::test
