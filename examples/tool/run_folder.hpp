// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <mistral/io/os/folders.hpp>
#include <mistral/train/fit.hpp>

#include "loss_plot.hpp"

namespace mistral::tool {

/// The folder that `mistral finetune` writes to:
///   adapter_config.json, adapter_model.safetensors   the best adapter so far, as PEFT has it; of all weights:
///                                                    config.json, model.safetensors, tokenizer.model
///   last/                                            the same after the last checkpoint
///   state/last.safetensors, state/best.safetensors   what a run is resumed from
///   metrics.jsonl                                    a JSON object for each step and each evaluation
///   loss.svg                                         their losses, drawn
class RunFolder {
 public:
  /// Makes the folder if need be, which goes again where no step of a run is kept in it. Throws Error where that fails,
  /// where another run writes to it now, and where it holds a run's state that isn't to be resumed.
  RunFolder(std::string path, bool resume);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder();  // takes away what it made where no step was kept: on a full disk

  const std::string& path() const noexcept { return path_; }
  std::string in(const std::string& name) const;

  /// The names of all files that a run may write to its folder.
  static std::vector<std::string> files();

 private:
  std::string path_;
  std::vector<std::string> to_remove_;  // files, then folders, where this object made the folder
  std::optional<FolderLock> lock_;
};

/// The losses of a run, kept in metrics.jsonl as they come, and drawn.
class Metrics {
 public:
  Metrics(const RunFolder& folder, std::string title);
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;
  ~Metrics();

  /// Goes on behind a checkpoint: what the file has of later steps is dropped, for it will come again.
  void resumed(std::uint64_t step);

  void add(const FitStep& step);
  void add(const FitEvaluation& evaluation);

  /// Draws loss.svg.
  void draw() const;

 private:
  void write(const std::string& line);

  std::string path_;
  std::string plot_path_;
  std::string title_;
  LossCurve training_;
  LossCurve validation_;
  int descriptor_ = -1;  // none yet: the first line begins the file anew
};

}  // namespace mistral::tool
