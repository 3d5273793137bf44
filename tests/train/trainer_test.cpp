// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/generate/session_file.hpp>
#include <mistral/train.hpp>

#include "../support/allocations.hpp"
#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::same_bits;

namespace {

template <class Model>
std::vector<float> values_of(const Trainer<Model>& trainer) {
  std::vector<float> out;
  for (const Parameter& p : trainer.parameters()) out.insert(out.end(), p.value.begin(), p.value.end());
  return out;
}

template <class Model>
std::vector<float> gradients_of(const Trainer<Model>& trainer) {
  std::vector<float> out;
  for (const Parameter& p : trainer.parameters()) out.insert(out.end(), p.gradient.begin(), p.gradient.end());
  return out;
}

std::vector<Example> random_examples(std::size_t count, std::size_t vocab, std::uint64_t seed) {
  Random random(seed);
  std::vector<Example> out;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t length = test::uniform(random, 2, 60);
    out.push_back({test::random_tokens(length, vocab, random), test::uniform(random, 0, length - 1)});
  }
  return out;
}

// A model that can be trained, with an adapter where its weights are frozen.
template <class Model>
Model trainable(std::uint64_t seed, float dropout = 0.0f) {
  auto model = test::random_model<Model>(seed);
  if constexpr (is_lora<typename Model::Format>) add_adapter(model, {.rank = 6, .dropout = dropout, .seed = seed});
  return model;
}

}  // namespace

#define MISTRAL_MODELS                                                                           \
  Transformer<test::tiny, F32>, Transformer<test::odd, F32>, Transformer<test::full, Lora<F32>>, \
      Transformer<test::tiny, Lora<Q4_0>>, Transformer<test::odd, Lora<NF4>>, Transformer<test::alone, Lora<BF16>>

TEST_CASE_TEMPLATE("training learns what it is shown, on any base", Model, MISTRAL_MODELS) {
  auto model = trainable<Model>(1);
  Trainer trainer{model, {.learning_rate = 0.01f, .weight_decay = 0.0f}};
  // Each token is followed by another one of its own: what a model without any context can learn.
  std::vector<TokenId> text{1};
  while (text.size() < 16) text.push_back(static_cast<TokenId>((text.back() * 5 + 3) % 29));
  const std::vector<Example> batch{{.tokens = text}};
  const float first = trainer.step(batch);
  for (int step = 0; step < 80; ++step) trainer.step(batch);
  CHECK(trainer.evaluate(batch) < 0.2 * static_cast<double>(first));
  CHECK(trainer.steps() == 81);
}

TEST_CASE_TEMPLATE("a step is the same bits on any threads, however many rows go together, and whatever is kept", Model,
                   MISTRAL_MODELS) {
  const auto batch = random_examples(6, Model::config.vocab_size < 40 ? 29 : 67, 2);
  // Longer than some models' context without a window? Those of 60 tokens fit all of them.
  std::vector<float> expected;
  std::vector<float> losses;
  struct Setting {
    std::size_t threads, rows;
    bool keeps;
  };
  for (const Setting& setting :
       {Setting{1, 2048, false}, Setting{2, 2048, true}, Setting{2, 1, false}, Setting{1, 70, true}}) {
    const std::size_t threads = setting.threads, rows = setting.rows;
    const bool keeps = setting.keeps;
    CAPTURE(threads);
    CAPTURE(rows);
    CAPTURE(keeps);
    const parallel::ThreadLimit limit(threads);
    auto model = trainable<Model>(2, 0.1f);
    Trainer trainer{model, {.max_grad_norm = 1.0f, .seed = 4, .rows = rows, .keep_activations = keeps}};
    const float loss = trainer.step(batch);
    trainer.step(batch);
    if (expected.empty()) {
      expected = values_of(trainer);
      losses.push_back(loss);
    }
    CHECK(loss == losses[0]);
    CHECK(same_bits(values_of(trainer), expected));
  }
}

