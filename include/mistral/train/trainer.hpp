// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/core/lifetime.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/random.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/train/backward.hpp>
#include <mistral/train/check_examples.hpp>
#include <mistral/train/gradients.hpp>
#include <mistral/train/optimizer.hpp>
#include <mistral/train/trainable.hpp>
#include <mistral/train/trainer_options.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Trains a model in place: all parameters of a Transformer<C, F32>, or one adapter of a Transformer<C, Lora<F>>. The
/// model, and that adapter, must neither move nor end before it, and nobody else may use the model during a call; debug
/// builds assert that, and that one thread uses the trainer at a time. Results are the same bits on any number of
/// threads.
template <class Model>
class Trainer {
  static constexpr ModelConfig C = Model::config;
  using F = typename Model::Format;
  static_assert(
      Trainable<F>,
      "this model's weights can't be trained: hold them as F32 for all parameters, or as Lora<F> for adapters");

 public:
  /// Throws Error for options out of range, and for a model without the adapter.
  explicit Trainer(Model& model, const TrainerOptions& options = {})
      : model_(&model),
        watch_(model.lifetime(), detail::asserts),
        options_(checked(model, options)),
        gradients_(model, options.adapter) {
    parameters_ = gradients_.parameters(model);
    for (const Parameter& p : parameters_) {
      first_moments_.emplace_back(p.value.size());
      if (options_.optimizer == Optimizer::adamw) second_moments_.emplace_back(p.value.size());
    }
  }

  /// A temporary model would end before its trainer.
  explicit Trainer(Model&&, const TrainerOptions& = {}) = delete;

  /// One step: the gradient over a batch (and what was accumulated before), and the update. Returns the mean
  /// cross-entropy over the batch's targets, in nats, before the step. Throws Error for an example without a target or
  /// with a token outside the vocabulary, and where the loss or a gradient isn't finite. Whatever it throws, that or
  /// std::bad_alloc, the model and the trainer are as after the last update, and what was accumulated is given up.
  float step(std::span<const Example> batch) {
    accumulate(batch);
    return update();
  }

  /// Adds the gradient of some more examples, for a batch that comes in parts. Throws as step does; the parts before it
  /// are then given up too.
  void accumulate(std::span<const Example> batch) {
    const auto alone = enter();
    try {
      assert(in_place() && "trainer: the adapter that it trains was removed, or another put in its place");
      detail::check_examples(batch, C);
      for (std::size_t first = 0; first < batch.size();) {
        const std::size_t count = pass_of(batch.subspan(first));
        const Pass pass = lay_out(batch.subspan(first, count), examples_ + first);
        loss_ += backward(pass.tokens.size())
                     .run(*model_, gradients_, pass.tokens, pass.lengths, pass.targets,
                          HoldsAdapters<F> ? std::span<const std::uint64_t>(pass.row_keys)
                                           : std::span<const std::uint64_t>{});
        targets_ += pass.targets.size();
        first += count;
      }
      examples_ += batch.size();
      accumulated_examples_ += batch.size();
      if (!std::isfinite(loss_)) throw failed("the loss", loss_);
    } catch (...) {
      discard();
      throw;
    }
  }

