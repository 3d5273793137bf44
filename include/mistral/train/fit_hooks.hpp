// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// An update that a fit has made.
struct FitStep {
  std::uint64_t step;         ///< 1 for the first
  std::uint64_t total_steps;  ///< that there will be
  double epoch;               ///< how often the data are gone through: 1.5 in the middle of the second epoch
  float loss;                 ///< the mean over the batch's targets, in nats, before the update
  float learning_rate;        ///< of the step
  double gradient_norm;       ///< before clipping
  std::size_t tokens;         ///< that went through the model
  double seconds;             ///< that the step took
};

/// An evaluation: the mean loss over the targets of all validation examples.
struct FitEvaluation {
  std::uint64_t step;  ///< updates before it; 0: of the model as it was
  double loss;         ///< nats a token, the mean over the validation examples' targets
  bool best;           ///< the lowest so far
  double seconds;      ///< since the evaluation began
};

/// Hooks that do nothing. Those of your own have some of these members:
///   bool step(const FitStep&)               after each update; false: save, and end
///   bool evaluation(const FitEvaluation&)   after each evaluation; false: save, and end
///   void resumed(std::uint64_t step)        once, where a checkpoint is gone on from
/// The first two may return void, and then never end it. A member of one of these names that can't be called so doesn't
/// compile, nor do hooks of other names alone (CheckedFitHooks).
struct NoFitHooks {};

namespace detail {

template <class Hooks>
concept HearsSteps = requires(Hooks& hooks, const FitStep& x) {
  hooks.step(x);
};
template <class Hooks>
concept HearsEvaluations = requires(Hooks& hooks, const FitEvaluation& x) {
  hooks.evaluation(x);
};
template <class Hooks>
concept HearsOfResuming = requires(Hooks& hooks, std::uint64_t step) {
  hooks.resumed(step);
};

/// Whether there is a member that can be called as a hook can, of a name that is nearly a hook's.
// clang-format off
#define MISTRAL_CALLED(name) requires(T& t, Argument x) { t.name(x); }
template <class T, class Argument>
concept NearlyStep = MISTRAL_CALLED(steps) || MISTRAL_CALLED(Step) || MISTRAL_CALLED(on_step) ||
    MISTRAL_CALLED(onStep) || MISTRAL_CALLED(stepped) || MISTRAL_CALLED(update) || MISTRAL_CALLED(on_update);
template <class T, class Argument>
concept NearlyEvaluation = MISTRAL_CALLED(evaluations) || MISTRAL_CALLED(Evaluation) || MISTRAL_CALLED(evaluate) ||
    MISTRAL_CALLED(evaluated) || MISTRAL_CALLED(on_evaluation) || MISTRAL_CALLED(on_evaluate) ||
    MISTRAL_CALLED(onEvaluation) || MISTRAL_CALLED(eval) || MISTRAL_CALLED(on_eval) || MISTRAL_CALLED(validation);
template <class T, class Argument>
concept NearlyResumed = MISTRAL_CALLED(resume) || MISTRAL_CALLED(on_resume) || MISTRAL_CALLED(on_resumed) ||
    MISTRAL_CALLED(onResumed) || MISTRAL_CALLED(resumes);
#undef MISTRAL_CALLED
// clang-format on

}  // namespace detail

/// `CheckedFitHooks<Hooks>::value` is true or fails to compile with a message that names the hook, or the hooks there
/// are, for what nn/hooks.hpp refuses of a tape: a member of a hook's name that wouldn't be called, one whose name is
/// nearly a hook's, and hooks of which none is one and that aren't derived from NoFitHooks.
template <class Hooks>
struct CheckedFitHooks {
 private:
  template <class T>
  static constexpr bool is_function = std::is_member_function_pointer_v<T>;
  using T = std::remove_const_t<Hooks>;

  static_assert(detail::HearsSteps<Hooks> ||
                    !(detail::HearsSteps<T> || requires { requires is_function<decltype(&T::step)>; }),
                "fit: step() would not be called: it takes a const FitStep&, and is const where the hooks are");
  static_assert(detail::HearsEvaluations<Hooks> ||
                    !(detail::HearsEvaluations<T> || requires { requires is_function<decltype(&T::evaluation)>; }),
                "fit: evaluation() would not be called: it takes a const FitEvaluation&, and is const where the hooks "
                "are");
  static_assert(detail::HearsOfResuming<Hooks> ||
                    !(detail::HearsOfResuming<T> || requires { requires is_function<decltype(&T::resumed)>; }),
                "fit: resumed() would not be called: it takes a std::uint64_t, and is const where the hooks are");
  static_assert(detail::HearsSteps<T> || detail::HearsEvaluations<T> || detail::HearsOfResuming<T> ||
                    std::is_base_of_v<NoFitHooks, T>,
                "fit: no member is a hook. The hooks are step(const FitStep&), evaluation(const FitEvaluation&) and "
                "resumed(std::uint64_t); hooks that do nothing on purpose are derived from NoFitHooks");
  static_assert(!detail::NearlyStep<T, const FitStep&> || detail::HearsSteps<T>,
                "fit: a member is nearly the hook step(const FitStep&), and would not be called");
  static_assert(!detail::NearlyEvaluation<T, const FitEvaluation&> || detail::HearsEvaluations<T>,
                "fit: a member is nearly the hook evaluation(const FitEvaluation&), and would not be called");
  static_assert(!detail::NearlyResumed<T, std::uint64_t> || detail::HearsOfResuming<T>,
                "fit: a member is nearly the hook resumed(std::uint64_t), and would not be called");

 public:
  static constexpr bool value = true;  ///< or fails to compile
};

}}  // namespace mistral
