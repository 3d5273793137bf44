// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <mistral/checkpoint/adapter_folder.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/train/gradients.hpp>
#include <mistral/train/trainer_options.hpp>

#include "any_model.hpp"

namespace mistral::tool {

/// What of a model is trained.
enum class Train {
  adapter,  ///< adapters beside a frozen base, in any format
  all,      ///< every parameter; the preset's weights are F32
};

/// A Trainer whose model's type is known at run time only. Its members are those of mistral::Trainer, which says what
/// they do.
class AnyTrainer {
 public:
  virtual ~AnyTrainer() = default;

  virtual float step(std::span<const Example> batch) = 0;
  virtual void accumulate(std::span<const Example> batch) = 0;
  virtual float update() = 0;
  virtual double evaluate(std::span<const Example> examples) = 0;
  virtual void save(const std::string& path, const SafetensorsWriter::Metadata& notes = {}) const = 0;
  virtual SafetensorsWriter::Metadata resume(const std::string& path) = 0;

  virtual std::uint64_t steps() const noexcept = 0;
  virtual float learning_rate() const noexcept = 0;
  virtual double gradient_norm() const noexcept = 0;
  virtual std::size_t accumulated_targets() const noexcept = 0;
  virtual const TrainerOptions& options() const noexcept = 0;
  virtual std::span<const Parameter> parameters() const noexcept = 0;
};

/// A model that can be trained, whose type is known at run time only. It must outlive its sessions and trainers; while
/// a call of a trainer runs, nobody else may use it. Where all parameters are trained (Train::all) it has no adapters:
/// what adds, loads or saves one throws Error.
///
/// session() goes through adapter 0, where there is one, unless another is chosen before.
class AnyTunable : public AnyModel {
 public:
  virtual std::size_t add_adapter(const AdapterOptions& options) = 0;
  virtual std::size_t load_adapter(const std::string& folder) = 0;
  virtual std::optional<bool> trained_beside(const std::string& folder) const = 0;
  virtual void use_adapter(std::size_t adapter) noexcept = 0;
  virtual void save_adapter(const std::string& folder, const SaveAdapterOptions& options) const = 0;

  /// mistral::save_checkpoint, of a model whose parameters are all trained. Throws Error for another.
  virtual void save_checkpoint(const std::string& folder, const SaveCheckpointOptions& options) const = 0;

  /// A trainer of options.adapter, or of all parameters.
  virtual std::unique_ptr<AnyTrainer> trainer(const TrainerOptions& options) = 0;
};

/// The part of a preset that is compiled where its line in presets.txt says `train`.
class AnyTraining {
 public:
  virtual ~AnyTraining() = default;

  /// Whether all parameters can be trained: the preset's weights are F32.
  virtual bool trains_all() const noexcept = 0;

  /// Throws Error as mistral::load does, and for Train::all where trains_all() is false.
  virtual std::unique_ptr<AnyTunable> load(const std::string& folder, const LoadOptions& options, Train what) const = 0;

  /// A model of random weights: for benchmarks, and for training from scratch. Throws as load does.
  virtual std::unique_ptr<AnyTunable> random(std::uint64_t seed, Train what) const = 0;
};

}  // namespace mistral::tool
