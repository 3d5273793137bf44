// SPDX-License-Identifier: Apache-2.0
// Many sequences in one batch against each of them alone: the same bits, whoever else is there.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/f32.hpp>
#include <mistral/generate/batch.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/nn/adapter.hpp>

#include "../support/allocations.hpp"
#include "../support/counting_resource.hpp"
#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/rounds.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::uniform;

namespace {

template <ModelConfig Config, WeightFormat F, KvElement Element>
struct Case {
  using Model = Transformer<Config, F>;
  using KV = Element;
};
using Windowed = Case<test::tiny, F32, float>;
using Unwindowed = Case<test::full, F32, float>;
using Adapted = Case<test::tiny, Lora<F32>, bf16>;

template <class Model>
Model a_model() {
  auto model = test::random_model<Model>(31);
  if constexpr (requires { model.output.adapters; }) {
    for (const std::uint64_t seed : {1u, 2u}) {
      const std::size_t adapter = add_adapter(model, {.rank = 4, .alpha = 8.0f, .seed = seed});
      visit_projections(model, [&](const std::string&, auto& linear, std::size_t) {
        auto& b = linear.adapters[adapter].b;
        Random random(seed);
        std::vector<float> values(b.rows() * b.cols());
        for (float& v : values) v = 0.3f * random.normal();
        detail::pack_all(b, values);
      });
    }
  }
  return model;
}

// What a sequence does beside its prompt, so that it can be done in a batch and alone.
struct Job {
  std::vector<TokenId> before;  // what a session has taken that it goes on from
  std::vector<TokenId> prompt;
  GenerateOptions options;
  std::size_t adapter = 0;
  TokenId banned = -1;       // by its hook on the logits
  float scale = 1.0f;        // of the stream into layer 1, by its hook on the residual stream
  std::size_t fails_at = 0;  // the hook on the logits throws at this call; 0: never
  std::vector<float> seen;   // logits, step by step
  std::size_t steps = 0;

  void look(std::span<float> logits) {
    seen.insert(seen.end(), logits.begin(), logits.end());
    if (++steps == fails_at) throw std::runtime_error("enough");
    if (banned >= 0) logits[static_cast<std::size_t>(banned)] = -INFINITY;
  }

  void touch(const Residual& residual) const {
    if (residual.layer != 1) return;
    for (std::size_t i = 0; i < residual.x.rows(); ++i) {
      for (float& x : residual.x.row(i)) x *= scale;
    }
  }

  BatchRequest request() {
    BatchRequest out{.prompt = prompt, .options = options, .adapter = adapter};
    out.on_logits = [this](std::span<float> logits) { look(logits); };
    if (scale != 1.0f) out.on_residual = [this](const Residual& residual) { touch(residual); };
    return out;
  }
};

struct Alone {
  std::vector<TokenId> tokens;
  std::vector<float> seen;
  StopReason reason = StopReason::max_tokens;
  bool failed = false;
  std::vector<float> after;  // the logits of one more token
};

constexpr TokenId one_more = 5;

// The naive run: a session of its own, a token after the other.
template <class C>
Alone run_alone(const typename C::Model& model, Job job) {
  constexpr ModelConfig config = C::Model::config;
  Session<typename C::Model, typename C::KV> session(model);
  if constexpr (requires { model.output.adapters; }) session.use_adapter(job.adapter);
  Sampler sampler(job.options.sampling, config.vocab_size);
  ResidualHook hook{[&](const Residual& residual) {
    if (job.scale != 1.0f) job.touch(residual);
  }};
  std::span<const float> logits;
  for (const TokenId token : job.before) session.decode(token);
  for (const TokenId token : job.options.seen) sampler.accept(token);
  for (const TokenId token : job.prompt) {
    logits = session.decode(token, hook);
    sampler.accept(token);
  }
  Alone out;
  while (out.tokens.size() < job.options.max_tokens) {
    std::vector<float> choosable(logits.begin(), logits.end());
    try {
      job.look(choosable);
    } catch (const std::runtime_error&) {
      out.failed = true;
      break;
    }
    const TokenId token = sampler.sample(choosable);
    sampler.accept(token);
    const auto& stops = job.options.stop_ids;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
      out.reason = StopReason::stop_id;
      break;
    }
    out.tokens.push_back(token);
    if (out.tokens.size() == job.options.max_tokens) break;
    if (config.window_size == 0 && session.position() == static_cast<std::int64_t>(config.context_len)) {
      out.reason = StopReason::context;
      break;
    }
    logits = session.decode(token, hook);
  }
  out.seen = job.seen;
  if (config.window_size != 0 || session.position() < static_cast<std::int64_t>(config.context_len)) {
    logits = session.decode(one_more, hook);
    out.after.assign(logits.begin(), logits.end());
  }
  return out;
}

