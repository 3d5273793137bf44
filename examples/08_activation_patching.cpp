// SPDX-License-Identifier: Apache-2.0
// Where a model keeps what it knows of a text:  08_activation_patching [CHECKPOINT [TEXT OTHER]]
//
// Two texts that differ in a word or so. The other one is run again and again, each time with the residual stream of
// one token at one layer taken from the first: where that moves the logits to those of the first text, there is the
// path of what the texts differ in. 1 is all of the way, 0 is no way at all.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <mistral/model.hpp>

inline constexpr mistral::ModelConfig breeze{.dim = 128,
                                             .n_layers = 4,
                                             .head_dim = 32,
                                             .hidden_dim = 384,
                                             .n_heads = 4,
                                             .n_kv_heads = 2,
                                             .window_size = 64,
                                             .context_len = 1024,
                                             .vocab_size = 2048};
using Model = mistral::Transformer<breeze, mistral::F32>;

int main(int argc, char** argv) try {
  const std::string checkpoint = argc > 1 ? argv[1] : "examples/own_model/breeze";
  const Model model = mistral::load<Model>(checkpoint);
  const auto tokenizer = mistral::Tokenizer::load(checkpoint + "/tokenizer.model");
  const auto ids = [&](const char* text) {
    std::vector<mistral::TokenId> all = tokenizer.encode(text);
    all.insert(all.begin(), tokenizer.bos_id());
    return all;
  };
  const auto text = ids(argc > 3 ? argv[2] : "The king was angry, and");
  const auto other = ids(argc > 3 ? argv[3] : "The people was angry, and");
  if (text.size() != other.size() || text.size() > breeze.window_size) {
    std::fprintf(stderr, "expected two texts of one length, at most %zu tokens, got %zu and %zu\n", breeze.window_size,
                 text.size(), other.size());
    return 2;
  }

  // The stream of the first text at every layer, and the logits after both.
  mistral::Session<Model, float> session{model};
  std::vector<std::vector<float>> streams;  // of each layer: (tokens, dim)
  const auto keep = [&](const mistral::Residual& r) {
    streams.emplace_back(r.x.data(), r.x.data() + r.x.rows() * breeze.dim);
  };
  const auto after_text = session.prefill(text, mistral::ResidualHook{keep});
  const std::vector<float> clean(after_text.begin(), after_text.end());
  session.clear();
  const auto after_other = session.prefill(other);
  const std::vector<float> corrupt(after_other.begin(), after_other.end());
  const auto distance = [&](std::span<const float> logits) {
    double squares = 0.0;
    for (std::size_t i = 0; i < clean.size(); ++i) squares += std::pow(double{logits[i]} - double{clean[i]}, 2);
    return std::sqrt(squares);
  };

  std::printf("%-14s", "token");
  for (std::size_t layer = 0; layer <= breeze.n_layers; ++layer) std::printf("  layer %zu", layer);
  double last = 0.0;
  for (std::size_t t = 0; t < text.size(); ++t) {
    std::printf("\n%-14s", std::string(tokenizer.piece(text[t])).c_str());
    for (std::size_t layer = 0; layer <= breeze.n_layers; ++layer) {
      session.clear();
      const auto patched =
          session.prefill(other, mistral::ResidualHook{[&](const mistral::Residual& r) {
                            if (r.layer != layer) return;
                            std::copy_n(streams[layer].data() + t * breeze.dim, breeze.dim, r.x.row(t).data());
                          }});
      last = 1.0 - distance(patched) / distance(corrupt);
      std::printf("  %7.2f", last);
    }
  }
  std::printf("\n");
  return last == 1.0 ? 0 : 1;  // the last token at the last layer is all that the logits are made of
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
