// SPDX-License-Identifier: Apache-2.0
// Each field of docs/fields.md that stands in a checkpoint or an adapter: what becomes of another value than the usual.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/checkpoint/adapter_folder.hpp>
#include <mistral/checkpoint/config.hpp>
#include <mistral/format/f32.hpp>

#include "../support/fields.hpp"
#include "../support/gguf_builder.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::Field;
using test::Outcome;

namespace {

const std::vector<Field> fields = {
    {"config.json", "architectures", R"v(["MistralForSequenceClassification"])v", Outcome::refused},
    {"config.json", "model_type", R"v("mixtral")v", Outcome::refused},
    {"config.json", "vocab_size", R"v(98)v", Outcome::used},
    {"config.json", "hidden_size", R"v(128)v", Outcome::used},
    {"config.json", "intermediate_size", R"v(161)v", Outcome::used},
    {"config.json", "num_hidden_layers", R"v(4)v", Outcome::used},
    {"config.json", "num_attention_heads", R"v(2)v", Outcome::used},
    {"config.json", "num_key_value_heads", R"v(1)v", Outcome::used},
    {"config.json", "head_dim", R"v(32)v", Outcome::used},
    {"config.json", "hidden_act", R"v("gelu")v", Outcome::refused},
    {"config.json", "max_position_embeddings", R"v(128)v", Outcome::used},
    {"config.json", "rms_norm_eps", R"v(1e-06)v", Outcome::used},
    {"config.json", "tie_word_embeddings", R"v(true)v", Outcome::used},
    {"config.json", "rope_theta", R"v(500000.0)v", Outcome::used},
    {"config.json", "rope_parameters", R"v({"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0})v",
     Outcome::refused},
    {"config.json", "rope_scaling", R"v({"type": "linear", "factor": 2.0})v", Outcome::refused},
    {"config.json", "partial_rotary_factor", R"v(0.5)v", Outcome::refused},
    {"config.json", "sliding_window", R"v(9)v", Outcome::used},
    {"config.json", "use_sliding_window", R"v(false)v", Outcome::used},
    {"config.json", "layer_types", R"v(["full_attention", "full_attention", "full_attention"])v", Outcome::refused},
    {"config.json", "attention_bias", R"v(true)v", Outcome::refused},
    {"config.json", "mlp_bias", R"v(true)v", Outcome::refused},
    {"config.json", "quantization_config", R"v({"quant_method": "gptq"})v", Outcome::refused},
    {"config.json", "quantization", R"v({"bits": 4})v", Outcome::refused},
    {"config.json", "compression_config", R"v({"format": "pack-quantized"})v", Outcome::refused},
    {"config.json", "is_encoder_decoder", R"v(true)v", Outcome::refused},
    {"config.json", "add_cross_attention", R"v(true)v", Outcome::refused},
    {"config.json", "use_bidirectional_attention", R"v(true)v", Outcome::refused},
    {"config.json", "is_causal", R"v(false)v", Outcome::refused},
    {"config.json", "pruned_heads", R"v({"0": [1]})v", Outcome::refused},
    {"config.json", "num_local_experts", R"v(8)v", Outcome::refused},
    {"config.json", "torch_dtype", R"v("float16")v", Outcome::used},
    {"config.json", "dtype", R"v("float16")v", Outcome::used},
    {"config.json", "attention_dropout", R"v(0.5)v", Outcome::without_effect},
    {"config.json", "initializer_range", R"v(0.5)v", Outcome::without_effect},
    {"config.json", "pretraining_tp", R"v(4)v", Outcome::without_effect},
    {"config.json", "use_cache", R"v(false)v", Outcome::without_effect},
    {"config.json", "bos_token_id", R"v(7)v", Outcome::without_effect},
    {"config.json", "pad_token_id", R"v(7)v", Outcome::without_effect},
    {"config.json", "transformers_version", R"v("9.9")v", Outcome::without_effect},
    {"config.json", "_name_or_path", R"v("x/y")v", Outcome::without_effect},
    {"config.json", "max_window_layers", R"v(1)v", Outcome::without_effect},
    {"config.json", "what_a_maker_noted", R"v(true)v", Outcome::without_effect},
    {"params.json", "dim", R"v(128)v", Outcome::used},
    {"params.json", "n_layers", R"v(4)v", Outcome::used},
    {"params.json", "head_dim", R"v(32)v", Outcome::used},
    {"params.json", "hidden_dim", R"v(161)v", Outcome::used},
    {"params.json", "n_heads", R"v(8)v", Outcome::used},
    {"params.json", "n_kv_heads", R"v(1)v", Outcome::used},
    {"params.json", "norm_eps", R"v(1e-06)v", Outcome::used},
    {"params.json", "vocab_size", R"v(98)v", Outcome::used},
    {"params.json", "sliding_window", R"v(9)v", Outcome::used},
    {"params.json", "_sliding_window", R"v(9)v", Outcome::used},
    {"params.json", "rope_theta", R"v(1000000.0)v", Outcome::used},
    {"params.json", "max_seq_len", R"v(128)v", Outcome::used},
    {"params.json", "max_position_embeddings", R"v(128)v", Outcome::used},
    {"params.json", "tied_embeddings", R"v(true)v", Outcome::used},
    {"params.json", "model_type", R"v("mamba")v", Outcome::refused},
    {"params.json", "moe", R"v({"num_experts": 8})v", Outcome::refused},
    {"params.json", "yarn", R"v({"factor": 4})v", Outcome::refused},
    {"params.json", "rope_scaling", R"v({"factor": 4})v", Outcome::refused},
    {"params.json", "llama_4_scaling", R"v({"beta": 0.1})v", Outcome::refused},
    {"params.json", "use_scaled_rope", R"v(true)v", Outcome::refused},
    {"params.json", "quantization", R"v({"qformat_weight": "fp8_e4m3"})v", Outcome::refused},
    {"params.json", "lora", R"v({"rank": 4})v", Outcome::refused},
    {"params.json", "vision_encoder", R"v({"hidden_size": 1})v", Outcome::refused},
    {"params.json", "multimodal", R"v({"whisper_model_args": 1})v", Outcome::refused},
    {"params.json", "audio", R"v({"x": 1})v", Outcome::refused},
    {"params.json", "q_lora_rank", R"v(64)v", Outcome::refused},
    {"params.json", "kv_lora_rank", R"v(64)v", Outcome::refused},
    {"params.json", "use_biases", R"v(true)v", Outcome::refused},
    {"params.json", "causal", R"v(false)v", Outcome::refused},
    {"params.json", "max_batch_size", R"v(4)v", Outcome::without_effect},
    {"params.json", "what_a_maker_noted", R"v(true)v", Outcome::without_effect},
    {"GGUF metadata", "general.architecture", R"v(str:gemma)v", Outcome::refused},
    {"GGUF metadata", "general.type", R"v(str:adapter)v", Outcome::refused},
    {"GGUF metadata", "split.count", R"v(u32:2)v", Outcome::refused},
    {"GGUF metadata", "general.alignment", R"v(u32:64)v", Outcome::used},
    {"GGUF metadata", "general.name", R"v(str:x)v", Outcome::without_effect},
    {"GGUF metadata", "general.file_type", R"v(u32:7)v", Outcome::without_effect},
    {"GGUF metadata", "general.quantization_version", R"v(u32:2)v", Outcome::without_effect},
    {"GGUF metadata", "general.sampling.temp", R"v(f32:0.5)v", Outcome::without_effect},
    {"GGUF metadata", "llama.vocab_size", R"v(u32:6)v", Outcome::refused},
    {"GGUF metadata", "llama.context_length", R"v(u32:9)v", Outcome::used},
    {"GGUF metadata", "llama.embedding_length", R"v(u32:8)v", Outcome::refused},
    {"GGUF metadata", "llama.block_count", R"v(u32:2)v", Outcome::used},
    {"GGUF metadata", "llama.feed_forward_length", R"v(u32:8)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.head_count", R"v(u32:1)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.head_count_kv", R"v(u32:2)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.key_length", R"v(u32:4)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.value_length", R"v(u32:4)v", Outcome::refused},
    {"GGUF metadata", "llama.rope.dimension_count", R"v(u32:4)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.layer_norm_rms_epsilon", R"v(f32:0.001)v", Outcome::used},
    {"GGUF metadata", "llama.attention.layer_norm_epsilon", R"v(f32:0.001)v", Outcome::without_effect},
    {"GGUF metadata", "llama.attention.sliding_window", R"v(u32:4)v", Outcome::used},
    {"GGUF metadata", "llama.rope.freq_base", R"v(u32:500000)v", Outcome::used},
    {"GGUF metadata", "llama.rope.scaling.type", R"v(str:longrope)v", Outcome::refused},
    {"GGUF metadata", "llama.rope.scaling.factor", R"v(f32:2)v", Outcome::refused},
    {"GGUF metadata", "llama.rope.scale_linear", R"v(f32:2)v", Outcome::refused},
    {"GGUF metadata", "llama.rope.scaling.attn_factor", R"v(f32:2)v", Outcome::refused},
    {"GGUF metadata", "llama.rope.scaling.original_context_length", R"v(u32:4096)v", Outcome::without_effect},
    {"GGUF metadata", "llama.rope.scaling.finetuned", R"v(bool:1)v", Outcome::without_effect},
    {"GGUF metadata", "llama.rope.dimension_sections", R"v(u32:1)v", Outcome::refused},
    {"GGUF metadata", "llama.expert_count", R"v(u32:8)v", Outcome::refused},
    {"GGUF metadata", "llama.expert_used_count", R"v(u32:2)v", Outcome::without_effect},
    {"GGUF metadata", "llama.nextn_predict_layers", R"v(u32:1)v", Outcome::refused},
    {"GGUF metadata", "llama.embedding_length_per_layer_input", R"v(u32:1)v", Outcome::refused},
    {"GGUF metadata", "llama.use_parallel_residual", R"v(bool:1)v", Outcome::refused},
    {"GGUF metadata", "llama.logit_scale", R"v(f32:2)v", Outcome::refused},
    {"GGUF metadata", "llama.residual_scale", R"v(f32:2)v", Outcome::refused},
    {"GGUF metadata", "llama.embedding_scale", R"v(f32:2)v", Outcome::refused},
    {"GGUF metadata", "llama.attn_logit_softcapping", R"v(f32:50)v", Outcome::refused},
    {"GGUF metadata", "llama.final_logit_softcapping", R"v(f32:30)v", Outcome::refused},
    {"GGUF metadata", "llama.hidden_activation", R"v(str:gelu)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.causal", R"v(bool:0)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.scale", R"v(f32:0.1)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.max_alibi_bias", R"v(f32:8)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.clamp_kqv", R"v(f32:8)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.temperature_scale", R"v(f32:0.1)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.sliding_window_pattern", R"v(u32:2)v", Outcome::refused},
    {"GGUF metadata", "llama.attention.shared_kv_layers", R"v(u32:1)v", Outcome::refused},
    {"GGUF metadata", "llama.pooling_type", R"v(u32:3)v", Outcome::without_effect},
    {"GGUF metadata", "llama.tensor_data_layout", R"v(str:Meta AI original pth)v", Outcome::without_effect},
    {"GGUF metadata", "llama.what_a_maker_noted", R"v(u32:1)v", Outcome::without_effect},
    {"adapter_config.json", "peft_type", R"v("IA3")v", Outcome::refused},
    {"adapter_config.json", "task_type", R"v("SEQ_CLS")v", Outcome::refused},
    {"adapter_config.json", "r", R"v(3)v", Outcome::used},
    {"adapter_config.json", "lora_alpha", R"v(8)v", Outcome::used},
    {"adapter_config.json", "lora_dropout", R"v(0.5)v", Outcome::used},
    {"adapter_config.json", "use_rslora", R"v(true)v", Outcome::used},
    {"adapter_config.json", "target_modules", R"v(["q_proj"])v", Outcome::used},
    {"adapter_config.json", "rank_pattern", R"v({"q_proj": 3})v", Outcome::used},
    {"adapter_config.json", "alpha_pattern", R"v({"model.layers.0.self_attn.q_proj": 64})v", Outcome::used},
    {"adapter_config.json", "layers_to_transform", R"v([1])v", Outcome::used},
    {"adapter_config.json", "exclude_modules", R"v(["q_proj"])v", Outcome::used},
    {"adapter_config.json", "init_lora_weights", R"v("olora")v", Outcome::used},
    {"adapter_config.json", "base_model_name_or_path", R"v("another")v", Outcome::used},
    {"adapter_config.json", "bias", R"v("all")v", Outcome::refused},
    {"adapter_config.json", "use_dora", R"v(true)v", Outcome::refused},
    {"adapter_config.json", "use_qalora", R"v(true)v", Outcome::refused},
    {"adapter_config.json", "lora_bias", R"v(true)v", Outcome::refused},
    {"adapter_config.json", "fan_in_fan_out", R"v(true)v", Outcome::refused},
    {"adapter_config.json", "modules_to_save", R"v(["lm_head"])v", Outcome::refused},
    {"adapter_config.json", "trainable_token_indices", R"v([5])v", Outcome::refused},
    {"adapter_config.json", "target_parameters", R"v(["mlp.experts"])v", Outcome::refused},
    {"adapter_config.json", "layer_replication", R"v([[0, 2], [1, 3]])v", Outcome::refused},
    {"adapter_config.json", "megatron_config", R"v({"x": 1})v", Outcome::refused},
    {"adapter_config.json", "alora_invocation_tokens", R"v([1, 2])v", Outcome::refused},
    {"adapter_config.json", "arrow_config", R"v({"top_k": 3})v", Outcome::refused},
    {"adapter_config.json", "use_bdlora", R"v({"nblocks": 2})v", Outcome::refused},
    {"adapter_config.json", "monteclora_config", R"v({"x": 1})v", Outcome::refused},
    {"adapter_config.json", "kasa_config", R"v({"beta": 1})v", Outcome::refused},
    {"adapter_config.json", "ensure_weight_tying", R"v(true)v", Outcome::refused},
    {"adapter_config.json", "use_something_new", R"v(true)v", Outcome::refused},
    {"adapter_config.json", "something_new_config", R"v({"x": 1})v", Outcome::refused},
    {"adapter_config.json", "auto_mapping", R"v({"base_model_class": "X"})v", Outcome::without_effect},
    {"adapter_config.json", "corda_config", R"v({"x": 1})v", Outcome::without_effect},
    {"adapter_config.json", "eva_config", R"v({"rho": 2})v", Outcome::without_effect},
    {"adapter_config.json", "loftq_config", R"v({"loftq_bits": 4})v", Outcome::without_effect},
    {"adapter_config.json", "lora_ga_config", R"v({"x": 1})v", Outcome::without_effect},
    {"adapter_config.json", "velora_config", R"v({"num_groups": 64})v", Outcome::without_effect},
    {"adapter_config.json", "runtime_config", R"v({"ephemeral_gpu_offload": true})v", Outcome::without_effect},
    {"adapter_config.json", "megatron_core", R"v("x")v", Outcome::without_effect},
    {"adapter_config.json", "inference_mode", R"v(false)v", Outcome::without_effect},
    {"adapter_config.json", "layers_pattern", R"v("layers")v", Outcome::without_effect},
    {"adapter_config.json", "revision", R"v("main")v", Outcome::without_effect},
    {"adapter_config.json", "peft_version", R"v("9")v", Outcome::without_effect},
    {"adapter_config.json", "qalora_group_size", R"v(32)v", Outcome::without_effect},
    {"adapter_config.json", "what_a_trainer_noted", R"v(true)v", Outcome::without_effect},
};

