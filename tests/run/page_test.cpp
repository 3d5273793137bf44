// SPDX-License-Identifier: Apache-2.0
#include <mistral/run/page.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

#include <doctest/doctest.h>

#include <mistral/checkpoint/config.hpp>
#include <mistral/core/error.hpp>

#include "../support/models.hpp"

using namespace mistral;

namespace {

// What a file says of itself where it says what `config` does.
CheckpointConfig file_of(const ModelConfig& config) {
  CheckpointConfig file;
  const auto number = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  file.dim = number(config.dim);
  file.n_layers = number(config.n_layers);
  file.head_dim = number(config.head_dim);
  file.hidden_dim = number(config.hidden_dim);
  file.n_heads = number(config.n_heads);
  file.n_kv_heads = number(config.n_kv_heads);
  file.window = number(config.window_size);
  file.context_len = number(config.context_len);
  file.vocab_size = number(config.vocab_size);
  file.rope_theta = static_cast<double>(config.rope_theta);
  file.norm_eps = static_cast<double>(config.norm_eps);
  return file;
}

}  // namespace

TEST_CASE("a file's config is the type's") {
  for (const ModelConfig& config : {test::tiny, test::odd, test::full, mistral_7b_v0_1, llama_2_13b}) {
    CHECK(config_of(file_of(config), "m") == config);
  }
  CheckpointConfig file = file_of(mistral_7b_v0_2);
  file.context_len.reset();
  CHECK(config_of(file, "m").context_len == 32768);
  CHECK(config_of(file, "m", 100).context_len == 100);
}

TEST_CASE("a config that no model can have is refused, with the field that is wrong") {
  const auto check = [](auto CheckpointConfig::*field, auto value, const std::string& message) {
    CheckpointConfig file = file_of(test::tiny);
    file.*field = value;
    CHECK_THROWS_WITH_AS(config_of(file, "m"), ("[checkpoint] m: " + message).c_str(), Error);
  };
  check(&CheckpointConfig::dim, 0, "dim: expected 1 ... 16777216, got 0");
  check(&CheckpointConfig::dim, std::int64_t{1} << 40, "dim: expected 1 ... 16777216, got 1099511627776");
  check(&CheckpointConfig::n_layers, -1, "n_layers: expected 1 ... 4096, got -1");
  check(&CheckpointConfig::head_dim, 258, "head_dim: expected 2 ... 256, got 258");
  check(&CheckpointConfig::head_dim, 9, "head_dim: expected an even number, got 9");
  check(&CheckpointConfig::n_kv_heads, 3, "n_kv_heads: expected a divisor of n_heads, 4, got 3");
  check(&CheckpointConfig::window, -1, "window_size: expected 0 ... 16777216, got -1");
  check(&CheckpointConfig::vocab_size, 0, "vocab_size: expected 1 ... 16777216, got 0");
  check(&CheckpointConfig::rope_theta, 0.0, "rope_theta: expected a positive number, got 0");
  check(&CheckpointConfig::rope_theta, 1e300, "rope_theta: expected a positive number, got inf");
  check(&CheckpointConfig::norm_eps, 1e-60, "norm_eps: expected a positive number, got 0");
}

TEST_CASE("a choice that there is no type for is refused") {
  ModelChoice choice{.config = test::tiny};
  CHECK(page_of(choice).find("mistral::Transformer<config, mistral::BF16>;") != std::string::npos);
  choice.weights = "Q9";
  CHECK_THROWS_WITH_AS(page_of(choice), doctest::Contains("the weights: expected one of F32, "), Error);
  choice.weights = "Q4_0";
  choice.kv = "int4";
  CHECK_THROWS_WITH_AS(page_of(choice), "[compile] the cache: expected float, bf16 or q8, got int4", Error);
  choice.kv = "q8";
  choice.trains = true;
  CHECK_THROWS_WITH_AS(page_of(choice), "[compile] the weights, of which all are to be trained: expected F32, got Q4_0",
                       Error);
}

TEST_CASE("a float is written as C++ reads it") {
  CHECK(detail::float_literal(10000.0f) == "10000.0f");
  CHECK(detail::float_literal(1e6f) == "1000000.0f");
  CHECK(detail::float_literal(1e-5f) == "1e-05f");
  CHECK(detail::float_literal(0.1f) == "0.1f");
}
