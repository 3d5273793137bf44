// SPDX-License-Identifier: Apache-2.0
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

#include <mistral/checkpoint/adapter_base.hpp>
#include <mistral/checkpoint/dequantize.hpp>
#include <mistral/checkpoint/layout.hpp>
#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/olora.hpp>
#include <mistral/checkpoint/peft_config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/tensors.hpp>
#include <mistral/io/json/json.hpp>
#include <mistral/io/json/writer.hpp>
#include <mistral/io/os/atomic_file.hpp>
#include <mistral/io/os/folders.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/nn/adapter.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

namespace detail {

/// Reads the matrices of an adapter, each checked against the model's shapes.
class AdapterReader {
 public:
  AdapterReader(const std::string& path, const PeftConfig& config) : file_(Safetensors::open(path)), config_(config) {
    for (const SafetensorsTensor& tensor : file_.tensors()) {
      const std::string name = peft_name(tensor.name);
      const auto same = std::find_if(named_.begin(), named_.end(), [&](const auto& n) { return n.first == name; });
      if (same != named_.end()) {
        throw Error("adapter", subject(tensor.name), "each matrix once", "'" + printable(same->second->name) + "' too");
      }
      named_.emplace_back(name, &tensor);
    }
    std::sort(named_.begin(), named_.end());
  }

  /// The adapter's part of one matrix (outputs, inputs), of rank 0 where it has none.
  LoraMatrices read(const std::string& name, std::size_t outputs, std::size_t inputs, std::size_t heads,
                    std::uint64_t stream) {
    const std::string names[2] = {peft_tensor(name, 'A'), peft_tensor(name, 'B')};
    if (find(names[0]) == nullptr && find(names[1]) == nullptr) {
      return {Panels<F32>(0, inputs), Panels<F32>(outputs, 0)};
    }
    const std::string module = peft_module(name);
    found_.push_back(module);
    taken_.insert(taken_.end(), std::begin(names), std::end(names));
    const std::size_t rank = config_.rank_of(module);
    const float alpha = config_.alpha_of(module);
    LoraMatrices m{Panels<F32>(rank, inputs),
                   Panels<F32>(outputs, rank),
                   lora_scale(alpha, rank, config_.rslora),
                   alpha,
                   config_.rslora,
                   config_.dropout,
                   stream};
    pack_all(m.a, values(get(names[0]), rank, inputs, 0));
    pack_all(m.b, values(get(names[1]), outputs, rank, heads));
    return m;
  }

  /// Reads the adapter's part of one matrix beside a base whose rows are those of `row_of`: without the part of it that
  /// OLoRA puts into an adapter.
  LoraMatrices read(const std::string& name, std::size_t outputs, std::size_t inputs, std::size_t heads,
                    std::uint64_t stream, const RowSource& row_of) {
    LoraMatrices m = read(name, outputs, inputs, heads, stream);
    return config_.olora && m.rank() > 0 ? take_out_olora(m, name, row_of) : std::move(m);
  }

