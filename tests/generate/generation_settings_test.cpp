// SPDX-License-Identifier: Apache-2.0
#include <mistral/generate/generation_settings.hpp>

#include <doctest/doctest.h>

#include <string>

#include "../support/scratch.hpp"

namespace {

using mistral::GenerationSettings;
using mistral::read_generation_settings;
using mistral::SamplingOptions;
using mistral::test::error_of;
using mistral::test::Scratch;

GenerationSettings settings_of(const std::string& json) {
  const Scratch scratch;
  scratch.write("m/generation_config.json", json);
  return read_generation_settings(scratch.path("m"));
}

std::string refusal(const std::string& json) {
  const Scratch scratch;
  scratch.write("m/generation_config.json", json);
  std::string error = error_of([&] { read_generation_settings(scratch.path("m")); });
  const std::string path = scratch.path("m");
  if (const std::size_t at = error.find(path); at != std::string::npos) error.replace(at, path.size(), "m");
  return error;
}

}  // namespace

TEST_CASE("a model's settings count as Hugging Face's generate counts them, where nothing else is said") {
  const GenerationSettings settings = settings_of(
      R"({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
          "max_new_tokens": 7, "max_length": 100, "eos_token_id": [2, 13], "transformers_version": "4"})");
  const SamplingOptions sampling = settings.sampling({.seed = 5});
  CHECK(sampling.temperature == 0.6f);
  CHECK(sampling.top_p == 0.9f);
  CHECK(sampling.top_k == 40);
  CHECK(sampling.min_p == 0.05f);
  CHECK(sampling.repetition_penalty == 1.1f);
  CHECK(sampling.seed == 5);
  CHECK(settings.max_tokens(10, 256) == 7);
  CHECK(settings.text() == "do_sample true, temperature 0.6, top_k 40, top_p 0.9, min_p 0.05, repetition_penalty 1.1");
  // a temperature is for those who sample
  CHECK(settings_of(R"({"temperature": 0.6})").sampling({.temperature = 0.7f}).temperature == 0.0f);
  CHECK(settings_of(R"({"do_sample": true})").sampling({.temperature = 0.7f}).temperature == 1.0f);
  CHECK(settings_of(R"({"do_sample": true, "top_k": null})").sampling({.top_k = 3}).top_k == 3);
}

TEST_CASE("an answer has as many tokens as is said, or as the prompt leaves") {
  CHECK(settings_of("{}").max_tokens(10, 256) == 256);
  CHECK(settings_of(R"({"max_length": 100})").max_tokens(10, 256) == 90);
  CHECK(settings_of(R"({"max_length": 100})").max_tokens(100, 256) == 0);
  CHECK(settings_of(R"({"max_length": 100})").max_tokens(101, 256) == 0);
}

TEST_CASE("without the file there are no settings") {
  const Scratch scratch;
  CHECK(read_generation_settings(scratch.path("missing")).text() == "");
  CHECK(read_generation_settings(scratch.write("a.gguf", "x")).text() == "");
  CHECK(settings_of(R"({"eos_token_id": 2})").text() == "");
}

TEST_CASE("settings that are not supported, or out of range, are errors that name them") {
  CHECK(refusal(R"({"num_beams": 1, "typical_p": 1.0, "no_repeat_ngram_size": 0, "guidance_scale": null})") ==
        "no error");
  CHECK(refusal(R"({"num_beams": 4})") ==
        "[generation] m/generation_config.json: field 'num_beams': expected 1, for others are not supported, got 4");
  CHECK(refusal(R"({"penalty_alpha": 0.6})") ==
        "[generation] m/generation_config.json: field 'penalty_alpha': expected 0, for others are not supported, got "
        "0.6");
  CHECK(refusal(R"({"temperature": "hot"})") ==
        "[generation] m/generation_config.json: field 'temperature': expected a number, got 'hot'");
  CHECK(refusal(R"({"top_k": -1})") ==
        "[generation] m/generation_config.json: field 'top_k': expected an integer from 0 to 2147483647, got -1");
  CHECK(refusal(R"({"top_p": 2})").starts_with("[generation] m/generation_config.json: [sampling] top_p: expected "));
  CHECK(refusal("[]") == "[generation] m/generation_config.json: expected a JSON object, got an array");
}
