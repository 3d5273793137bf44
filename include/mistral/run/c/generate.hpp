// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The functions of mistral/c.h that continue a text: mistral_generate_options_init, mistral_session_generate.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <mistral/core/abi.hpp>
#include <mistral/generate/continuation.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/run/c/call.hpp>
#include <mistral/run/c/handles.hpp>
#include <mistral/run/c/session.hpp>
#include <mistral/run/c/structs.hpp>
#include <mistral/text/tokenizer.hpp>

#include <mistral/c.h>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

inline mistral_generate_options c_generate_defaults() noexcept {
  mistral_generate_options options{};
  options.size = sizeof options;
  options.top_p = 1.0f;
  options.repetition_penalty = 1.0f;
  options.max_tokens = GenerateOptions{}.max_tokens;
  options.stop_at_eos = 1;
  return options;
}

/// Returns a caller's options as the library has them.
///   tokenizer  null where there is none, and no token that ends every text
inline GenerateOptions c_generate_options(const mistral_generate_options& o, const Tokenizer* tokenizer) {
  GenerateOptions options{.sampling = {.temperature = o.temperature,
                                       .top_k = o.top_k,
                                       .top_p = o.top_p,
                                       .min_p = o.min_p,
                                       .repetition_penalty = o.repetition_penalty,
                                       .repetition_window = o.repetition_window,
                                       .seed = o.seed},
                          .max_tokens = o.max_tokens,
                          .own_text = o.own_text != 0,
                          .lookup = o.lookup};
  const auto ids = c_span(o.stop_ids, o.stop_id_count, "options->stop_ids");
  options.stop_ids.assign(ids.begin(), ids.end());
  if (o.stop_at_eos != 0 && tokenizer != nullptr) {
    options.stop_ids.insert(options.stop_ids.end(), tokenizer->eos_ids().begin(), tokenizer->eos_ids().end());
  }
  for (const char* const text : c_span(o.stop_strings, o.stop_string_count, "options->stop_strings")) {
    options.stop_strings.emplace_back(&c_given(text, "options->stop_strings"));
  }
  return options;
}

/// Returns what hands pieces of a text to a caller's function; null takes all.
inline auto c_show(mistral_on_text on_text, void* user) {
  return [on_text, user](std::string_view text) -> bool {
    return on_text == nullptr || on_text(user, std::string(text).c_str(), text.size()) != 0;
  };
}

}}}  // namespace mistral::detail

extern "C" {

inline mistral_status mistral_generate_options_init(mistral_generate_options* options, size_t size) {
  using namespace mistral::detail;
  return c_call([&] { c_give_defaults(c_generate_defaults(), options, size, "options"); });
}

inline mistral_status mistral_session_generate(mistral_session* session, const mistral_tokenizer* tokenizer,
                                               const int32_t* prompt, size_t count,
                                               const mistral_generate_options* options, mistral_on_text on_text,
                                               void* user, mistral_generated* generated) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral::AnySession& on = c_session(session);
    const mistral::Tokenizer& with = c_given(tokenizer, "tokenizer").tokenizer;
    const auto ids = c_span(prompt, count, "prompt");
    const mistral::GenerateOptions o = c_generate_options(c_options(options, c_generate_defaults(), "options"), &with);
    if (generated != nullptr) (void)c_size_of(*generated, "generated");
    session->threads.run(*session->shared,
                         [&] { session->made = mistral::generate(on, with, ids, o, c_show(on_text, user)); });
    if (generated == nullptr) return;
    mistral_generated to{};
    to.text = session->made.text.c_str();
    to.text_size = session->made.text.size();
    to.tokens = session->made.tokens.data();
    to.token_count = session->made.tokens.size();
    to.reason = static_cast<std::int32_t>(session->made.reason);
    c_give(to, *generated, "generated");
  });
}

}  // extern "C"

static_assert(MISTRAL_STOP_MAX_TOKENS == static_cast<int>(mistral::StopReason::max_tokens) &&
              MISTRAL_STOP_ID == static_cast<int>(mistral::StopReason::stop_id) &&
              MISTRAL_STOP_STRING == static_cast<int>(mistral::StopReason::stop_string) &&
              MISTRAL_STOP_CONTEXT == static_cast<int>(mistral::StopReason::context) &&
              MISTRAL_STOP_CALLBACK == static_cast<int>(mistral::StopReason::cancelled));