  /// Throws Error where the file holds what no matrix took, and where it and the config's targets disagree: PEFT goes
  /// by the targets, and would leave out a tensor of another matrix.
  void finish() {
    std::sort(taken_.begin(), taken_.end());
    for (const auto& [name, tensor] : named_) {
      if (std::binary_search(taken_.begin(), taken_.end(), name)) continue;
      const bool whole = is_whole_matrix(name) || name.find("modules_to_save") != std::string::npos;
      throw Error("adapter", subject(tensor->name) + (whole ? ": merge it with PEFT first (merge_and_unload)" : ""),
                  "lora_A or lora_B of a matrix of this model", whole ? "whole weights of the base" : "another tensor");
    }
    if (taken_.empty()) throw Error("adapter", printable(file_.file(), 1000), "at least one matrix", "none");
    const auto is_of = [](const std::string& module, const std::string& target) {
      return module == target || module.ends_with("." + target);
    };
    for (const std::string& target : config_.targets) {
      // of a whole path, as some write targets, the module it ends in
      const std::string last = target.substr(target.rfind('.') + 1);
      if (std::none_of(found_.begin(), found_.end(), [&](const std::string& m) { return is_of(m, last); })) {
        throw Error("adapter", printable(file_.file(), 1000), "tensors for the target '" + printable(target) + "'",
                    "none");
      }
    }
    for (const std::string& module : found_) {
      if (!config_.allows(module)) {
        throw Error("adapter", printable(file_.file(), 1000) + ": tensors of '" + module + "'",
                    "a matrix that layers_to_transform and exclude_modules leave in", "one that they leave out");
      }
      const auto names_it = [&](const std::string& target) {
        return is_of(module, target) || target.ends_with("." + module);
      };
      if (config_.targets.empty() || std::any_of(config_.targets.begin(), config_.targets.end(), names_it)) continue;
      throw Error("adapter", printable(file_.file(), 1000) + ": tensors of '" + module + "'",
                  "a matrix among target_modules", "one that isn't");
    }
  }

 private:
  /// As PEFT's save_pretrained names a tensor. Files that trainers wrote by themselves have names with the adapter's
  /// name in them, `lora_A.default.weight`, or without what PEFT puts in front.
  static std::string peft_name(std::string name) {
    for (const std::string_view matrix : {".lora_A.", ".lora_B."}) {
      const std::size_t at = name.rfind(matrix);
      if (at == std::string::npos) continue;
      const std::size_t end = at + matrix.size();
      const std::size_t dot = name.find('.', end);
      if (dot != std::string::npos && name.compare(dot, std::string::npos, ".weight") == 0) {
        name.erase(end, dot + 1 - end);
      }
      for (const std::string_view prefix : {"base_model.model.", "base_model."}) {
        if (!name.starts_with(prefix)) continue;
        name.erase(0, prefix.size());
        break;
      }
      return "base_model.model." + name;
    }
    return name;
  }

  /// Whether a name ends as that of the embedding or the head: weights of the base, which PEFT saves where it trains
  /// them.
  static bool is_whole_matrix(const std::string& name) {
    return std::any_of(std::begin(tensor_table), std::end(tensor_table), [&](const TensorRow& row) {
      return !row.in_layer && row.kind != TensorKind::norm &&
             name.ends_with(std::string(last_part(module_of(row.hugging_face))) + ".weight");
    });
  }

  const SafetensorsTensor* find(const std::string& name) const {
    const auto found = std::lower_bound(named_.begin(), named_.end(), name,
                                        [](const auto& n, const std::string& wanted) { return n.first < wanted; });
    return found != named_.end() && found->first == name ? found->second : nullptr;
  }
  const SafetensorsTensor& get(const std::string& name) const {
    const SafetensorsTensor* const tensor = find(name);
    return tensor != nullptr ? *tensor : file_.get(name);  // which says that it is missing
  }

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
  std::vector<std::pair<std::string, const SafetensorsTensor*>> named_;  // by PEFT's names, sorted
  std::vector<std::string> taken_;                                       // names of tensors
  std::vector<std::string> found_;                                       // modules
};

}  // namespace detail

