// SPDX-License-Identifier: Apache-2.0
#include <map>

#include <nlohmann/json.hpp>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/text/chat_template.hpp>
#include <mistral/text/gguf_tokenizer.hpp>
#include <mistral/text/jinja/template.hpp>
#include <mistral/text/text_fields.hpp>

#include "choice.hpp"
#include "commands.hpp"
#include "console.hpp"
#include "load.hpp"

namespace mistral::tool {

namespace {

using Json = nlohmann::ordered_json;

// JSON is made first; for people, it is written as lines of `name: value`.
Json memory_json(const ModelChoice& choice) {
  const std::uint64_t weights = weight_bytes(choice.config, choice.weights);
  const std::uint64_t cache = cache_bytes(choice.config, choice.kv);
  return {{"weights", weights}, {"cache", cache}, {"total", weights + cache}};
}

void print_json(const Json& json) { print(json_text(json)); }

std::string memory_text(const Json& memory) {
  std::string text = bytes_text(memory["total"].get<std::size_t>());
  for (const char* const part : {"weights", "cache"}) {
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

// How many matrices there are of each format.
Json formats_json(const Checkpoint& checkpoint) {
  std::map<std::string, std::size_t> counts;
  for (std::size_t i = 0; i < checkpoint.size(); ++i) {
    if (checkpoint[i].shape.size() == 2) ++counts[std::string(checkpoint[i].type_name)];
  }
  return counts;
}

// How many matrices loading encodes again, for they aren't in the model's format. (Norms are held in float whatever
// they were.)
std::size_t reencoded(const Checkpoint& checkpoint, std::string_view weights) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < checkpoint.size(); ++i) {
    if (checkpoint[i].shape.size() == 2 && checkpoint[i].type_name != weights) ++count;
  }
  return checkpoint.packed() != nullptr ? 0 : count;
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
    const std::string source = load_tokenizer(arguments.tokenizer, arguments.folder).jinja_template();
    if (!source.empty() && !chat_template_in(source)) {
      try {
        (void)jinja::Template(source, "the model's own chat template");
      } catch (const Error& error) {
        warnings.push_back(error.what());
      }
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
  if (!arguments.config.empty()) {
    const CheckpointConfig file = CheckpointConfig::read(arguments.folder);
    return print(config_definition(config_of(file, printable(arguments.folder, 1000)), arguments.config));
  }
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

  json["formats"] = formats_json(checkpoint);
  try {
    ModelArguments model;
    model.folder = arguments.folder;
    const ModelChoice choice = choice_of(model, Use::inference);
    json["weights"] = choice.weights;
    json["kv"] = choice.kv;
    json["reencoded_tensors"] = reencoded(checkpoint, choice.weights);
    json["memory_bytes"] = memory_json(choice);
  } catch (const Error& error) {
    json["weights"] = nullptr;
    json["reencoded_tensors"] = 0;
    json["why"] = error.what();
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
  if (json["weights"].is_null()) {
    print(text + line("weights", json["why"].get<std::string>()));
  } else {
    text += line("runs", "with weights in " + json["weights"].get<std::string>() + ", cache in " +
                             json["kv"].get<std::string>());
    if (const auto count = json["reencoded_tensors"].get<std::size_t>(); count > 0) {
      text += line("converted",
                   "when loaded: " + std::to_string(count) + " matrices to " + json["weights"].get<std::string>());
    }
    print(text + line("memory", memory_text(json["memory_bytes"])));
  }
}

}  // namespace mistral::tool
