// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/checkpoint/checkpoint.hpp>
#include <mistral/core/config.hpp>

#include "any_model.hpp"

namespace mistral::tool {

/// All presets that this tool is compiled for, in the order of presets.txt.
std::span<const AnyPreset* const> presets();

/// The preset of that name, null where there is none.
const AnyPreset* find_preset(std::string_view name);

/// `mistral-7b-v0.1`, `tiny`, ...
std::vector<std::string> all_preset_names();

/// The fields of a config as text, by their names in ModelConfig.
using Fields = std::vector<std::pair<std::string_view, std::string>>;
Fields fields_of(const ModelConfig& config);
Fields fields_of(const CheckpointConfig& config);

/// A field in which a preset isn't what a checkpoint needs.
struct Difference {
  std::string_view field;
  std::string preset;
  std::string checkpoint;
};
std::vector<Difference> differences(const ModelConfig& preset, const CheckpointConfig& checkpoint);

/// The preset that fits a checkpoint; of several, the one whose format is the tensors' own, else the first. Where
/// `weights` isn't empty, only presets in that format fit, and of those that are `trainable`, only presets compiled for
/// training. Null where none does.
const AnyPreset* fitting_preset(const std::string& folder, const CheckpointConfig& checkpoint,
                                std::string_view weights = "", bool trainable = false);

/// That none fits, what to do about it, and in what the nearest ones differ: one line.
std::string why_none_fits(const CheckpointConfig& checkpoint, std::string_view weights = "");

/// The format that a checkpoint can be loaded in: a packed file's own, empty for others, which go into any.
std::string only_format(const std::string& folder);

/// The preset for a checkpoint: the one named, or the one that fits where `name` is empty, of those in the format
/// `weights` where that isn't empty. Throws Error where none does, UsageError where there is none of that name.
const AnyPreset& choose_preset(const std::string& folder, const std::string& name, std::string_view weights = "");

/// The same of the presets that are compiled for training. Throws Error where the one named, or all that fit, are not.
const AnyPreset& choose_trainable(const std::string& folder, const std::string& name, std::string_view weights = "");

/// The element type that most of a checkpoint's bytes have, as its file calls it.
std::string main_type(const Checkpoint& checkpoint);

}  // namespace mistral::tool
