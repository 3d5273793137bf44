// SPDX-License-Identifier: Apache-2.0
// random_checkpoint FOLDER [7b|1.1b]: writes a checkpoint of Mistral 7B's exact shape (14.5 GB), or of 1.1 billion
// parameters, with random BF16 weights, in Mistral's layout: something to load where no weights can be downloaded.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <mistral/core/random.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/nn/weights.hpp>

#include "../../examples/tool/configs.hpp"

using namespace mistral;

namespace {

// Collects every weight's name and shape. The model they are asked of is never written to, so it takes no memory.
struct Shapes {
  std::vector<SafetensorsTensor> tensors;

  template <WeightFormat F>
  void operator()(const std::string& name, Panels<F>& matrix, std::size_t) {
    tensors.push_back({name, DType::bf16, {matrix.rows(), matrix.cols()}, {}});
  }
  void operator()(const std::string& name, Buffer<float>& norm) {
    tensors.push_back({name, DType::bf16, {norm.size()}, {}});
  }
};

template <ModelConfig config>
void write_checkpoint(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  Shapes shapes;
  {
    Transformer<config, BF16> model;
    visit_weights(model, shapes);
  }
  SafetensorsWriter file((folder / "consolidated.safetensors").string(), shapes.tensors);
  Random random(1);
  for (const SafetensorsTensor& tensor : shapes.tensors) {
    std::fprintf(stderr, "\r%-60s", tensor.name.c_str());
    const bool norm = tensor.shape.size() == 1;
    const std::size_t cols = norm ? tensor.shape[0] : tensor.shape[1];
    const float limit = std::sqrt(3.0f / static_cast<float>(cols));
    std::vector<bf16> row(cols);
    for (std::size_t r = 0; r < (norm ? 1 : tensor.shape[0]); ++r) {
      for (bf16& w : row) w = from_float<bf16>(norm ? 1.0f : (2.0f * random.uniform() - 1.0f) * limit);
      file.write(std::as_bytes(std::span<const bf16>(row)));
    }
  }
  file.commit();
  std::fprintf(stderr, "\n");

  AtomicFile json((folder / "params.json").string(), "config");
  const auto field = [](const char* name, std::size_t value) {
    return std::string("\"") + name + "\": " + std::to_string(value) + ", ";
  };
  json.write("{" + field("dim", config.dim) + field("n_layers", config.n_layers) + field("head_dim", config.head_dim) +
             field("hidden_dim", config.hidden_dim) + field("n_heads", config.n_heads) +
             field("n_kv_heads", config.n_kv_heads) + field("sliding_window", config.window_size) +
             field("vocab_size", config.vocab_size) + "\"norm_eps\": 1e-05}\n");
  json.commit();
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string shape = argc > 2 ? argv[2] : "7b";
  if (argc < 2 || argc > 3 || (shape != "7b" && shape != "1.1b")) {
    std::fprintf(stderr, "usage: %s FOLDER [7b|1.1b]\n", argv[0]);
    return 2;
  }
  if (shape == "7b") {
    write_checkpoint<mistral_7b_v0_1>(argv[1]);
  } else {
    write_checkpoint<tool::shape_1_1b>(argv[1]);
  }
} catch (const Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
