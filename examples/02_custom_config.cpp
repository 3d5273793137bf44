// SPDX-License-Identifier: Apache-2.0
// A model of one's own: a config is a value, a model is a type, and its memory is a constant.
//
// Prints what the same model takes with a window and without, and shows that a session with a window goes on past its
// context in the memory it began with (section 2 of the paper, "rolling buffer cache").
#include <cstdio>
#include <vector>

#include <mistral/model.hpp>
#include <mistral/nn/weights.hpp>

inline constexpr mistral::ModelConfig windowed{.dim = 128,
                                               .n_layers = 4,
                                               .head_dim = 32,
                                               .hidden_dim = 352,
                                               .n_heads = 4,
                                               .n_kv_heads = 2,
                                               .window_size = 64,
                                               .context_len = 2048,
                                               .vocab_size = 1000};

// The same without a window. A config is a value like any other: copy it, change a field.
constexpr mistral::ModelConfig without_window(mistral::ModelConfig config) {
  config.window_size = 0;
  return config;
}
inline constexpr mistral::ModelConfig full = without_window(windowed);

using Model = mistral::Transformer<windowed, mistral::BF16>;
using Session = mistral::Session<Model, mistral::bf16>;
using FullSession = mistral::Session<mistral::Transformer<full, mistral::BF16>, mistral::bf16>;
static_assert(FullSession::cache_bytes == 2048 / 64 * Session::cache_bytes);

int main() {
  std::printf("parameters            %10llu\n", static_cast<unsigned long long>(windowed.parameter_count()));
  std::printf("weights in BF16       %10zu bytes\n", Model::memory_bytes);
  std::printf("cache, window of 64   %10zu bytes\n", Session::cache_bytes);
  std::printf("cache, no window      %10zu bytes\n", FullSession::cache_bytes);

  Model model;
  mistral::randomize(model, 1);  // random weights: mistral::load<Model>("checkpoint/") would give it real ones
  Session session{model};
  session.prefill(std::vector<mistral::TokenId>(100, 7));  // in chunks of at most the window
  for (int i = 0; i < 5000; ++i) session.decode(static_cast<mistral::TokenId>(i % 1000));
  std::printf("after %lld tokens the rings have gone round %lld times\n", static_cast<long long>(session.position()),
              static_cast<long long>(session.cache().wraps()));
}
