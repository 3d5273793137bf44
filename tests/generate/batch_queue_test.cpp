// SPDX-License-Identifier: Apache-2.0
// A batch that other threads use: who waits for what, and what that costs.

#include <time.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/f32.hpp>
#include <mistral/generate/batch.hpp>

#include "../support/models.hpp"
#include "../support/rounds.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using namespace std::chrono_literals;

namespace {

using Model = Transformer<test::tiny, F32>;
using Sequences = SessionBatch<Model>;

/// Processor time of the calling thread.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Steps a batch in a thread of its own until it is closed and empty. Results are told by their tags.
class Stepper {
 public:
  explicit Stepper(Sequences& batch) : batch_(batch), thread_([this] { run(); }) {}
  ~Stepper() {
    batch_.close();
    if (thread_.joinable()) thread_.join();
  }
  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;

  /// Waits for the result of a tag, and takes it.
  BatchResult result(std::uint64_t tag) {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [&] { return results_.count(tag) > 0; });
    return std::move(results_.extract(tag).mapped());
  }

  /// Waits for the end, which somebody asks for. Returns the processor time of the thread.
  double join() {
    thread_.join();
    return seconds_;
  }

 private:
  void run() {
    while (batch_.wait()) {
      for (BatchResult& result : batch_.step()) {
        const std::lock_guard lock(mutex_);
        const std::uint64_t tag = result.tag;
        results_.emplace(tag, std::move(result));
        came_.notify_all();
      }
    }
    seconds_ = thread_seconds();
  }

  Sequences& batch_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::map<std::uint64_t, BatchResult> results_;
  double seconds_ = 0.0;
  std::thread thread_;  // last: it uses the others
};

BatchRequest request(std::uint64_t tag, std::size_t max_tokens = 6) {
  return {.prompt = {static_cast<TokenId>(tag % 90), 2, 3}, .options = {.max_tokens = max_tokens}, .tag = tag};
}

std::vector<TokenId> made_alone(const Model& model, std::uint64_t tag) {
  Sequences batch(model, {.max_sequences = 1, .token_budget = 1});
  batch.add(request(tag));
  std::vector<TokenId> made;
  while (!batch.empty()) {
    for (const BatchResult& result : batch.step()) made = result.made.tokens;
  }
  return made;
}

}  // namespace

