// SPDX-License-Identifier: Apache-2.0
// Checkpoints of each layout, and what a GGUF file may contradict. Folders' faults are in load_errors_test.cpp.
#include <mistral/checkpoint/checkpoint.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/checkpoint/load.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/io/safetensors/writer.hpp>

#include "../support/data.hpp"
#include "../support/gguf_builder.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::GgufBuilder;

namespace {

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

// A GGUF file of the config above, which a test may break one way or another.
struct File {
  std::string architecture = "llama";
  std::vector<std::pair<std::string, std::string>> fields;  // a key after the architecture, and its whole entry
  std::vector<GgufBuilder::Tensor> tensors;
  std::vector<std::string> others;

  File() {
    for (const auto& [name, value] : {std::pair("context_length", 10),
                                      {"embedding_length", 4},
                                      {"block_count", 1},
                                      {"feed_forward_length", 6},
                                      {"attention.head_count", 2},
                                      {"attention.head_count_kv", 1},
                                      {"rope.dimension_count", 2},
                                      {"attention.sliding_window", 3},
                                      {"vocab_size", 5}}) {
      set(name, value);
    }
    set_float("rope.freq_base", 10000.0f);
    set_float("attention.layer_norm_rms_epsilon", 1e-5f);
    tensors = {{"token_embd.weight", {4, 5}},   {"blk.0.attn_norm.weight", {4}},   {"blk.0.attn_q.weight", {4, 4}},
               {"blk.0.attn_k.weight", {4, 2}}, {"blk.0.attn_v.weight", {4, 2}},   {"blk.0.attn_output.weight", {4, 4}},
               {"blk.0.ffn_norm.weight", {4}},  {"blk.0.ffn_gate.weight", {4, 6}}, {"blk.0.ffn_down.weight", {6, 4}},
               {"blk.0.ffn_up.weight", {4, 6}}, {"output_norm.weight", {4}},       {"output.weight", {4, 5}}};
  }

