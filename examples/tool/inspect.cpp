// SPDX-License-Identifier: Apache-2.0
#include <map>

#include <nlohmann/json.hpp>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/gguf_tokenizer.hpp>
#include <mistral/text/text_fields.hpp>

#include "commands.hpp"
#include "console.hpp"
#include "load.hpp"
#include "presets.hpp"

namespace mistral::tool {

namespace {

using Json = nlohmann::ordered_json;

// Both commands make JSON first; for people, it is written as lines of `name: value`, indented by depth.
Json memory_json(const PresetInfo& info) {
  return {{"weights", info.weight_bytes},
          {"cache", info.cache_bytes},
          {"workspace", info.workspace_bytes},
          {"total", info.weight_bytes + info.cache_bytes + info.workspace_bytes}};
}

void print_json(const Json& json) { print(json_text(json)); }

std::string memory_text(const Json& memory) {
  std::string text = bytes_text(memory["total"].get<std::size_t>());
  for (const char* const part : {"weights", "cache", "workspace"}) {
    text.append(part == std::string_view("weights") ? " (" : ", ").append(part).append(" ");
    text.append(bytes_text(memory[part].get<std::size_t>()));
  }
  return text + ")";
}

std::string line(std::string_view name, std::string_view value) {
  return std::string(name).append(name.size() < 14 ? 14 - name.size() : 1, ' ').append(value).append("\n");
}

// What the tensors are: their number, elements, bytes, and how many there are of each element type.
Json tensors_json(const Checkpoint& checkpoint) {
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
  std::map<std::string, std::size_t> counts;
  for (std::size_t i = 0; i < checkpoint.size(); ++i) {
    const CheckpointTensor tensor = checkpoint[i];
    bytes += tensor.data.size();
    parameters += tensor.elements();
    ++counts[std::string(tensor.type_name)];
  }
  return {{"count", checkpoint.size()}, {"parameters", parameters}, {"bytes", bytes}, {"dtypes", counts}};
}

// The types of matrices that are the preset's format already, and are kept bit by bit.
Json kept_json(const Checkpoint& checkpoint, const PresetInfo& info) {
  for (std::size_t i = 0; i < checkpoint.size(); ++i) {
    const CheckpointTensor tensor = checkpoint[i];
    if (tensor.shape.size() == 2 && tensor.type_name == info.weights) return Json::array({info.weights});
  }
  return Json::array();
}

// To which format loading converts the matrices of each element type that isn't that format already. (Norms are held
// in float whatever they were.)
Json converted_json(const Checkpoint& checkpoint, const PresetInfo& info) {
  std::map<std::string, std::string> converted;
  for (std::size_t i = 0; i < checkpoint.size(); ++i) {
    const CheckpointTensor tensor = checkpoint[i];
    if (tensor.shape.size() == 2 && tensor.type_name != info.weights) {
      converted[std::string(tensor.type_name)] = info.weights;
    }
  }
  return converted;
}

std::string_view layout_text(CheckpointLayout layout, bool for_people) {
  if (layout == CheckpointLayout::mistral) return for_people ? "Mistral" : "mistral";
  if (layout == CheckpointLayout::gguf) return for_people ? "GGUF" : "gguf";
  if (layout == CheckpointLayout::packed) return "packed";
  return for_people ? "Hugging Face" : "hugging_face";
}

bool finds_tokenizer(const InspectArguments& arguments, const Checkpoint& checkpoint) {
  if (!arguments.tokenizer.empty()) return true;
  if (checkpoint.gguf() != nullptr) return has_tokenizer(*checkpoint.gguf());
  if (checkpoint.packed() != nullptr) return !checkpoint.packed()->tokenizer().empty();
  const TokenizerInFolder found = find_tokenizer(arguments.folder);
  return !found.readable.empty() || !found.other.empty();
}

// What the tokenizer is; or why it cannot be used, where it is the checkpoint's own: the weights still can.
Json tokenizer_json(const InspectArguments& arguments, const CheckpointConfig& config) {
  try {
    const Tokenizer tokenizer = load_tokenizer(arguments.tokenizer, arguments.folder);
    return {{"vocab_size", tokenizer.vocab_size()},
            {"bos_id", tokenizer.bos_id()},
            {"eos_id", tokenizer.eos_id()},
            {"fits", static_cast<std::int64_t>(tokenizer.vocab_size()) <= config.vocab_size}};
  } catch (const Error& error) {
    if (!arguments.tokenizer.empty()) throw;
    return {{"error", error.what()}};
  }
}

// What is odd about a checkpoint, though it can be used.
Json warnings_json(const InspectArguments& arguments, const Checkpoint& checkpoint) {
  Json warnings = Json::array();
  if (checkpoint.gguf() != nullptr) {
    for (const std::string& warning : gguf_tokenizer_warnings(*checkpoint.gguf())) warnings.push_back(warning);
  }
  try {
    const std::string& jinja = load_tokenizer(arguments.tokenizer, arguments.folder).jinja_template();
    if (!jinja.empty() && !chat_template_in(jinja)) {
      warnings.push_back("a chat template of the model's maker, which isn't used: conversations go by Mistral's own");
    }
  } catch (const Error&) {  // said where the tokenizer is
  }
  return warnings;
}

std::string tokenizer_text(const Json& tokenizer) {
  if (tokenizer.is_null()) return "none";
  if (tokenizer.contains("error")) return "cannot be used: " + tokenizer["error"].get<std::string>();
  return tokenizer["vocab_size"].dump() + " pieces, BOS " + tokenizer["bos_id"].dump() + ", EOS " +
         tokenizer["eos_id"].dump() + (tokenizer["fits"].get<bool>() ? "" : ": too many for the model");
}

}  // namespace

void run_inspect(const InspectArguments& arguments) {
  const Checkpoint checkpoint = Checkpoint::open(arguments.folder);
  const CheckpointConfig& config = checkpoint.config();
  if (arguments.verify) {
    if (checkpoint.packed() == nullptr) {
      throw Error("checkpoint", printable(arguments.folder, 1000) + ": --verify", "a packed file, which has checksums",
                  layout_text(config.layout, true));
    }
    checkpoint.packed()->verify();
  }
  Json json;
  json["layout"] = layout_text(config.layout, false);
  Json& fields = json["config"] = Json::object();
  for (const auto& [name, value] : fields_of(config)) {
    fields[std::string(name)] = Json::parse(value, nullptr, false);
    if (fields[std::string(name)].is_discarded()) fields[std::string(name)] = nullptr;  // a field that the file lacks
  }
  fields["tied_embeddings"] = config.tied_embeddings;
  json["tensors"] = tensors_json(checkpoint);

  json["tokenizer"] = nullptr;
  if (finds_tokenizer(arguments, checkpoint)) {
    json["tokenizer"] = tokenizer_json(arguments, config);
  }

  json["warnings"] = warnings_json(arguments, checkpoint);

  const std::string only = only_format(arguments.folder);
  const AnyPreset* const preset = fitting_preset(arguments.folder, config, only);
  json["preset"] = nullptr;
  if (preset != nullptr) {
    const PresetInfo& info = preset->info();
    json["preset"] = info.name;
    json["weights"] = info.weights;
    json["kv"] = info.kv;
    json["kept"] = kept_json(checkpoint, info);
    json["converted"] = converted_json(checkpoint, info);
    json["memory_bytes"] = memory_json(info);
  } else {
    json["why"] = why_none_fits(config, only);
  }
  if (arguments.json) return print_json(json);

  std::string text = line("layout", layout_text(config.layout, true));
  std::string config_text;
  for (const auto& [name, value] : fields_of(config)) {
    config_text.append(config_text.empty() ? "" : ", ").append(name).append(" ").append(value);
  }
  text += line("config", config_text + (config.tied_embeddings ? ", tied embeddings" : ""));
  std::string dtypes;
  for (const auto& [name, count] : json["tensors"]["dtypes"].items()) {
    dtypes.append(dtypes.empty() ? "" : ", ").append(name).append(" x ").append(count.dump());
  }
  text +=
      line("tensors", json["tensors"]["count"].dump() + " (" + dtypes + "), " + json["tensors"]["parameters"].dump() +
                          " parameters, " + bytes_text(json["tensors"]["bytes"].get<std::size_t>()));
  text += line("tokenizer", tokenizer_text(json["tokenizer"]));
  for (const auto& warning : json["warnings"]) text += line("warning", warning.get<std::string>());
  if (preset == nullptr) {
    print(text + line("preset", json["why"].get<std::string>()));
  } else {
    const PresetInfo& info = preset->info();
    text += line("preset", std::string(info.name) + ": weights in " + std::string(info.weights) + ", cache in " +
                               std::string(info.kv));
    for (const auto& type : json["kept"]) text += line("kept", type.get<std::string>() + " as it is");
    std::string converted;
    for (const auto& [type, format] : json["converted"].items()) {
      converted.append(converted.empty() ? "" : ", ").append(type).append(" to ").append(format.get<std::string>());
    }
    if (!converted.empty()) text += line("converted", "when loaded: " + converted);
    print(text + line("memory", memory_text(json["memory_bytes"])));
  }
}

void run_presets(const PresetsArguments& arguments) {
  Json list = Json::array();
  std::string text;
  for (const AnyPreset* preset : presets()) {
    const PresetInfo& info = preset->info();
    const Json memory = memory_json(info);
    Json fields = Json::object();
    std::string config_text;
    for (const auto& [name, value] : fields_of(info.config)) {
      fields[std::string(name)] = Json::parse(value);
      config_text.append(config_text.empty() ? "" : ", ").append(name).append(" ").append(value);
    }
    list.push_back({{"name", info.name},
                    {"comment", info.comment},
                    {"config", fields},
                    {"parameters", info.config.parameter_count()},
                    {"weights", info.weights},
                    {"kv", info.kv},
                    {"memory_bytes", memory}});
    text.append(info.name).append(": ").append(info.comment).append("\n");
    text.append("  ").append(config_text).append("\n");
    text.append("  weights in ").append(info.weights).append(", cache in ").append(info.kv).append(", memory ");
    text.append(memory_text(memory)).append("\n");
  }
  if (arguments.json) return print_json({{"presets", list}});
  print(text);
}

}  // namespace mistral::tool
