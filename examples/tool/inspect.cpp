#include <array>
#include <cstdio>

#include <nlohmann/json.hpp>

#include <mistral/io/tensor_files.hpp>

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

void print_json(const Json& json) { print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"); }

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
Json tensors_json(const TensorFiles& files) {
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
  std::array<std::size_t, std::size(dtype_infos)> counts{};
  for (std::size_t i = 0; i < files.size(); ++i) {
    bytes += files[i].data.size();
    parameters += files[i].data.size() * 8 / info(files[i].dtype).bits;
    ++counts[static_cast<std::size_t>(files[i].dtype)];
  }
  Json dtypes = Json::object();
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > 0) dtypes[std::string(dtype_infos[i].name)] = counts[i];
  }
  return {{"count", files.size()}, {"parameters", parameters}, {"bytes", bytes}, {"dtypes", dtypes}};
}

}  // namespace

void run_inspect(const InspectArguments& arguments) {
  const CheckpointConfig config = CheckpointConfig::read(arguments.folder);
  const TensorFiles files = TensorFiles::open(arguments.folder, files_of(config.layout).tensors);
  const bool mistral_layout = config.layout == CheckpointLayout::mistral;
  Json json;
  json["layout"] = mistral_layout ? "mistral" : "hugging_face";
  Json& fields = json["config"] = Json::object();
  for (const auto& [name, value] : fields_of(config)) {
    fields[std::string(name)] = Json::parse(value, nullptr, false);
    if (fields[std::string(name)].is_discarded()) fields[std::string(name)] = nullptr;  // a field that the file lacks
  }
  fields["tied_embeddings"] = config.tied_embeddings;
  json["tensors"] = tensors_json(files);

  json["tokenizer"] = nullptr;
  if (!arguments.tokenizer.empty() || path_exists(path_in(arguments.folder, "tokenizer.model"))) {
    const Tokenizer tokenizer = load_tokenizer(arguments.tokenizer, arguments.folder);
    json["tokenizer"] = {{"vocab_size", tokenizer.vocab_size()},
                         {"bos_id", tokenizer.bos_id()},
                         {"eos_id", tokenizer.eos_id()},
                         {"fits", static_cast<std::int64_t>(tokenizer.vocab_size()) <= config.vocab_size}};
  }

  const AnyPreset* const preset = fitting_preset(arguments.folder, config);
  json["preset"] = nullptr;
  if (preset != nullptr) {
    const PresetInfo& info = preset->info();
    json["preset"] = info.name;
    json["weights"] = info.weights;
    json["kv"] = info.kv;
    json["memory_bytes"] = memory_json(info);
  } else {
    json["why"] = why_none_fits(config);
  }
  if (arguments.json) return print_json(json);

  std::string text = line("layout", mistral_layout ? "Mistral" : "Hugging Face");
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
  const Json& tokenizer = json["tokenizer"];
  text +=
      line("tokenizer", tokenizer.is_null() ? "none"
                                            : tokenizer["vocab_size"].dump() + " pieces, BOS " +
                                                  tokenizer["bos_id"].dump() + ", EOS " + tokenizer["eos_id"].dump() +
                                                  (tokenizer["fits"].get<bool>() ? "" : ": too many for the model"));
  if (preset == nullptr) {
    print(text + line("preset", json["why"].get<std::string>()));
  } else {
    const PresetInfo& info = preset->info();
    text += line("preset", std::string(info.name) + ": weights in " + std::string(info.weights) + ", cache in " +
                               std::string(info.kv));
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