std::string summary(const CheckpointConfig& c) {
  std::ostringstream text;
  text << c.dim << ' ' << c.n_layers << ' ' << c.head_dim << ' ' << c.hidden_dim << ' ' << c.n_heads << ' '
       << c.n_kv_heads << ' ' << c.window << ' ' << c.context_len.value_or(-1) << ' ' << c.vocab_size << ' '
       << c.rope_theta << ' ' << c.norm_eps << ' ' << c.tied_embeddings << ' ' << c.dtype;
  return text.str();
}

std::string of_json(nlohmann::json json, const Field* field, CheckpointLayout layout) {
  if (field != nullptr) json[field->name] = nlohmann::json::parse(field->value);
  if (field != nullptr && field->name == "_sliding_window") json.erase("sliding_window");
  const std::string text = json.dump();
  return summary(CheckpointConfig::parse(std::as_bytes(std::span(text)), layout, "f"));
}

std::string of_config(const Field* field) {
  return of_json({{"model_type", "mistral"},
                  {"hidden_size", 64},
                  {"num_hidden_layers", 3},
                  {"intermediate_size", 160},
                  {"num_attention_heads", 4},
                  {"num_key_value_heads", 2},
                  {"vocab_size", 97},
                  {"sliding_window", 8},
                  {"max_position_embeddings", 512},
                  {"rms_norm_eps", 1e-5},
                  {"torch_dtype", field != nullptr && field->name == "dtype" ? nlohmann::json() : "float32"}},
                 field, CheckpointLayout::hugging_face);
}

