// SPDX-License-Identifier: Apache-2.0
// How sessions, batches and trainers may be used together with a model and with threads: what doesn't compile, and what
// an assertion says in builds that have them.

#include <concepts>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/core/lifetime.hpp>
#include <mistral/evaluate/likelihood.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/generate/batch.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/lookup.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/nn/adapter.hpp>
#include <mistral/train/trainer.hpp>

#include "../support/death.hpp"
#include "../support/models.hpp"
#include "../support/rounds.hpp"

using namespace mistral;

namespace {

using Model = Transformer<test::tiny, F32>;
using Tuned = Transformer<test::tiny, Lora<F32>>;
using Cache = KvCache<test::tiny, float>;

// What points at a model is made over one that stays, and over no temporary.
template <class User, class Of, class... More>
constexpr bool over_lasting_only =
    std::is_constructible_v<User, Of&, More...> && !std::is_constructible_v<User, Of, More...> &&
    !std::is_constructible_v<User, const Of, More...>;

static_assert(over_lasting_only<Session<Model>, Model> && over_lasting_only<Session<Model>, Model, std::size_t>);
static_assert(std::is_constructible_v<Session<Model>, const Model&, std::size_t, MemoryResource*>);
static_assert(!std::is_constructible_v<Session<Model>, Model, std::size_t, MemoryResource*>);
static_assert(over_lasting_only<SessionBatch<Model>, Model> &&
              over_lasting_only<SessionBatch<Model>, Model, BatchOptions>);
static_assert(over_lasting_only<SessionBatch<Model>, Model, const Tokenizer&> &&
              over_lasting_only<SessionBatch<Model>, Model, Tokenizer, BatchOptions>);
static_assert(over_lasting_only<Trainer<Model>, Model> && over_lasting_only<Trainer<Model>, Model, TrainerOptions>);
static_assert(over_lasting_only<LookupDecoder<Session<Model>>, Session<Model>, std::size_t, std::vector<TokenId>>);
static_assert(over_lasting_only<ContinuationScorer<Session<Model>>, Session<Model>>);

template <class C>
concept CanBeGoneOnFrom = requires(SessionBatch<Model>& batch, C&& cache) {
  batch.add(BatchRequest{}, std::forward<C>(cache));
};
static_assert(CanBeGoneOnFrom<Cache&> && CanBeGoneOnFrom<const Cache&> && !CanBeGoneOnFrom<Cache>);

// The same layout with NDEBUG and without: none of these members hangs on it.
static_assert(sizeof(detail::Lifetime) == sizeof(void*) && sizeof(detail::LifeWatch) == sizeof(void*));
static_assert(sizeof(detail::InUse) == 1);

// In a process that was forked off, ThreadSanitizer lets no thread begin.
constexpr bool can_begin_threads = !test::sanitized;

bool says(const std::string& said, const std::string& what) {
  if (!detail::asserts) return true;  // whatever comes of it
  CAPTURE(said);
  CHECK(said.find(what) != std::string::npos);
  return said.find(what) != std::string::npos;
}

// Something for whoever calls a session in the middle of its forward.
template <class Action>
struct AtTheFirstLayer {
  Action action;
  void residual(const Residual& x) const {
    if (x.layer == 0) action();
  }
};
template <class Action>
AtTheFirstLayer(Action) -> AtTheFirstLayer<Action>;

BatchRequest request(std::function<void(const Residual&)> hook = {}) {
  BatchRequest out{.prompt = {1, 2, 3}, .options = {.max_tokens = 2}};
  out.on_residual = std::move(hook);
  return out;
}

}  // namespace

TEST_CASE("a model that moved or ended under its session, batch or trainer is an assertion that says so") {
  if (!detail::asserts) return;
  // Each is made before the fork: what the other process does comes to its assertion before any work for threads.
  {
    auto model = std::make_unique<Model>(test::random_model<Model>(1));
    Session<Model> session{*model};
    SessionBatch<Model> batch{*model, {.max_sequences = 1, .token_budget = 4}};
    Trainer<Model> trainer{*model};
    session.prefill(std::vector<TokenId>{1, 2});
    batch.add(request());
    const std::vector<Example> examples{{.tokens = {1, 2, 3}}};
    const auto all = [&](const auto& spoil, const std::string& how) {
      const auto after = [&](const auto& use) {
        return test::assertion_of([&] {
          spoil();
          use();
        });
      };
      says(after([&] { session.decode(3); }), "session: its model " + how);
      says(after([&] { session.forward(std::vector<TokenId>{3}); }), "session: its model " + how);
      says(after([&] { session.fork(); }), "session: its model " + how);
      says(after([&] { static_cast<void>(session.model()); }), "session: its model " + how);
      says(after([&] { batch.step(); }), "batch: its model " + how);
      says(after([&] { trainer.step(examples); }), "trainer: its model " + how);
      says(after([&] { trainer.evaluate(examples); }), "trainer: its model " + how);
    };
    all([&] { new Model(std::move(*model)); }, "was moved: it must neither move nor end");
    all([&] { *std::make_unique<Model>() = std::move(*model); }, "was moved: it must neither move nor end");
    all([&] { model.reset(); }, "has ended: it must neither move nor end");
  }
  {
    auto model = test::random_model<Model>(1);
    Session<Model> session{model};
    says(test::assertion_of([&] {
           const Model other = std::move(model);
           Session<Model>(model).decode(1);  // made over what was moved from
         }),
         "transformer: it has no layers: it was moved from");
    says(test::assertion_of([&] {
           const Session<Model> other = std::move(session);
           session.decode(1);
         }),
         "cache: it has no layers: it, or its session, was moved from");
  }
  {
    auto model = test::random_model<Tuned>(1);
    add_adapter(model, {.rank = 2});
    Trainer<Tuned> trainer{model};
    const std::vector<Example> examples{{.tokens = {1, 2, 3}}};
    says(test::assertion_of([&] {
           remove_adapter(model, 0);
           trainer.step(examples);
         }),
         "trainer: the adapter that it trains was removed");
    says(test::assertion_of([&] {
           remove_adapter(model, 0);
           add_adapter(model, {.rank = 3});
           trainer.step(examples);
         }),
         "trainer: the adapter that it trains was removed, or another put in its place");
  }
}

