// SPDX-License-Identifier: Apache-2.0
#include <mistral/model.hpp>

#include <cstdio>

// All that a program which runs the 7B instantiates: loading, prefill, decode.
int main(int, char** arguments) {
  using Model = mistral::Transformer<mistral::mistral_7b_v0_1, mistral::BF16>;
  const Model model = mistral::load<Model>(arguments[1]);
  const auto tokenizer = mistral::Tokenizer::load(arguments[2]);
  mistral::Session<Model, float> session{model};
  std::span<const float> logits = session.prefill(tokenizer.encode("text"));
  logits = session.decode(7);
  std::printf("%f\n", static_cast<double>(logits[0]));
}
