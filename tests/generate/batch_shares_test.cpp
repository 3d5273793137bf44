// SPDX-License-Identifier: Apache-2.0
// How prompts share the rows of a batch's steps and its slots: nobody starves, whoever else is there.

#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/core/random.hpp>
#include <mistral/generate/batch_scheduler.hpp>
#include <mistral/generate/batch_shares.hpp>

#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/rounds.hpp"

using namespace mistral;
using test::uniform;

namespace {

constexpr ModelConfig wide() {
  ModelConfig config = test::tiny;
  config.window_size = 4096;
  return config;
}

// A scheduler without a model: the sequences' prompts go through in as many rows as it says, and each ends by itself.
class Scheduler {
 public:
  explicit Scheduler(const BatchOptions& options, const ModelConfig& config = wide())
      : options_(with_room(options)),
        scheduler_(config, nullptr, options_),
        logits_(options.max_sequences * config.vocab_size) {}

  SequenceId add(std::vector<TokenId> prompt, std::size_t max_tokens = 1) {
    const SequenceId id = ++added_;
    BatchRequest request{.prompt = std::move(prompt), .options = {.max_tokens = max_tokens}};
    // sequences are told apart by what nobody else uses
    request.options.stop_ids = {static_cast<TokenId>(1000 + id)};
    CHECK(scheduler_.add(std::move(request)) == id);
    joined_[id] = steps_;
    return id;
  }
  // One that shares nothing with others.
  SequenceId add(std::size_t length, std::size_t max_tokens = 1) {
    Random random(added_ + 1);
    return add(test::random_tokens(length, test::tiny.vocab_size, random), max_tokens);
  }

  void step() {
    ++steps_;
    std::size_t rows = 0, choosing = 0;
    std::set<std::size_t> slots;
    auto& parts = scheduler_.plan().parts;
    for (const auto& part : parts) {
      const auto id = static_cast<SequenceId>(part.request->options.stop_ids[0] - 1000);
      CHECK(part.tokens.size() > 0);
      CHECK(slots.insert(part.slot).second);
      first_.emplace(id, steps_);
      taken_[id] += part.tokens.size();
      rows += part.tokens.size();
      choosing += part.logits ? 1 : 0;
    }
    CHECK(rows <= options_.token_budget);
    rows_ += rows;
    scheduler_.done(Rows<float>(logits_.data(), choosing, test::tiny.vocab_size));
    for (const BatchResult& result : scheduler_.take_results()) {
      CHECK(!result.error);
      ended_[result.id] = steps_;
    }
  }

  bool empty() const { return scheduler_.empty(); }
  bool ended(SequenceId id) const { return ended_.count(id) == 1; }
  std::size_t steps() const { return steps_; }
  std::size_t rows() const { return rows_; }
  std::size_t taken(SequenceId id) const { return taken_.count(id) == 1 ? taken_.at(id) : 0; }
  std::size_t running() const { return scheduler_.running(); }

  /// Steps from when a sequence joined up to its first rows, or up to its end.
  std::size_t waited(SequenceId id) const { return first_.count(id) == 1 ? first_.at(id) - joined_.at(id) : 1000000; }
  std::size_t took(SequenceId id) const { return ended_.count(id) == 1 ? ended_.at(id) - joined_.at(id) : 1000000; }

 private:
  static BatchOptions with_room(BatchOptions options) {
    options.max_waiting_tokens = 1 << 30;
    return options;
  }

  BatchOptions options_;
  BatchScheduler scheduler_;
  std::vector<float> logits_;
  SequenceId added_ = 0;
  std::size_t steps_ = 0, rows_ = 0;
  std::map<SequenceId, std::size_t> joined_, first_, ended_, taken_;
};

}  // namespace

