// SPDX-License-Identifier: Apache-2.0
// The loop over the data: what it reports, keeps and goes on from, and when it ends.
#include <mistral/train/fit.hpp>

#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/train.hpp>

#include "../support/allocations.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"
#include "../support/size_limit.hpp"

using namespace mistral;
using test::error_of;
using test::same_bits;

namespace {

using Model = Transformer<test::tiny, Lora<F32>>;

Model fresh() {
  auto model = test::random_model<Model>(1);
  add_adapter(model, {.rank = 4, .dropout = 0.2f, .seed = 3});
  return model;
}

/// Sequences in which each token follows from the last one: what can be learnt.
std::vector<Example> lessons(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<Example> out;
  for (std::size_t i = 0; i < count; ++i) {
    Example example{.tokens = {static_cast<TokenId>(random.next() % 97)}, .answer_begin = 2};
    while (example.tokens.size() < 12) example.tokens.push_back((example.tokens.back() * 5 + 3) % 97);
    out.push_back(std::move(example));
  }
  return out;
}

std::vector<float> values_of(const Model& model) {
  std::vector<float> out;
  visit_projections(model, [&](const std::string&, const auto& linear, std::size_t) {
    for (const Panels<F32>* const m : {&linear.adapters[0].a, &linear.adapters[0].b}) {
      std::vector<float> row(m->cols());
      for (std::size_t r = 0; r < m->rows(); ++r) {
        m->unpack_row(r, row);
        out.insert(out.end(), row.begin(), row.end());
      }
    }
  });
  return out;
}

struct Log {
  std::vector<FitStep> steps;
  std::vector<FitEvaluation> evaluations;
  std::uint64_t resumed_after = 0;
  std::uint64_t stop_at = 0;

  bool step(const FitStep& s) {
    steps.push_back(s);
    return s.step != stop_at;
  }
  void evaluation(const FitEvaluation& e) { evaluations.push_back(e); }
  void resumed(std::uint64_t step) { resumed_after = step; }
};

TrainerOptions options_for(std::size_t examples, const FitOptions& options, float rate = 2e-2f) {
  return {.learning_rate = rate,
          .weight_decay = 0.0f,
          .max_grad_norm = 1.0f,
          .schedule = Schedule::cosine,
          .warmup_steps = 2,
          .total_steps = fit_steps(examples, options),
          .seed = 11};
}

const std::vector<Example>& train() {
  static const std::vector<Example> examples = lessons(13, 5);
  return examples;
}
const std::vector<Example>& validation() {
  static const std::vector<Example> examples = lessons(4, 6);
  return examples;
}

}  // namespace

TEST_CASE("a fit learns, reports each step and evaluation, and ends with the best parameters") {
  const test::Scratch scratch;
  const FitOptions options{
      .epochs = 6, .batch = 2, .accumulation = 2, .eval_steps = 5, .seed = 2, .folder = scratch.path("run")};
  auto model = fresh();
  Trainer trainer{model, options_for(13, options)};
  Log log;
  const FitResult result = fit(trainer, train(), validation(), options, log);

  CHECK(fit_steps(13, options) == 24);  // 4 batches an epoch, the last one of a single example
  CHECK(result.steps == 24);
  REQUIRE(log.steps.size() == 24);
  CHECK(log.steps[3].tokens == 11);
  CHECK(log.steps[0].tokens == 44);
  CHECK(log.steps[5].epoch == 1.5);
  for (std::size_t i = 0; i < 24; ++i) CHECK(log.steps[i].step == i + 1);
  std::vector<std::uint64_t> at;
  double best = INFINITY;
  for (const FitEvaluation& e : log.evaluations) {
    at.push_back(e.step);
    CHECK(e.best == (e.loss < best));
    best = std::min(best, e.loss);
  }
  CHECK(at == std::vector<std::uint64_t>{0, 5, 10, 15, 20, 24});
  CHECK(result.first_loss == log.evaluations[0].loss);
  CHECK(result.best_loss == best);
  CHECK(result.best_loss < 0.7 * result.first_loss);
  CHECK(trainer.evaluate(validation()) == best);
  CHECK(trainer.steps() == result.best_step);

  // without a folder the best is kept in memory
  FitOptions in_memory = options;
  in_memory.folder.clear();
  auto other = fresh();
  Trainer of_other{other, options_for(13, options)};
  CHECK(fit(of_other, train(), validation(), in_memory).best_step == result.best_step);
  CHECK(same_bits(values_of(other), values_of(model)));
}

