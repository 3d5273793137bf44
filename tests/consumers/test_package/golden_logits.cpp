// SPDX-License-Identifier: Apache-2.0
// golden_logits FOLDER: loads FOLDER/hf, a checkpoint, and holds the logits after each of the tokens of
// FOLDER/expected.safetensors against those that another implementation computed. Where the package brings Eigen, the
// logits are read as a matrix of Eigen's too.
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/model.hpp>
#if __has_include(<Eigen/Core>)
#include <mistral/eigen.hpp>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

inline constexpr mistral::ModelConfig tiny{.dim = 64,
                                           .n_layers = 3,
                                           .head_dim = 16,
                                           .hidden_dim = 160,
                                           .n_heads = 4,
                                           .n_kv_heads = 2,
                                           .window_size = 8,
                                           .context_len = 64,
                                           .vocab_size = 97,
                                           .rope_theta = 10000.0f,
                                           .norm_eps = 1e-5f};

template <class T>
std::vector<T> values_of(const mistral::SafetensorsTensor& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  std::memcpy(values.data(), tensor.data.data(), values.size() * sizeof(T));
  return values;
}

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  const std::string folder = argv[1];
  using Model = mistral::Transformer<tiny, mistral::F32>;
  const auto model = mistral::load<Model>(folder + "/hf");
  const auto file = mistral::Safetensors::open(folder + "/expected.safetensors");
  const auto expected = values_of<float>(file.get("logits_prefill"));
  std::vector<mistral::TokenId> tokens;
  for (const std::int64_t id : values_of<std::int64_t>(file.get("tokens"))) {
    tokens.push_back(static_cast<mistral::TokenId>(id));
  }

  mistral::Session<Model, float> session{model};
  const auto logits = session.forward(tokens);
  bool close = expected.size() == tokens.size() * tiny.vocab_size;
  float difference = 0.0f;
  for (std::size_t i = 0; close && i < expected.size(); ++i) {
    const float here = std::abs(logits.row(i / tiny.vocab_size)[i % tiny.vocab_size] - expected[i]);
    close = here <= 1e-4f;
    difference = std::max(difference, here);
  }
  const auto last = logits.row(tokens.size() - 1);
#if __has_include(<Eigen/Core>)
  const auto matrix = mistral::as_eigen(logits);
  close = close && static_cast<std::size_t>(matrix.cols()) == tiny.vocab_size && matrix.bottomRows(1)(2) == last[2];
  std::printf("with Eigen %d.%d: ", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION);
#endif
  std::printf("%zu tokens, last logits %.5f %.5f %.5f ..., %s the golden ones: %.2g apart\n", tokens.size(),
              static_cast<double>(last[0]), static_cast<double>(last[1]), static_cast<double>(last[2]),
              close ? "as" : "NOT", static_cast<double>(difference));
  return close ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