  /// The update from all that was accumulated since the last one: the gradient of the mean over its targets. Returns
  /// that mean, and throws, as step does.
  float update() {
    const auto alone = enter();
    if (targets_ == 0) throw Error("trainer", "a step", "at least one example", "none");
    const double mean = 1.0 / static_cast<double>(targets_);
    const auto loss = static_cast<float>(loss_ * mean);
    try {
      double squares = 0.0;
      for (const Parameter& p : parameters_) squares += sum_of_squares(p.gradient);
      const double norm = std::sqrt(squares) * mean;
      if (!std::isfinite(norm)) throw failed("the gradient's norm", norm);
      gradient_norm_ = norm;
    } catch (...) {
      discard();
      throw;
    }
    // from here on nothing throws
    const auto limit = static_cast<double>(options_.max_grad_norm);
    const double clip = limit > 0.0 && gradient_norm_ > limit ? limit / gradient_norm_ : 1.0;
    const UpdateStep step{learning_rate(), options_.weight_decay, static_cast<float>(mean * clip),
                          options_.beta1,  options_.beta2,        options_.epsilon,
                          steps_ + 1};
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const Parameter& p = parameters_[i];
      if (options_.optimizer == Optimizer::adamw) {
        adamw_update(step, p.value, p.gradient, first_moments_[i].span(), second_moments_[i].span());
      } else {
        sgd_update(step, p.value, p.gradient, first_moments_[i].span());
      }
    }
    ++steps_;
    accumulated_examples_ = 0;  // they have been learnt from
    discard();
    return loss;
  }

  /// Gives up what was accumulated since the last update.
  void discard() noexcept {
    for (const Parameter& p : parameters_) std::fill(p.gradient.begin(), p.gradient.end(), 0.0f);
    loss_ = 0.0;
    targets_ = 0;
    examples_ -= std::exchange(accumulated_examples_, 0);
  }

  /// The mean cross-entropy over the examples' targets, in nats, without dropout: for validation. Throws Error as step
  /// does for bad examples.
  double evaluate(std::span<const Example> examples) {
    const auto alone = enter();
    detail::check_examples(examples, C);
    double loss = 0.0;
    std::size_t targets = 0;
    for (std::size_t first = 0; first < examples.size();) {
      const std::size_t count = pass_of(examples.subspan(first));
      const Pass pass = lay_out(examples.subspan(first, count), 0);
      loss += backward(pass.tokens.size()).loss(*model_, options_.adapter, pass.tokens, pass.lengths, pass.targets);
      targets += pass.targets.size();
      first += count;
    }
    return loss / static_cast<double>(targets);
  }

  /// Writes all that the training's future depends on (parameters, moments, the counts that the schedule and dropout go
  /// by) to one file, whole or not at all: a run that is resumed from it ends in the same bits as one that went on.
  /// `notes` go into the same file, for the caller's own state: names that are none of the trainer's, and texts. Throws
  /// Error between accumulate and update, and where the file can't be written.
  void save(const std::string& path, const SafetensorsWriter::Metadata& notes = {}) const {
    check_model();
    assert(!in_use_.used() && "trainer: another thread uses it");
    if (targets_ != 0) throw Error("trainer", "a state to be saved", "one between updates", "accumulated gradients");
    std::vector<SafetensorsTensor> tensors;
    for_each_tensor(*this, [&](const std::string& name, std::span<const float> values) {
      tensors.push_back({name, DType::f32, {values.size()}, std::as_bytes(values)});
    });
    SafetensorsWriter::Metadata metadata = detail::trainer_settings(options_);
    metadata.emplace_back("steps", std::to_string(steps_));
    metadata.emplace_back("examples", std::to_string(examples_));
    metadata.insert(metadata.end(), notes.begin(), notes.end());
    write_safetensors(path, tensors, metadata);
  }

  /// Goes on from what `save` wrote, for the same model, options and base weights. Returns the file's metadata, the
  /// notes among them. Throws Error for a file of another kind, another model or other options; the trainer is then as
  /// it was, and so where there is no memory.
  SafetensorsWriter::Metadata resume(const std::string& path) {
    const auto alone = enter();
    assert(in_place() && "trainer: the adapter that it trains was removed, or another put in its place");
    const Safetensors file = Safetensors::open(path);
    const auto text = [&](std::string_view key) -> const std::string& {
      for (const auto& [name, value] : file.metadata()) {
        if (name == key) return value;
      }
      throw Error("trainer", printable(path, 1000), "the state of a trainer", "no '" + std::string(key) + "'");
    };
    for (const auto& [key, value] : detail::trainer_settings(options_)) {
      if (text(key) != value) {
        throw Error("trainer", printable(path, 1000) + ": " + key, value, printable(text(key)));
      }
    }
    const std::uint64_t steps = detail::count_of(text("steps"), path);
    const std::uint64_t examples = detail::count_of(text("examples"), path);
    std::vector<std::pair<std::span<float>, const std::byte*>> copies;
    for_each_tensor(*this, [&](const std::string& name, std::span<float> values) {
      const SafetensorsTensor& tensor = file.get(name);
      if (tensor.dtype != DType::f32 || tensor.data.size() != values.size_bytes()) {
        throw Error("trainer", printable(path, 1000) + ": tensor '" + printable(name) + "'",
                    "F32 [" + std::to_string(values.size()) + "]",
                    std::string(info(tensor.dtype).name) + " " + shape_text(tensor.shape));
      }
      copies.emplace_back(values, tensor.data.data());
    });
    if (copies.size() != file.tensors().size()) {
      throw Error("trainer", printable(path, 1000), std::to_string(copies.size()) + " tensors",
                  std::to_string(file.tensors().size()));
    }
    SafetensorsWriter::Metadata notes(file.metadata().begin(), file.metadata().end());
    // from here on nothing throws
    for (const auto& [values, bytes] : copies) std::memcpy(values.data(), bytes, values.size_bytes());
    discard();
    steps_ = steps;
    examples_ = examples;
    return notes;
  }

  /// Updates so far.
  std::uint64_t steps() const noexcept { return steps_; }

  /// The learning rate of the next update.
  float learning_rate() const noexcept {
    return static_cast<float>(scheduled_rate(options_.schedule, static_cast<double>(options_.learning_rate),
                                             static_cast<double>(options_.min_learning_rate), options_.warmup_steps,
                                             options_.total_steps, steps_));
  }

  /// The norm of the last update's gradient, all parameters together, before clipping.
  double gradient_norm() const noexcept { return gradient_norm_; }

  /// What is trained, and the gradients that were accumulated since the last update: sums over the targets.
  std::span<const Parameter> parameters() const noexcept { return parameters_; }

  /// Targets that were accumulated since the last update.
  std::size_t accumulated_targets() const noexcept { return targets_; }

  /// What it was made with.
  const TrainerOptions& options() const noexcept { return options_; }
  /// What it trains.
  const Model& model() const noexcept {
    check_model();
    return *model_;
  }

 private:
  struct Pass {
    std::vector<TokenId> tokens;
    std::vector<std::size_t> lengths;
    std::vector<typename Backward<Model>::Target> targets;
    std::vector<std::uint64_t> row_keys;
  };

  // What changes the model or the state begins with this.
  detail::InUse::Scope enter() noexcept {
    detail::InUse::Scope use(in_use_, detail::asserts);
    assert(use.alone() && "trainer: two threads use it at once");
    check_model();
    return use;
  }

  void check_model() const noexcept {
    assert(!watch_.moved() && "trainer: its model was moved: it must neither move nor end before its trainers");
    assert(!watch_.ended() && "trainer: its model has ended: it must neither move nor end before its trainers");
  }

  // Whether the parameters stand where they stood when it was made.
  bool in_place() {
    if constexpr (HoldsAdapters<F>) {
      if (options_.adapter >= model_->output.adapters.size()) return false;
    }
    const std::vector<Parameter> now = gradients_.parameters(*model_);
    return std::equal(now.begin(), now.end(), parameters_.begin(), parameters_.end(),
                      [](const Parameter& a, const Parameter& b) { return a.value.data() == b.value.data(); });
  }

  /// Calls visit(name, values) for each tensor of the state.
  template <class Self, class Visitor>
  static void for_each_tensor(Self& self, const Visitor& visit) {
    for (std::size_t i = 0; i < self.parameters_.size(); ++i) {
      const Parameter& p = self.parameters_[i];
      visit(p.name, p.value);
      visit(p.name + ".first_moment", self.first_moments_[i].span());
      if (!self.second_moments_.empty()) visit(p.name + ".second_moment", self.second_moments_[i].span());
    }
  }

  static Error failed(std::string_view what, double value) {
    return Error("trainer", what, "a finite number", number_text(value));
  }

  /// Weights that lie in a mapped file are read only.
  struct HoldsOwnMemory {
    void operator()(const std::string& name, Panels<F32>& matrix, std::size_t) const {
      if (matrix.own_bytes().size() == PanelsView<F32>::bytes(matrix.rows(), matrix.cols())) return;
      throw Error("trainer", name, "weights in memory of their own", "weights in a file");
    }
    void operator()(const std::string&, const Buffer<float>&) const noexcept {}
  };

  static const TrainerOptions& checked(Model& model, const TrainerOptions& options) {
    detail::check_options(options);
    if constexpr (HoldsAdapters<F>) {
      if (options.adapter >= model.output.adapters.size()) {
        throw Error("trainer", "adapter", "one of the model's " + std::to_string(model.output.adapters.size()),
                    std::to_string(options.adapter));
      }
    } else {
      visit_weights(model, HoldsOwnMemory{});
    }
    return options;
  }

  /// How many of the next examples go through the model together.
  std::size_t pass_of(std::span<const Example> batch) const noexcept {
    std::size_t rows = batch[0].tokens.size() - 1;
    std::size_t count = 1;
    while (count < batch.size() && rows + batch[count].tokens.size() - 1 <= options_.rows) {
      rows += batch[count++].tokens.size() - 1;
    }
    return count;
  }

  /// An example's last token predicts nothing: it has no row.
  Pass lay_out(std::span<const Example> examples, std::uint64_t number) const {
    Pass pass;
    for (const Example& example : examples) {
      const std::size_t rows = example.tokens.size() - 1;
      const TokenRange rest{example.answer_begin, example.tokens.size()};
      for (const TokenRange& range :
           example.answers.empty() ? std::span<const TokenRange>(&rest, 1) : example.answers) {
        for (std::size_t t = (std::max<std::size_t>)(1, range.begin); t < range.end; ++t) {
          pass.targets.push_back({pass.tokens.size() + t - 1, example.tokens[t]});
        }
      }
      pass.tokens.insert(pass.tokens.end(), example.tokens.begin(), example.tokens.end() - 1);
      pass.lengths.push_back(rows);
      std::uint64_t state = options_.seed;
      state = split_mix(state) ^ number++;
      for (std::size_t t = 0; t < rows; ++t) pass.row_keys.push_back(split_mix(state));
    }
    return pass;
  }

  Backward<Model>& backward(std::size_t rows) {
    if (!backward_ || backward_->capacity() < rows) {
      std::size_t rank = 0;
      if constexpr (HoldsAdapters<F>) {
        visit_projections(*model_, [&](const std::string&, const auto& linear, std::size_t) {
          rank = (std::max)(rank, linear.adapters[options_.adapter].rank());
        });
      }
      backward_.reset();  // before the new one is made
      backward_.emplace(rows, rank, options_.keep_activations);
    }
    return *backward_;
  }

  Model* model_;
  detail::LifeWatch watch_;  // of the model
  detail::InUse in_use_;
  TrainerOptions options_;
  Gradients<Model> gradients_;
  std::vector<Parameter> parameters_;
  std::vector<Buffer<float>> first_moments_;   // of each parameter
  std::vector<Buffer<float>> second_moments_;  // AdamW only
  std::optional<Backward<Model>> backward_;
  std::uint64_t steps_ = 0;
  std::uint64_t examples_ = 0;              // that went through a backward, ever: what their dropout is drawn from
  std::uint64_t accumulated_examples_ = 0;  // of them, those since the last update
  double loss_ = 0.0;                       // sum over the targets accumulated
  std::size_t targets_ = 0;
  double gradient_norm_ = 0.0;
};

/// A trainer of a model: `Trainer trainer{model, {.learning_rate = 1e-3f}}`.
template <class Model>
Trainer(Model&, const TrainerOptions& = {}) -> Trainer<Model>;

}}  // namespace mistral
