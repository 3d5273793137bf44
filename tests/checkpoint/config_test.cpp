// SPDX-License-Identifier: Apache-2.0
#include <mistral/checkpoint/config.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../support/data.hpp"
#include "../support/scratch.hpp"

namespace {

using mistral::CheckpointConfig;
using mistral::CheckpointLayout;
using mistral::test::error_of;
using mistral::test::Scratch;

using Fields = std::vector<std::pair<std::string, std::string>>;

const Fields hugging_face{
    {"model_type", "\"mistral\""}, {"hidden_size", "64"},        {"num_hidden_layers", "3"},
    {"intermediate_size", "160"},  {"num_attention_heads", "4"}, {"num_key_value_heads", "2"},
    {"vocab_size", "97"},          {"sliding_window", "8"},      {"max_position_embeddings", "512"},
    {"rms_norm_eps", "1e-05"},     {"rope_theta", "10000.0"}};

const Fields mistrals{{"dim", "64"},         {"n_layers", "3"},    {"head_dim", "16"},
                      {"hidden_dim", "160"}, {"n_heads", "4"},     {"n_kv_heads", "2"},
                      {"norm_eps", "1e-05"}, {"vocab_size", "97"}, {"sliding_window", "8"}};

/// The fields with one of them replaced, added, or (value empty) left out.
std::string json_with(Fields fields, const std::string& name = "", const std::string& value = "") {
  std::erase_if(fields, [&](const auto& field) { return field.first == name; });
  if (!value.empty()) fields.emplace_back(name, value);
  std::string json = "{";
  for (const auto& [key, text] : fields) json += (json.size() > 1 ? ", \"" : "\"") + key + "\": " + text;
  return json + "}";
}

CheckpointConfig parsed(const std::string& json, CheckpointLayout layout) {
  return CheckpointConfig::parse(std::as_bytes(std::span(json)), layout, "c.json");
}

CheckpointConfig hf(const std::string& name, const std::string& value) {
  return parsed(json_with(hugging_face, name, value), CheckpointLayout::hugging_face);
}
CheckpointConfig ms(const std::string& name, const std::string& value) {
  return parsed(json_with(mistrals, name, value), CheckpointLayout::mistral);
}
std::string hf_error(const std::string& name, const std::string& value) {
  return error_of([&] { hf(name, value); });
}
std::string ms_error(const std::string& name, const std::string& value) {
  return error_of([&] { ms(name, value); });
}

}  // namespace

TEST_CASE("Hugging Face's config.json is read") {
  const CheckpointConfig config = hf("tie_word_embeddings", "true");
  CHECK(config.layout == CheckpointLayout::hugging_face);
  CHECK(config.dim == 64);
  CHECK(config.n_layers == 3);
  CHECK(config.head_dim == 16);
  CHECK(config.hidden_dim == 160);
  CHECK(config.n_heads == 4);
  CHECK(config.n_kv_heads == 2);
  CHECK(config.window == 8);
  CHECK(config.context_len == 512);
  CHECK(config.vocab_size == 97);
  CHECK(config.rope_theta == 10000.0);
  CHECK(config.norm_eps == 1e-5);
  CHECK(config.tied_embeddings);
  CHECK(config.dtype.empty());
}

TEST_CASE("what config.json leaves out has the defaults of transformers") {
  CHECK(!hf("", "").tied_embeddings);
  CHECK(hf("num_key_value_heads", "").n_kv_heads == 4);
  CHECK(hf("num_key_value_heads", "null").n_kv_heads == 4);
  CHECK(hf("head_dim", "32").head_dim == 32);
  CHECK(hf("head_dim", "null").head_dim == 16);
  CHECK(hf("rope_theta", "").rope_theta == 10000.0);
  CHECK(hf("sliding_window", "null").window == 0);
  CHECK(hf("sliding_window", "").window == 0);
  CHECK(hf("sliding_window", "0").window == 0);
  CHECK(hf("use_sliding_window", "false").window == 0);
  CHECK(hf("use_sliding_window", "true").window == 8);
  CHECK(!hf("max_position_embeddings", "").context_len);
  CHECK(hf("model_type", "\"llama\"").dim == 64);
  CHECK(hf("torch_dtype", "\"bfloat16\"").dtype == "bfloat16");
  CHECK(hf("dtype", "\"float32\"").dtype == "float32");
  CHECK(hf("rope_scaling", "null").dim == 64);
  CHECK(hf("attention_bias", "false").dim == 64);
  CHECK(hf("layer_types", R"(["sliding_attention", "sliding_attention"])").window == 8);
}