TEST_CASE("a fit that is interrupted anywhere and resumed ends in the bits of one that went on") {
  const test::Scratch scratch;
  FitOptions options{.epochs = 2, .batch = 2, .accumulation = 2, .eval_steps = 3, .save_steps = 2, .seed = 2};
  options.folder = scratch.path("whole");
  auto whole = fresh();
  Trainer of_whole{whole, options_for(13, options)};
  Log log;
  const FitResult expected = fit(of_whole, train(), validation(), options, log);
  options.resume = true;
  for (std::uint64_t stop = 1; stop < 8; ++stop) {
    CAPTURE(stop);
    options.folder = scratch.path("run" + std::to_string(stop));
    std::vector<FitStep> steps;
    {
      auto model = fresh();
      Trainer trainer{model, options_for(13, options)};
      Log first;
      first.stop_at = stop;
      const FitResult part = fit(trainer, train(), validation(), options, first);  // nothing to resume: begins
      CHECK(part.interrupted == (stop < 8));
      CHECK(part.steps == stop);
      CHECK(first.resumed_after == 0);
    }
    auto model = fresh();
    Trainer trainer{model, options_for(13, options)};
    Log second;
    const FitResult result = fit(trainer, train(), validation(), options, second);
    CHECK(second.resumed_after == stop);
    CHECK(result.first_step == stop);
    CHECK(result.best_loss == expected.best_loss);
    CHECK(result.best_step == expected.best_step);
    CHECK(result.first_loss == expected.first_loss);
    CHECK(same_bits(values_of(model), values_of(whole)));
    REQUIRE(second.steps.size() == 8 - stop);
    for (std::size_t i = 0; i < second.steps.size(); ++i) CHECK(second.steps[i].loss == log.steps[stop + i].loss);
  }
  // one that has ended has nothing more to do
  options.folder = scratch.path("whole");
  auto again = fresh();
  Trainer trainer{again, options_for(13, options)};
  Log nothing;
  fit(trainer, train(), validation(), options, nothing);
  CHECK(nothing.steps.empty());
  CHECK(same_bits(values_of(again), values_of(whole)));
}

TEST_CASE("a fit ends for want of patience, or at max_steps") {
  const FitOptions options{
      .epochs = 50, .batch = 4, .accumulation = 1, .eval_steps = 1, .patience = 3, .max_loss_rise = 0.0f, .seed = 2};
  auto model = fresh();
  // a rate at which nothing improves for long
  Trainer trainer{model, {.learning_rate = 0.3f, .weight_decay = 0.0f, .seed = 11}};
  Log log;
  const FitResult result = fit(trainer, train(), validation(), options, log);
  CHECK(result.stopped_early);
  CHECK(result.steps < 200);
  CHECK(result.steps == result.best_step + 3);
  for (std::size_t i = log.evaluations.size() - 3; i < log.evaluations.size(); ++i)
    CHECK_FALSE(log.evaluations[i].best);

  auto other = fresh();
  const FitOptions few{.epochs = 50, .max_steps = 3};
  Trainer of_other{other, options_for(13, few)};
  CHECK(fit(of_other, train(), {}, few).steps == 3);
  CHECK(of_other.steps() == 3);
}

