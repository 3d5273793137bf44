// SPDX-License-Identifier: Apache-2.0
// The library's half of turns.py: holds a model with random weights, reads a turn from each line of standard input, and
// answers with its tokens a second; `bandwidth 1` with the read bandwidth in GB/s.
//
//   bench_turns q4_0|q8_0|bf16 THREADS [BANDWIDTH]
//
// q4_0 and q8_0 are in the shape of Mistral 7B, bf16 in that of a 1.1B model. BANDWIDTH 0 spares the loops' 4 GiB.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <memory_resource>
#include <optional>
#include <string>
#include <vector>

#include <mistral/io/os/huge_pages.hpp>
#include <mistral/model.hpp>
#include <mistral/nn/weights.hpp>

#include "../../examples/tool/configs.hpp"
#include "../limits.hpp"

namespace {

template <mistral::ModelConfig C, class F>
int run(bool with_bandwidth) {
  using Model = mistral::Transformer<C, F>;
  const auto model = [] {
    auto random = std::make_unique<Model>();
    mistral::randomize(*random, 1);
    return random;
  }();
  mistral::Session<Model, mistral::bf16> session{*model};
  std::optional<mistral::bench::ReadBandwidth> bandwidth;
  if (with_bandwidth) bandwidth.emplace();
  unsigned random = 12345;
  const auto token = [&] {
    random = random * 1664525u + 1013904223u;
    return static_cast<mistral::TokenId>(300 + (random >> 8) % 31000);
  };
  std::vector<mistral::TokenId> prompt(512);
  for (mistral::TokenId& t : prompt) t = token();
  session.prefill(prompt);  // not counted: touches the memory that a run takes

  char line[64], kind[16];
  int tokens = 0;
  std::printf("ready\n");
  while (std::fflush(stdout) == 0 && std::fgets(line, sizeof line, stdin) != nullptr) {
    if (std::sscanf(line, "%15s %d", kind, &tokens) != 2 || tokens <= 0) return 1;
    const std::string turn = kind;
    if (turn == "bandwidth") {
      if (bandwidth) bandwidth->turn();
      std::printf("%f\n", bandwidth ? bandwidth->best() / 1e9 : 0.0);
      continue;
    }
    prompt.resize(static_cast<std::size_t>(tokens), 300);
    session.clear();
    if (turn == "decode") session.decode(token());
    const double begin = mistral::bench::seconds();
    if (turn == "prefill") {
      session.prefill(prompt);
    } else {
      for (int i = 0; i < tokens; ++i) session.decode(token());
    }
    std::printf("%f\n", tokens / (mistral::bench::seconds() - begin));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string weights = argc > 1 ? argv[1] : "";
  const int threads = argc > 2 ? std::atoi(argv[2]) : 0;
  if (argc > 4 || threads <= 0) {
    std::fprintf(stderr, "bench_turns q4_0|q8_0|bf16 THREADS [BANDWIDTH]\n");
    return 2;
  }
  const bool bandwidth = argc < 4 || std::string(argv[3]) != "0";
  const mistral::parallel::ThreadLimit limit(static_cast<std::size_t>(threads));
  mistral::HugePages huge_pages;
  std::pmr::set_default_resource(&huge_pages);
  if (weights == "q4_0") return run<mistral::mistral_7b_v0_1, mistral::Q4_0>(bandwidth);
  if (weights == "q8_0") return run<mistral::mistral_7b_v0_1, mistral::Q8_0>(bandwidth);
  if (weights == "bf16") return run<mistral::tool::shape_1_1b, mistral::BF16>(bandwidth);
  std::fprintf(stderr, "bench_turns: expected q4_0, q8_0 or bf16, got '%s'\n", weights.c_str());
  return 2;
}
