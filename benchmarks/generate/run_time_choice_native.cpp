// SPDX-License-Identifier: Apache-2.0
// Compiled with -march=native, as a program that is built for this processor alone.
#include <memory>

#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/model.hpp>
#include <mistral/nn/weights.hpp>

#include "run_time_choice.hpp"

using Model = mistral::Transformer<four_layers, mistral::Q4_0>;

void save_four_layers(const std::string& path) {
  Model model;
  mistral::randomize(model, 1);
  mistral::save_packed(model, path);
}

Build native_build(const std::string& path) {
  struct Loaded {
    Model model;
    mistral::Session<Model, mistral::bf16> session{model};
    explicit Loaded(const std::string& file) : model(mistral::load<Model>(file)) {}
  };
  const auto loaded = std::make_shared<Loaded>(path);
  return {"-march=native", [loaded] { loaded->session.clear(); },
          [loaded](std::span<const std::int32_t> prompt) { return loaded->session.prefill(prompt); },
          [loaded](std::int32_t token) { return loaded->session.decode(token); }};
}