TEST_CASE("a batch in parts is the batch, and its mean is over all targets") {
  using Model = Transformer<test::tiny, Lora<F32>>;
  const auto batch = random_examples(5, 97, 3);
  auto one = trainable<Model>(3, 0.3f);
  auto two = trainable<Model>(3, 0.3f);
  Trainer whole{one, {.seed = 1}};
  Trainer parts{two, {.seed = 1}};
  for (int step = 0; step < 3; ++step) {
    const float loss = whole.step(batch);
    parts.accumulate(std::span(batch).first(2));
    parts.accumulate(std::span(batch).subspan(2, 1));
    CHECK(parts.step(std::span(batch).subspan(3)) == loss);
    CHECK(same_bits(values_of(whole), values_of(parts)));
  }
}

TEST_CASE("a loss over several answers is that over each of them, by their targets") {
  using Model = Transformer<test::tiny, Lora<F32>>;
  auto model = trainable<Model>(3);
  Trainer trainer{model, {.seed = 1}};
  Random random(3);
  const std::vector<TokenId> tokens = test::random_tokens(30, 97, random);
  const auto mean = [&](const Example& example) { return trainer.evaluate(std::vector<Example>{example}); };
  // The token behind a target changes nothing of its loss: each row sees what is before it.
  const auto up_to = [&](std::size_t end) {
    return std::vector<TokenId>(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(end));
  };
  const double expected =
      (4.0 * mean({up_to(9), 5, {}}) + 1.0 * mean({up_to(10), 9, {}}) + 10.0 * mean({tokens, 20, {}})) / 15.0;
  CHECK(mean({tokens, 1, {{5, 9}, {9, 10}, {20, 30}}}) == doctest::Approx(expected).epsilon(1e-6));  // sums in double
  CHECK(mean({tokens, 1, {{0, 30}}}) == mean({tokens, 0, {}}));
  CHECK(target_count({tokens, 1, {{0, 9}, {9, 10}}}) == 9);

  const auto error = [&](std::vector<TokenRange> answers) {
    return test::error_of([&] { trainer.step(std::vector<Example>{{{1, 2, 3}, 1, std::move(answers)}}); });
  };
  CHECK(error({{1, 4}}) == "[trainer] example 0: answers: expected ranges in order, within its 3 tokens, got 1 ... 4");
  CHECK(error({{1, 1}}).starts_with("[trainer] example 0: answers: expected ranges in order"));
  CHECK(error({{1, 2}, {1, 3}}).starts_with("[trainer] example 0: answers: expected ranges in order"));
  CHECK(error({{0, 1}}) == "[trainer] example 0: answers: expected a token behind the first, got none");
}

// Exact: a forward that rounds its activations, as BF16's does where the processor multiplies bfloat16, is a staircase,
// whose differences over a small step are those of its stairs.
TEST_CASE_TEMPLATE("the gradient through a frozen base, with dropout, is that of finite differences", Model,
                   Transformer<test::full, Lora<F32>>, Transformer<test::odd, Lora<Exact<BF16>>>) {
  auto model = trainable<Model>(4, 0.2f);
  Random random(4);
  visit_projections(model, [&](const std::string&, auto& linear, std::size_t) {
    for (float& v : floats_of(linear.adapters[0].b)) v = 0.1f * random.normal();
  });
  const std::vector<Example> batch{{test::random_tokens(40, Model::config.vocab_size, random), 5}};
  // Each Trainer numbers its examples from 0: its first draws the same dropout.
  const auto loss = [&] {
    Trainer trainer{model, {.learning_rate = 0.0f, .weight_decay = 0.0f, .seed = 9}};
    return static_cast<double>(trainer.step(batch));
  };
  Trainer trainer{model, {.seed = 9}};
  trainer.accumulate(batch);
  std::size_t checked = 0;
  for (const Parameter& p : trainer.parameters()) {
    if (checked++ % 3 != 0) continue;
    CAPTURE(p.name);
    // Along the gradient of one parameter, the loss changes by its norm: in float, the loss is off by 1e-7 of 4, and
    // the step is such that it changes by 1e-2.
    double norm = 0.0;
    for (float& g : p.gradient) norm += static_cast<double>(g) * static_cast<double>(g);
    norm = std::sqrt(norm) / static_cast<double>(trainer.accumulated_targets());
    const std::vector<float> before(p.value.begin(), p.value.end());
    const auto at = [&](double distance) {
      for (std::size_t i = 0; i < before.size(); ++i) {
        const double direction =
            static_cast<double>(p.gradient[i]) / (norm * static_cast<double>(trainer.accumulated_targets()));
        p.value[i] = static_cast<float>(static_cast<double>(before[i]) + distance * direction);
      }
      const double there = loss();
      std::copy(before.begin(), before.end(), p.value.begin());
      return there;
    };
    const double h = 1e-2;
    CHECK((at(h) - at(-h)) / (2.0 * h) == doctest::Approx(norm).epsilon(5e-3));
  }
}

