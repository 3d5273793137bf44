// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <mistral/core/abi.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/train/gradients.hpp>
#include <mistral/train/trainer_options.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A Trainer whose model's type is known at run time only. Each member does what the member of Trainer of that name
/// does.
class AnyTrainer {
 public:
  virtual ~AnyTrainer() = default;

  /// Takes one step on a batch. Returns the mean loss before it.
  virtual float step(std::span<const Example> batch) = 0;
  /// Adds the gradients of a batch to those that the next update goes by.
  virtual void accumulate(std::span<const Example> batch) = 0;
  /// Takes the step that the accumulated gradients ask for. Returns their mean loss.
  virtual float update() = 0;
  /// Returns the mean loss of some examples, of which nothing is learned.
  virtual double evaluate(std::span<const Example> examples) = 0;
  /// Writes the state of the training to a file.
  virtual void save(const std::string& path, const SafetensorsWriter::Metadata& notes = {}) const = 0;
  /// Takes the state of a file up again. Returns its notes.
  virtual SafetensorsWriter::Metadata resume(const std::string& path) = 0;

  /// Number of updates so far.
  virtual std::uint64_t steps() const noexcept = 0;
  /// The learning rate of the next update.
  virtual float learning_rate() const noexcept = 0;
  /// The norm of the last update's gradients, before they were clipped.
  virtual double gradient_norm() const noexcept = 0;
  /// Number of predicted tokens whose gradients wait for the next update.
  virtual std::size_t accumulated_targets() const noexcept = 0;
  /// Returns the options that the trainer was made with.
  virtual const TrainerOptions& options() const noexcept = 0;
  /// Returns the parameters that are trained.
  virtual std::span<const Parameter> parameters() const noexcept = 0;
};

}}  // namespace mistral
