// SPDX-License-Identifier: Apache-2.0
#include "choice.hpp"

#include <algorithm>
#include <array>
#include <map>

#include <mistral/checkpoint/adapter_base.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/model.hpp>
#include <mistral/run/open_model.hpp>

#include "compiler.hpp"
#include "console.hpp"
#include "header_fingerprint.hpp"
#include "load.hpp"
#include "suggest.hpp"

namespace mistral::tool {

namespace {

// One list of names for both configs, so that their fields can be held against each other in pairs.
constexpr std::array<std::string_view, 11> field_names{"dim",        "n_layers",   "head_dim",    "hidden_dim",
                                                       "n_heads",    "n_kv_heads", "window_size", "context_len",
                                                       "vocab_size", "rope_theta", "norm_eps"};

Fields named(const std::array<std::string, field_names.size()>& values) {
  Fields fields;
  for (std::size_t i = 0; i < values.size(); ++i) fields.emplace_back(field_names[i], values[i]);
  return fields;
}

std::string text(std::size_t x) { return std::to_string(x); }
std::string text(std::int64_t x) { return std::to_string(x); }
// as a float holds it: 1e-05 of a file and 1e-5f of a config are the same text
std::string text(float x) { return number_text(x); }

std::string upper(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return name;
}

// The place of a format in the library's list, the wider ones first; past its end for another name.
std::size_t place_of(std::string_view name) {
  std::size_t place = 0, found = format_count;
  for_each_format([&]<class F>(std::type_identity<F>) {
    if (F::name == name) found = place;
    ++place;
  });
  return found;
}

bool is_format(std::string_view name) { return place_of(name) < format_count; }

// The narrowest format of the library that a file's type loses next to nothing in; empty for a type that isn't read.
std::string_view format_for(std::string_view type) {
  if (is_format(type)) return type;
  if (type == "Q5_K" || type == "Q5_0" || type == "Q5_1" || type == "Q4_1") return "Q6_K";
  if (type == "Q3_K" || type == "Q2_K") return "Q4_K";
  return {};
}

CheckpointFacts read_facts(const std::string& path) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  CheckpointFacts facts{checkpoint.config(), {}};
  for (std::size_t i = 0; i < checkpoint.size(); ++i) {
    const CheckpointTensor tensor = checkpoint[i];
    if (tensor.shape.size() != 2) continue;
    const auto known = std::find_if(facts.types.begin(), facts.types.end(),
                                    [&](const MatrixType& type) { return type.name == tensor.type_name; });
    if (known != facts.types.end()) {
      ++known->matrices;
    } else {
      facts.types.push_back({std::string(tensor.type_name), 1, std::string(tensor.name)});
    }
  }
  return facts;
}

// What the weights of a checkpoint are held in where the command line doesn't say: their own format, where all matrices
// have one; else the narrowest that none of them loses much in, and F32, in which none loses anything, where the run is
// to be exact. Throws Error where a matrix is of a type that isn't read.
std::string own_format(const std::string& path, bool exact) {
  const CheckpointFacts& facts = facts_of(path);
  if (facts.config.layout == CheckpointLayout::packed) return facts.types.empty() ? "F32" : facts.types[0].name;
  std::string widest;
  for (const MatrixType& type : facts.types) {
    const std::string_view format = format_for(type.name);
    if (format.empty()) {
      throw Error("checkpoint", printable(path, 1000) + ": tensor '" + printable(type.first, 200) + "'",
                  "a type of weights that this program reads", printable(type.name, 40));
    }
    if (widest.empty() || widest == format) {
      widest = format;
      continue;
    }
    const std::string_view wider = place_of(format) < place_of(widest) ? format : std::string_view(widest);
    const std::string_view narrower = wider == format ? std::string_view(widest) : format;
    if (wider == "F16" && narrower == "BF16") {
      widest = "F32";  // one has the range, the other the digits
    } else if (place_of(wider) >= place_of("Q4_K")) {
      widest = "Q6_K";  // of four bits none holds what another does
    } else {
      widest = wider;
    }
  }
  const bool its_own = facts.types.size() == 1 && facts.types[0].name == widest;
  if (exact && !its_own) return "F32";
  return widest.empty() ? "F32" : widest;
}

}  // namespace

const CheckpointFacts& facts_of(const std::string& path) {
  static std::map<std::string, CheckpointFacts> known;  // a command reads few
  const auto found = known.find(path);
  return found != known.end() ? found->second : known.emplace(path, read_facts(path)).first->second;
}

const CheckpointConfig& checkpoint_config(const std::string& path) {
  static std::map<std::string, CheckpointConfig> known;
  const auto found = known.find(path);
  return found != known.end() ? found->second : known.emplace(path, CheckpointConfig::read(path)).first->second;
}

Fields fields_of(const ModelConfig& c) {
  return named({text(c.dim), text(c.n_layers), text(c.head_dim), text(c.hidden_dim), text(c.n_heads),
                text(c.n_kv_heads), text(c.window_size), text(c.context_len), text(c.vocab_size), text(c.rope_theta),
                text(c.norm_eps)});
}