TEST_CASE("patience counts as an improvement what is lower by more than min_delta, small steps added up") {
  const test::Scratch scratch;
  FitOptions options{.epochs = 6, .batch = 4, .accumulation = 1, .eval_steps = 1, .patience = 4, .seed = 2};
  Log all;
  {
    auto model = fresh();
    Trainer trainer{model, options_for(13, options, 1e-3f)};
    CHECK_FALSE(fit(trainer, train(), validation(), options, all).stopped_early);
    REQUIRE(all.evaluations.size() == 25);
  }
  // too much for any one step, and less than some steps come to
  double largest = 0.0;
  for (std::size_t i = 1; i < 25; ++i) {
    largest = std::max(largest, all.evaluations[i - 1].loss - all.evaluations[i].loss);
  }
  options.min_delta = 1.2 * largest;
  std::uint64_t end = 24, since = 0;
  double counted = all.evaluations[0].loss;
  bool added_up = false;
  for (std::size_t i = 1; i < 25; ++i) {
    const double loss = all.evaluations[i].loss;
    added_up = added_up || loss < counted - options.min_delta;
    since = loss < counted - options.min_delta ? 0 : since + 1;
    if (since == 0) counted = loss;
    if (since == 4) {
      end = i;
      break;
    }
  }
  REQUIRE(added_up);
  REQUIRE(end < 24);  // it ends for want of patience

  const auto ends_as_expected = [&](const FitResult& result, const Model& model, auto& trainer) {
    CHECK(result.stopped_early);
    CHECK_FALSE(result.interrupted);
    CHECK(result.steps == end);
    double best = INFINITY;
    for (std::size_t i = 0; i <= end; ++i) best = std::min(best, all.evaluations[i].loss);
    CHECK(result.best_loss == best);  // the lowest, whether it counted or not
    CHECK(trainer.evaluate(validation()) == best);
    return values_of(model);
  };
  options.folder = scratch.path("whole");
  auto whole = fresh();
  Trainer of_whole{whole, options_for(13, options, 1e-3f)};
  const auto expected = ends_as_expected(fit(of_whole, train(), validation(), options), whole, of_whole);

  // what counted last is part of the state
  options.folder = scratch.path("resumed");
  options.resume = true;
  for (std::uint64_t stop = 1; stop < end; ++stop) {
    auto model = fresh();
    Trainer trainer{model, options_for(13, options, 1e-3f)};
    Log log;
    log.stop_at = stop;
    CHECK(fit(trainer, train(), validation(), options, log).steps == stop);
  }
  auto model = fresh();
  Trainer trainer{model, options_for(13, options, 1e-3f)};
  CHECK(same_bits(ends_as_expected(fit(trainer, train(), validation(), options), model, trainer), expected));

  for (const double wrong : {-0.1, std::nan(""), HUGE_VAL}) {
    options.min_delta = wrong;
    CHECK(error_of([&] {
            fit(trainer, train(), validation(), options);
          }).starts_with("[fit] min_delta: expected a finite number of nats, at least 0, got "));
  }
}

TEST_CASE("a run that a hook ends has the best parameters, and its last checkpoint goes on to the same bits") {
  struct Stop {
    std::uint64_t step_end, evaluation_end;  // the step after which a hook returns false
    std::vector<FitEvaluation> evaluations;
    bool step(const FitStep& s) const { return s.step != step_end; }
    bool evaluation(const FitEvaluation& e) {
      evaluations.push_back(e);
      return e.step != evaluation_end;
    }
  };
  constexpr std::uint64_t never = 1000;
  const test::Scratch scratch;
  FitOptions options{
      .epochs = 3, .batch = 4, .accumulation = 1, .eval_steps = 1, .max_loss_rise = 0.0f, .seed = 2, .resume = true};
  // a rate at which the last parameters are rarely the best
  const TrainerOptions trainer_options{.learning_rate = 0.3f, .weight_decay = 0.0f, .seed = 11};
  options.folder = scratch.path("whole");
  auto whole = fresh();
  Trainer of_whole{whole, trainer_options};
  Stop goes_on{never, never, {}};
  const FitResult expected = fit(of_whole, train(), validation(), options, goes_on);
  CHECK_FALSE(expected.interrupted);
  REQUIRE(expected.steps == 12);

  bool last_was_worse = false;
  for (const bool in_memory : {false, true}) {
    for (std::uint64_t end = 0; end < 12; ++end) {
      for (const bool by_evaluation : {true, false}) {
        if (end == 0 && !by_evaluation) continue;
        CAPTURE(in_memory);
        CAPTURE(end);
        CAPTURE(by_evaluation);
        options.folder = in_memory ? "" : scratch.path("run" + std::to_string(end) + (by_evaluation ? "e" : "s"));
        {
          auto model = fresh();
          Trainer trainer{model, trainer_options};
          Stop stop{by_evaluation ? never : end, by_evaluation ? end : never, {}};
          const FitResult part = fit(trainer, train(), validation(), options, stop);
          CHECK(part.interrupted);
          CHECK_FALSE(part.stopped_early);
          CHECK(part.steps == end);
          REQUIRE(stop.evaluations.size() == end + 1);
          double best = INFINITY;
          for (const FitEvaluation& e : stop.evaluations) best = std::min(best, e.loss);
          CHECK(part.best_loss == best);
          CHECK(trainer.evaluate(validation()) == best);
          last_was_worse = last_was_worse || stop.evaluations.back().loss > best;
        }
        if (in_memory) continue;
        auto model = fresh();
        Trainer trainer{model, trainer_options};
        Stop rest{never, never, {}};
        const FitResult result = fit(trainer, train(), validation(), options, rest);
        CHECK(result.first_step == end);
        CHECK(rest.evaluations.size() == 12 - end);
        CHECK(result.best_step == expected.best_step);
        CHECK(result.first_loss == expected.first_loss);
        CHECK(same_bits(values_of(model), values_of(whole)));
      }
    }
  }
  CHECK(last_was_worse);
}