TEST_CASE("a loss or a gradient that isn't finite is an error, and the weights stay") {
  using Model = Transformer<test::tiny, Lora<F32>>;
  auto model = trainable<Model>(5);
  Trainer trainer{model, {}};
  const auto batch = random_examples(2, 97, 5);
  trainer.step(batch);
  const auto before = values_of(trainer);
  const float weight = model.layers[1].ffn_norm.weight.data()[3];
  model.layers[1].ffn_norm.weight.data()[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(test::error_of([&] { trainer.step(batch); }) == "[trainer] the loss: expected a finite number, got nan");
  CHECK(same_bits(values_of(trainer), before));
  CHECK(trainer.steps() == 1);
  CHECK(trainer.accumulated_targets() == 0);
  model.layers[1].ffn_norm.weight.data()[3] = weight;
  CHECK(std::isfinite(trainer.step(batch)));

  // A finite loss whose gradient overflows.
  model.layers[0].attention_norm.weight.data()[0] = 1e30f;
  const auto after = values_of(trainer);
  CHECK(test::error_of([&] { trainer.step(batch); }).starts_with("[trainer] the "));
  CHECK(same_bits(values_of(trainer), after));
}

TEST_CASE("examples that can't be learnt from are an error that says which") {
  using Model = Transformer<test::tiny, F32>;
  auto model = trainable<Model>(6);
  Trainer trainer{model};
  const auto before = values_of(trainer);
  const auto error = [&](std::vector<Example> batch) { return test::error_of([&] { trainer.step(batch); }); };
  CHECK(error({}) == "[trainer] a batch: expected at least one example, got none");
  CHECK(error({{{1, 2, 3}, 1}, {{1}, 0}}) == "[trainer] example 1: expected at least 2 tokens, got 1");
  CHECK(error({{{1, 2, 3}, 3}}) == "[trainer] example 0: answer_begin: expected less than its 3 tokens, got 3");
  CHECK(error({{{1, 97, 3}, 1}}) == "[trainer] example 0: token 1: expected an id of 0 ... 96, got 97");
  CHECK(error({{{1, -1, 3}, 1}}) == "[trainer] example 0: token 1: expected an id of 0 ... 96, got -1");
  CHECK(test::error_of([&] { trainer.update(); }) == "[trainer] a step: expected at least one example, got none");
  CHECK(same_bits(values_of(trainer), before));

  auto full = trainable<Transformer<test::full, F32>>(6);
  Trainer of_full{full};
  CHECK(test::error_of([&] {
          of_full.step(std::vector<Example>{{std::vector<TokenId>(201, 1), 1}});
        }) == "[trainer] example 0: expected at most 200 tokens (context_len), got 201");
}

TEST_CASE_TEMPLATE("a run that is resumed ends in the bits of one that went on", Model, Transformer<test::tiny, F32>,
                   Transformer<test::odd, Lora<Q4_0>>) {
  const test::Scratch scratch;
  const auto batch = random_examples(3, 97, 8);
  for (const Optimizer optimizer : {Optimizer::adamw, Optimizer::sgd}) {
    const TrainerOptions options{.learning_rate = 0.01f,
                                 .optimizer = optimizer,
                                 .schedule = Schedule::cosine,
                                 .warmup_steps = 2,
                                 .total_steps = 6,
                                 .seed = 3};
    auto unbroken = trainable<Model>(8, 0.2f);
    Trainer whole{unbroken, options};
    for (int step = 0; step < 6; ++step) {
      whole.step(batch);
      if (step == 2) whole.save(scratch.path("state"), {{"note", "\"a\" note"}});
    }
    auto again = trainable<Model>(8, 0.2f);
    Trainer resumed{again, options};
    resumed.step(std::span(batch).first(1));  // whatever it did before
    const auto notes = resumed.resume(scratch.path("state"));
    CHECK(std::count(notes.begin(), notes.end(), std::pair<std::string, std::string>("note", "\"a\" note")) == 1);
    CHECK(resumed.steps() == 3);
    for (int step = 3; step < 6; ++step) resumed.step(batch);
    CHECK(same_bits(values_of(resumed), values_of(whole)));
  }
}

TEST_CASE("a state of another model or of other options, or a broken one, is an error, and changes nothing") {
  using Model = Transformer<test::tiny, Lora<F32>>;
  const test::Scratch scratch;
  const std::string path = scratch.path("state");
  const auto batch = random_examples(2, 97, 9);
  auto model = trainable<Model>(9);
  Trainer trainer{model, {}};
  trainer.step(batch);
  trainer.save(path);
  const auto before = values_of(trainer);
  const auto error = [&](auto& other) {
    std::string text = test::error_of([&] { other.resume(path); });
    if (const auto at = text.find(path); at != std::string::npos) text.erase(at, path.size());
    return text;
  };
  CHECK(error(trainer) == "no error");
  Trainer faster{model, {.learning_rate = 2e-3f}};
  CHECK(error(faster) == "[trainer] : learning_rate: expected 0.002, got 0.001");
  Trainer sgd{model, {.optimizer = Optimizer::sgd}};
  CHECK(error(sgd) == "[trainer] : optimizer: expected sgd, got adamw");
  auto wider = test::random_model<Model>(9);
  add_adapter(wider, {.rank = 7});
  Trainer of_wider{wider, {}};
  CHECK(error(of_wider) == "[trainer] : tensor 'layers.0.attention.wq.lora_b': expected F32 [448], got F32 [384]");
  auto fewer = test::random_model<Model>(9);
  add_adapter(fewer, {.rank = 6, .targets = {.output = false}});
  Trainer of_fewer{fewer, {}};
  CHECK(error(of_fewer) == "[trainer] : expected 126 tensors, got 132");
  trainer.accumulate(batch);
  CHECK(test::error_of([&] { trainer.save(path); }) ==
        "[trainer] a state to be saved: expected one between updates, got accumulated gradients");
  const std::string whole = scratch.read("state");
  for (std::size_t size = 0; size < whole.size(); size += 1 + whole.size() / 50) {
    scratch.write("state", whole.substr(0, size));
    CHECK(error(trainer) != "no error");
  }
  CHECK(same_bits(values_of(trainer), before));
}

TEST_CASE("options out of range are an error") {
  auto model = trainable<Transformer<test::tiny, F32>>(7);
  const auto error = [&](const TrainerOptions& options) { return test::error_of([&] { Trainer{model, options}; }); };
  CHECK(error({.learning_rate = -1.0f}).starts_with("[trainer] learning_rate: expected a number from 0 on"));
  CHECK(error({.beta1 = 1.0f}).starts_with("[trainer] beta1"));
  CHECK(error({.beta2 = std::numeric_limits<float>::quiet_NaN()}).starts_with("[trainer] beta2"));
  CHECK(error({.epsilon = 0.0f}).starts_with("[trainer] epsilon"));
  CHECK(error({.weight_decay = -1.0f}).starts_with("[trainer] weight_decay"));
  CHECK(error({.max_grad_norm = -1.0f}).starts_with("[trainer] max_grad_norm"));
  CHECK(error({.schedule = Schedule::cosine}).starts_with("[trainer] total_steps"));
  auto lora = test::random_model<Transformer<test::tiny, Lora<F32>>>(7);
  CHECK(test::error_of([&] { Trainer{lora, {}}; }) == "[trainer] adapter: expected one of the model's 0, got 0");
}

TEST_CASE("a session's file is refused by a model that has been trained since") {
  auto model = test::random_model<Transformer<test::tiny, F32>>(6);
  using Session = mistral::Session<decltype(model), float, 8>;
  const test::Scratch scratch;
  Session session(model);
  session.prefill(std::vector<TokenId>{1, 2, 3});
  save_session(session, {}, scratch.path("state"));
  Trainer trainer{model, {.learning_rate = 1e-4f}};
  CHECK(load_session(session, scratch.path("state")).empty());
  trainer.step(std::vector<Example>{{.tokens = {1, 2, 3, 4}}});
  CHECK(test::error_of([&] { load_session(session, scratch.path("state")); }).find("field 'model'") !=
        std::string::npos);
}

TEST_CASE_TEMPLATE("a step that has no memory leaves model and trainer as they were: made again, it has the same bits",
                   Model, Transformer<test::alone, F32>, Transformer<test::alone, Lora<F32>>) {
  const auto first = random_examples(1, 29, 5), second = random_examples(2, 29, 6);
  auto model = trainable<Model>(5, 0.3f);
  Trainer trainer{model, {.seed = 4}};
  trainer.step(first);
  const std::vector<float> before = values_of(trainer);
  trainer.step(second);
  const std::vector<float> after = values_of(trainer);
  const std::size_t allocations = test::fail_each_allocation([&](std::size_t n) {
    CAPTURE(n);
    auto own = trainable<Model>(5, 0.3f);
    Trainer again{own, {.seed = 4}};
    again.step(first);
    const double norm = again.gradient_norm();
    // in parts, of which any may fail
    const test::Failure failure = test::fails_at(n, [&] {
      again.accumulate(std::span(second).first(1));
      again.step(std::span(second).subspan(1));
    });
    if (failure.thrown) {
      CHECK(again.accumulated_targets() == 0);
      CHECK(again.steps() == 1);
      CHECK(again.gradient_norm() == norm);
      CHECK(same_bits(values_of(again), before));
      const auto gradients = gradients_of(again);
      CHECK(std::count(gradients.begin(), gradients.end(), 0.0f) == std::ssize(gradients));
      again.step(second);
    }
    CHECK(same_bits(values_of(again), after));
    return failure;
  });
  CHECK((allocations > 20 || !test::counts_allocations));
}

TEST_CASE("a step that fails for its numbers can be made again without what made it fail") {
  const auto good = random_examples(3, 97, 7);
  using Model = Transformer<test::tiny, Lora<F32>>;
  auto one = trainable<Model>(8, 0.3f), two = trainable<Model>(8, 0.3f);
  Trainer never{one, {.seed = 4}}, failed{two, {.seed = 4}};
  failed.accumulate(good);
  CHECK(test::error_of([&] { failed.step(std::vector<Example>{{{1}, 1, {}}}); }) != "no error");
  CHECK(never.step(good) == failed.step(good));
  failed.accumulate(good);
  failed.discard();
  CHECK(failed.accumulated_targets() == 0);
  CHECK(never.step(good) == failed.step(good));
  CHECK(same_bits(values_of(never), values_of(failed)));
}

TEST_CASE("a state that there is no memory to resume leaves the trainer as it was") {
  const auto batch = random_examples(1, 29, 9);
  using Model = Transformer<test::alone, Lora<F32>>;
  const test::Scratch scratch;
  {
    auto model = trainable<Model>(9, 0.3f);
    Trainer trainer{model, {.seed = 4}};
    for (int i = 0; i < 3; ++i) trainer.step(batch);
    trainer.save(scratch.path("state"), {{"note", "a note that is too long to be kept in the string itself"}});
  }
  const auto fresh = [] { return trainable<Model>(10, 0.3f); };
  auto other = fresh();
  Trainer untouched{other, {.seed = 4}};
  untouched.step(batch);
  untouched.step(batch);
  const std::vector<float> expected = values_of(untouched);
  const std::size_t allocations = test::fail_each_allocation([&](std::size_t n) {
    CAPTURE(n);
    auto model = fresh();
    Trainer trainer{model, {.seed = 4}};
    trainer.step(batch);
    const test::Failure failure = test::fails_at(n, [&] { trainer.resume(scratch.path("state")); });
    CHECK(trainer.steps() == (failure.thrown ? 1 : 3));
    trainer.step(batch);
    CHECK(same_bits(values_of(trainer), expected) == failure.thrown);  // moments, counts and dropout with them
    return failure;
  });
  CHECK((allocations > 50 || !test::counts_allocations));
}