bool begins_with(std::span<const float> whole, std::span<const float> begin) {
  return begin.empty() || (begin.size() <= whole.size() && test::same_bits(whole.first(begin.size()), begin));
}

// Holds a result against the run alone. One that was cancelled has a beginning of it. `left`: the cache that it left.
template <class C>
void check_result(const typename C::Model& model, const Job& job, const BatchResult& result, bool cancelled,
                  const KvCache<C::Model::config, typename C::KV>* left = nullptr) {
  Job again = job;
  again.seen.clear();
  again.steps = 0;
  const Alone alone = run_alone<C>(model, again);
  REQUIRE(begins_with(alone.seen, job.seen));
  if (cancelled && !result.error && result.made.reason == StopReason::cancelled) {
    REQUIRE(result.made.tokens.size() <= alone.tokens.size());
    REQUIRE(std::equal(result.made.tokens.begin(), result.made.tokens.end(), alone.tokens.begin()));
    return;
  }
  REQUIRE(job.seen.size() == alone.seen.size());
  REQUIRE(result.made.tokens == alone.tokens);
  REQUIRE((result.error != nullptr) == alone.failed);
  if (!alone.failed) REQUIRE(result.made.reason == alone.reason);
  if (left == nullptr || alone.after.empty()) return;
  Session<typename C::Model, typename C::KV> session(model);
  session.cache().assign(*left);
  if constexpr (requires { model.output.adapters; }) session.use_adapter(job.adapter);
  REQUIRE(
      test::same_bits(session.decode(one_more, ResidualHook{[&](const Residual& r) { again.touch(r); }}), alone.after));
}

Job random_job(Random& random, std::size_t vocab, std::size_t longest,
               const std::vector<std::unique_ptr<Job>>& before) {
  Job job;
  // Most prompts begin as one of the last did: with all of it, or with a part.
  job.adapter = random.next() % 3 == 2 ? no_adapter : random.next() % 2;
  if (!before.empty() && random.next() % 4 != 0) {
    const Job& other = *before[uniform(random, before.size() > 3 ? before.size() - 3 : 0, before.size() - 1)];
    job.prompt = other.prompt;
    if (random.next() % 2 == 0) job.prompt.resize(uniform(random, 1, job.prompt.size()));
    if (random.next() % 4 != 0) job.adapter = other.adapter;
  }
  const auto tail = test::random_tokens(uniform(random, job.prompt.empty() ? 1 : 0, longest / 2), vocab, random);
  job.prompt.insert(job.prompt.end(), tail.begin(), tail.end());
  if (job.prompt.size() > longest) job.prompt.resize(longest);
  job.options.max_tokens = uniform(random, 0, 12);
  if (random.next() % 2 == 0) {
    job.options.sampling = {.temperature = 1.5f, .top_k = 20, .repetition_penalty = 1.2f, .seed = random.next()};
  }
  if (random.next() % 3 == 0) job.options.stop_ids = test::random_tokens(8, vocab, random);
  if (random.next() % 3 == 0) job.banned = static_cast<TokenId>(random.next() % vocab);
  if (random.next() % 6 == 0) job.scale = 0.5f;
  if (random.next() % 8 == 0) job.fails_at = uniform(random, 1, 6);
  return job;
}

// Sessions for sequences to go on from: each in the state of one that was saved to a file, of a fork, or as it came
// about. They stay where they are.
template <class C>
class Starts {
  using Model = typename C::Model;
  using Session = mistral::Session<Model, typename C::KV>;

 public:
  Starts(const Model& model, Random& random, std::size_t most) : model_(model), random_(random) {
    sessions_.reserve(most);
  }

  std::size_t restored() const { return restored_; }

