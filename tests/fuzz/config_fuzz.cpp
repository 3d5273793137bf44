// SPDX-License-Identifier: Apache-2.0
// seeds: config.json params.json
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include <mistral/checkpoint/config.hpp>

#include "../support/clean_message.hpp"

namespace {

void check(const mistral::CheckpointConfig& config) {
  for (const std::int64_t size : {config.dim, config.n_layers, config.head_dim, config.hidden_dim, config.n_heads,
                                  config.n_kv_heads, config.vocab_size, config.context_len.value_or(1)}) {
    if (size < 1 || size > INT32_MAX) std::abort();
  }
  if (config.window < 0 || config.n_heads % config.n_kv_heads != 0 || config.head_dim % 2 != 0) std::abort();
  if (!(config.rope_theta > 0 && config.norm_eps > 0)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using mistral::CheckpointLayout;
  for (const auto layout : {CheckpointLayout::hugging_face, CheckpointLayout::mistral}) {
    try {
      check(mistral::CheckpointConfig::parse(std::as_bytes(std::span(data, size)), layout, "input"));
    } catch (const mistral::Error& error) {
      mistral::test::check_message(error);
    }
  }
  return 0;
}
