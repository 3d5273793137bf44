// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/checkpoint/layout.hpp>
#include <mistral/core/error.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/os/folder_content.hpp>
#include <mistral/io/os/mapped_file.hpp>
#include <mistral/nn/lora.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

inline constexpr std::string_view adapter_config_name = "adapter_config.json";
inline constexpr std::string_view adapter_tensors_name = "adapter_model.safetensors";

/// Returns PEFT's name for a matrix of ours, `layers.0.attention.wq`: `model.layers.0.self_attn.q_proj`, `lm_head`.
inline std::string peft_module(const std::string& projection) {
  return std::string(module_of(weight_name(CheckpointLayout::hugging_face, projection + ".weight")));
}

inline std::string peft_tensor(const std::string& projection, char matrix) {
  return "base_model.model." + peft_module(projection) + ".lora_" + matrix + ".weight";
}

/// Fields of PEFT's LoraConfig that make something else of an adapter than W x + scale B (A x) beside the matrices that
/// the file names: each must be null, false or empty. docs/fields.md has the whole list.
inline constexpr const char* peft_refused[] = {
    "use_dora",
    "use_qalora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "megatron_config",
    "alora_invocation_tokens",
    "arrow_config",
    "use_bdlora",
    "monteclora_config",
    "kasa_config",
    "ensure_weight_tying",
};

/// Fields that leave what a trained adapter computes as it is: how it was begun and trained, and where it came from.
inline constexpr const char* peft_without_effect[] = {
    "auto_mapping", "corda_config",   "eva_config",    "inference_mode", "layers_pattern",
    "loftq_config", "lora_ga_config", "megatron_core", "peft_version",   "qalora_group_size",
    "revision",     "runtime_config", "velora_config",
};

/// Fields that are read.
inline constexpr const char* peft_used[] = {
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_rslora",
};

/// Returns the value of a pattern for a module, by PEFT's rule: that of the pattern that the module's name, or its end
/// behind a dot, matches; it is the first such one in the file, so that several must agree here, where the order of
/// fields isn't known. Patterns are names; of regular expressions only `^` in front, `$` behind and `\.` are read.
struct PeftPattern {
  std::vector<std::pair<std::string, double>> values;

  std::optional<double> find(const std::string& module) const {
    std::optional<double> found;
    for (const auto& [pattern, value] : values) {
      if (module != pattern && !module.ends_with("." + pattern)) continue;
      if (found && *found != value) {
        throw Error("adapter", "'" + module + "' in rank_pattern or alpha_pattern", "patterns that agree",
                    "two values");
      }
      found = value;
    }
    return found;
  }

  static PeftPattern read(const JsonObject& json, const char* field) {
    PeftPattern pattern;
    if (!json.has(field)) return pattern;
    const JsonObject object = json.object(field);
    for (const std::string& name : object.names()) {
      pattern.values.emplace_back(literal(object, name), object.number(name));
    }
    return pattern;
  }

 private:
  static std::string literal(const JsonObject& object, const std::string& name) {
    std::string text;
    for (std::size_t i = name.starts_with('^') ? 1 : 0; i < name.size(); ++i) {
      if (name[i] == '$' && i + 1 == name.size()) break;
      if (name.compare(i, 2, "\\.") == 0) ++i;
      if (std::string_view("\\*+?()[]{}|^$").find(name[i]) != std::string_view::npos) {
        throw object.unexpected(name, "the names of modules, for regular expressions are not supported");
      }
      text += name[i];
    }
    return text;
  }
};

/// The fields of adapter_config.json, as far as they matter here.
struct PeftConfig {
  std::size_t rank = 0;
  float alpha = 0.0f;
  float dropout = 0.0f;
  bool rslora = false;
  bool olora = false;                 // a part of the base's weights was taken out of them: see take_out_olora
  std::vector<std::string> targets;   // empty: a pattern, or nothing
  PeftPattern ranks, alphas;          // of modules that have others
  std::vector<std::int64_t> layers;   // the only ones that have adapters; empty: all
  std::vector<std::string> excluded;  // modules that have none
  std::string base_model;             // as the file says