  // A job that goes on from what a session took that was rolled back, or from what a sequence has left behind.
  const Session& next(Job& job) {
    constexpr std::size_t vocab = Model::config.vocab_size;
    if (!left_.empty() && random_.next() % 2 == 0) {
      const Left& left = left_[random_.next() % left_.size()];
      job.before = left.tokens;
      job.adapter = left.adapter;
      return restore(job, left.path);
    }
    job.before = test::random_tokens(uniform(random_, 1, 60), vocab, random_);
    Session start = session(job.adapter, 3);
    start.prefill(job.before);
    const std::size_t more = uniform(random_, 0, 3);
    if (more > 0) start.prefill(test::random_tokens(more, vocab, random_));
    start.rollback(static_cast<std::int64_t>(more));
    switch (random_.next() % 3) {
      case 0:
        return sessions_.emplace_back(std::move(start));
      case 1:
        return sessions_.emplace_back(start.fork());
      default:
        save_session(start, job.before, scratch_.path("start"));
        return restore(job, scratch_.path("start"));
    }
  }

  // Saves what a sequence has left behind, where a run alone could know it: no hook has touched it.
  void keep(const Job& job, const BatchResult& result, const KvCache<Model::config, typename C::KV>& cache) {
    if (job.scale != 1.0f || cache.position() > 100) return;
    Left left{job.before, job.adapter, scratch_.path("left" + std::to_string(left_.size()))};
    for (const auto* tokens : {&job.prompt, &result.made.tokens}) {
      left.tokens.insert(left.tokens.end(), tokens->begin(), tokens->end());
    }
    left.tokens.resize(static_cast<std::size_t>(cache.position()));  // without one that was chosen only
    Session copy = session(job.adapter, 0);
    copy.cache().assign(cache);
    save_session(copy, left.tokens, left.path);
    left_.push_back(std::move(left));
  }

 private:
  struct Left {
    std::vector<TokenId> tokens;
    std::size_t adapter;
    std::string path;
  };

  Session session(std::size_t adapter, std::size_t rollback) const {
    Session made(model_, rollback);
    if constexpr (requires { model_.output.adapters; }) made.use_adapter(adapter);
    return made;
  }

  const Session& restore(const Job& job, const std::string& path) {
    Session& made = sessions_.emplace_back(session(job.adapter, random_.next() % 4));
    REQUIRE(load_session(made, path) == job.before);
    ++restored_;
    return made;
  }

  const Model& model_;
  Random& random_;
  test::Scratch scratch_;
  std::vector<Session> sessions_;
  std::vector<Left> left_;
  std::size_t restored_ = 0;
};

BatchOptions random_options(Random& random) {
  BatchOptions options;
  options.max_sequences = uniform(random, 1, 5);
  options.token_budget = options.max_sequences + uniform(random, 0, 20);
  options.share_prefixes = random.next() % 4 != 0;
  options.worth_waiting = uniform(random, 1, 6);
  return options;
}

constexpr int rounds = test::sanitized ? 2 : 30;

}  // namespace

TEST_CASE_TEMPLATE(
    "whatever joins, leaves, is saved, restored, forked and rolled back, each gets the bits that it gets alone", C,
    Windowed, Unwindowed, Adapted) {
  using Model = typename C::Model;
  constexpr std::size_t vocab = Model::config.vocab_size;
  const Model model = a_model<Model>();
  Random random(41);
  std::uint64_t shared = 0;
  std::size_t failed = 0, called_off = 0, restored = 0;
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    SessionBatch<Model, typename C::KV> batch(model, random_options(random));
    constexpr std::size_t count = 24;
    std::vector<std::unique_ptr<Job>> jobs;
    Starts<C> starts(model, random, count);
    std::vector<SequenceId> ids;
    std::vector<bool> cancelled(count, false), ended(count, false);
    while (jobs.size() < count || !batch.empty()) {
      if (jobs.size() < count && random.next() % 3 != 0) {
        jobs.push_back(std::make_unique<Job>(random_job(random, vocab, 90, jobs)));
        Job& job = *jobs.back();
        if (random.next() % 4 == 0) {
          const auto& start = starts.next(job);
          job.options.seen = job.before;
          ids.push_back(batch.add(job.request(), start.cache()));
        } else {
          ids.push_back(batch.add(job.request()));
        }
      }
      if (!jobs.empty() && random.next() % 16 == 0) {
        const std::size_t which = uniform(random, 0, jobs.size() - 1);
        const bool could = batch.cancel(ids[which]);
        CHECK(could == (!ended[which] && !cancelled[which]));
        if (could) cancelled[which] = true;
      }
      if (random.next() % 3 != 0) continue;
      for (const BatchResult& result : batch.step()) {
        const auto which = static_cast<std::size_t>(std::find(ids.begin(), ids.end(), result.id) - ids.begin());
        REQUIRE(which < jobs.size());
        REQUIRE(!ended[which]);
        ended[which] = true;
        failed += result.error ? 1 : 0;
        called_off += result.made.reason == StopReason::cancelled ? 1 : 0;
        const auto* const cache = batch.cache(result);
        check_result<C>(model, *jobs[which], result, cancelled[which], cache);
        if (cache != nullptr) starts.keep(*jobs[which], result, *cache);
      }
    }
    CHECK(std::count(ended.begin(), ended.end(), true) == count);
    CHECK(batch.running() == 0);
    shared += batch.counters().shared_tokens;
    restored += starts.restored();
  }
  CHECK(shared > 10 * rounds);
  CHECK(failed > 0);
  CHECK(called_off > 0);
  CHECK(restored > 0);
}

