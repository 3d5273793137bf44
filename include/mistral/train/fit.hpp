// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <mistral/checkpoint/tensor_files.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/train/batches.hpp>
#include <mistral/train/dataset.hpp>
#include <mistral/train/fit_hooks.hpp>
#include <mistral/train/fit_state.hpp>
#include <mistral/train/gradients.hpp>
#include <mistral/train/trainer_options.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// What a fit came to.
struct FitResult {
  std::uint64_t first_step = 0;  ///< updates that it was resumed after
  std::uint64_t steps = 0;       ///< updates in all, those before it was resumed among them
  bool stopped_early = false;    ///< for want of patience
  bool interrupted = false;      ///< by a hook, which returned false
  double first_loss = 0.0;       ///< of the evaluation before the first update; 0 without validation
  double best_loss = 0.0;        ///< of the best evaluation; 0 without validation
  std::uint64_t best_step = 0;   ///< of the best evaluation
};

namespace detail {

/// The run of one fit over a Trainer, or what has its members.
template <class Trainer, class Hooks>
class Fit {
  static_assert(CheckedFitHooks<Hooks>::value);

 public:
  Fit(Trainer& trainer, std::span<const Example> train, std::span<const Example> validation, const FitOptions& options,
      Hooks& hooks)
      : trainer_(trainer),
        train_(train),
        validation_(validation),
        options_(options),
        hooks_(hooks),
        batches_(train.size(), examples_per_step(options), options.seed),
        total_(fit_steps(train.size(), options)),
        eval_steps_(options.eval_steps != 0 ? options.eval_steps : batches_.per_epoch()),
        folder_(options, train, validation) {
    if (options.patience > 0 && validation.empty()) {
      throw Error("fit", "patience", "examples for validation", "none");
    }
    if (!(options.min_delta >= 0.0) || !std::isfinite(options.min_delta)) {
      throw Error("fit", "min_delta", "a finite number of nats, at least 0", number_text(options.min_delta));
    }
  }

