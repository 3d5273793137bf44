// SPDX-License-Identifier: Apache-2.0
// lora_steps FOLDER THREADS: this library's half of against_pytorch.sh. For each line on stdin it measures the
// machine's multiply-add peak and takes a step of training; prints the loss, the seconds of the step and the peak in
// operations a second. At the end of stdin it prints the peak of the process's memory, in bytes, and writes the adapter
// (trained/) and the logits that it gives the first sequence (logits.npy).
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <mistral/io/npy.hpp>
#include <mistral/model.hpp>
#include <mistral/train.hpp>

#include "../limits.hpp"
#include "small.hpp"

using namespace mistral;

namespace {

using bench::small;

constexpr ModelConfig tiny{.dim = 64,
                           .n_layers = 3,
                           .head_dim = 16,
                           .hidden_dim = 160,
                           .n_heads = 4,
                           .n_kv_heads = 2,
                           .window_size = 8,
                           .context_len = 64,
                           .vocab_size = 97};

std::vector<Example> read_batch(const std::string& path) {
  const Safetensors file = Safetensors::open(path);
  const SafetensorsTensor& tokens = file.get("tokens");
  if (tokens.dtype != DType::i32 || tokens.shape.size() != 2) {
    throw Error("batch", path, "tokens I32 (sequences, length)", shape_text(tokens.shape));
  }
  std::vector<Example> batch(tokens.shape[0]);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    batch[i].tokens.resize(tokens.shape[1]);
    const std::size_t bytes = tokens.shape[1] * sizeof(TokenId);
    std::memcpy(batch[i].tokens.data(), tokens.data.data() + i * bytes, bytes);
  }
  return batch;
}

template <ModelConfig C>
void run(const std::string& folder, std::size_t threads) {
  using Model = Transformer<C, Lora<F32>>;
  const parallel::ThreadLimit limit(threads);
  Model model = load<Model>(folder + "/base");
  load_adapter(model, folder + "/adapter");
  const std::vector<Example> batch = read_batch(folder + "/batch.safetensors");
  {
    Trainer trainer{model, {.learning_rate = 1e-3f, .max_grad_norm = 0.3f, .keep_activations = true}};
    for (int c = std::getchar(); c != EOF; c = std::getchar()) {
      if (c != '\n') continue;
      const double machine = bench::fp32_peak(threads);
      const double begin = bench::seconds();
      const float loss = trainer.step(batch);
      std::printf("%.7f %.6f %.0f\n", static_cast<double>(loss), bench::seconds() - begin, machine);
      std::fflush(stdout);
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::printf("%ld\n", usage.ru_maxrss * 1024);
  }
  save_adapter(model, folder + "/trained");
  const std::span<const TokenId> first(batch[0].tokens.data(), batch[0].tokens.size() - 1);
  Session<Model, float> session{model};
  const Rows<const float> logits = session.forward(first);
  write_npy(folder + "/logits.npy", {logits.data(), logits.rows() * logits.cols()}, logits.rows(), logits.cols());
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s FOLDER THREADS\n", argv[0]);
    return 2;
  }
  const std::string folder = argv[1];
  const std::size_t threads = std::strtoul(argv[2], nullptr, 10);
  if (CheckpointConfig::read(folder + "/base").dim == small.dim) {
    run<small>(folder, threads);
  } else {
    run<tiny>(folder, threads);
  }
} catch (const Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
