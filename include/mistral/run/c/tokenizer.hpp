// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The functions of mistral/c.h that tokenize: mistral_tokenizer_...

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/token.hpp>
#include <mistral/run/c/call.hpp>
#include <mistral/run/c/handles.hpp>
#include <mistral/run/c/structs.hpp>
#include <mistral/text/tokenizer.hpp>

#include <mistral/c.h>

extern "C" {

inline mistral_status mistral_tokenizer_load(const char* path, mistral_tokenizer** tokenizer) {
  using namespace mistral::detail;
  return c_call([&] {
    const std::string from = &c_given(path, "path");
    mistral_tokenizer*& result = c_given(tokenizer, "tokenizer");
    result = std::make_unique<mistral_tokenizer>(mistral_tokenizer{mistral::Tokenizer::load(from)}).release();
  });
}

inline void mistral_tokenizer_free(mistral_tokenizer* tokenizer) { delete tokenizer; }

inline mistral_status mistral_tokenizer_get_info(const mistral_tokenizer* tokenizer, mistral_tokenizer_info* info) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral::Tokenizer& from = c_given(tokenizer, "tokenizer").tokenizer;
    mistral_tokenizer_info to{};
    to.vocab_size = from.vocab_size();
    to.bos_id = from.bos_id();
    to.eos_id = from.eos_id();
    to.unk_id = from.unk_id();
    to.pad_id = from.pad_id();
    to.adds_bos = from.adds_bos() ? 1 : 0;
    to.adds_eos = from.adds_eos() ? 1 : 0;
    c_give(to, c_given(info, "info"), "info");
  });
}

inline mistral_status mistral_tokenizer_encode(const mistral_tokenizer* tokenizer, const char* text, size_t text_size,
                                               uint32_t flags, int32_t* tokens, size_t capacity, size_t* count) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral::Tokenizer& from = c_given(tokenizer, "tokenizer").tokenizer;
    const auto bytes = c_span(text, text_size, "text");
    std::size_t& number = c_given(count, "count");
    if ((flags & ~std::uint32_t{MISTRAL_ENCODE_ADD_SPECIAL | MISTRAL_ENCODE_PARSE_SPECIAL}) != 0) {
      c_refuse("flags", "flags of mistral_encode_flags", std::to_string(flags));
    }
    const std::vector<mistral::TokenId> ids =
        from.encode(std::string_view(bytes.data(), bytes.size()),
                    mistral::EncodeOptions{.add_special = (flags & MISTRAL_ENCODE_ADD_SPECIAL) != 0,
                                           .parse_special = (flags & MISTRAL_ENCODE_PARSE_SPECIAL) != 0});
    c_copy<mistral::TokenId>(ids, 0, tokens, capacity, number);
  });
}

inline mistral_status mistral_tokenizer_decode(const mistral_tokenizer* tokenizer, const int32_t* tokens, size_t count,
                                               char* text, size_t capacity, size_t* text_size) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral::Tokenizer& from = c_given(tokenizer, "tokenizer").tokenizer;
    const auto ids = c_span(tokens, count, "tokens");
    std::size_t& size = c_given(text_size, "text_size");
    const std::string made = from.decode(ids);
    c_copy<char>(std::span<const char>(made), 1, text, capacity, size);
  });
}

}  // extern "C"