TEST_CASE("transformers 5 writes theta into rope_parameters") {
  Fields fields = hugging_face;
  fields.pop_back();
  fields.emplace_back("rope_parameters", R"({"rope_theta": 1000000.0, "rope_type": "default"})");
  CHECK(parsed(json_with(fields), CheckpointLayout::hugging_face).rope_theta == 1e6);
  CHECK(hf("rope_parameters", R"({"rope_theta": 10000})").rope_theta == 1e4);
  CHECK(hf_error("rope_parameters", R"({"rope_theta": 1000000.0})") ==
        "[config] c.json: field 'rope_theta': expected the rope_theta of rope_parameters, got 10000");
  CHECK(hf_error("rope_parameters", R"({"rope_theta": 10000.0, "rope_type": "yarn"})") ==
        "[config] c.json: field 'rope_parameters': field 'rope_type': expected 'default', or a factor of 1, for scaled "
        "RoPE is not supported, got 'yarn'");
  CHECK(hf("rope_parameters", "{}").rope_theta == 1e4);  // beside a rope_theta
  fields.back().second = "{}";
  CHECK(error_of([&] { parsed(json_with(fields), CheckpointLayout::hugging_face); }) ==
        "[config] c.json: field 'rope_parameters': field 'rope_theta' is missing");
}

TEST_CASE("a field that config.json must have is named when it is missing") {
  for (const char* name : {"model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads",
                           "vocab_size", "rms_norm_eps"}) {
    CHECK(hf_error(name, "") == "[config] c.json: field '" + std::string(name) + "' is missing");
  }
}

TEST_CASE("a field that params.json must have is named when it is missing") {
  for (const char* name :
       {"dim", "n_layers", "head_dim", "hidden_dim", "n_heads", "n_kv_heads", "norm_eps", "vocab_size"}) {
    CHECK(ms_error(name, "") == "[config] c.json: field '" + std::string(name) + "' is missing");
  }
}

TEST_CASE("sizes that are zero, negative, absurd or of another type are refused") {
  const auto expected = [](const std::string& name, const std::string& found) {
    return "[config] c.json: field '" + name + "': expected an integer from 1 to 2147483647, got " + found;
  };
  for (const char* name : {"hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads",
                           "num_key_value_heads", "vocab_size", "head_dim", "max_position_embeddings"}) {
    CHECK(hf_error(name, "0") == expected(name, "0"));
    CHECK(hf_error(name, "-1") == expected(name, "-1"));
    CHECK(hf_error(name, "2147483648") == expected(name, "2147483648"));
    CHECK(hf_error(name, "18446744073709551615") == expected(name, "18446744073709551615"));
    CHECK(hf_error(name, "64.5") == expected(name, "64.5"));
    CHECK(hf_error(name, "\"64\"") == expected(name, "'64'"));
  }
  CHECK(ms_error("vocab_size", "-1") == expected("vocab_size", "-1"));
  CHECK(hf_error("sliding_window", "-1") ==
        "[config] c.json: field 'sliding_window': expected an integer from 0 to 2147483647, got -1");
  for (const char* value : {"0", "-1e-5", "1e-60", "1e300"}) {
    CHECK(hf_error("rms_norm_eps", value)
              .starts_with("[config] c.json: field 'rms_norm_eps': expected a positive number, got "));
    CHECK(ms_error("rope_theta", value)
              .starts_with("[config] c.json: field 'rope_theta': expected a positive number, got "));
  }
}

TEST_CASE("fields that contradict each other are refused") {
  CHECK(hf_error("num_key_value_heads", "3") ==
        "[config] c.json: field 'num_key_value_heads': expected a divisor of num_attention_heads 4, got 3");
  CHECK(ms_error("n_kv_heads", "8") == "[config] c.json: field 'n_kv_heads': expected a divisor of n_heads 4, got 8");
  CHECK(hf_error("head_dim", "17") == "[config] c.json: field 'head_dim': expected an even number, got 17");
  CHECK(hf_error("hidden_size", "60") ==
        "[config] c.json: hidden_size / num_attention_heads: expected an even number, got 15");
  CHECK(hf_error("hidden_size", "66") ==
        "[config] c.json: field 'hidden_size': expected a multiple of num_attention_heads 4, got 66");
  CHECK(hf_error("layer_types", R"(["sliding_attention", "full_attention"])") ==
        "[config] c.json: field 'layer_types': expected 'sliding_attention' in every layer, got 'full_attention'");
}

