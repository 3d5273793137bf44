// SPDX-License-Identifier: Apache-2.0
// What each layer would say next:  07_logit_lens [CHECKPOINT [TEXT]], the folder of examples/own_model/breeze
//
// The logit lens reads the residual stream on its way through the layers as the last layer's is read: normed, and
// multiplied with the head. mistral/eigen.hpp gives the stream and the weights as matrices.
#include <cstdio>
#include <string>
#include <vector>

#include <mistral/eigen.hpp>
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
  std::vector<mistral::TokenId> text = tokenizer.encode(argc > 2 ? argv[2] : "And it came to pass, that the king");
  text.insert(text.begin(), tokenizer.bos_id());
  if (text.size() > breeze.window_size) text.resize(breeze.window_size);  // one chunk, so that the hook sees it at once

  const mistral::EigenMatrix head = mistral::to_eigen(model.output.weight);  // (vocab_size, dim)
  const auto norm = mistral::as_eigen(model.norm.weight.span());             // (dim)
  std::vector<std::vector<Eigen::Index>> best(breeze.n_layers + 1);  // of each layer and token: the likeliest id

  mistral::Session<Model, float> session{model};
  const auto logits = session.forward(text, mistral::ResidualHook{[&](const mistral::Residual& residual) {
                                        const auto x = mistral::as_eigen(residual.x);  // (tokens, dim)
                                        for (Eigen::Index t = 0; t < x.rows(); ++t) {
                                          const float size =
                                              std::sqrt(x.row(t).squaredNorm() / float{breeze.dim} + breeze.norm_eps);
                                          const Eigen::VectorXf normed = x.row(t).transpose().cwiseProduct(norm) / size;
                                          Eigen::Index id;
                                          (head * normed).maxCoeff(&id);
                                          best[residual.layer].push_back(id);
                                        }
                                      }});

  std::printf("%-14s", "after");
  for (std::size_t layer = 0; layer <= breeze.n_layers; ++layer) std::printf("  layer %-8zu", layer);
  std::size_t agree = 0;
  for (std::size_t t = 0; t < text.size(); ++t) {
    const auto piece = [&](Eigen::Index id) {
      return std::string(tokenizer.piece(static_cast<mistral::TokenId>(id))).substr(0, 14);
    };
    std::printf("\n%-14s", piece(text[t]).c_str());
    for (const auto& ids : best) std::printf("  %-14s", piece(ids[t]).c_str());
    Eigen::Index chosen;
    mistral::as_eigen(logits).row(static_cast<Eigen::Index>(t)).maxCoeff(&chosen);
    agree += best.back()[t] == chosen ? 1 : 0;
  }
  std::printf("\nafter the last layer the lens says what the model says: %zu of %zu\n", agree, text.size());
  return agree == text.size() ? 0 : 1;
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