TEST_CASE("clients in threads of their own get their own results from a batch that another thread waits for") {
  const auto model = test::random_model<Model>(8);
  Sequences batch(model, {.max_sequences = 3, .token_budget = 9});
  Stepper stepper(batch);
  constexpr std::uint64_t clients = 4, each = test::rounds(16);
  std::vector<std::vector<std::vector<TokenId>>> made(clients);
  std::vector<std::thread> threads;
  for (std::uint64_t client = 0; client < clients; ++client) {
    threads.emplace_back([&, client] {
      for (std::uint64_t i = 0; i < each; ++i) {
        const std::uint64_t tag = client + i * clients;
        batch.add(request(tag));
        made[client].push_back(stepper.result(tag).made.tokens);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::uint64_t client = 0; client < clients; ++client) {
    for (std::uint64_t i = 0; i < each; ++i) CHECK(made[client][i] == made_alone(model, client + i * clients));
  }
  CHECK(batch.empty());
}

TEST_CASE("a thread that waits for a batch takes no processor time, and wakes when a sequence joins") {
  const auto model = test::random_model<Model>(8);
  Sequences batch(model, {.max_sequences = 2, .token_budget = 4});
  std::atomic<bool> waits{false};
  double seconds = 1.0;
  bool something = false;
  std::thread waiter([&] {
    const double before = thread_seconds();
    waits = true;
    something = batch.wait();
    seconds = thread_seconds() - before;
  });
  while (!waits) std::this_thread::yield();
  std::this_thread::sleep_for(300ms);
  batch.add(request(1));
  waiter.join();
  CHECK(something);
  CHECK(seconds < (test::sanitized ? 0.03 : 0.003));  // a hundredth of the time

  while (!batch.empty()) batch.step();
  const auto begin = std::chrono::steady_clock::now();
  const double before = thread_seconds();
  CHECK_FALSE(batch.wait_for(200ms));
  CHECK(thread_seconds() - before < (test::sanitized ? 0.02 : 0.002));
  CHECK(std::chrono::steady_clock::now() - begin >= 200ms);
  CHECK_FALSE(batch.closed());
  batch.add(request(2));
  CHECK(batch.wait_for(1h));
  CHECK(batch.wait_for(0s));
}

TEST_CASE("a batch that is closed takes no more, ends what it has, and lets go whoever waits") {
  const auto model = test::random_model<Model>(8);
  Sequences batch(model, {.max_sequences = 2, .token_budget = 4});
  for (std::uint64_t tag = 1; tag <= 5; ++tag) batch.add(request(tag));
  batch.close();
  CHECK(batch.closed());
  CHECK(test::error_of([&] { batch.add(request(6)); }) == "[batch] closed: no more sequences join");
  std::map<std::uint64_t, std::vector<TokenId>> made;
  while (batch.wait()) {
    for (const BatchResult& result : batch.step()) made[result.tag] = result.made.tokens;
  }
  CHECK(made.size() == 5);
  for (const auto& entry : made) CHECK(entry.second == made_alone(model, entry.first));
  CHECK_FALSE(batch.wait());
  CHECK_FALSE(batch.wait_for(1h));

  Sequences idle(model, {.max_sequences = 2, .token_budget = 4});
  Stepper stepper(idle);
  std::this_thread::sleep_for(20ms);  // long enough to wait
  idle.close();
  stepper.join();
}

TEST_CASE("all that have joined are called off at once, from another thread, whether they run or wait") {
  const auto model = test::random_model<Model>(8);
  Sequences batch(model, {.max_sequences = 2, .token_budget = 4});
  CHECK(batch.cancel_all() == 0);
  Stepper stepper(batch);
  constexpr std::size_t endless = 100'000'000;
  std::atomic<bool> runs{false};
  BatchRequest first = request(1, endless);
  std::size_t choices = 0;
  first.on_logits = [&](std::span<float>) { runs = ++choices > 1; };
  const SequenceId id = batch.add(std::move(first));
  for (std::uint64_t tag = 2; tag <= 5; ++tag) batch.add(request(tag, endless));
  while (!runs) std::this_thread::yield();
  CHECK(batch.cancel(id));
  CHECK(batch.cancel_all() == 4);
  CHECK(stepper.result(1).made.tokens.size() > 0);
  for (std::uint64_t tag = 2; tag <= 5; ++tag) {
    CHECK(stepper.result(tag).made.reason == StopReason::cancelled);
  }
  batch.add(request(6));  // and the batch goes on
  CHECK(stepper.result(6).made.tokens == made_alone(model, 6));
}

TEST_CASE("a result brings back its request's tag, also of a sequence that failed or was called off while it waited") {
  const auto model = test::random_model<Model>(8);
  Sequences batch(model, {.max_sequences = 1, .token_budget = 4});
  BatchRequest fails = request(~std::uint64_t{0});
  fails.on_logits = [](std::span<float>) { throw Error("test", "enough"); };
  const SequenceId failed = batch.add(std::move(fails));
  const SequenceId cancelled = batch.add(request(7));
  const SequenceId ended = batch.add(request(0));
  batch.cancel(cancelled);
  std::map<SequenceId, std::uint64_t> tags;
  while (!batch.empty()) {
    for (const BatchResult& result : batch.step()) tags[result.id] = result.tag;
  }
  CHECK(tags == std::map<SequenceId, std::uint64_t>{{failed, ~std::uint64_t{0}}, {cancelled, 7}, {ended, 0}});
}