TEST_CASE("what the library does not compute is refused by name") {
  CHECK(hf_error("model_type", "\"mixtral\"") ==
        "[config] c.json: field 'model_type': expected 'mistral' or 'llama', got 'mixtral'");
  CHECK(hf_error("hidden_act", "\"gelu\"") == "[config] c.json: field 'hidden_act': expected 'silu', got 'gelu'");
  CHECK(hf_error("rope_scaling", R"({"type": "linear", "factor": 2.0})") ==
        "[config] c.json: field 'rope_scaling': field 'type': expected 'default', or a factor of 1, for scaled RoPE is "
        "not supported, got 'linear'");
  CHECK(hf_error("quantization_config", "{}") ==
        "[config] c.json: field 'quantization_config': expected null, for it is not supported, got an object");
  CHECK(hf_error("attention_bias", "true") ==
        "[config] c.json: field 'attention_bias': expected false, for it is not supported, got true");
  CHECK(hf_error("mlp_bias", "true") ==
        "[config] c.json: field 'mlp_bias': expected false, for it is not supported, got true");
  CHECK(ms_error("moe", R"({"num_experts": 8})") ==
        "[config] c.json: field 'moe': expected null, for it is not supported, got an object");
  CHECK(ms_error("model_type", "\"mamba\"") ==
        "[config] c.json: field 'model_type': expected 'transformer', got 'mamba'");
}

TEST_CASE("Mistral's params.json is read, and its theta is guessed only for v0.1") {
  const CheckpointConfig config = ms("", "");
  CHECK(config.layout == CheckpointLayout::mistral);
  CHECK(config.dim == 64);
  CHECK(config.n_layers == 3);
  CHECK(config.head_dim == 16);
  CHECK(config.hidden_dim == 160);
  CHECK(config.n_heads == 4);
  CHECK(config.n_kv_heads == 2);
  CHECK(config.window == 8);
  CHECK(config.vocab_size == 97);
  CHECK(config.norm_eps == 1e-5);
  CHECK(config.rope_theta == 10000.0);
  CHECK(!config.context_len);
  CHECK(!config.tied_embeddings);
  CHECK(ms("rope_theta", "1000000.0").rope_theta == 1e6);
  CHECK(ms_error("sliding_window", "") == "[config] c.json: field 'rope_theta' is missing");
}

TEST_CASE("a configuration that is no JSON object is refused") {
  const auto parsing = [](const std::string& json) {
    return error_of([&] { parsed(json, CheckpointLayout::hugging_face); });
  };
  CHECK(parsing("") == "[config] c.json: not valid JSON at byte 1 (line 1, column 1)");
  CHECK(parsing("[]") == "[config] c.json: expected a JSON object, got an array");
  CHECK(parsing(R"({"hidden_size": 1, "hidden_size": 2})") ==
        "[config] c.json: the field 'hidden_size' is there twice");
  CHECK(parsing(std::string(100000, '[')) == "[config] c.json: nested deeper than 64 levels");
}

TEST_CASE("a folder's layout is told by its files") {
  const Scratch scratch;
  const std::string folder = scratch.path("");
  const auto detecting = [&] { return error_of([&] { mistral::detect_layout(folder); }); };
  const std::string wanted =
      ": expected a folder with config.json and model.safetensors (Hugging Face) or params.json and "
      "consolidated.safetensors (Mistral), or a .gguf or a packed file, got ";
  CHECK(detecting() == "[checkpoint] " + folder + wanted + "neither config.json nor params.json in it");
  CHECK(error_of([&] { mistral::detect_layout(folder + "x"); }) ==
        "[checkpoint] " + folder + "x" + wanted + "nothing at that path");

  scratch.write("params.json", json_with(mistrals));
  CHECK(mistral::detect_layout(folder) == CheckpointLayout::mistral);
  CHECK(CheckpointConfig::read(folder).layout == CheckpointLayout::mistral);
  scratch.write("config.json", json_with(hugging_face));
  CHECK(mistral::detect_layout(folder) == CheckpointLayout::hugging_face);
  scratch.write("consolidated.safetensors", "x");
  CHECK(mistral::detect_layout(folder) == CheckpointLayout::mistral);
  scratch.write("model.safetensors.index.json", "x");
  CHECK(mistral::detect_layout(folder) == CheckpointLayout::hugging_face);
  CHECK(CheckpointConfig::read(folder).layout == CheckpointLayout::hugging_face);
}

TEST_CASE("a configuration that cannot be read is named with its path") {
  const Scratch scratch;
  std::filesystem::create_directory(scratch.path("config.json"));
  CHECK(error_of([&] { CheckpointConfig::read(scratch.path("")); }) ==
        "[config] " + scratch.path("config.json") + ": expected a file, got a directory");
}

