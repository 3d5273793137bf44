// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/generate/sampler.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/os/folder_content.hpp>
#include <mistral/io/os/mapped_file.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How a model's maker would have it generate: what generation_config.json says beside the ids that end a text, which
/// Tokenizer::eos_ids has. Nothing goes by it unless it is asked to.
struct GenerationSettings {
  std::optional<bool> do_sample{};  ///< false: always the most probable token
  std::optional<float> temperature{};
  std::optional<int> top_k{};
  std::optional<float> top_p{};
  std::optional<float> min_p{};
  std::optional<float> repetition_penalty{};
  std::optional<std::size_t> max_new_tokens{};  ///< of an answer at most
  std::optional<std::size_t> max_length{};      ///< of the prompt and the answer at most, where max_new_tokens is none

  /// Returns the settings that change how tokens are drawn, as one line: "temperature 0.6, top_p 0.9". Empty for none.
  std::string text() const {
    std::string line;
    const auto add = [&](std::string_view name, const auto& value) {
      if (!value) return;
      line.append(line.empty() ? "" : ", ").append(name).append(" ").append(written(*value));
    };
    add("do_sample", do_sample);
    add("temperature", temperature);
    add("top_k", top_k);
    add("top_p", top_p);
    add("min_p", min_p);
    add("repetition_penalty", repetition_penalty);
    return line;
  }

  /// Returns sampling as these settings have it, and as `sampling` does where they say nothing. As Hugging Face's
  /// generate goes by the file, a temperature counts where do_sample is true, and is 1 where the file names none;
  /// elsewhere the most probable token is taken.
  SamplingOptions sampling(SamplingOptions sampling) const {
    sampling.temperature = do_sample.value_or(false) ? temperature.value_or(1.0f) : 0.0f;
    if (top_k) sampling.top_k = *top_k;
    if (top_p) sampling.top_p = *top_p;
    if (min_p) sampling.min_p = *min_p;
    if (repetition_penalty) sampling.repetition_penalty = *repetition_penalty;
    return sampling;
  }

  /// Returns how many tokens an answer to a prompt of so many may have; `otherwise` where nothing is said.
  std::size_t max_tokens(std::size_t prompt_tokens, std::size_t otherwise) const noexcept {
    if (max_new_tokens) return *max_new_tokens;
    if (!max_length) return otherwise;
    return *max_length > prompt_tokens ? *max_length - prompt_tokens : 0;
  }

 private:
  static std::string written(bool value) { return value ? "true" : "false"; }
  static std::string written(int value) { return std::to_string(value); }
  static std::string written(float value) { return number_text(value); }
};

/// Reads a checkpoint's generation_config.json; no settings where the folder has none, or the path is no folder. Throws
/// Error `[generation] path: ...` for a file that can't be read, for values out of range, and for settings that would
/// change what is generated and are not supported, such as beams.
inline GenerationSettings read_generation_settings(const std::string& checkpoint) {
  GenerationSettings settings;
  const std::string path = path_in(checkpoint, "generation_config.json");
  if (!is_folder(checkpoint) || !path_exists(path)) return settings;
  const MappedFile file = MappedFile::open(path, "generation");
  const JsonObject json = JsonObject::parse(file.bytes(), "generation", path);
  struct Only {
    const char* name;
    double value;
  };
  for (const auto& [name, value] :
       {Only{"num_beams", 1.0}, Only{"num_beam_groups", 1.0}, Only{"penalty_alpha", 0.0}, Only{"typical_p", 1.0},
        Only{"epsilon_cutoff", 0.0}, Only{"eta_cutoff", 0.0}, Only{"no_repeat_ngram_size", 0.0},
        Only{"guidance_scale", 1.0}, Only{"min_length", 0.0}, Only{"min_new_tokens", 0.0}}) {
    if (json.has(name) && json.number(name) != value) {
      throw json.unexpected(name, number_text(value) + ", for others are not supported");
    }
  }
  const auto number = [&](const char* name, std::optional<float>& value) {
    if (json.has(name)) value = static_cast<float>(json.number(name));
  };
  const auto count = [&](const char* name, auto& value, std::int64_t most) {
    using Value = typename std::remove_reference_t<decltype(value)>::value_type;
    if (json.has(name)) value = static_cast<Value>(json.integer(name, 0, most));
  };
  if (json.has("do_sample")) settings.do_sample = json.boolean("do_sample");
  number("temperature", settings.temperature);
  number("top_p", settings.top_p);
  number("min_p", settings.min_p);
  number("repetition_penalty", settings.repetition_penalty);
  count("top_k", settings.top_k, INT32_MAX);
  count("max_new_tokens", settings.max_new_tokens, INT64_MAX);
  count("max_length", settings.max_length, INT64_MAX);
  try {
    settings.sampling({}).validate();
  } catch (const Error& error) {
    throw json.error(error.what());
  }
  return settings;
}

}}  // namespace mistral