std::string of_params(const Field* field) {
  return of_json({{"dim", 64},
                  {"n_layers", 3},
                  {"head_dim", 16},
                  {"hidden_dim", 160},
                  {"n_heads", 4},
                  {"n_kv_heads", 2},
                  {"norm_eps", 1e-5},
                  {"vocab_size", 97},
                  {"sliding_window", 8}},
                 field, CheckpointLayout::mistral);
}

// `u32:5`, `f32:0.5`, `bool:1`, `str:text`
std::string gguf_value(const std::string& key, const std::string& value) {
  const std::string text = value.substr(value.find(':') + 1);
  if (value.starts_with("u32:")) return test::gguf_u32(key, static_cast<std::uint32_t>(std::stoul(text)));
  if (value.starts_with("f32:")) return test::gguf_f32(key, std::stof(text));
  if (value.starts_with("bool:")) return test::gguf_entry(key, 7, std::string(1, text == "1" ? '\1' : '\0'));
  return test::gguf_entry(key, text);
}

std::string of_gguf(const Field* field) {
  std::vector<std::pair<std::string, std::string>> entries = {
      {"general.architecture", "str:llama"},      {"llama.context_length", "u32:10"},
      {"llama.embedding_length", "u32:4"},        {"llama.block_count", "u32:1"},
      {"llama.feed_forward_length", "u32:6"},     {"llama.attention.head_count", "u32:2"},
      {"llama.attention.head_count_kv", "u32:1"}, {"llama.attention.sliding_window", "u32:3"},
      {"llama.rope.freq_base", "f32:10000"},      {"llama.attention.layer_norm_rms_epsilon", "f32:1e-5"}};
  if (field != nullptr) {
    std::erase_if(entries, [&](const auto& entry) { return entry.first == field->name; });
    entries.emplace_back(field->name, field->value);
  }
  test::GgufBuilder file;
  for (const auto& [key, value] : entries) file.entries.push_back(gguf_value(key, value));
  file.tensors = {
      {"token_embd.weight", {4, 5}},   {"blk.0.attn_norm.weight", {4}},   {"blk.0.attn_q.weight", {4, 4}},
      {"blk.0.attn_k.weight", {4, 2}}, {"blk.0.attn_v.weight", {4, 2}},   {"blk.0.attn_output.weight", {4, 4}},
      {"blk.0.ffn_norm.weight", {4}},  {"blk.0.ffn_gate.weight", {4, 6}}, {"blk.0.ffn_down.weight", {6, 4}},
      {"blk.0.ffn_up.weight", {4, 6}}, {"output_norm.weight", {4}},       {"output.weight", {4, 5}}};
  for (auto& tensor : file.tensors) {
    tensor.offset = file.data.size();
    file.data.append(96, '\0');
  }
  const std::string bytes = file.bytes();
  return summary(CheckpointConfig::from_gguf(Gguf::from_bytes(std::as_bytes(std::span(bytes)), "f")));
}