TEST_CASE("every golden checkpoint says of itself what its tensors are") {
  const std::filesystem::path root = mistral::test::golden("forward");
  if (root.empty()) return;
  int folders = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root.parent_path())) {
    const std::string name = entry.path().filename().string();
    if (name != "config.json" && name != "params.json") continue;
    ++folders;
    const std::string folder = entry.path().parent_path().string();
    CAPTURE(folder);
    const CheckpointConfig config = CheckpointConfig::read(folder);
    const bool hugging = config.layout == CheckpointLayout::hugging_face;
    CHECK(hugging == (name == "config.json"));
    const auto tensors = mistral::TensorFiles::open(folder, mistral::files_of(config.layout).tensors);
    const auto shape_of = [&](const char* theirs, const char* mistrals_own) {
      const auto& shape = tensors.get(hugging ? theirs : mistrals_own).shape;
      return std::vector<std::int64_t>(shape.begin(), shape.end());
    };
    using Shape = std::vector<std::int64_t>;
    const std::string last = std::to_string(config.n_layers - 1);
    CHECK(shape_of("model.embed_tokens.weight", "tok_embeddings.weight") == Shape{config.vocab_size, config.dim});
    CHECK(shape_of(("model.layers." + last + ".self_attn.q_proj.weight").c_str(),
                   ("layers." + last + ".attention.wq.weight").c_str()) ==
          Shape{config.n_heads * config.head_dim, config.dim});
    CHECK(shape_of("model.layers.0.self_attn.k_proj.weight", "layers.0.attention.wk.weight") ==
          Shape{config.n_kv_heads * config.head_dim, config.dim});
    CHECK(shape_of("model.layers.0.mlp.gate_proj.weight", "layers.0.feed_forward.w1.weight") ==
          Shape{config.hidden_dim, config.dim});
    CHECK(tensors.find("model.layers." + std::to_string(config.n_layers) + ".input_layernorm.weight") == nullptr);
  }
  CHECK(folders >= 15);
}

TEST_CASE("RoPE that is scaled by 1, or not at all, is RoPE, however a file spells it") {
  for (const char* const field : {"rope_scaling", "rope_parameters"}) {
    for (const char* const rope :
         {R"({"rope_type": "default"})", R"({"type": "default", "rope_theta": 10000.0})", R"({"factor": 1.0})",
          R"({"type": "linear", "factor": 1})", R"({"rope_type": "linear", "factor": 1.0, "rope_theta": 10000})",
          R"({"type": "yarn", "factor": 1.0, "original_max_position_embeddings": 8192})",
          R"({"rope_type": "llama3", "factor": 1.0, "low_freq_factor": 1.0})", R"({"type": null, "factor": null})"}) {
      CAPTURE(rope);
      CHECK(hf(field, rope).rope_theta == 10000.0);
    }
    for (const char* const rope :
         {R"({"type": "linear", "factor": 1.5})", R"({"type": "linear"})", R"({"factor": 2})",
          R"({"type": "yarn", "factor": 1.0, "attention_factor": 1.2})",
          R"({"type": "longrope", "factor": 1.0, "short_factor": [1]})",
          R"({"rope_type": "default", "partial_rotary_factor": 0.5})", R"({"type": "dynamic", "factor": 1.0})"}) {
      CAPTURE(rope);
      CHECK(hf_error(field, rope).find("field '" + std::string(field) + "': field '") != std::string::npos);
    }
  }
  // past the context, where a window goes on, this kind changes angles for a factor of 1 too
  Fields full = hugging_face;
  std::erase_if(full, [](const auto& field) { return field.first == "sliding_window"; });
  CHECK(parsed(json_with(full, "rope_scaling", R"({"type": "dynamic", "factor": 1.0})"), CheckpointLayout::hugging_face)
            .rope_theta == 1e4);
  // theta in there alone
  std::erase_if(full, [](const auto& field) { return field.first == "rope_theta"; });
  CHECK(parsed(json_with(full, "rope_scaling", R"({"rope_type": "default", "rope_theta": 500000.0})"),
               CheckpointLayout::hugging_face)
            .rope_theta == 5e5);
}

TEST_CASE("whole numbers that were saved as floats, and null fields, are what they say") {
  CHECK(hf("hidden_size", "64.0").dim == 64);
  CHECK(hf("sliding_window", "8.0").window == 8);
  CHECK(ms("n_heads", "4.0").n_heads == 4);
  for (const char* const name : {"head_dim", "sliding_window", "rope_scaling", "rope_parameters", "num_key_value_heads",
                                 "max_position_embeddings", "hidden_act", "tie_word_embeddings", "quantization_config",
                                 "layer_types", "architectures", "attention_bias", "torch_dtype"}) {
    CAPTURE(name);
    CHECK(hf_error(name, "null") == "no error");
  }
}