TEST_CASE(
    "a loss that isn't finite or that rises ends the fit in an error that names the step, and the checkpoint is from "
    "before") {
  const test::Scratch scratch;
  FitOptions options{.epochs = 30, .batch = 4, .accumulation = 1, .save_steps = 1, .folder = scratch.path("run")};
  {
    auto model = fresh();
    Trainer trainer{model, {.learning_rate = 30.0f, .weight_decay = 0.0f}};
    const std::string error = error_of([&] { fit(trainer, train(), validation(), options); });
    CHECK(error.starts_with("[fit] step "));
    CHECK(error.find(": the smoothed loss, which was ") != std::string::npos);
    const std::uint64_t failed = std::stoull(error.substr(11));
    auto again = fresh();
    Trainer resumed{again, {.learning_rate = 30.0f, .weight_decay = 0.0f}};
    resumed.resume(options.folder + "/last.safetensors");
    CHECK(resumed.steps() == failed - 1);
  }
  auto model = fresh();
  model.layers[1].ffn_norm.weight.data()[3] = std::nanf("");
  Trainer trainer{model, {}};
  options.folder.clear();
  CHECK(error_of([&] { fit(trainer, train(), {}, options); }) ==
        "[fit] step 1: the loss: expected a finite number, got nan");
  CHECK(error_of([&] { fit(trainer, train(), validation(), options); }) ==
        "[fit] step 0: the validation loss: expected a finite number, got nan");
}