std::string of_adapter(const Field* field) {
  using Tuned = Transformer<test::tiny, Lora<F32>>;
  static auto model = test::random_model<Tuned>(7);
  const test::Scratch scratch;
  nlohmann::json config = {{"peft_type", "LORA"},      {"r", 2},         {"lora_alpha", 4},
                           {"lora_dropout", 0.05},     {"bias", "none"}, {"target_modules", {"q_proj", "down_proj"}},
                           {"init_lora_weights", true}};
  if (field != nullptr) config[field->name] = nlohmann::json::parse(field->value);
  scratch.write("adapter_config.json", config.dump());
  const std::string prefix = "base_model.model.model.layers.0.";
  std::vector<SafetensorsTensor> tensors{{prefix + "self_attn.q_proj.lora_A.weight", DType::f32, {2, 64}, {}},
                                         {prefix + "self_attn.q_proj.lora_B.weight", DType::f32, {64, 2}, {}},
                                         {prefix + "mlp.down_proj.lora_A.weight", DType::f32, {2, 160}, {}},
                                         {prefix + "mlp.down_proj.lora_B.weight", DType::f32, {64, 2}, {}}};
  std::vector<std::vector<std::byte>> data;
  for (auto& tensor : tensors) data.emplace_back(*tensor_bytes(tensor.dtype, tensor.shape), std::byte{0x3c});
  for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].data = data[i];
  write_safetensors(scratch.path("adapter_model.safetensors"), tensors);
  std::ostringstream text;
  text << adapter_base(scratch.path("")).name;
  load_adapter(model, scratch.path(""));
  visit_projections(model, [&](const std::string&, const auto& linear, std::size_t) {
    const LoraMatrices& m = linear.adapters[0];
    text << ' ' << m.rank() << ' ' << m.scale << ' ' << m.alpha << ' ' << m.dropout << ' ' << m.rslora;
  });
  remove_adapter(model, 0);
  return text.str();
}