  void put(const std::string& name, std::string entry) {
    remove(name);
    fields.emplace_back(name, std::move(entry));
  }
  void set(const std::string& name, int value) {
    put(name, test::gguf_u32(architecture + "." + name, static_cast<std::uint32_t>(value)));
  }
  void set_float(const std::string& name, float value) { put(name, test::gguf_f32(architecture + "." + name, value)); }
  void set_text(const std::string& name, std::string_view value) {
    put(name, test::gguf_entry(architecture + "." + name, value));
  }
  void remove(const std::string& name) {
    std::erase_if(fields, [&](const auto& field) { return field.first == name; });
  }
  GgufBuilder::Tensor& tensor(const std::string& name) {
    for (auto& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    throw std::logic_error(name);
  }

  std::string bytes() const {
    GgufBuilder file;
    file.entries = {test::gguf_entry("general.architecture", architecture)};
    for (const auto& field : fields) file.entries.push_back(field.second);
    file.entries.insert(file.entries.end(), others.begin(), others.end());
    for (GgufBuilder::Tensor tensor : tensors) {
      tensor.offset = file.data.size();
      std::size_t elements = 1;
      for (const std::uint64_t size : tensor.sizes) elements *= static_cast<std::size_t>(size);
      file.data.append((elements * 4 + 31) / 32 * 32, '\0');
      file.tensors.push_back(tensor);
    }
    return file.bytes();
  }
};

// what reading a file's config says, without "[gguf] f: "
std::string config_error(const std::function<void(File&)>& change) {
  File file;
  change(file);
  const std::string bytes = file.bytes();
  const std::string error =
      test::error_of([&] { CheckpointConfig::from_gguf(Gguf::from_bytes(std::as_bytes(std::span(bytes)), "f")); });
  return error.starts_with("[gguf] f: ") ? error.substr(10) : error;
}

}  // namespace

TEST_CASE("each layout calls a weight by its own name") {
  const auto names = [](std::string_view name) {
    return weight_name(CheckpointLayout::mistral, name) + " " + weight_name(CheckpointLayout::hugging_face, name) +
           " " + weight_name(CheckpointLayout::gguf, name);
  };
  CHECK(names("tok_embeddings.weight") == "tok_embeddings.weight model.embed_tokens.weight token_embd.weight");
  CHECK(names("layers.12.feed_forward.w2.weight") ==
        "layers.12.feed_forward.w2.weight model.layers.12.mlp.down_proj.weight blk.12.ffn_down.weight");
  CHECK(names("norm.weight") == "norm.weight model.norm.weight output_norm.weight");
  CHECK(names("x") == "x x x");
}

TEST_CASE("a checkpoint gives its weights by Mistral's names in every layout") {
  for (const char* name : {"forward/gqa_w8/hf", "forward/gqa_w8/mistral", "gguf/gqa_w8_f32.gguf"}) {
    const auto path = test::golden(name);
    if (path.empty()) continue;
    CAPTURE(name);
    const Checkpoint checkpoint = Checkpoint::open(path.string());
    CHECK(checkpoint.size() == 30);
    CHECK(checkpoint.config().dim == 64);
    CHECK(checkpoint.config().window == 8);
    CHECK(checkpoint.config().vocab_size == 97);
    CHECK(!checkpoint.config().tied_embeddings);
    const CheckpointTensor tensor = checkpoint.get("layers.2.attention.wk.weight");
    CHECK(tensor.type_name == "F32");
    CHECK(tensor.type == GgmlType::f32);
    CHECK(tensor.shape[0] == 32);
    CHECK(tensor.elements() == 32 * 64);
    checkpoint.release(tensor);
    std::vector<float> row(64), again(64);
    tensor.read_row(31, row);
    checkpoint.get("layers.2.attention.wk.weight").read_row(31, again);
    CHECK(row == again);
    std::uint64_t parameters = 0;
    for (std::size_t i = 0; i < checkpoint.size(); ++i) parameters += checkpoint[i].elements();
    CHECK(parameters == ModelConfig{64, 3, 16, 160, 4, 2, 8, 64, 97}.parameter_count());
  }
}

TEST_CASE("a GGUF file's config is read from its metadata, under each architecture's name") {
  for (const char* architecture : {"llama", "mistral", "mistral3"}) {
    CHECK(config_error([&](File& file) {
            File other;
            other.fields.clear();
            other.architecture = architecture;
            for (const auto& [name, value] : {std::pair("embedding_length", 4),
                                              {"block_count", 1},
                                              {"feed_forward_length", 6},
                                              {"attention.head_count", 2},
                                              {"attention.head_count_kv", 1}}) {
              other.set(name, value);
            }
            other.set_float("attention.layer_norm_rms_epsilon", 1e-5f);
            file = other;
          }) == "no error");
  }
  CHECK(config_error([](File& file) { file.architecture = "gemma"; }) ==
        "key 'general.architecture': expected 'llama', 'mistral' or 'mistral3', got 'gemma'");
}

TEST_CASE("a GGUF file is told by its first bytes, whatever it is called") {
  const test::Scratch scratch;
  const std::string path = scratch.write("model.bin", File().bytes());
  CHECK(detect_layout(path) == CheckpointLayout::gguf);
  CHECK(CheckpointConfig::read(path).layout == CheckpointLayout::gguf);
  CHECK(test::error_of([&] { load<Model>(path); }) == "no error");
  const std::string other = scratch.write("model.safetensors", "\x01\x02\x03\x04");
  CHECK(test::error_of([&] {
          detect_layout(other);
        }).ends_with(", or a .gguf or a packed file, got a file that is neither"));
  const std::string named = scratch.write("bad.gguf", "GGML");
  CHECK(test::error_of([&] { CheckpointConfig::read(named); }) ==
        "[gguf] " + named + ": the magic: expected 'GGUF', got 'GGML'");
}

TEST_CASE("metadata that is missing, impossible or not supported is refused") {
  for (const char* key : {"embedding_length", "block_count", "feed_forward_length", "attention.head_count",
                          "attention.layer_norm_rms_epsilon"}) {
    CHECK(config_error([&](File& f) { f.remove(key); }) == "key 'llama." + std::string(key) + "' is missing");
  }
  for (const char* key : {"embedding_length", "block_count", "feed_forward_length", "attention.head_count",
                          "attention.head_count_kv", "context_length"}) {
    CHECK(config_error([&](File& f) { f.set(key, 0); }) ==
          "key 'llama." + std::string(key) + "': expected an integer from 1 to 2147483647, got 0");
  }
  CHECK(config_error([](File& f) { f.set("attention.head_count_kv", 3); }) ==
        "key 'llama.attention.head_count_kv': expected a divisor of attention.head_count 2, got 3");
  CHECK(config_error([](File& f) { f.set("embedding_length", 6); }) ==
        "key 'llama.embedding_length': expected an even multiple of attention.head_count 2, got 6");
  CHECK(config_error([](File& f) { f.set("attention.key_length", 3); }) ==
        "key 'llama.attention.key_length': expected an even number, got 3");
  CHECK(config_error([](File& f) { f.set("rope.dimension_count", 4); }) ==
        "key 'llama.rope.dimension_count': expected the width of a head, 2, got 4");
  CHECK(config_error([](File& f) { f.set("attention.value_length", 4); }) ==
        "key 'llama.attention.value_length': expected the width of a head, 2, got 4");
  CHECK(config_error([](File& f) { f.set_float("rope.freq_base", 0.0f); }) ==
        "key 'llama.rope.freq_base': expected a positive number, got 0");
  CHECK(config_error([](File& f) { f.set_text("rope.scaling.type", "yarn"); }) ==
        "key 'llama.rope.scaling.type': expected 'none', for scaled RoPE is not supported, got 'yarn'");
  CHECK(config_error([](File& f) { f.set_text("rope.scaling.type", "none"); }) == "no error");
  CHECK(config_error([](File& f) { f.set_float("rope.scale_linear", 2.0f); }) ==
        "key 'llama.rope.scale_linear': expected 1, for it is not supported, got 2");
  CHECK(config_error([](File& f) { f.set("expert_count", 8); }) ==
        "key 'llama.expert_count': expected 0, for it is not supported, got 8");
  CHECK(config_error([](File& f) { f.set_float("attention.temperature_scale", 0.1f); }) ==
        "key 'llama.attention.temperature_scale': expected nothing, for it is not supported, got 0.1");
}

TEST_CASE("metadata that the tensors contradict is refused") {
  CHECK(config_error([](File& f) { f.set("vocab_size", 6); }) ==
        "key 'llama.vocab_size': expected as many as token_embd.weight has rows, 5, got 6");
  CHECK(config_error([](File& f) {
          f.others.push_back(
              test::gguf_entry("tokenizer.ggml.tokens", 9, test::gguf_array(8, 1, test::gguf_string("a"))));
        }) ==
        "key 'tokenizer.ggml.tokens': expected as many as token_embd.weight has rows, 5, got an array of 1 string");
  CHECK(config_error([](File& f) { f.tensor("token_embd.weight").sizes = {20}; }) ==
        "tensor 'token_embd.weight': expected [vocabulary, embedding_length], got [20]");
  CHECK(config_error([](File& f) { f.tensors.erase(f.tensors.begin()); }) == "tensor 'token_embd.weight' is missing");
  for (const GgufBuilder::Tensor& tensor : File().tensors) {
    if (tensor.name == "token_embd.weight") continue;
    std::vector<std::uint64_t> shape(tensor.sizes.rbegin(), tensor.sizes.rend());
    const std::string expected = shape_text(shape);
    shape.insert(shape.begin(), 2);
    CHECK(config_error([&](File& f) { f.tensor(tensor.name).sizes.push_back(2); }) ==
          "tensor '" + tensor.name + "': expected " + expected + " by the metadata, got " + shape_text(shape));
  }
  CHECK(config_error([](File& f) {
          f.tensors.push_back({"blk.1.attn_q.weight", {4, 4}});
        }) == "tensor 'blk.1.attn_q.weight': expected a layer of 0 ... 0, got 1");
  CHECK(config_error([](File& f) {
          f.tensors.push_back({"blk.18446744073709551616.attn_q.weight", {4, 4}});
        }) == "tensor 'blk.18446744073709551616.attn_q.weight': expected a layer of 0 ... 0, got 18446744073709551616");
  for (const char* name : {"blk.0.attn_q.bias", "rope_freqs.weight", "blk.0.ffn_gate_exps.weight", "blk.0",
                           "blk..attn_q.weight", "blk.0attn_q.weight", "blk.-1.attn_q.weight", "blk.", "norm.weight",
                           "blk.0.token_embd.weight", "blk.00.attn_q.weight", "attn_q.weight"}) {
    CHECK(config_error([&](File& f) {
            f.tensors.push_back({name, {4}});
          }) == "tensor '" + std::string(name) + "' is not supported");
  }
}

TEST_CASE("a GGUF file without a head is tied; without another tensor it doesn't load") {
  const test::Scratch scratch;
  const auto error_without = [&](const std::string& name) {
    File file;
    std::erase_if(file.tensors, [&](const auto& tensor) { return tensor.name == name; });
    const std::string path = scratch.write("m.gguf", file.bytes());
    const std::string error = test::error_of([&] { load<Model>(path); });
    return error.starts_with("[gguf] " + path) ? error.substr(path.size() + 7) : error;
  };
  for (const GgufBuilder::Tensor& tensor : File().tensors) {
    const std::string error = error_without(tensor.name);
    CHECK(error == (tensor.name == "output.weight" ? "no error" : ": tensor '" + tensor.name + "' is missing"));
  }
}

TEST_CASE("a GGUF file is held against the type's config, and the line names the file") {
  const test::Scratch scratch;
  const auto error_with = [&](const std::string& key, int value) {
    File file;
    file.set(key, value);
    return test::error_of([&] { load<Model>(scratch.write("m.gguf", file.bytes())); });
  };
  const std::string file = "[checkpoint] " + scratch.path("m.gguf") + ": ";
  CHECK(error_with("attention.sliding_window", 0) ==
        file + "window_size: expected 3, got 0 (allow_different_window loads it all the same)");
  CHECK(error_with("context_length", 9) == file + "context_len: expected at least 10, got 9");
  File other;
  other.set_float("rope.freq_base", 1e6f);
  CHECK(test::error_of([&] { load<Model>(scratch.write("m.gguf", other.bytes())); }) ==
        file + "rope_theta: expected 10000, got 1000000");
}

TEST_CASE("a number that is kept for each layer, or as another type of number, is that number") {
  const auto array = [](std::uint32_t a, std::uint32_t b) { return test::gguf_array(4, 2, test::le(a) + test::le(b)); };
  const auto with_array = [&](const std::string& name, std::uint32_t a, std::uint32_t b) {
    return config_error([&](File& f) { f.put(name, test::gguf_entry("llama." + name, 9, array(a, b))); });
  };
  CHECK(with_array("attention.head_count", 2, 2) == "no error");
  CHECK(with_array("attention.head_count_kv", 1, 1) == "no error");
  CHECK(with_array("feed_forward_length", 6, 6) == "no error");
  CHECK(with_array("attention.sliding_window", 3, 3) == "no error");
  CHECK(with_array("attention.head_count_kv", 1, 2) ==
        "key 'llama.attention.head_count_kv': expected the same number for every layer, got 1 and 2");
  CHECK(config_error([](File& f) { f.set("rope.freq_base", 10000); }) == "no error");
  CHECK(config_error([](File& f) { f.set_float("embedding_length", 4.0f); }) == "no error");
  CHECK(config_error([](File& f) {
          f.set_float("embedding_length", 4.5f);
        }).starts_with("key 'llama.embedding_length': expected an integer"));
  File file;
  file.set("rope.freq_base", 500000);
  const std::string bytes = file.bytes();
  CHECK(CheckpointConfig::from_gguf(Gguf::from_bytes(std::as_bytes(std::span(bytes)), "f")).rope_theta == 5e5);
  for (const char* const type : {"none", "linear", "yarn"}) {
    CHECK(config_error([&](File& f) {
            f.set_text("rope.scaling.type", type);
            f.set_float("rope.scaling.factor", 1.0f);
          }) == "no error");
  }
}

TEST_CASE("a part of a file that was split, and an adapter in GGUF, are named as such") {
  CHECK(config_error([](File& f) {
          f.others.push_back(test::gguf_entry("split.count", 2, test::le(std::uint16_t{3})));
          f.others.push_back(test::gguf_entry("split.no", 2, test::le(std::uint16_t{1})));
        }) ==
        "join the parts first (llama-gguf-split --merge, with the first of the 3 files): expected a whole model, got "
        "part "
        "2 of 3");
  CHECK(config_error([](File& f) { f.others.push_back(test::gguf_entry("general.type", "adapter")); }) ==
        "key 'general.type': expected 'model', got 'adapter'");
  CHECK(config_error([](File& f) { f.others.push_back(test::gguf_entry("general.type", "model")); }) == "no error");
}

TEST_CASE("a head that a file has of its own counts, though its config ties it to the embedding; a bias is refused") {
  const auto golden = test::golden("forward/gqa_w8/hf");
  if (golden.empty()) return;
  const test::Scratch scratch;
  const Safetensors file = Safetensors::open((golden / "model.safetensors").string());
  std::ifstream in(golden / "config.json");
  auto config = nlohmann::json::parse(in);
  config["tie_word_embeddings"] = true;
  scratch.write("m/config.json", config.dump());
  const auto write = [&](bool with_head, bool with_bias) {
    std::vector<SafetensorsTensor> tensors;
    for (const SafetensorsTensor& t : file.tensors()) {
      if (with_head || t.name != "lm_head.weight") tensors.push_back(t);
    }
    static const std::vector<std::byte> zeros(64 * 4);
    if (with_bias) tensors.push_back({"model.layers.0.self_attn.q_proj.bias", DType::f32, {64}, zeros});
    write_safetensors(scratch.path("m/model.safetensors"), tensors);
  };
  const auto first = [](const CheckpointTensor& t) { return t.data.data()[0]; };
  write(true, false);
  const Checkpoint own = Checkpoint::open(scratch.path("m"));
  CHECK_FALSE(own.config().tied_embeddings);
  CHECK(own.get("output.weight").name == "lm_head.weight");
  CHECK(first(own.get("output.weight")) == file.get("lm_head.weight").data[0]);
  write(false, false);
  CHECK(Checkpoint::open(scratch.path("m")).config().tied_embeddings);
  CHECK(Checkpoint::open(scratch.path("m")).get("output.weight").name == "model.embed_tokens.weight");
  write(true, true);
  CHECK(test::error_of([&] { Checkpoint::open(scratch.path("m")); })
            .ends_with("tensor 'model.layers.0.self_attn.q_proj.bias': expected no biases, for they are not supported, "
                       "got one"));
}
