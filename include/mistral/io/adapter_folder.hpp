#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/io/atomic_file.hpp>
#include <mistral/io/checkpoint_layout.hpp>
#include <mistral/io/dequantize.hpp>
#include <mistral/io/folders.hpp>
#include <mistral/io/json.hpp>
#include <mistral/io/load.hpp>
#include <mistral/io/safetensors.hpp>
#include <mistral/io/safetensors_writer.hpp>
#include <mistral/nn/adapter.hpp>

namespace mistral::inline MISTRAL_ABI {

namespace detail {

inline constexpr std::string_view adapter_config_name = "adapter_config.json";
inline constexpr std::string_view adapter_tensors_name = "adapter_model.safetensors";

/// What PEFT calls a matrix of ours, `layers.0.attention.wq`: `model.layers.0.self_attn.q_proj`, `lm_head`.
inline std::string peft_module(const std::string& projection) {
  std::string name = weight_name(CheckpointLayout::hugging_face, projection + ".weight");
  return name.substr(0, name.size() - std::string_view(".weight").size());
}

inline std::string peft_tensor(const std::string& projection, char matrix) {
  return "base_model.model." + peft_module(projection) + ".lora_" + matrix + ".weight";
}

/// What adapter_config.json says, as far as it matters here.
struct PeftConfig {
  std::size_t rank = 0;
  float alpha = 0.0f;
  float dropout = 0.0f;
  bool rslora = false;
  std::vector<std::string> targets;  // empty: a pattern, or nothing

  /// Throws Error for what is no LoRA of the plain kind.
  static PeftConfig read(const std::string& path) {
    const MappedFile file = MappedFile::open(path, "adapter", JsonDocument::max_file_bytes);
    const JsonObject json = JsonObject::parse(file.bytes(), "adapter", path);
    if (json.has("peft_type") && json.string("peft_type") != "LORA") throw json.unexpected("peft_type", "\"LORA\"");
    for (const char* const name : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"}) {
      if (json.has(name) && json.boolean(name)) throw json.unexpected(name, "false: this kind isn't read");
    }
    if (json.has("bias") && json.string("bias") != "none") throw json.unexpected("bias", "\"none\"");
    for (const char* const name : {"rank_pattern", "alpha_pattern"}) {
      if (json.has(name) && !json.object(name).names().empty()) {
        throw json.unexpected(name, "{}: one rank and one alpha for all matrices");
      }
    }
    if (json.has("modules_to_save") && !json.strings("modules_to_save").empty()) {
      throw json.unexpected("modules_to_save", "none: only adapters are read");
    }
    PeftConfig config;
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
    return config;
  }
};

/// Reads the matrices of an adapter, each checked against the model's shapes.
class AdapterReader {
 public:
  AdapterReader(const std::string& path, const PeftConfig& config) : file_(Safetensors::open(path)), config_(config) {}

  /// The adapter's part of one matrix (outputs, inputs), of rank 0 where it has none.
  LoraMatrices read(const std::string& name, std::size_t outputs, std::size_t inputs, std::size_t heads,
                    std::uint64_t stream) {
    const std::string names[2] = {peft_tensor(name, 'A'), peft_tensor(name, 'B')};
    if (file_.find(names[0]) == nullptr && file_.find(names[1]) == nullptr) {
      return {Panels<F32>(0, inputs), Panels<F32>(outputs, 0)};
    }
    const std::string module = peft_module(name);
    found_.push_back(module.substr(module.rfind('.') + 1));
    taken_.insert(taken_.end(), std::begin(names), std::end(names));
    LoraMatrices m{Panels<F32>(config_.rank, inputs),
                   Panels<F32>(outputs, config_.rank),
                   lora_scale(config_.alpha, config_.rank, config_.rslora),
                   config_.alpha,
                   config_.rslora,
                   config_.dropout,
                   stream};
    pack_all(m.a, values(file_.get(names[0]), config_.rank, inputs, 0));
    pack_all(m.b, values(file_.get(names[1]), outputs, config_.rank, heads));
    return m;
  }

  /// Throws Error where the file holds what no matrix took, or the config names a target that the file doesn't hold.
  void finish() {
    std::sort(taken_.begin(), taken_.end());
    for (const SafetensorsTensor& tensor : file_.tensors()) {
      if (std::binary_search(taken_.begin(), taken_.end(), tensor.name)) continue;
      throw Error("adapter", subject(tensor.name), "lora_A or lora_B of a matrix of this model", "another tensor");
    }
    if (taken_.empty()) throw Error("adapter", printable(file_.file(), 1000), "at least one matrix", "none");
    for (const std::string& target : config_.targets) {
      const std::string last = target.substr(target.rfind('.') + 1);
      if (std::find(found_.begin(), found_.end(), last) == found_.end()) {
        throw Error("adapter", printable(file_.file(), 1000), "tensors for the target '" + printable(target) + "'",
                    "none");
      }
    }
  }

 private:
  std::string subject(const std::string& tensor) const {
    return printable(file_.file(), 1000) + ": tensor '" + printable(tensor) + "'";
  }

  /// A tensor (rows, cols) as floats, the rows in our order where RoPE turns those of `heads` heads.
  std::vector<float> values(const SafetensorsTensor& tensor, std::size_t rows, std::size_t cols, std::size_t heads) {
    const std::uint64_t shape[2] = {rows, cols};
    if (!std::equal(std::begin(shape), std::end(shape), tensor.shape.begin(), tensor.shape.end())) {
      throw Error("adapter", subject(tensor.name), shape_text(shape), shape_text(tensor.shape));
    }
    std::optional<GgmlType> type;
    if (tensor.dtype == DType::f32) type = GgmlType::f32;
    if (tensor.dtype == DType::f16) type = GgmlType::f16;
    if (tensor.dtype == DType::bf16) type = GgmlType::bf16;
    if (!type) throw Error("adapter", subject(tensor.name), "F32, BF16 or F16", info(tensor.dtype).name);
    const std::size_t row_bytes = cols * static_cast<std::size_t>(info(tensor.dtype).bits / 8);
    std::vector<float> out(rows * cols);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t from = heads == 0 ? r : hugging_face_row(r, rows / heads);
      dequantize_row(*type, tensor.data.data() + from * row_bytes, std::span<float>(out).subspan(r * cols, cols));
    }
    return out;
  }

