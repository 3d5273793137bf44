// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <mistral/checkpoint/tensor_files.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/printable.hpp>
#include <mistral/core/random.hpp>
#include <mistral/io/checksum.hpp>
#include <mistral/io/os/folders.hpp>
#include <mistral/io/os/temporaries.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/io/safetensors/writer.hpp>
#include <mistral/train/batches.hpp>
#include <mistral/train/trainer_options.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How long a fit goes on, what it does on the way, and what it keeps.
struct FitOptions {
  std::uint64_t epochs = 1;      ///< how often each example is learnt from
  std::uint64_t max_steps = 0;   ///< updates at most; 0: as many as the epochs have
  std::size_t batch = 4;         ///< examples that go through the model before there is a chance to stop
  std::size_t accumulation = 4;  ///< so many of these for an update
  std::uint64_t eval_steps = 0;  ///< updates from one evaluation to the next; 0: an epoch's
  std::uint64_t patience = 0;    ///< evaluations in a row without an improvement, and then the end; 0: never
  double min_delta = 0.0;        ///< nats: an improvement is a loss that is lower by more than that
  std::uint64_t save_steps = 0;  ///< updates from one checkpoint to the next; 0: with each evaluation
  float max_loss_rise = 1.0f;    ///< nats that the smoothed loss may be above its lowest; 0: any
  std::uint64_t seed = 0;        ///< of the order of the data
  std::string folder = {};       ///< for the checkpoints last.safetensors and best.safetensors; empty: none are kept
  bool resume = false;           ///< go on from the folder's last checkpoint, where there is one
};

namespace detail {

/// 0 where there are none; as many as can be counted at most.
inline std::size_t examples_per_step(const FitOptions& options) noexcept {
  const std::size_t most = (std::numeric_limits<std::size_t>::max)();
  if (options.batch == 0 || options.accumulation <= most / options.batch) return options.batch * options.accumulation;
  return most;
}

}  // namespace detail

/// Updates in all that a fit of so many examples takes: what a schedule's total_steps has to be.
inline std::uint64_t fit_steps(std::size_t examples, const FitOptions& options) {
  const std::uint64_t each = Batches(examples, detail::examples_per_step(options), 0).per_epoch();
  if (options.epochs > (std::numeric_limits<std::uint64_t>::max)() / each) {
    throw Error("fit", "epochs", "a number whose steps can be counted", std::to_string(options.epochs));
  }
  const std::uint64_t all = options.epochs * each;
  return options.max_steps != 0 && options.max_steps < all ? options.max_steps : all;
}

namespace detail {

/// 64 bits that tell one list of examples from another.
inline std::uint64_t fingerprint(std::span<const Example> examples) noexcept {
  std::uint64_t state = examples.size();
  const auto mix = [&state](std::uint64_t word) {
    const std::uint64_t mixed = split_mix(state);
    state = mixed ^ word;
  };
  for (const Example& example : examples) {
    mix(checksum(std::as_bytes(std::span(example.tokens))));
    mix(example.answer_begin);
    for (const TokenRange& range : example.answers) {
      mix(range.begin);
      mix(range.end);
    }
  }
  return state;
}

/// What a fit knows besides the trainer's state. It is kept in the trainer's file, as texts.
struct FitState {
  double best_loss = std::numeric_limits<double>::infinity();  // of the evaluations
  std::uint64_t best_step = 0;
  std::uint64_t since_best = 0;  // evaluations since the last that counted as an improvement
  double counted_loss = std::numeric_limits<double>::infinity();  // of that one
  double first_loss = 0.0;                                        // the first evaluation's
  double smoothed = -1.0;                                         // the step's losses; negative: there was none
  double lowest = 0.0;                                            // that `smoothed` ever was

  template <class Self, class Visitor>
  static void for_each(Self& self, const Visitor& visit) {
    visit("fit.best_loss", self.best_loss);
    visit("fit.best_step", self.best_step);
    visit("fit.since_best", self.since_best);
    visit("fit.counted_loss", self.counted_loss);
    visit("fit.first_loss", self.first_loss);
    visit("fit.smoothed", self.smoothed);
    visit("fit.lowest", self.lowest);
  }