TEST_CASE("of a step's rows each prompt gets half of an even share at least, the oldest half, and none is lost") {
  Random random(61);
  for (int round = 0; round < test::rounds(20000); ++round) {
    const std::size_t count = uniform(random, 1, 20);
    const std::size_t rows = count + uniform(random, 0, 100);
    std::vector<detail::PromptShare> prompts;
    std::size_t wanted = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t wants = random.next() % 2 == 0 ? uniform(random, 1, 6) : uniform(random, 1, 100);
      prompts.push_back({i, std::min(wants, rows)});
      wanted += prompts.back().wants;
    }
    detail::share_rows(prompts, rows);
    std::size_t given = 0;
    for (const detail::PromptShare& prompt : prompts) {
      REQUIRE(prompt.gets <= prompt.wants);
      REQUIRE(prompt.gets >= std::min(prompt.wants, std::max<std::size_t>(1, (rows - rows / 2) / count)));
      given += prompt.gets;
    }
    REQUIRE(given == std::min(wanted, rows));
    const std::size_t even = std::max(rows - rows / 2, count);
    REQUIRE(prompts[0].gets >= std::min(prompts[0].wants, rows - even + 1));
    // What a prompt doesn't get, only older ones get beyond an even share.
    for (std::size_t i = 1; i < count; ++i) {
      if (prompts[i - 1].gets < prompts[i - 1].wants) REQUIRE(prompts[i].gets <= prompts[i - 1].gets);
    }
  }
}

TEST_CASE("a short prompt begins at once and ends soon, however many long ones there are, and more than slots") {
  for (const std::size_t slots : {2u, 3u, 4u, 16u}) {
    for (const std::size_t others : {1u, 2u, 5u, 40u}) {
      for (const std::size_t length : {100u, 3000u, 100000u}) {
        CAPTURE(slots);
        CAPTURE(others);
        CAPTURE(length);
        Scheduler batch({.max_sequences = slots, .token_budget = 64, .share_prefixes = false});
        for (std::size_t i = 0; i < others; ++i) batch.add(length);
        batch.step();
        const SequenceId three = batch.add(std::size_t{3}), sixty = batch.add(std::size_t{60});
        // those that have come to their last rows have their slots free with the next step
        for (int i = 0; i < 40 && !(batch.ended(three) && batch.ended(sixty)); ++i) batch.step();
        CHECK(batch.waited(three) <= 2);
        CHECK(batch.took(three) <= 3);
        CHECK(batch.waited(sixty) <= 5);
        CHECK(batch.took(sixty) <= 40);
      }
    }
  }
}

TEST_CASE("a prompt waits for none that is much longer, whatever its length") {
  // Three of each size join, the longest first: whoever is eight times shorter doesn't wait for them.
  Scheduler batch({.max_sequences = 8, .token_budget = 64, .share_prefixes = false});
  std::vector<std::vector<SequenceId>> sizes;
  for (const std::size_t length : {200000u, 20000u, 2000u, 200u, 20u}) {
    sizes.emplace_back();
    for (int i = 0; i < 10; ++i) sizes.back().push_back(batch.add(length));
  }
  for (int i = 0; i < 2000; ++i) batch.step();
  for (const SequenceId id : sizes[4]) CHECK(batch.took(id) <= 100);
  for (const SequenceId id : sizes[3])
    CHECK(batch.took(id) <= 550);  // ten of them, one after the other, in a share of 4 rows
  CHECK(batch.waited(sizes[2][0]) <= 3);
  CHECK(batch.waited(sizes[1][0]) <= 3);
  CHECK(batch.waited(sizes[0][0]) <= 1);
}

TEST_CASE("many short prompts behind several long ones go through soon, and the long ones lose no more than half") {
  constexpr std::size_t slots = 16, budget = 64, length = 20000;
  const auto run = [&](std::size_t short_ones) {
    Scheduler batch({.max_sequences = slots, .token_budget = budget, .share_prefixes = false});
    std::vector<SequenceId> longs, shorts;
    for (int i = 0; i < 5; ++i) longs.push_back(batch.add(length));
    for (std::size_t i = 0; i < short_ones; ++i) shorts.push_back(batch.add(std::size_t{10}));
    while (!batch.empty()) batch.step();
    std::size_t latest = 0;
    for (const SequenceId id : shorts) latest = std::max(latest, batch.took(id));
    if (short_ones > 0) CHECK(latest <= 2 * short_ones * 10 / (budget / 2) + 5);
    CHECK(batch.rows() == 5 * length + 10 * short_ones);
    CHECK(batch.steps() <= batch.rows() / budget + 40);  // steps are full
    return batch.took(longs[0]);
  };
  const std::size_t alone = run(0);
  CHECK(run(200) <= alone + 200 * 10 / (budget / 2) + 5);
}