/// Loads an adapter from a folder of Hugging Face's PEFT (adapter_config.json, adapter_model.safetensors) and puts it
/// behind those that the model has. Returns its number: see add_adapter. An OLoRA adapter, which PEFT loads by taking a
/// part out of the base, becomes one of twice the rank beside the base as it is. Throws Error, and leaves the model as
/// it was, where the folder holds no plain LoRA (docs/fields.md has the kinds), or one of another model's shapes; the
/// model is as it was, too, where there is no memory. Whether the model is the base that the adapter was trained
/// beside, trained_beside says.
template <class Model>
std::size_t load_adapter(Model& model, const std::string& folder) {
  const auto config = detail::PeftConfig::read_folder(folder);
  detail::AdapterReader reader(path_in(folder, std::string(detail::adapter_tensors_name)), config);
  const std::size_t number = adapter_count(model);
  std::vector<LoraMatrices> matrices;
  std::uint64_t stream = number;
  visit_projections(model, [&](const std::string& name, const auto& linear, std::size_t heads) {
    matrices.push_back(reader.read(name, linear.weight.rows(), linear.weight.cols(), heads, split_mix(stream),
                                   [&](std::size_t row, std::span<float> out) { linear.weight.unpack_row(row, out); }));
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

/// Writes an adapter as a folder that PEFT loads as it is: tensors in F32, wq's and wk's in Hugging Face's order, and
/// in their file's metadata what tells the base by (see trained_beside). The folder is made if need be, and taken away
/// again where it can't be filled; each of the two files appears whole or not at all, once both are on the disk. Throws
/// Error where the model has no such adapter, or the folder can't be written.
template <class Model>
void save_adapter(const Model& model, const std::string& folder, const SaveAdapterOptions& options = {}) {
  if (options.adapter >= adapter_count(model)) {
    throw Error("adapter", "number", "one of the model's " + std::to_string(adapter_count(model)),
                std::to_string(options.adapter));
  }
  FolderToFill out(folder, "adapter");
  std::vector<SafetensorsTensor> tensors;
  std::vector<std::string> targets;
  std::vector<std::pair<std::string, const LoraMatrices*>> modules;
  const LoraMatrices* any = nullptr;
  visit_projections(model, [&](const std::string& name, const auto& linear, std::size_t) {
    const LoraMatrices& m = linear.adapters[options.adapter];
    if (m.rank() == 0) return;
    if (any == nullptr) any = &m;
    tensors.push_back({detail::peft_tensor(name, 'A'), DType::f32, {m.a.rows(), m.a.cols()}, {}});
    tensors.push_back({detail::peft_tensor(name, 'B'), DType::f32, {m.b.rows(), m.b.cols()}, {}});
    const std::string& module = modules.emplace_back(detail::peft_module(name), &m).first;
    const std::string target = module.substr(module.rfind('.') + 1);
    if (std::find(targets.begin(), targets.end(), target) == targets.end()) targets.push_back(target);
  });
  if (any == nullptr) throw Error("adapter", "an adapter to be saved", "at least one matrix", "none");

  const detail::BaseSums base = detail::base_sums(model);
  SafetensorsWriter writer(out.file(detail::adapter_tensors_name), tensors,
                           {{"format", "pt"},
                            {std::string(detail::base_norms_key), base.norms()},
                            {std::string(detail::base_weights_key), base.weights()}});
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

  JsonWriter json(JsonStyle::lines);
  json.begin_object().field("peft_type", "LORA").field("task_type", "CAUSAL_LM").name("base_model_name_or_path");
  options.base_model.empty() ? json.value(nullptr) : json.value(options.base_model);
  json.field("r", any->rank()).field("lora_alpha", any->alpha).field("lora_dropout", any->dropout);
  json.name("rank_pattern").begin_object();
  for (const auto& [module, matrices] : modules) {
    if (matrices->rank() != any->rank()) json.field(module, matrices->rank());
  }
  json.end_object().name("alpha_pattern").begin_object();
  for (const auto& [module, matrices] : modules) {
    if (matrices->alpha != any->alpha) json.field(module, matrices->alpha);
  }
  json.end_object().field("use_rslora", any->rslora).field("bias", "none").field("fan_in_fan_out", false);
  json.field("inference_mode", true).field("init_lora_weights", true).field("modules_to_save", nullptr);
  json.name("target_modules").values(targets).end_object();
  AtomicFile file(out.file(detail::adapter_config_name), "adapter");
  file.write(json.text());
  writer.finish();
  file.finish();
  writer.commit();
  file.commit();
  out.keep();
}

}}  // namespace mistral