  /// Takes in a step's loss. Throws Error where it rises.
  void add(float loss, float max_rise, std::uint64_t step) {
    constexpr double weight = 0.1;  // a mean over some ten steps: one odd batch is no rise
    const auto x = static_cast<double>(loss);
    smoothed = smoothed < 0.0 ? x : (1.0 - weight) * smoothed + weight * x;
    if (step == 1 || smoothed < lowest) lowest = smoothed;
    const double limit = lowest + static_cast<double>(max_rise);
    if (max_rise > 0.0f && smoothed > limit) {
      const auto text = [](double nats) { return number_text(static_cast<float>(nats)); };  // in few digits
      throw Error("fit", "step " + std::to_string(step) + ": the smoothed loss, which was " + text(lowest),
                  "at most " + text(limit) + " (a lower learning rate may do)", text(smoothed));
    }
  }
};

/// The bits, which a text in decimals may not have.
inline std::string note_text(double x) { return std::to_string(std::bit_cast<std::uint64_t>(x)); }
inline std::string note_text(std::uint64_t x) { return std::to_string(x); }

/// The checkpoints of a fit: each the trainer's state and the fit's in one file, which appears whole or not at all.
class FitFolder {
 public:
  /// Makes the folder if need be. Throws Error where that fails, and where another fit writes there now.
  FitFolder(const FitOptions& options, std::span<const Example> train, std::span<const Example> validation)
      : folder_(options.folder) {
    if (folder_.empty()) return;
    made_.emplace(folder_, "fit");
    lock_.emplace(folder_, "fit");
    settings_ = {{"fit.train_data", checksum_text(fingerprint(train))},
                 {"fit.validation_data", checksum_text(fingerprint(validation))},
                 {"fit.batch", std::to_string(options.batch)},
                 {"fit.accumulation", std::to_string(options.accumulation)},
                 {"fit.eval_steps", std::to_string(options.eval_steps)},
                 {"fit.seed", std::to_string(options.seed)}};
    for (const std::string& path : {last(), best()}) remove_stale_temporaries(path);
  }

  bool kept() const noexcept { return !folder_.empty(); }
  std::string last() const { return path_in(folder_, "last.safetensors"); }
  std::string best() const { return path_in(folder_, "best.safetensors"); }

  /// What is to stand in a checkpoint beside the trainer's state.
  SafetensorsWriter::Metadata notes(const FitState& state) const {
    SafetensorsWriter::Metadata out = settings_;
    FitState::for_each(state, [&](const char* name, const auto& value) { out.emplace_back(name, note_text(value)); });
    return out;
  }

  /// Throws Error where the last checkpoint is of a fit of other data or options. To be called before a trainer takes
  /// it, whose own options follow from these.
  void check_last() const {
    const Safetensors file = Safetensors::open(last());
    for (const auto& [name, value] : settings_) {
      const std::string_view found = find(file.metadata(), name);
      if (found == value) continue;
      if (name == "fit.train_data" || name == "fit.validation_data") {
        throw Error(
            "fit",
            printable(last(), 1000) + (name == "fit.train_data" ? ": the training data" : ": the validation data"),
            "those that the run was begun with (resume with them, or begin another run)", "others");
      }
      throw Error("fit", printable(last(), 1000) + ": " + name, value + ", as when it was begun", printable(found, 40));
    }
  }

  /// The state from a checkpoint's notes.
  FitState state(const SafetensorsWriter::Metadata& notes) const {
    FitState state;
    FitState::for_each(state, [&](const char* name, auto& value) {
      const std::string_view text = find(notes, name);
      std::uint64_t bits = 0;
      const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), bits);
      if (failure != std::errc() || end != text.data() + text.size()) {
        throw Error("fit", printable(last(), 1000) + ": " + name, "a whole number", printable(text, 40));
      }
      value = std::bit_cast<std::remove_reference_t<decltype(value)>>(bits);
    });
    return state;
  }

 private:
  std::string_view find(std::span<const std::pair<std::string, std::string>> notes, std::string_view name) const {
    for (const auto& [key, value] : notes) {
      if (key == name) return value;
    }
    throw Error("fit", printable(last(), 1000), "a checkpoint of a fit", "no '" + std::string(name) + "'");
  }

  std::string folder_;
  std::optional<FolderToFill> made_;  // gone again where not even a first checkpoint could be written
  std::optional<FolderLock> lock_;
  SafetensorsWriter::Metadata settings_;
};

}  // namespace detail

}}  // namespace mistral