std::string of(const std::string& file, const Field* field) {
  if (file == "config.json") return of_config(field);
  if (file == "params.json") return of_params(field);
  return file == "GGUF metadata" ? of_gguf(field) : of_adapter(field);
}

}  // namespace

TEST_CASE("every field of a checkpoint and of an adapter is used, refused or without effect as the page says") {
  for (const Field& field : fields) {
    CAPTURE(field.file);
    CAPTURE(field.name);
    const std::string usual = of(field.file, nullptr);
    std::string found;
    const std::string error = test::error_of([&] { found = of(field.file, &field); });
    CAPTURE(error);
    if (field.outcome == Outcome::refused) {
      CHECK(error != "no error");
      // what is wrong with it is named: the field, or what is to be done
      const std::string last = field.name.substr(field.name.rfind('.') + 1);
      const bool named = error.find(last) != std::string::npos || error.find("join the parts") != std::string::npos ||
                         error.find("by the metadata") != std::string::npos;
      CHECK(named);
    } else if (field.outcome == Outcome::used) {
      CHECK((error != "no error" || found != usual));
    } else {
      CHECK(error == "no error");
      CHECK(found == usual);
    }
  }
}

TEST_CASE("the page of fields has those of the tests, in their order") {
  const std::vector<Field> documented = test::documented_fields();
  REQUIRE(documented.size() > fields.size());
  const bool same = std::equal(fields.begin(), fields.end(), documented.begin());
  CHECK(same);
}