  Safetensors file_;
  const PeftConfig& config_;
  std::vector<std::string> taken_;  // names of tensors
  std::vector<std::string> found_;  // last parts of modules
};

}  // namespace detail

/// Loads an adapter from a folder of Hugging Face's PEFT (adapter_config.json, adapter_model.safetensors) and puts it
/// behind those that the model has. Returns its number: see add_adapter. Throws Error, and leaves the model as it was,
/// where the folder holds no plain LoRA, or one of another model's shapes; the model is as it was, too, where there is
/// no memory.
template <class Model>
std::size_t load_adapter(Model& model, const std::string& folder) {
  const auto config = detail::PeftConfig::read(path_in(folder, std::string(detail::adapter_config_name)));
  detail::AdapterReader reader(path_in(folder, std::string(detail::adapter_tensors_name)), config);
  const std::size_t number = adapter_count(model);
  std::vector<LoraMatrices> matrices;
  std::uint64_t stream = number;
  visit_projections(model, [&](const std::string& name, const auto& linear, std::size_t heads) {
    matrices.push_back(reader.read(name, linear.weight.rows(), linear.weight.cols(), heads, split_mix(stream)));
  });
  reader.finish();
  detail::attach_adapter(model, std::move(matrices));
  return number;
}

/// Which adapter is written, and how.
struct SaveAdapterOptions {
  std::string base_model = {};  ///< where PEFT finds the base: a folder, or a name on the hub; empty: not said
  std::size_t adapter = 0;      ///< index among the model's
};

/// Writes an adapter as a folder that PEFT loads as it is: tensors in F32, wq's and wk's in Hugging Face's order. The
/// folder is made if need be, and taken away again where it can't be filled; each of the two files appears whole or not
/// at all, once both are on the disk. Throws Error where the model has no such adapter, or the folder can't be written.
template <class Model>
void save_adapter(const Model& model, const std::string& folder, const SaveAdapterOptions& options = {}) {
  if (options.adapter >= adapter_count(model)) {
    throw Error("adapter", "number", "one of the model's " + std::to_string(adapter_count(model)),
                std::to_string(options.adapter));
  }
  FolderToFill out(folder, "adapter");
  std::vector<SafetensorsTensor> tensors;
  std::vector<std::string> targets;
  const LoraMatrices* any = nullptr;
  visit_projections(model, [&](const std::string& name, const auto& linear, std::size_t) {
    const LoraMatrices& m = linear.adapters[options.adapter];
    if (m.rank() == 0) return;
    any = &m;
    tensors.push_back({detail::peft_tensor(name, 'A'), DType::f32, {m.a.rows(), m.a.cols()}, {}});
    tensors.push_back({detail::peft_tensor(name, 'B'), DType::f32, {m.b.rows(), m.b.cols()}, {}});
    const std::string module = detail::peft_module(name);
    const std::string target = module.substr(module.rfind('.') + 1);
    if (std::find(targets.begin(), targets.end(), target) == targets.end()) targets.push_back(target);
  });
  if (any == nullptr) throw Error("adapter", "an adapter to be saved", "at least one matrix", "none");

  SafetensorsWriter writer(out.file(detail::adapter_tensors_name), tensors, {{"format", "pt"}});
  visit_projections(model, [&](const std::string&, const auto& linear, std::size_t heads) {
    const LoraMatrices& m = linear.adapters[options.adapter];
    if (m.rank() == 0) return;
    for (const Panels<F32>* const matrix : {&m.a, &m.b}) {
      const std::size_t cols = matrix->cols();
      std::vector<float> values(matrix->rows() * cols);
      for (std::size_t r = 0; r < matrix->rows(); ++r) {
        const bool permuted = heads != 0 && matrix == &m.b;
        const std::size_t to = permuted ? detail::hugging_face_row(r, matrix->rows() / heads) : r;
        matrix->unpack_row(r, std::span<float>(values).subspan(to * cols, cols));
      }
      writer.write(std::as_bytes(std::span<const float>(values)));
    }
  });

  std::string json = "{\n  \"peft_type\": \"LORA\",\n  \"task_type\": \"CAUSAL_LM\",\n  \"base_model_name_or_path\": ";
  json += options.base_model.empty() ? "null" : json_quoted(options.base_model);
  json += ",\n  \"r\": " + std::to_string(any->rank());
  json += ",\n  \"lora_alpha\": " + number_text(any->alpha);
  json += ",\n  \"lora_dropout\": " + number_text(any->dropout);
  json += ",\n  \"use_rslora\": " + std::string(any->rslora ? "true" : "false");
  json += ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n  \"inference_mode\": true";
  json += ",\n  \"init_lora_weights\": true,\n  \"modules_to_save\": null,\n  \"target_modules\": [";
  for (const std::string& target : targets) {
    json.append(json.back() == '[' ? "" : ", ").append(json_quoted(target));
  }
  json += "]\n}\n";
  AtomicFile file(out.file(detail::adapter_config_name), "adapter");
  file.write(json);
  writer.finish();
  file.finish();
  writer.commit();
  file.commit();
  out.keep();
}

}  // namespace mistral::inline MISTRAL_ABI
