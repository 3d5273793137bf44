// SPDX-License-Identifier: Apache-2.0
// run_time_choice FILE [ROUNDS]: an instance that is chosen among several when the program runs, against a build
// for this processor alone, in one process and in turns: four layers of Mistral 7B in Q4_0, mapped from FILE, which is
// written first (0.7 GB). Prints the tokens a second of each and the ratio of each pair: median, least, largest.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "run_time_choice.hpp"
#include "run_time_choice_instances.hpp"

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t prompt_tokens = 256;
constexpr std::size_t decoded_tokens = 16;

Build chosen_build(const std::string& path) {
  struct Loaded {
    std::unique_ptr<mistral::AnyModel> model;
    std::unique_ptr<mistral::AnySession> session;
  };
  const auto& best = mistral::best_instance(run_time_choice_instances(), "four-layers");
  const auto loaded = std::make_shared<Loaded>();
  loaded->model = best.type().load(path, {});
  loaded->session = loaded->model->session();
  return {std::string("chosen: ") + best.arch, [loaded] { loaded->session->clear(); },
          [loaded](std::span<const std::int32_t> prompt) { return loaded->session->prefill(prompt); },
          [loaded](std::int32_t token) { return loaded->session->decode(token); }};
}

struct Speeds {  // tokens/s
  double prefill;
  double decode;
};

Speeds speeds_of(const Build& build, const std::vector<std::int32_t>& prompt) {
  build.clear();
  const auto begin = Clock::now();
  build.prefill(prompt);
  const auto between = Clock::now();
  for (std::size_t i = 0; i < decoded_tokens; ++i) build.decode(prompt[i]);
  const auto end = Clock::now();
  const auto speed = [](std::size_t tokens, Clock::duration taken) {
    return static_cast<double>(tokens) / std::chrono::duration<double>(taken).count();
  };
  return {speed(prompt_tokens, between - begin), speed(decoded_tokens, end - between)};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void print(const char* what, const Build (&builds)[2], const std::vector<double> (&speeds)[2]) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < speeds[0].size(); ++i) ratios.push_back(speeds[1][i] / speeds[0][i]);
  std::printf("%s: %s %.2f tokens/s, %s %.2f tokens/s, ratio %.4f (%.4f to %.4f)\n", what, builds[0].name.c_str(),
              median(speeds[0]), builds[1].name.c_str(), median(speeds[1]), median(ratios),
              *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: %s FILE [ROUNDS]\n", argv[0]);
    return 2;
  }
  const int rounds = argc == 3 ? std::atoi(argv[2]) : 40;
  if (rounds < 1) {
    std::fprintf(stderr, "ROUNDS: expected at least 1, got %s\n", argv[2]);
    return 2;
  }
  save_four_layers(argv[1]);
  const Build builds[2] = {native_build(argv[1]), chosen_build(argv[1])};
  std::vector<std::int32_t> prompt(prompt_tokens);
  for (std::size_t i = 0; i < prompt_tokens; ++i)
    prompt[i] = static_cast<std::int32_t>(i * 7919 % four_layers.vocab_size);

  // one round for nothing, which brings the file into memory; in it the two must compute the same
  const auto first = builds[0].prefill(prompt), second = builds[1].prefill(prompt);
  float apart = 0.0f;
  for (std::size_t i = 0; i < first.size(); ++i) apart = std::max(apart, std::abs(first[i] - second[i]));
  std::printf("logits of the two: at most %.1e apart\n", static_cast<double>(apart));
  if (!(apart <= 0.05f)) return 1;

  std::vector<double> prefill[2], decode[2];
  for (int round = 0; round < rounds; ++round) {
    for (int turn = 0; turn < 2; ++turn) {
      const int which = (round + turn) % 2;  // each goes first as often as the other
      const Speeds speeds = speeds_of(builds[which], prompt);
      prefill[which].push_back(speeds.prefill);
      decode[which].push_back(speeds.decode);
    }
  }
  print("prefill of 256", builds, prefill);
  print("decode", builds, decode);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
