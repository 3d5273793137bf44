// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include <mistral/core/config.hpp>

/// Four layers of Mistral 7B: its matrices, and few enough to be made at once.
inline constexpr mistral::ModelConfig four_layers = [] {
  mistral::ModelConfig config = mistral::mistral_7b_v0_1;
  config.n_layers = 4;
  return config;
}();

/// A session of one build or the other.
struct Build {
  std::string name;
  std::function<void()> clear;
  std::function<std::span<const float>(std::span<const std::int32_t>)> prefill;
  std::function<std::span<const float>(std::int32_t)> decode;
};

/// Writes a model of random weights to a packed file, which both builds map: the same weights in the same memory.
void save_four_layers(const std::string& path);

/// What a program gets that is compiled with -march=native.
Build native_build(const std::string& path);