TEST_CASE_TEMPLATE("a prefix that sequences share goes through the model once, also where the ring goes round", C,
                   Windowed, Unwindowed) {
  using Model = typename C::Model;
  constexpr std::size_t vocab = Model::config.vocab_size, sequences = 8, prefix = 100, made = 6;
  const Model model = a_model<Model>();
  Random random(42);
  const auto common = test::random_tokens(prefix, vocab, random);
  std::vector<Job> jobs(sequences);
  for (std::size_t i = 0; i < sequences; ++i) {
    jobs[i].prompt = common;
    jobs[i].prompt.push_back(static_cast<TokenId>(i));
    const auto tail = test::random_tokens(10 * i, vocab, random);
    jobs[i].prompt.insert(jobs[i].prompt.end(), tail.begin(), tail.end());
    jobs[i].options.max_tokens = made;
  }
  SessionBatch<Model, typename C::KV> batch(model, {.max_sequences = sequences, .token_budget = 40});
  std::size_t tokens = 0;
  for (Job& job : jobs) {
    batch.add(job.request());
    tokens += job.prompt.size() + made - 1;  // the last one chosen doesn't go through the model
  }
  while (!batch.empty()) {
    for (const BatchResult& result : batch.step()) check_result<C>(model, jobs[result.id - 1], result, false);
  }
  CHECK(batch.counters().shared_tokens == (sequences - 1) * prefix);
  CHECK(batch.counters().rows == tokens - (sequences - 1) * prefix);
}

TEST_CASE_TEMPLATE("a conversation goes on in the cache where it was left, also after the ring has gone round", C,
                   Windowed, Unwindowed) {
  using Model = typename C::Model;
  constexpr std::size_t vocab = Model::config.vocab_size;
  const Model model = a_model<Model>();
  Random random(43);
  SessionBatch<Model, typename C::KV> batch(model, {.max_sequences = 3, .token_budget = 16});
  std::vector<TokenId> said = test::random_tokens(20, vocab, random);
  std::size_t in_cache = 0;
  for (int turn = 0; turn < 5; ++turn) {
    CAPTURE(turn);
    Job job;
    job.prompt = said;
    job.options.max_tokens = 9;
    const std::uint64_t rows = batch.counters().rows;
    batch.add(job.request());
    while (!batch.empty()) {
      for (const BatchResult& result : batch.step()) {
        check_result<C>(model, job, result, false);
        said.insert(said.end(), result.made.tokens.begin(), result.made.tokens.end());
      }
    }
    CHECK(batch.counters().rows - rows == said.size() - 1 - in_cache);
    in_cache = said.size() - 1;  // all but the last one chosen
    const auto question = test::random_tokens(7, vocab, random);
    said.insert(said.end(), question.begin(), question.end());
  }
  // What was forgotten is computed again.
  batch.forget();
  Job job;
  job.prompt = said;
  job.options.max_tokens = 1;
  const std::uint64_t rows = batch.counters().rows;
  batch.add(job.request());
  while (!batch.empty()) batch.step();
  CHECK(batch.counters().rows - rows == said.size());
}