  FitResult run() {
    FitResult result;
    if (options_.resume && folder_.kept() && path_exists(folder_.last())) {
      folder_.check_last();
      state_ = folder_.state(trainer_.resume(folder_.last()));
      result.first_step = trainer_.steps();
      if constexpr (HearsOfResuming<Hooks>) hooks_.resumed(trainer_.steps());
    } else if (!validation_.empty()) {
      result.interrupted = !evaluate();
      state_.first_loss = state_.best_loss;
      if (result.interrupted) save(folder_.last());
    }
    while (trainer_.steps() < total_ && !out_of_patience() && !result.interrupted) {
      result.interrupted = !step();
      const std::uint64_t done = trainer_.steps();
      const bool due = done % eval_steps_ == 0 || done == total_;
      if (due && !validation_.empty() && !evaluate()) result.interrupted = true;
      const bool save_due = options_.save_steps != 0 ? done % options_.save_steps == 0 || done == total_ : due;
      if (save_due || result.interrupted || out_of_patience()) save(folder_.last());
    }
    result.steps = trainer_.steps();
    result.stopped_early = out_of_patience() && trainer_.steps() < total_;
    if (!validation_.empty()) {
      result.first_loss = state_.first_loss;
      result.best_loss = state_.best_loss;
      result.best_step = state_.best_step;
      restore_best();
    }
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;

  static double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  bool out_of_patience() const noexcept { return options_.patience > 0 && state_.since_best >= options_.patience; }

  /// False where a hook wants no more.
  bool step() {
    const Clock::time_point begin = Clock::now();
    const std::uint64_t number = trainer_.steps() + 1;
    const std::span<const std::size_t> order = batches_.at(trainer_.steps());
    FitStep report{.step = number,
                   .total_steps = total_,
                   .epoch = static_cast<double>(number) / static_cast<double>(batches_.per_epoch()),
                   .loss = 0.0f,
                   .learning_rate = trainer_.learning_rate(),
                   .gradient_norm = 0.0,
                   .tokens = 0,
                   .seconds = 0.0};
    try {
      std::vector<Example> part;
      for (const std::size_t& i : order) {
        part.push_back(train_[i]);
        report.tokens += train_[i].tokens.size() - 1;
        if (part.size() < options_.batch && &i != &order.back()) continue;
        trainer_.accumulate(part);
        part.clear();
      }
      report.loss = trainer_.update();
    } catch (const Error& error) {
      if constexpr (requires { trainer_.discard(); }) trainer_.discard();  // the parts before
      throw Error("fit", "step " + std::to_string(number) + ": " + std::string(said_by(error)));
    } catch (...) {
      if constexpr (requires { trainer_.discard(); }) trainer_.discard();
      throw;
    }
    report.gradient_norm = trainer_.gradient_norm();
    report.seconds = seconds_since(begin);
    state_.add(report.loss, options_.max_loss_rise, number);
    if constexpr (HearsSteps<Hooks>) return wants_more([&] { return hooks_.step(report); });
    return true;
  }

  /// What a hook says, which may be nothing.
  template <class Call>
  static bool wants_more(const Call& call) {
    if constexpr (std::is_void_v<std::invoke_result_t<const Call&>>) {
      call();
      return true;
    } else {
      return static_cast<bool>(call());
    }
  }

  /// False where a hook wants no more.
  bool evaluate() {
    const Clock::time_point begin = Clock::now();
    const double loss = trainer_.evaluate(validation_);
    const std::uint64_t step = trainer_.steps();
    if (!std::isfinite(loss)) {
      throw Error("fit", "step " + std::to_string(step) + ": the validation loss", "a finite number",
                  number_text(loss));
    }
    const bool best = loss < state_.best_loss;
    // Small steps add up: what counts is held against the loss that counted last, which may be above the lowest.
    const bool counts = loss < state_.counted_loss - options_.min_delta;
    if (counts) state_.counted_loss = loss;
    state_.since_best = counts ? 0 : state_.since_best + 1;
    if (best) {
      state_.best_loss = loss;
      state_.best_step = step;
      // before the last checkpoint: a run that is killed in between comes here again, with the same loss
      keep_best();
    }
    if constexpr (HearsEvaluations<Hooks>) {
      const FitEvaluation report{step, loss, best, seconds_since(begin)};
      return wants_more([&] { return hooks_.evaluation(report); });
    }
    return true;
  }

  void save(const std::string& path) const {
    if (folder_.kept()) trainer_.save(path, folder_.notes(state_));
  }

  void keep_best() {
    if (folder_.kept()) return save(folder_.best());
    best_.clear();
    for (const Parameter& p : trainer_.parameters()) best_.insert(best_.end(), p.value.begin(), p.value.end());
  }

  void restore_best() {
    if (state_.best_step == trainer_.steps()) return;
    if (folder_.kept()) {
      trainer_.resume(folder_.best());
      return;
    }
    const float* from = best_.data();
    for (const Parameter& p : trainer_.parameters()) {
      std::memcpy(p.value.data(), from, p.value.size_bytes());
      from += p.value.size();
    }
  }

  Trainer& trainer_;
  std::span<const Example> train_;
  std::span<const Example> validation_;
  const FitOptions& options_;
  Hooks& hooks_;
  Batches batches_;
  std::uint64_t total_;
  std::uint64_t eval_steps_;
  FitFolder folder_;
  FitState state_;
  std::vector<float> best_;  // parameters, where there is no folder for them
};

}  // namespace detail

/// Trains on examples, in an order of its own for each epoch, and evaluates on others on the way; ends with the
/// parameters of the best evaluation, also where patience or a hook ends it, or the last ones where there are no
/// examples for validation. What a run that was ended is resumed from is its last checkpoint.
///
/// Of a Trainer's options, `total_steps` should be fit_steps(train.size(), options), and `seed` is another seed than
/// the one here. Where there is a folder, its last checkpoint holds all that the run's future depends on, parameters,
/// moments, counts: an interrupted run that is resumed with the same options and data ends in the same bits as an
/// unbroken one, and a run that is killed, at whatever moment, leaves a last checkpoint that can be gone on from.
///
/// Throws Error `[fit] ...` for options out of range, for a checkpoint of another fit, where another fit writes to the
/// folder now, and `[fit] step 12: ...` where an update fails, its loss or gradient isn't finite, or the loss rises by
/// max_loss_rise; the checkpoints are then those from before.
template <class Trainer, class Hooks = NoFitHooks>
FitResult fit(Trainer& trainer, std::span<const Example> train, std::span<const Example> validation,
              const FitOptions& options, Hooks&& hooks = {}) {
  return detail::Fit<Trainer, std::remove_reference_t<Hooks>>(trainer, train, validation, options, hooks).run();
}

}}  // namespace mistral