TEST_CASE("a stream of new prompts takes no more than half of the rows from an old one, nor its turn for a slot") {
  constexpr std::size_t budget = 64, length = 6400;
  Random random(62);
  Scheduler batch({.max_sequences = 8, .token_budget = budget, .share_prefixes = false});
  const SequenceId old = batch.add(length);
  std::vector<SequenceId> waiting_long;
  std::vector<SequenceId> shorts;
  while (!batch.ended(old)) {
    for (int i = 0; i < 3; ++i) shorts.push_back(batch.add(uniform(random, 1, 30)));
    if (batch.steps() == 10) {
      for (int i = 0; i < 3; ++i) waiting_long.push_back(batch.add(std::size_t{1000}));
    }
    batch.step();
    REQUIRE(batch.taken(old) >= batch.steps() * (budget / 2 - 8));  // less those that decode: none, at most 8 that end
  }
  CHECK(batch.took(old) <= 2 * length / budget + 30);
  for (const SequenceId id : waiting_long) CHECK(batch.waited(id) <= 40);
  for (int i = 0; i < 600 && !batch.empty(); ++i) batch.step();
  CHECK(batch.empty());
}

TEST_CASE("in any mix of prompts each step gives a row to each that has a slot, and all end") {
  Random random(63);
  for (int round = 0; round < test::rounds(40); ++round) {
    CAPTURE(round);
    BatchOptions options{.share_prefixes = false};
    options.max_sequences = uniform(random, 1, 9);
    options.token_budget = options.max_sequences + uniform(random, 0, 60);
    Scheduler batch(options);
    std::vector<SequenceId> ids;
    std::size_t total = 0;
    for (int i = 0; i < 60; ++i) {
      const std::size_t lengths[] = {1, 3, uniform(random, 1, 30), uniform(random, 1, 300), uniform(random, 1, 3000)};
      const std::size_t length = lengths[random.next() % 5], made = uniform(random, 1, 9);
      ids.push_back(batch.add(length, made));
      total += length + made - 1;
      if (random.next() % 2 == 0) {
        std::map<SequenceId, std::size_t> before;
        for (const SequenceId id : ids) before[id] = batch.taken(id);
        batch.step();
        const auto moved =
            std::count_if(ids.begin(), ids.end(), [&](SequenceId id) { return batch.taken(id) > before[id]; });
        const auto ended = std::count_if(ids.begin(), ids.end(), [&](SequenceId id) { return batch.ended(id); });
        CHECK(static_cast<std::size_t>(moved) >=
              std::min<std::size_t>(1, ids.size() - static_cast<std::size_t>(ended)));
        CHECK(static_cast<std::size_t>(moved) >= batch.running());  // those that still run have all been there
      }
    }
    for (std::size_t i = 0; i < 20000 && !batch.empty(); ++i) batch.step();
    CHECK(batch.empty());
    CHECK(batch.rows() == total);
  }
}

TEST_CASE("a prefix that goes round the ring is computed once also among prompts that share the rows") {
  ModelConfig config = test::tiny;
  config.window_size = 64;
  Random random(64);
  for (const std::size_t slots : {4u, 8u}) {
    CAPTURE(slots);
    Scheduler batch({.max_sequences = slots, .token_budget = 40}, config);
    const auto prefix = test::random_tokens(1000, test::tiny.vocab_size, random);
    std::size_t total = 2000;
    batch.add(std::size_t{2000});  // a stranger that is older
    for (std::size_t i = 1; i < slots; ++i) {
      auto prompt = prefix;
      prompt.push_back(static_cast<TokenId>(i));
      const auto tail = test::random_tokens(10 * i, test::tiny.vocab_size, random);
      prompt.insert(prompt.end(), tail.begin(), tail.end());
      total += prompt.size() - (i > 1 ? prefix.size() : 0);
      batch.add(prompt);
    }
    while (!batch.empty()) batch.step();
    CHECK(batch.rows() == total);
  }
}