TEST_CASE("the order in which sequences join doesn't matter") {
  const auto model = a_model<Windowed::Model>();
  Random random(44);
  std::vector<std::unique_ptr<Job>> jobs;
  for (int i = 0; i < 12; ++i) {
    jobs.push_back(std::make_unique<Job>(random_job(random, test::tiny.vocab_size, 60, jobs)));
    jobs.back()->fails_at = 0;
  }
  std::vector<std::vector<TokenId>> first(jobs.size());
  std::vector<std::size_t> order(jobs.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (int round = 0; round < 5; ++round) {
    SessionBatch<Windowed::Model> batch(model, {.max_sequences = 4, .token_budget = 12, .worth_waiting = 2});
    for (const std::size_t i : order) batch.add(jobs[i]->request());
    while (!batch.empty()) {
      for (const BatchResult& result : batch.step()) {
        const std::size_t which = order[result.id - 1];
        if (round == 0) first[which] = result.made.tokens;
        CHECK(result.made.tokens == first[which]);
      }
    }
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[uniform(random, 0, i - 1)]);
  }
}

TEST_CASE("sequences that decode never wait for a prompt, and prompts share what is left") {
  BatchScheduler scheduler(test::tiny, nullptr, {.max_sequences = 4, .token_budget = 10, .share_prefixes = false});
  std::vector<float> logits(4 * test::tiny.vocab_size, 0.0f);
  Random random(45);
  const auto join = [&](std::size_t length) {
    return scheduler.add(
        {.prompt = test::random_tokens(length, test::tiny.vocab_size, random), .options = {.max_tokens = 1000}});
  };
  const auto step = [&] {
    auto& parts = scheduler.plan().parts;
    std::vector<std::size_t> rows;
    std::size_t choosing = 0;
    for (const auto& part : parts) {
      rows.push_back(part.tokens.size());
      choosing += part.logits ? 1 : 0;
    }
    scheduler.done(Rows<float>(logits.data(), choosing, test::tiny.vocab_size));
    return rows;
  };
  using Rows = std::vector<std::size_t>;
  join(1);
  join(2);
  CHECK(step() == Rows{1, 2});  // both prompts in one forward
  CHECK(step() == Rows{1, 1});
  join(20);
  const SequenceId last = join(3);
  CHECK(step() == Rows{1, 1, 6, 2});  // half of 8 rows evenly, half to the older one
  CHECK(step() == Rows{1, 1, 7, 1});
  CHECK(step() == Rows{1, 1, 1, 7});  // the younger one has chosen and decodes
  CHECK(step() == Rows{1, 1, 1, 1});
  join(5);  // no slot is free
  CHECK(scheduler.waiting() == 1);
  CHECK(step() == Rows{1, 1, 1, 1});
  CHECK(scheduler.cancel(last));
  CHECK(step() == Rows{1, 1, 1, 5});
  CHECK(scheduler.waiting() == 0);
  const auto results = scheduler.take_results();
  REQUIRE(results.size() == 1);
  CHECK(results[0].id == last);
  CHECK(results[0].made.reason == StopReason::cancelled);
  CHECK(results[0].made.tokens.size() == 4);
}

TEST_CASE("choices that are shared among threads are those that each sampler makes alone") {
  ModelConfig config = test::tiny;
  config.vocab_size = 20000;
  constexpr std::size_t sequences = 7, steps = 12;
  BatchScheduler scheduler(config, nullptr, {.max_sequences = sequences, .token_budget = sequences});
  Random random(47);
  std::vector<Sampler> samplers;
  std::vector<std::vector<TokenId>> expected(sequences);
  for (std::size_t i = 0; i < sequences; ++i) {
    GenerateOptions options{.sampling = {.seed = random.next()}, .max_tokens = steps};
    if (i % 3 != 0) options.sampling.temperature = 0.5f + static_cast<float>(i);
    if (i % 3 == 2) options.sampling.top_p = 0.7f;
    if (i % 2 == 1) options.sampling.repetition_penalty = 1.3f;
    samplers.emplace_back(options.sampling, config.vocab_size).accept(3);
    scheduler.add({.prompt = {3}, .options = options});
  }
  for (std::size_t step = 0; step < steps; ++step) {
    test::Matrix logits(sequences, config.vocab_size, random);
    // The last sequence's logits are none in the end, which is its own affair.
    if (step + 1 == steps) logits.values.back() = NAN;
    REQUIRE(scheduler.plan().parts.size() == sequences);
    for (std::size_t i = 0; i < sequences; ++i) {  // rows are in the order in which sequences joined
      if (step + 1 == steps && i + 1 == sequences) continue;
      std::vector<float> copy(logits.view().row(i).begin(), logits.view().row(i).end());
      expected[i].push_back(samplers[i].sample(copy));
      samplers[i].accept(expected[i].back());
    }
    scheduler.done(logits.view());
  }
  const auto results = scheduler.take_results();
  REQUIRE(results.size() == sequences);
  for (const BatchResult& result : results) {
    CHECK((result.error != nullptr) == (result.id == sequences));
    CHECK(result.made.tokens == expected[result.id - 1]);
  }
}

