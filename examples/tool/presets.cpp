// SPDX-License-Identifier: Apache-2.0
#include "presets.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include <mistral/core/number_text.hpp>

#include "commands.hpp"
#include "suggest.hpp"

namespace mistral::tool {

namespace {

// One list of names for both configs, so that their fields can be held against each other in pairs.
constexpr std::array<std::string_view, 11> field_names{"dim",        "n_layers",   "head_dim",    "hidden_dim",
                                                       "n_heads",    "n_kv_heads", "window_size", "context_len",
                                                       "vocab_size", "rope_theta", "norm_eps"};
constexpr std::string_view context_field = "context_len";

Fields named(const std::array<std::string, field_names.size()>& values) {
  Fields fields;
  for (std::size_t i = 0; i < values.size(); ++i) fields.emplace_back(field_names[i], values[i]);
  return fields;
}

std::string text(std::size_t x) { return std::to_string(x); }
std::string text(std::int64_t x) { return std::to_string(x); }
// as a float holds it: 1e-05 of a file and 1e-5f of a config are the same text
std::string text(float x) { return number_text(x); }

}  // namespace

const AnyPreset* find_preset(std::string_view name) {
  for (const AnyPreset* preset : presets()) {
    if (preset->info().name == name) return preset;
  }
  return nullptr;
}

std::vector<std::string> all_preset_names() {
  std::vector<std::string> names;
  for (const AnyPreset* preset : presets()) names.emplace_back(preset->info().name);
  return names;
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

std::vector<Difference> differences(const ModelConfig& preset, const CheckpointConfig& checkpoint) {
  const Fields ours = fields_of(preset);
  const Fields theirs = fields_of(checkpoint);
  std::vector<Difference> out;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const bool fits =
        ours[i].first == context_field
            ? !checkpoint.context_len || preset.context_len <= static_cast<std::size_t>(*checkpoint.context_len)
            : ours[i].second == theirs[i].second;
    if (!fits) out.push_back({ours[i].first, ours[i].second, theirs[i].second});
  }
  return out;
}

std::string main_type(const Checkpoint& checkpoint) {
  std::map<std::string_view, std::size_t> bytes;
  for (std::size_t i = 0; i < checkpoint.size(); ++i) bytes[checkpoint[i].type_name] += checkpoint[i].data.size();
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& x, const auto& y) { return x.second < y.second; });
  return most != bytes.end() ? std::string(most->first) : std::string();
}

std::string only_format(const std::string& folder) {
  return is_packed_file(folder) ? PackedFile::open(folder).layout().format : std::string();
}

const AnyPreset* fitting_preset(const std::string& folder, const CheckpointConfig& checkpoint, std::string_view weights,
                                bool trainable) {
  std::vector<const AnyPreset*> fitting;
  std::vector<const AnyPreset*> longer;  // that differ in a longer context alone: load_model says so
  for (const AnyPreset* preset : presets()) {
    if (!weights.empty() && preset->info().weights != weights) continue;
    if (trainable && preset->training() == nullptr) continue;
    const std::vector<Difference> found = differences(preset->info().config, checkpoint);
    if (found.empty()) fitting.push_back(preset);
    if (found.size() == 1 && found[0].field == context_field) longer.push_back(preset);
  }
  if (fitting.empty()) fitting = std::move(longer);
  if (fitting.size() > 1) {
    const std::string type = main_type(Checkpoint::open(folder));
    for (const AnyPreset* preset : fitting) {
      if (preset->info().weights == type) return preset;
    }
  }
  return fitting.empty() ? nullptr : fitting[0];
}

std::string why_none_fits(const CheckpointConfig& checkpoint, std::string_view weights) {
  struct Candidate {
    const AnyPreset* preset;
    std::vector<Difference> differences;
  };
  std::vector<Candidate> candidates;
  for (const AnyPreset* preset : presets()) {
    candidates.push_back({preset, differences(preset->info().config, checkpoint)});
    if (!weights.empty() && preset->info().weights != weights) {
      candidates.back().differences.push_back({"weights", std::string(preset->info().weights), printable(weights, 40)});
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.differences.size() < b.differences.size(); });
  const Candidate& nearest = candidates[0];
  std::string line = "no preset fits: ";
  if (nearest.differences.size() == 1 && nearest.differences[0].field == "window_size") {
    line.append("pass --preset ").append(nearest.preset->info().name).append(" to go by its window instead, or ");
  }
  line += "add a line for it to examples/tool/presets.txt and build again; the nearest: ";
  constexpr std::size_t few = 3;  // so many presets are named, and so many of a preset's differences
  const auto described = [=](const std::vector<Difference>& all) {
    std::string text = " differs in";
    for (std::size_t i = 0; i < std::min(all.size(), few); ++i) {
      text.append(i == 0 ? " " : ", ").append(all[i].field);
      if (all.size() <= few) text.append(" (").append(all[i].preset).append(", here ").append(all[i].checkpoint) += ")";
    }
    if (all.size() > few) text.append(" and ").append(std::to_string(all.size() - few)).append(" more fields");
    return text;
  };
  std::vector<std::string> said;
  for (const Candidate& candidate : candidates) {
    const std::string text = described(candidate.differences);
    // another format of a shape says no more
    if (said.size() == few || std::find(said.begin(), said.end(), text) != said.end()) continue;
    line.append(said.empty() ? "" : "; ").append(candidate.preset->info().name).append(text);
    said.push_back(text);
  }
  return line;
}

const AnyPreset& choose_preset(const std::string& folder, const std::string& name, std::string_view weights) {
  if (!name.empty()) {
    if (const AnyPreset* preset = find_preset(name)) return *preset;
    throw UsageError("--preset: expected one of those that mistral presets lists, got '" + printable(name) + "'" +
                     did_you_mean(name, all_preset_names()));
  }
  const CheckpointConfig checkpoint = CheckpointConfig::read(folder);
  const std::string format = weights.empty() ? only_format(folder) : std::string(weights);
  if (const AnyPreset* preset = fitting_preset(folder, checkpoint, format)) return *preset;
  throw Error("checkpoint", printable(folder, 1000) + ": " + why_none_fits(checkpoint, format));
}

const AnyPreset& choose_trainable(const std::string& folder, const std::string& name, std::string_view weights) {
  const AnyPreset& preset = choose_preset(folder, name, weights);
  if (preset.training() != nullptr) return preset;
  if (name.empty()) {
    const std::string format = weights.empty() ? only_format(folder) : std::string(weights);
    const AnyPreset* const other = fitting_preset(folder, CheckpointConfig::read(folder), format, true);
    if (other != nullptr) return *other;
  }
  throw Error("trainer", "preset " + std::string(preset.info().name),
              "one that is compiled for training (write 'train' in its line of examples/tool/presets.txt, and build "
              "again)",
              "one that is not");
}

}  // namespace mistral::tool