Fields fields_of(const CheckpointConfig& c) {
  return named({text(c.dim), text(c.n_layers), text(c.head_dim), text(c.hidden_dim), text(c.n_heads),
                text(c.n_kv_heads), text(c.window), c.context_len ? text(*c.context_len) : "not said",
                text(c.vocab_size), text(static_cast<float>(c.rope_theta)), text(static_cast<float>(c.norm_eps))});
}

std::string format_named(const std::string& name, std::string_view option) {
  std::string found;
  if (with_format(name, [&]<class F>(std::type_identity<F>) { found = F::name; })) return found;
  std::vector<std::string> names;
  for_each_format([&]<class F>(std::type_identity<F>) { names.emplace_back(F::name); });
  throw UsageError(std::string(option) + ": expected one of " + std::string(format_names) + ", got '" +
                   printable(name, 40) + "'" + did_you_mean(upper(name), names));
}

ModelChoice choice_of(const ModelArguments& arguments, Use use) {
  ModelChoice choice;
  choice.adapters = use == Use::adapters || use == Use::train_adapter;
  choice.trains = use == Use::train_adapter || use == Use::train_all;
  if (!arguments.weights.empty()) choice.weights = format_named(arguments.weights, "--weights");
  if (use == Use::train_all) {
    if (!arguments.weights.empty() && choice.weights != "F32") {
      throw UsageError("--full: expected --weights f32 with it, got " + printable(arguments.weights, 40));
    }
    choice.weights = "F32";
  }
  // of a checkpoint whose format doesn't matter, the weights needn't be there
  const bool in_own_format = arguments.weights.empty() && use != Use::train_all;
  const CheckpointConfig& file =
      in_own_format ? facts_of(arguments.folder).config : checkpoint_config(arguments.folder);
  choice.config = config_of(file, printable(arguments.folder, 1000));
  if (arguments.window) choice.config.window_size = *arguments.window;
  if (arguments.context) choice.config.context_len = *arguments.context;
  if (in_own_format) choice.weights = own_format(arguments.folder, arguments.exact);
  choice.exact = arguments.exact;
  choice.kv = !arguments.kv.empty() ? arguments.kv : arguments.exact || choice.weights == "F32" ? "float" : "bf16";
  return choice;
}

const AnyModelType& model_type(const ModelArguments& arguments, Use use) {
  if (arguments.compiled.empty()) return compiled_type(choice_of(arguments, use));
  const AnyModelType& type = open_compiled_model(arguments.compiled, header_fingerprint);
  const ModelInfo& info = type.info();
  const bool trains = use == Use::train_adapter || use == Use::train_all;
  if ((use == Use::adapters && !info.adapters) || (trains && !info.trains) ||
      (use == Use::train_adapter && !info.adapters) || (use == Use::train_all && info.adapters)) {
    throw Error("compiled", printable(arguments.compiled, 1000) + ": compile it with --train",
                trains ? "a model that can be trained" : "a model that holds adapters", describe(info));
  }
  return type;
}

const AnyModelType& model_type(const ModelArguments& arguments) {
  if (arguments.adapters.empty()) return model_type(arguments, Use::inference);
  chosen_adapter(arguments);
  for (const std::string& adapter : arguments.adapters) (void)adapter_base(adapter);  // before anything is compiled
  return model_type(arguments, Use::adapters);
}

std::string describe(const ModelInfo& info) {
  return std::string(info.weights) + (info.exact ? " (exact)" : "") + ", cache in " + std::string(info.kv);
}

std::uint64_t weight_bytes(const ModelConfig& c, std::string_view format) {
  const auto matrix = [&](std::size_t rows, std::size_t columns) {
    std::uint64_t bytes = 0;
    with_format(format, [&]<class F>(std::type_identity<F>) { bytes = PanelsView<F>::bytes(rows, columns); });
    return bytes;
  };
  const std::uint64_t attention =
      matrix(c.query_dim(), c.dim) + 2 * matrix(c.kv_dim(), c.dim) + matrix(c.dim, c.query_dim());
  const std::uint64_t feed_forward = 2 * matrix(c.hidden_dim, c.dim) + matrix(c.dim, c.hidden_dim);
  return c.n_layers * (attention + feed_forward + 2 * c.dim * sizeof(float)) + c.dim * sizeof(float) +
         2 * matrix(c.vocab_size, c.dim);
}

std::uint64_t cache_bytes(const ModelConfig& c, std::string_view kv) {
  const std::uint64_t entry = kv == "float"  ? kv_entry_bytes<float>(c.head_dim)
                              : kv == "bf16" ? kv_entry_bytes<bf16>(c.head_dim)
                                             : kv_entry_bytes<q8>(c.head_dim);
  return 2 * c.n_layers * c.n_kv_heads * c.cache_len() * entry;
}

}  // namespace mistral::tool
