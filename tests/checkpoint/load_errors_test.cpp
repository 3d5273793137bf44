// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/io/safetensors/writer.hpp>

#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

// A checkpoint of four weights a matrix, whose files a test may break one way or another.
constexpr ModelConfig small{.dim = 4,
                            .n_layers = 1,
                            .head_dim = 2,
                            .hidden_dim = 6,
                            .n_heads = 2,
                            .n_kv_heads = 1,
                            .window_size = 3,
                            .context_len = 10,
                            .vocab_size = 5};
using Model = Transformer<small, F32>;

const std::string good_config = R"({"model_type": "mistral", "hidden_size": 4, "num_hidden_layers": 1, "head_dim": 2,
  "intermediate_size": 6, "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 3,
  "max_position_embeddings": 10, "vocab_size": 5, "rope_theta": 10000.0, "rms_norm_eps": 1e-05})";

struct Tensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  DType dtype = DType::f32;
};

std::vector<Tensor> good_tensors() {
  return {{"model.embed_tokens.weight", {5, 4}},
          {"model.layers.0.input_layernorm.weight", {4}},
          {"model.layers.0.self_attn.q_proj.weight", {4, 4}},
          {"model.layers.0.self_attn.k_proj.weight", {2, 4}},
          {"model.layers.0.self_attn.v_proj.weight", {2, 4}},
          {"model.layers.0.self_attn.o_proj.weight", {4, 4}},
          {"model.layers.0.post_attention_layernorm.weight", {4}},
          {"model.layers.0.mlp.gate_proj.weight", {6, 4}},
          {"model.layers.0.mlp.down_proj.weight", {4, 6}},
          {"model.layers.0.mlp.up_proj.weight", {6, 4}},
          {"model.norm.weight", {4}},
          {"lm_head.weight", {5, 4}}};
}

struct Folder {
  test::Scratch scratch;

  explicit Folder(const std::vector<Tensor>& tensors = good_tensors(), const std::string& config = good_config) {
    scratch.write("config.json", config);
    std::vector<std::vector<std::byte>> bytes;
    std::vector<SafetensorsTensor> out;
    for (const Tensor& tensor : tensors) {
      bytes.emplace_back(static_cast<std::size_t>(*tensor_bytes(tensor.dtype, tensor.shape)));
      out.push_back({tensor.name, tensor.dtype, tensor.shape, bytes.back()});
    }
    write_safetensors(path("model.safetensors"), out);
  }

  std::string path(const std::string& name) const { return scratch.path(name); }
  std::string error() const {
    return test::error_of([&] { load<Model>(scratch.path("")); });
  }
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace

TEST_CASE("a whole checkpoint loads, and a tied one needs no head") {
  CHECK(Folder().error() == "no error");
  auto tensors = good_tensors();
  tensors.pop_back();
  CHECK(Folder(tensors, replaced(good_config, "{", R"({"tie_word_embeddings": true, )")).error() == "no error");
  const Folder untied(tensors);
  CHECK(untied.error() == "[safetensors] " + untied.path("model.safetensors") + ": tensor 'lm_head.weight' is missing");
}

TEST_CASE("every field of the config is held against the type") {
  const auto error_with = [](const std::string& from, const std::string& to) {
    const Folder folder(good_tensors(), replaced(good_config, from, to));
    const std::string error = folder.error();
    const std::string prefix = "[checkpoint] " + folder.path("config.json") + ": ";
    return error.starts_with(prefix) ? error.substr(prefix.size()) : error;
  };
  CHECK(error_with(R"("hidden_size": 4)", R"("hidden_size": 8)") == "dim: expected 4, got 8");
  CHECK(error_with(R"("num_hidden_layers": 1)", R"("num_hidden_layers": 2)") == "n_layers: expected 1, got 2");
  CHECK(error_with(R"("head_dim": 2)", R"("head_dim": 4)") == "head_dim: expected 2, got 4");
  CHECK(error_with(R"("intermediate_size": 6)", R"("intermediate_size": 7)") == "hidden_dim: expected 6, got 7");
  CHECK(error_with(R"("num_attention_heads": 2)", R"("num_attention_heads": 3)") == "n_heads: expected 2, got 3");
  CHECK(error_with(R"("num_key_value_heads": 1)", R"("num_key_value_heads": 2)") == "n_kv_heads: expected 1, got 2");
  CHECK(error_with(R"("vocab_size": 5)", R"("vocab_size": 6)") == "vocab_size: expected 5, got 6");
  CHECK(error_with(R"("rope_theta": 10000.0)", R"("rope_theta": 1000000.0)") ==
        "rope_theta: expected 10000, got 1000000");
  CHECK(error_with(R"("rms_norm_eps": 1e-05)", R"("rms_norm_eps": 1e-06)") == "norm_eps: expected 1e-05, got 1e-06");
  CHECK(error_with(R"("sliding_window": 3)", R"("sliding_window": null)") ==
        "window_size: expected 3, got 0 (allow_different_window loads it all the same)");
  CHECK(error_with(R"("max_position_embeddings": 10)", R"("max_position_embeddings": 9)") ==
        "context_len: expected at least 10, got 9");
  CHECK(error_with(R"("max_position_embeddings": 10)", R"("max_position_embeddings": 11)") == "no error");
}

TEST_CASE("every tensor is held against its shape and type before any weight is read") {
  for (std::size_t i = 0; i < good_tensors().size(); ++i) {
    const std::string name = good_tensors()[i].name;
    CAPTURE(name);
    auto tensors = good_tensors();
    tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(i));
    const Folder missing(tensors);
    const std::string file = "[safetensors] " + missing.path("model.safetensors");
    CHECK(missing.error() == file + ": tensor '" + name + "' is missing");

    tensors = good_tensors();
    const std::string expected = shape_text(tensors[i].shape);
    tensors[i].shape.push_back(1);
    const Folder wrong(tensors);
    CHECK(wrong.error() == "[safetensors] " + wrong.path("model.safetensors") + ": tensor '" + name + "': expected " +
                               expected + ", got " + shape_text(tensors[i].shape));

    tensors = good_tensors();
    tensors[i].dtype = DType::i64;
    const Folder integers(tensors);
    CHECK(integers.error() == "[safetensors] " + integers.path("model.safetensors") + ": tensor '" + name +
                                  "': expected F32, BF16 or F16, got I64");
  }
}

TEST_CASE("a path that isn't a checkpoint is an error that says what was looked for") {
  const test::Scratch scratch;
  CHECK(test::error_of([&] {
          load<Model>(scratch.path("nowhere"));
        }).starts_with("[checkpoint] " + scratch.path("nowhere") + ": expected a folder with config.json"));
  scratch.write("config.json", good_config);
  CHECK(test::error_of([&] { load<Model>(scratch.path("")); }).starts_with("[safetensors] "));
}
