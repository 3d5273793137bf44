// SPDX-License-Identifier: Apache-2.0
// golden FOLDER OUT [AGAINST]: the model of FOLDER/hf in the weight formats whose products are written for one
// instruction set or another, against the logits of FOLDER/expected.safetensors, which another implementation computed
// in floats. Those of 8 and 4 bits, which rounding moves far, go to the file OUT, and are held against those that the
// same program wrote to AGAINST, built by another compiler or for another processor. Each token is also decoded alone,
// to the bits of the whole text, and what is promised to be the same bits in every build is held against its hashes.
// Prints a line of the largest errors; ends with 1 where one is too large.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/model.hpp>

#include "../support/models.hpp"
#include "../support/promised_bits.hpp"

namespace {

using namespace mistral;

template <class T>
std::vector<T> values_of(const SafetensorsTensor& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  std::memcpy(values.data(), tensor.data.data(), values.size() * sizeof(T));
  return values;
}

struct Golden {
  std::string checkpoint;
  std::vector<TokenId> tokens;
  std::vector<float> logits;  // (tokens, vocab_size)
};

Golden read(const std::string& folder) {
  const auto file = Safetensors::open(folder + "/expected.safetensors");
  Golden golden{folder + "/hf", {}, values_of<float>(file.get("logits_prefill"))};
  for (const std::int64_t id : values_of<std::int64_t>(file.get("tokens"))) {
    golden.tokens.push_back(static_cast<TokenId>(id));
  }
  return golden;
}

// Prints how far apart two texts' logits are; whether that is within `tolerance`.
bool close(const char* name, std::span<const float> logits, std::span<const float> expected, float tolerance) {
  float error = logits.size() == expected.size() ? 0.0f : INFINITY;
  for (std::size_t i = 0; i < logits.size() && i < expected.size(); ++i) {
    const float here = std::abs(logits[i] - expected[i]);
    if (!(here <= error)) error = here;  // NaN stays
  }
  const bool good = error <= tolerance;
  std::printf(" %s %.1e%s", name, static_cast<double>(error), good ? "" : " (TOO FAR)");
  return good;
}

// The logits of the text, in one call; `same` becomes false where a token alone has other bits.
template <class F>
std::vector<float> logits_of(const Golden& golden, bool& same) {
  using Model = Transformer<test::tiny, F>;
  const auto model = load<Model>(golden.checkpoint);
  Session<Model, float> text{model}, alone{model};
  const auto logits = text.forward(golden.tokens);
  for (std::size_t i = 0; i < golden.tokens.size(); ++i) {
    same = test::same_bits(alone.decode(golden.tokens[i]), logits.row(i)) && same;
  }
  return {logits.data(), logits.data() + logits.rows() * logits.cols()};
}

std::vector<float> floats_of(const char* path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<float> values;
  for (float value; in.read(reinterpret_cast<char*>(&value), sizeof(value));) values.push_back(value);
  return values;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: %s FOLDER OUT [AGAINST]\n", argv[0]);
    return 2;
  }
  const Golden golden = read(argv[1]);
  bool same = true;
  bool good = close("F32", logits_of<F32>(golden, same), golden.logits, 1e-4f);  // the oracles: 3.3e-5 among themselves
  // What rounding costs this model: weights alone 0.06, activations too, where bfloat16 has instructions, 0.11.
  good = close("BF16", logits_of<BF16>(golden, same), golden.logits, 0.2f) && good;
  std::vector<float> rounded = logits_of<Q8_0>(golden, same);
  good = close("Q8_0", rounded, golden.logits, 0.5f) && good;
  const std::vector<float> fewer = logits_of<Q4_0>(golden, same);
  good = close("Q4_0", fewer, golden.logits, 5.0f) && good;
  rounded.insert(rounded.end(), fewer.begin(), fewer.end());
  std::ofstream(argv[2], std::ios::binary)
      .write(reinterpret_cast<const char*>(rounded.data()),
             static_cast<std::streamsize>(rounded.size() * sizeof(float)));
  // An activation that is rounded to the other side, since a sum before it was rounded otherwise, moves logits by 0.1.
  if (argc == 4) good = close("apart", rounded, floats_of(argv[3]), 0.25f) && good;
  const std::vector<std::string> wrong = test::wrong_bits();
  for (const std::string& name : wrong) std::printf(" (%s: OTHER BITS)", name.c_str());
  std::printf("%s\n", same ? "" : " (OTHER BITS ALONE)");
  return good && same && wrong.empty() ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
