// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <mistral/train.hpp>

#include "any_trainer.hpp"
#include "preset_model.hpp"

/// \file
/// What is compiled for each preset that can be trained.

namespace mistral::tool {

template <class Model>
class TrainerOf final : public AnyTrainer {
 public:
  TrainerOf(Model& model, const TrainerOptions& options) : trainer_(model, options) {}

  float step(std::span<const Example> batch) override { return trainer_.step(batch); }
  void accumulate(std::span<const Example> batch) override { trainer_.accumulate(batch); }
  float update() override { return trainer_.update(); }
  double evaluate(std::span<const Example> examples) override { return trainer_.evaluate(examples); }
  void save(const std::string& path, const SafetensorsWriter::Metadata& notes) const override {
    trainer_.save(path, notes);
  }
  SafetensorsWriter::Metadata resume(const std::string& path) override { return trainer_.resume(path); }

  std::uint64_t steps() const noexcept override { return trainer_.steps(); }
  float learning_rate() const noexcept override { return trainer_.learning_rate(); }
  double gradient_norm() const noexcept override { return trainer_.gradient_norm(); }
  std::size_t accumulated_targets() const noexcept override { return trainer_.accumulated_targets(); }
  const TrainerOptions& options() const noexcept override { return trainer_.options(); }
  std::span<const Parameter> parameters() const noexcept override { return trainer_.parameters(); }

 private:
  Trainer<Model> trainer_;
};

template <class Model, KvElement KV>
class TunableOf final : public ModelOf<AnyTunable, Model, KV> {
  static constexpr bool has_adapters = is_lora<typename Model::Format>;

 public:
  using ModelOf<AnyTunable, Model, KV>::ModelOf;

  std::size_t add_adapter([[maybe_unused]] const AdapterOptions& options) override {
    if constexpr (has_adapters) return mistral::add_adapter(this->model_, options);
    throw no_adapters();
  }
  std::size_t load_adapter([[maybe_unused]] const std::string& folder) override {
    if constexpr (has_adapters) return mistral::load_adapter(this->model_, folder);
    throw no_adapters();
  }
  std::optional<bool> trained_beside([[maybe_unused]] const std::string& folder) const override {
    if constexpr (has_adapters) return mistral::trained_beside(this->model_, folder);
    throw no_adapters();
  }
  void use_adapter(std::size_t adapter) noexcept override { adapter_ = adapter; }
  std::unique_ptr<AnySession> session(std::size_t rollback) const override {
    auto session = std::make_unique<SessionOf<Model, KV>>(this->model_, rollback);
    if constexpr (has_adapters) session->use_adapter(adapter_);
    return session;
  }
  void save_adapter([[maybe_unused]] const std::string& folder,
                    [[maybe_unused]] const SaveAdapterOptions& options) const override {
    if constexpr (has_adapters) return mistral::save_adapter(this->model_, folder, options);
    throw no_adapters();
  }
  void save_checkpoint([[maybe_unused]] const std::string& folder,
                       [[maybe_unused]] const SaveCheckpointOptions& options) const override {
    if constexpr (!has_adapters) return mistral::save_checkpoint(this->model_, folder, options);
    throw Error("checkpoint", "a model to be saved", "one whose parameters are all trained", "one with adapters");
  }
  std::unique_ptr<AnyTrainer> trainer(const TrainerOptions& options) override {
    return std::make_unique<TrainerOf<Model>>(this->model_, options);
  }

 private:
  static Error no_adapters() {
    return Error("adapter", "the model", "a frozen base with adapters", "one whose parameters are all trained");
  }

  std::size_t adapter_ = 0;  // of new sessions
};

template <ModelConfig C, WeightFormat F, KvElement KV>
class TrainingOf final : public AnyTraining {
  static constexpr bool all = std::is_same_v<F, F32>;

 public:
  bool trains_all() const noexcept override { return all; }
  std::unique_ptr<AnyTunable> load(const std::string& folder, const LoadOptions& options, Train what) const override {
    return make(what, [&]<class Model>() { return mistral::load<Model>(folder, options); });
  }
  std::unique_ptr<AnyTunable> random(std::uint64_t seed, Train what) const override {
    return make(what, [&]<class Model>() { return random_model<Model>(seed); });
  }

 private:
  template <class Make>
  static std::unique_ptr<AnyTunable> make(Train what, const Make& make_model) {
    if (what == Train::all) {
      if constexpr (all) {
        using Model = Transformer<C, F32>;
        return std::make_unique<TunableOf<Model, KV>>(make_model.template operator()<Model>());
      }
      throw Error("trainer", "the weights of which all are to be trained", "F32", F::name);
    }
    using Model = Transformer<C, Lora<F>>;
    return std::make_unique<TunableOf<Model, KV>>(make_model.template operator()<Model>());
  }
};

}  // namespace mistral::tool