TEST_CASE("a hook that throws, and logits that are none, end their own sequence and no other") {
  const auto model = a_model<Windowed::Model>();
  std::vector<Job> jobs(4);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].prompt = {1, 2, static_cast<TokenId>(3 + i), 4};
    jobs[i].options.max_tokens = 10;
  }
  SessionBatch<Windowed::Model> batch(model, {.max_sequences = 4, .token_budget = 8});
  auto broken = jobs[1].request();
  broken.on_residual = [](const Residual& residual) {
    CHECK(residual.sequence == 0);
    if (residual.position == 6 && residual.layer == 2) throw Error("test", "in the middle of a forward");
  };
  auto nowhere = jobs[2].request();
  nowhere.on_logits = [](std::span<float> logits) { logits[5] = NAN; };
  batch.add(jobs[0].request());
  batch.add(std::move(broken));
  batch.add(std::move(nowhere));
  batch.add(jobs[3].request());
  const auto message = [](const BatchResult& result) {
    return test::error_of([&] { std::rethrow_exception(result.error); });
  };
  std::size_t ended = 0;
  while (!batch.empty()) {
    for (const BatchResult& result : batch.step()) {
      ++ended;
      if (result.id == 2) {
        CHECK(message(result) == "[test] in the middle of a forward");
        CHECK(result.made.tokens.size() == 3);  // those of positions 4, 5 and 6
      } else if (result.id == 3) {
        CHECK(message(result) == "[sampling] logits: expected numbers or -inf, got nan for token 5");
        CHECK(result.made.tokens.empty());
      } else {
        check_result<Windowed>(model, jobs[result.id - 1], result, false);
      }
    }
  }
  CHECK(ended == 4);
}

TEST_CASE("what can't run is refused when it joins, and no more may wait than was said") {
  const auto model = a_model<Unwindowed::Model>();
  SessionBatch<Unwindowed::Model> batch(
      model, {.max_sequences = 1, .token_budget = 4, .max_waiting = 3, .max_waiting_tokens = 100});
  const auto joining = [&](std::size_t length, GenerateOptions options = {}) {
    return test::error_of([&] { batch.add({.prompt = std::vector<TokenId>(length, 7), .options = options}); });
  };
  CHECK(joining(0) == "[batch] prompt: expected at least one token, got none");
  CHECK(joining(201) == "[batch] prompt: expected at most 200 tokens (context_len), got 201");
  CHECK(joining(1, {.sampling = {.top_k = -1}}) ==
        "[sampling] top_k: expected a number of tokens, or 0 for all, got -1");
  CHECK(joining(1, {.stop_strings = {"."}}) ==
        "[generate] stop_strings: expected none where there is no tokenizer, got 1");
  CHECK(test::error_of([&] {
          batch.add({.prompt = {1, 67}});
        }) == "[batch] token 1: expected an id of 0 ... 66, got 67");
  CHECK(batch.empty());
  CHECK(joining(6, {.max_prompt_tokens = 5}) == "[batch] prompt: expected at most 5 tokens (max_prompt_tokens), got 6");
  CHECK_FALSE(batch.cancel(1));
  CHECK(joining(101) == "[batch] tokens of waiting prompts: expected at most 100 (max_waiting_tokens), got 101");
  for (int i = 0; i < 3; ++i) batch.add({.prompt = {1, 2}, .options = {.max_tokens = 2}});
  CHECK(joining(1) == "[batch] waiting sequences: expected at most 3 (max_waiting), got one more");
  batch.step();
  CHECK(batch.waiting() == 2);
  batch.add({.prompt = std::vector<TokenId>(96, 7)});
  CHECK(batch.cancel(4));
  CHECK(batch.step().size() == 2);  // the first and the one that was called off while it waited
  CHECK_FALSE(batch.cancel(4));
  while (!batch.empty()) batch.step();

  using Batch = SessionBatch<Unwindowed::Model>;
  Batch bounded(model, {.max_sequences = 1, .token_budget = 4, .max_prompt_tokens = 8});
  CHECK(test::error_of([&] { bounded.add({.prompt = std::vector<TokenId>(9, 7)}); }) ==
        "[batch] prompt: expected at most 8 tokens (max_prompt_tokens), got 9");
  CHECK(bounded.add({.prompt = std::vector<TokenId>(8, 7), .options = {.max_tokens = 1, .max_prompt_tokens = 8}}) == 1);
  CHECK(test::error_of([&] { Batch(model, {.max_sequences = 0}); }) ==
        "[batch] max_sequences: expected at least 1, got 0");
  CHECK(test::error_of([&] { Batch(model, {.max_sequences = 5, .token_budget = 4}); }) ==
        "[batch] token_budget: expected at least 5 (max_sequences), got 4");
  CHECK(test::error_of([&] { Batch(model, {.worth_waiting = 0}); }) ==
        "[batch] worth_waiting: expected at least 1, got 0");
  static_assert(Batch::memory_bytes({.max_sequences = 2, .token_budget = 2}) >
                2 * Session<Unwindowed::Model>::cache_bytes);
}