TEST_CASE("a session that is used by two threads, or by its own hook, is an assertion that says so") {
  if (!detail::asserts) return;
  const auto model = test::random_model<Model>(1);
  Session<Model> session{model};
  const Session<Model> fork = session.fork();
  const auto within = [&](const auto& use) {
    return test::assertion_of([&] { session.prefill(std::vector<TokenId>{1, 2}, AtTheFirstLayer{use}); });
  };
  const std::string what = "session: two threads use it at once, or a hook uses the session that it watches";
  says(within([&] { session.decode(3); }), what);
  says(within([&] { session.rollback(1); }), what);
  says(within([&] { session.clear(); }), what);
  says(within([&] { session.assign(fork); }), what);
  says(within([&] { session.fork(); }), "session: another thread uses the session that is copied");
  if (!can_begin_threads) return;
  says(within([&] { std::thread([&] { session.decode(3); }).join(); }), what);
}

TEST_CASE("a batch that two threads step, or a function of its own request, is an assertion that says so") {
  if (!detail::asserts) return;
  const auto model = test::random_model<Model>(1);
  SessionBatch<Model> batch{model, {.max_sequences = 2, .token_budget = 8}};
  const std::string what = "batch: two threads step it at once, or a function of a request steps its own batch";
  says(test::assertion_of([&] {
         batch.add(request([&](const Residual&) { batch.step(); }));
         batch.step();
       }),
       what);
  if (!can_begin_threads) return;
  says(test::assertion_of([&] {
         batch.add(request([&](const Residual&) { std::thread([&] { batch.step(); }).join(); }));
         batch.step();
       }),
       what);
}

TEST_CASE("a trainer that two threads use is an assertion that says so") {
  if (!detail::asserts || !can_begin_threads) return;
  auto model = test::random_model<Model>(1);
  Trainer<Model> trainer{model};
  const std::vector<Example> examples{{.tokens = std::vector<TokenId>(40, 3)}};
  says(test::assertion_of([&] {
         const auto work = [&] {
           for (int i = 0; i < 10000; ++i) trainer.evaluate(examples);
         };
         std::thread other(work);
         work();
         other.join();
       }),
       "trainer: two threads use it at once");
}

TEST_CASE(
    "what is allowed asserts nothing: sessions that move, one after the other in threads, and a model assigned to") {
  auto model = test::random_model<Model>(1);
  const std::vector<TokenId> text{1, 2, 3};
  std::vector<Session<Model>> sessions;
  for (int i = 0; i < 5; ++i) sessions.emplace_back(model).prefill(text);  // moves those that are there
  std::vector<std::optional<Session<Model>>> forks(4);
  std::vector<std::thread> threads;
  for (auto& fork : forks) threads.emplace_back([&] { fork.emplace(sessions[0].fork()); });  // each reads the same
  for (std::thread& thread : threads) thread.join();
  std::thread([&] { sessions[0].decode(4); }).join();
  const auto logits = sessions[0].decode(5);
  for (auto& fork : forks) {
    fork->decode(4);
    CHECK(test::same_bits(fork->decode(5), logits));
  }
  sessions[1].assign(sessions[1]);
  CHECK(sessions[1].position() == 3);

  model = test::random_model<Model>(2);  // stays where it is
  Session<Model> session{model};
  sessions[1].clear();
  CHECK(test::same_bits(sessions[1].prefill(text), session.prefill(text)));

  // A hook that throws leaves a session that can be used.
  CHECK_THROWS_AS(session.prefill(text, AtTheFirstLayer{[] { throw Error("test", "here"); }}), Error);
  CHECK(test::same_bits(session.prefill(text), sessions[1].prefill(text)) == false);  // the other has taken more
  CHECK(session.position() == 3);

  // What isn't used any more may end after its model.
  auto short_lived = std::make_unique<Model>();
  Session<Model> left{*short_lived};
  const auto moved = std::make_unique<Session<Model>>(std::move(left));
  short_lived.reset();
}