  /// Whether the config lets a module, `model.layers.0.self_attn.q_proj`, have an adapter at all.
  bool allows(const std::string& module) const {
    const auto named = [&](const std::string& name) { return module == name || module.ends_with("." + name); };
    if (std::any_of(excluded.begin(), excluded.end(), named)) return false;
    constexpr std::string_view before = layer_prefix(TensorNaming::hugging_face);
    if (layers.empty() || !module.starts_with(before)) return true;
    const std::string number = module.substr(before.size(), module.find('.', before.size()) - before.size());
    return std::any_of(layers.begin(), layers.end(), [&](std::int64_t n) { return std::to_string(n) == number; });
  }

  /// Of a module.
  std::size_t rank_of(const std::string& module) const {
    return static_cast<std::size_t>(ranks.find(module).value_or(static_cast<double>(rank)));
  }
  float alpha_of(const std::string& module) const {
    return static_cast<float>(alphas.find(module).value_or(static_cast<double>(alpha)));
  }

  /// Reads a folder's adapter_config.json. Throws Error for what is no LoRA of the plain kind, and names what is there
  /// instead.
  static PeftConfig read_folder(const std::string& folder) {
    const std::string path = path_in(folder, adapter_config_name);
    if (!path_exists(path)) throw no_adapter(folder);
    PeftConfig config = read(path);
    const std::string tensors = path_in(folder, adapter_tensors_name);
    if (path_exists(tensors)) return config;
    for (const char* const name : {"adapter_model.bin", "adapter_model.pt", "adapter_model.pth"}) {
      if (!path_exists(path_in(folder, name))) continue;
      throw Error("adapter",
                  printable(folder, 1000) +
                      ": save it as safetensors with PEFT (save_pretrained(FOLDER, safe_serialization=True))",
                  adapter_tensors_name, name + std::string(", a PyTorch pickle"));
    }
    return config;
  }

  /// Throws Error for what is no LoRA of the plain kind.
  static PeftConfig read(const std::string& path) {
    const MappedFile file = MappedFile::open(path, "adapter", JsonDocument::max_file_bytes);
    const JsonObject json = JsonObject::parse(file.bytes(), "adapter", path);
    if (json.has("lora_parameters") && !json.has("r")) {
      throw json.error("convert it to PEFT's layout: expected an adapter of PEFT, got one of MLX");
    }
    if (json.has("peft_type") && json.string("peft_type") != "LORA") throw json.unexpected("peft_type", "\"LORA\"");
    for (const char* const name : peft_refused) {
      if (json.has(name) && !json.is_empty(name)) throw json.unexpected(name, remedy_for(name));
    }
    if (json.has("bias") && json.string("bias") != "none") throw json.unexpected("bias", "\"none\"");
    if (json.has("task_type") && json.string("task_type") != "CAUSAL_LM" &&
        json.string("task_type") != "FEATURE_EXTRACTION") {
      throw json.unexpected("task_type", "\"CAUSAL_LM\"");
    }
    refuse_unknown(json);
    PeftConfig config;
    config.olora = reads_olora(json);
    config.rank = static_cast<std::size_t>(json.integer("r", 1, static_cast<std::int64_t>(max_lora_rank)));
    config.alpha = static_cast<float>(json.number("lora_alpha"));
    if (!std::isfinite(config.alpha)) throw json.unexpected("lora_alpha", "a number that a float holds");
    if (json.has("lora_dropout")) config.dropout = static_cast<float>(json.number("lora_dropout"));
    if (!(config.dropout >= 0.0f && config.dropout < 1.0f)) {
      throw json.unexpected("lora_dropout", "0 ... 1, less than 1");
    }
    if (json.has("use_rslora")) config.rslora = json.boolean("use_rslora");
    if (json.has("target_modules") && !json.is_string("target_modules")) {
      config.targets = json.strings("target_modules");
    }
    constexpr const char* layers = "layers_to_transform";
    if (json.has(layers)) {
      config.layers = json.is_array(layers) ? json.integers(layers, 0, INT32_MAX)
                                            : std::vector<std::int64_t>{json.integer(layers, 0, INT32_MAX)};
    }
    if (json.has("exclude_modules") && !json.is_empty("exclude_modules")) {
      config.excluded = json.strings("exclude_modules");
    }
    config.ranks = PeftPattern::read(json, "rank_pattern");
    for (const auto& [name, value] : config.ranks.values) {
      if (value >= 1.0 && value <= static_cast<double>(max_lora_rank) && value == std::floor(value)) continue;
      throw json.unexpected("rank_pattern", "ranks of 1 ... " + std::to_string(max_lora_rank));
    }
    config.alphas = PeftPattern::read(json, "alpha_pattern");
    for (const auto& [name, value] : config.alphas.values) {
      if (!std::isfinite(static_cast<float>(value))) throw json.unexpected("alpha_pattern", "numbers that floats hold");
    }
    if (json.is_string("base_model_name_or_path")) config.base_model = json.string("base_model_name_or_path");
    return config;
  }