TEST_CASE("a batch takes its caches from the caller's memory resource, all when it is made, and gives them back") {
  const auto model = a_model<Windowed::Model>();
  test::CountingResource memory;
  {
    SessionBatch<Windowed::Model> batch(model, {.max_sequences = 3, .token_budget = 9}, &memory);
    constexpr std::size_t caches = 3 * Session<Windowed::Model>::cache_bytes;
    CHECK(memory.taken == caches);
    CHECK(memory.aligned);
    for (TokenId first = 1; first <= 5; ++first) batch.add({.prompt = {first, 2, 3}, .options = {.max_tokens = 20}});
    std::size_t ended = 0;
    while (!batch.empty()) ended += batch.step().size();
    CHECK(ended == 5);
    CHECK(memory.taken == caches);
  }
  CHECK(memory.held == 0);
}

TEST_CASE("sequences join and leave from other threads, and from their own functions, while a batch steps") {
  const auto model = a_model<Windowed::Model>();
  SessionBatch<Windowed::Model> batch(model, {.max_sequences = 3, .token_budget = 9, .worth_waiting = 2});
  constexpr std::size_t threads = 2, each = 20;
  Random random(46);
  std::vector<std::unique_ptr<Job>> jobs;  // a thread's own ones
  for (std::size_t i = 0; i < threads * each; ++i) {
    jobs.push_back(std::make_unique<Job>(random_job(random, test::tiny.vocab_size, 40, jobs)));
  }
  std::vector<std::atomic<SequenceId>> ids(jobs.size());
  std::atomic<std::size_t> joined{0};
  std::vector<std::thread> workers;
  for (std::size_t t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      for (std::size_t i = t * each; i < (t + 1) * each; ++i) {
        ids[i] = batch.add(jobs[i]->request());
        if (i % 5 == 4) batch.cancel(ids[i - 2]);
        ++joined;
        std::this_thread::yield();
      }
    });
  }
  std::vector<BatchResult> results;
  while (joined < jobs.size() || !batch.empty()) {
    for (BatchResult& result : batch.step()) results.push_back(std::move(result));
  }
  for (std::thread& worker : workers) worker.join();
  REQUIRE(results.size() == jobs.size());
  for (const BatchResult& result : results) {
    const auto which = static_cast<std::size_t>(
        std::find_if(ids.begin(), ids.end(), [&](const auto& id) { return id == result.id; }) - ids.begin());
    REQUIRE(which < jobs.size());
    check_result<Windowed>(model, *jobs[which], result, which % 5 == 2);
  }

  // A sequence that adds another, and calls itself off before its fourth choice.
  SequenceId own = 0, child = 0;
  std::size_t calls = 0;
  BatchRequest parent{.prompt = {1, 2, 3}, .options = {.max_tokens = 50}};
  parent.on_logits = [&](std::span<float>) {
    if (++calls == 4) batch.cancel(own);
    if (calls == 2) child = batch.add({.prompt = {4, 5}, .options = {.max_tokens = 3}});
  };
  own = batch.add(std::move(parent));
  std::vector<SequenceId> order;
  while (!batch.empty()) {
    for (const BatchResult& result : batch.step()) {
      order.push_back(result.id);
      CHECK(result.made.tokens.size() == 3);
    }
  }
  CHECK(order == std::vector<SequenceId>{own, child});
}
