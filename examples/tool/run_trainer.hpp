// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <mistral/io/os/folders.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/run/any_model.hpp>

#include "model_files.hpp"
#include "run_folder.hpp"

namespace mistral::tool {

/// Has the members of a Trainer that a fit uses. With each state that is saved or resumed comes the model that it
/// stands for, and each state says what the model was made of.
class RunTrainer {
 public:
  struct Saved {
    std::string base_model;  // for PEFT
    SaveCheckpointOptions checkpoint;
    std::vector<std::pair<std::string, std::string>> tokenizer;  // files that go beside all weights
    bool full;
    bool validated;  // there is a best state; otherwise the last is the best
  };

  RunTrainer(AnyModel& model, AnyTrainer& trainer, const RunFolder& folder, Saved saved,
             SafetensorsWriter::Metadata settings)
      : model_(model), trainer_(trainer), folder_(folder), saved_(std::move(saved)), settings_(std::move(settings)) {}

  void accumulate(std::span<const Example> batch) { trainer_.accumulate(batch); }
  float update() { return trainer_.update(); }
  double evaluate(std::span<const Example> examples) { return trainer_.evaluate(examples); }
  std::uint64_t steps() const noexcept { return trainer_.steps(); }
  float learning_rate() const noexcept { return trainer_.learning_rate(); }
  double gradient_norm() const noexcept { return trainer_.gradient_norm(); }
  std::span<const Parameter> parameters() const noexcept { return trainer_.parameters(); }

  void save(const std::string& path, SafetensorsWriter::Metadata notes) const {
    notes.insert(notes.end(), settings_.begin(), settings_.end());
    trainer_.save(path, notes);
    save_model(path);
  }

  SafetensorsWriter::Metadata resume(const std::string& path) {
    const Safetensors state = Safetensors::open(path);
    const auto notes = state.metadata();
    for (const auto& setting : settings_) {
      const auto found =
          std::find_if(notes.begin(), notes.end(), [&](const auto& note) { return note.first == setting.first; });
      const std::string was = found == notes.end() ? "nothing" : found->second;
      if (was != setting.second) {
        throw Error("finetune", printable(path, 1000) + ": " + setting.first, setting.second, printable(was, 1000));
      }
    }
    SafetensorsWriter::Metadata resumed = trainer_.resume(path);
    save_model(path);  // which a run that was killed may not have come to
    return resumed;
  }

 private:
  void save_model(const std::string& state) const {
    const bool best = state.ends_with("best.safetensors");
    if (best || !saved_.validated) save_model_to(folder_.path());
    if (!best) save_model_to(folder_.in("last"));
  }

  void save_model_to(const std::string& folder) const {
    if (!saved_.full) return model_.save_adapter(folder, {.base_model = saved_.base_model});
    FolderToFill out(folder, "finetune");
    FilesBeside files(out, saved_.tokenizer, "finetune");
    model_.save_checkpoint(folder, saved_.checkpoint);
    files.commit();
    out.keep();
  }

  AnyModel& model_;
  AnyTrainer& trainer_;
  const RunFolder& folder_;
  Saved saved_;
  SafetensorsWriter::Metadata settings_;
};

}  // namespace mistral::tool