 private:
  static std::string remedy_for(std::string_view field) {
    if (field == "modules_to_save" || field == "trainable_token_indices") {
      return "none: merge it with PEFT first (merge_and_unload), for only adapters are read";
    }
    if (field == "alora_invocation_tokens") {
      return "null: an adapter that counts from some tokens on (aLoRA) isn't read, nor can it be merged";
    }
    return "null, false or empty: merge it with PEFT first (merge_and_unload), for this kind isn't read";
  }

  /// A field that nobody here has heard of is passed over where it is a note, and refused where it turns something on:
  /// `use_...` and `..._config` are PEFT's names for the kinds of adapters that it grows.
  static void refuse_unknown(const JsonObject& json) {
    const auto is_in = [](const auto& list, const std::string& name) {
      return std::find(std::begin(list), std::end(list), name) != std::end(list);
    };
    for (const std::string& name : json.names()) {
      if (is_in(peft_refused, name) || is_in(peft_without_effect, name) || is_in(peft_used, name)) continue;
      if (!json.has(name) || json.is_empty(name)) continue;
      if (name.starts_with("use_") || name.ends_with("_config")) {
        throw json.unexpected(name, "nothing: merge it with PEFT first (merge_and_unload), for this kind isn't known");
      }
    }
  }

  /// How an adapter was begun matters where a part of the base's weights went into it: what PEFT calls PiSSA, CorDA,
  /// LoftQ, LoRA-GA and OLoRA. Of these only OLoRA's part can be told from the base alone, exactly.
  static bool reads_olora(const JsonObject& json) {
    constexpr const char* field = "init_lora_weights";
    if (!json.has(field) || json.is_boolean(field)) return false;
    std::string kind = json.string(field);
    std::transform(kind.begin(), kind.end(), kind.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    for (const char* const plain : {"gaussian", "eva", "orthogonal", "mica"}) {
      if (kind == plain) return false;
    }
    if (kind == "olora") return true;
    if (kind == "loftq") {
      throw json.unexpected(
          field,
          "one that stands beside the base as it is: merge it with PEFT first (merge_and_unload), for "
          "LoftQ changes the base's weights");
    }
    throw json.unexpected(field,
                          "one that stands beside the base as it is: convert it with PEFT (save_pretrained(FOLDER, "
                          "path_initial_model_for_weight_conversion=...))");
  }

  static Error no_adapter(const std::string& folder) {
    const std::string expected = "a folder with adapter_config.json and adapter_model.safetensors (PEFT)";
    std::string what = printable(folder, 1000);
    if (!path_exists(folder)) {
      const std::string remedy = hub_remedy(folder);
      if (!remedy.empty())
        return Error("adapter", what + ": " + remedy, expected, "no such folder, but what reads as a name on a hub");
      return Error("adapter", what, expected, "nothing at that path");
    }
    if (!is_folder(folder)) {
      const std::optional<FileKind> kind = file_kind_at(folder);
      return Error("adapter", what + ": give the folder of an adapter", expected,
                   kind ? std::string(name_of(*kind)) : "a file");
    }
    if (path_exists(path_in(folder, "lora.safetensors"))) {
      return Error("adapter", what + ": convert it to PEFT's layout", expected,
                   "lora.safetensors, an adapter of mistral-finetune");
    }
    if (path_exists(path_in(folder, "config.json")) || path_exists(path_in(folder, "params.json"))) {
      return Error("adapter", what + ": give it as the model", expected, "the folder of a model");
    }
    for (const std::string& name : names_in(folder)) {
      if (name.ends_with(".bin") || name.ends_with(".safetensors") || name.ends_with(".gguf")) {
        return Error("adapter", what, expected, "'" + printable(name) + "' without adapter_config.json");
      }
    }
    return Error("adapter", what, expected, "neither");
  }
};

}}}  // namespace mistral::detail