TEST_CASE("a checkpoint of other data or another order is refused, and a full disk leaves the last one") {
  const test::Scratch scratch;
  FitOptions options{
      .epochs = 1, .batch = 4, .accumulation = 1, .seed = 1, .folder = scratch.path("run"), .resume = true};
  const TrainerOptions trainer_options{.seed = 1};
  auto model = fresh();
  Trainer trainer{model, trainer_options};
  fit(trainer, train(), validation(), options);
  const std::string last = scratch.path("run/last.safetensors");
  const std::string bytes = scratch.read("run/last.safetensors");
  const auto error = [&](const std::vector<Example>& examples, const FitOptions& with) {
    auto other = fresh();
    Trainer of_other{other, trainer_options};
    return error_of([&] { fit(of_other, examples, validation(), with); });
  };
  std::vector<Example> changed = train();
  changed[7].answer_begin = 3;
  CHECK(error(changed, options) ==
        "[fit] " + last +
            ": the training data: expected those that the run was begun with (resume with them, or begin another run), "
            "got others");
  FitOptions reseeded = options;
  reseeded.seed = 2;
  CHECK(error(train(), reseeded) == "[fit] " + last + ": fit.seed: expected 2, as when it was begun, got 1");
  FitOptions wider = options;
  wider.batch = 2;
  CHECK(error(train(), wider).starts_with("[fit] " + last + ": fit.batch: expected 2"));

  FitOptions more = options;
  more.epochs = 3;
  {
    const test::SizeLimit disk(20000);
    CHECK(error(train(), more).find(".safetensors: cannot write: File too large") != std::string::npos);
  }
  CHECK(scratch.read("run/last.safetensors") == bytes);
  const std::filesystem::directory_iterator files(scratch.path("run"));
  CHECK(std::distance(begin(files), end(files)) == 2);  // last and best, and nothing half-written
  CHECK(error(train(), more) == "no error");

  // what killed runs left behind goes; what isn't theirs stays
  scratch.write("run/last.safetensors.tmp-999999999-0", "half");
  scratch.write("run/last.safetensors.tmp-x-0", "mine");
  more.epochs = 4;
  CHECK(error(train(), more) == "no error");
  CHECK_FALSE(std::filesystem::exists(scratch.path("run/last.safetensors.tmp-999999999-0")));
  CHECK(std::filesystem::exists(scratch.path("run/last.safetensors.tmp-x-0")));

  // one writer at a time, and no folder where nothing could be written
  {
    const FolderLock other(options.folder, "test");
    CHECK(error(train(), more) ==
          "[fit] " + options.folder +
              ": expected a folder that no other run writes to, got one that another writes to now");
  }
  FitOptions elsewhere = options;
  elsewhere.folder = scratch.path("new");
  {
    const test::SizeLimit disk(2000);
    CHECK(error(train(), elsewhere).find(".safetensors: cannot write: File too large") != std::string::npos);
  }
  CHECK_FALSE(std::filesystem::exists(elsewhere.folder));

  FitOptions nowhere = options;
  nowhere.folder = scratch.path("no/where");
  CHECK(error(train(), nowhere) == "[fit] " + nowhere.folder + ": cannot create: No such file or directory");
  FitOptions none = options;
  none.accumulation = 0;
  CHECK(error(train(), none) == "[fit] batch x accumulation: expected at least one example, got none");
  CHECK(error({}, options) == "[fit] examples to learn from: expected at least one, got none");
  auto patient = fresh();
  Trainer of_patient{patient, trainer_options};
  options.patience = 1;
  CHECK(error_of([&] { fit(of_patient, train(), {}, options); }) ==
        "[fit] patience: expected examples for validation, got none");
}

TEST_CASE("a fit that runs out of memory leaves a trainer between two updates") {
  using Small = Transformer<test::alone, Lora<F32>>;
  const auto small = [] {
    auto model = test::random_model<Small>(1);
    add_adapter(model, {.rank = 2, .dropout = 0.2f, .seed = 3, .targets = {.wk = false, .w2 = false, .output = false}});
    return model;
  };
  const auto values = [](const Small& model) {
    const std::span<const std::byte> bytes = model.layers[0].attention.wq.adapters[0].b.bytes();
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  const std::vector<Example> train(6, {.tokens = {1, 2, 3}}), validation(1, {.tokens = {4, 5}});
  const FitOptions options{.max_steps = 2, .batch = 1, .accumulation = 3};
  std::size_t thrown = 0;
  const std::size_t allocations = test::fail_each_allocation([&](std::size_t n) {
    CAPTURE(n);
    Small model = small();
    Trainer trainer{model, {.seed = 1}};
    const test::Failure failure = test::fails_at(n, [&] { fit(trainer, train, validation, options); });
    CHECK(trainer.accumulated_targets() == 0);
    thrown += failure.thrown ? 1 : 0;
    if (!failure.thrown) return failure;
    // Goes on with the bits of one that was stopped after as many updates.
    Small other = small();
    Trainer twin{other, {.seed = 1}};
    Batches batches(train.size(), 3, options.seed);
    std::vector<Example> batch;
    for (std::uint64_t step = 0; step < trainer.steps(); ++step) {
      batch.clear();
      for (const std::size_t i : batches.at(step)) batch.push_back(train[i]);
      twin.step(batch);
    }
    trainer.step(train);
    twin.step(train);
    CHECK(values(model) == values(other));
    return failure;
  });
  if (!test::counts_allocations) return;
  CHECK(allocations > 40);
  CHECK(thrown > 40);
}
