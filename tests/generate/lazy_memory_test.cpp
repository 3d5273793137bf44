// SPDX-License-Identifier: Apache-2.0
// Memory is taken as it is first written: what a session of a long context costs before it has read much, and that
// nothing depends on what memory held before.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/bf16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/generate/batch.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/io/os/huge_pages.hpp>
#include <mistral/nn/adapter.hpp>

#include "../support/allocations.hpp"
#include "../support/models.hpp"
#include "../support/poison_resource.hpp"
#include "../support/resident.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::resident_bytes;

namespace {

/// A model whose cache is that of Mistral 7B v0.2, and that is narrow beside.
constexpr ModelConfig long_context{.dim = 32,
                                   .n_layers = 32,
                                   .head_dim = 128,
                                   .hidden_dim = 32,
                                   .n_heads = 8,
                                   .n_kv_heads = 8,
                                   .window_size = 0,
                                   .context_len = 32768,
                                   .vocab_size = 50};
using Long = Transformer<long_context, F32>;
using Mistral = Transformer<mistral_7b_v0_2, Q4_0>;
static_assert(KvCache<long_context, bf16>::bytes == KvCache<mistral_7b_v0_2, bf16>::bytes);
static_assert(KvCache<long_context, bf16>::bytes == std::size_t{4} << 30);

constexpr std::size_t mega = 1'000'000;

bool measures_memory() {
  if (test::counts_allocations && resident_bytes() != 0) return true;
  std::fprintf(stderr, "SKIPPED: resident memory is not measured: sanitizers take some of their own\n");
  return false;
}

/// Milliseconds that `make` takes, the best of some times: others may use the machine.
template <class Make>
double best_milliseconds(const Make& make) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 7; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto made = make();
    const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - begin;
    best = (std::min)(best, passed.count());
  }
  return best;
}

std::vector<TokenId> twenty_tokens(std::size_t vocab_size, std::uint64_t seed) {
  Random random(seed);
  return test::random_tokens(20, vocab_size, random);
}

std::vector<float> copy_of(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

}  // namespace

TEST_CASE("a session of Mistral 7B v0.2, and a batch of 16, are made in under 10 ms and take no memory yet") {
  if (!measures_memory()) return;
  const Mistral model(nullptr);  // its shape; no weights are needed
  CHECK(best_milliseconds([&] { return std::make_unique<Session<Mistral, bf16>>(model); }) < 10.0);
  CHECK(best_milliseconds([&] {
          return std::make_unique<SessionBatch<Mistral, bf16>>(model, BatchOptions{.max_sequences = 16});
        }) < 10.0);
  const std::size_t before = resident_bytes();
  const Session<Mistral, bf16> session{model};
  const SessionBatch<Mistral, bf16> batch{model, {.max_sequences = 16}};
  CHECK(resident_bytes() < before + 10 * mega);
}

TEST_CASE("sessions of 32768 tokens take what 20 tokens need, also forked, saved and restored, in huge pages or not") {
  if (!measures_memory()) return;
  const auto model = test::random_model<Long>(3);
  const auto prompt = twenty_tokens(long_context.vocab_size, 1);
  HugePages huge;
  for (MemoryResource* const memory : {std::pmr::get_default_resource(), static_cast<MemoryResource*>(&huge)}) {
    CAPTURE(memory == &huge);
    const test::DefaultResource set(*memory);
    const test::Scratch scratch;
    const std::size_t before = resident_bytes();
    // 20 entries of 256 bytes in each of 512 rings are two pages of each
    Session<Long, bf16> session{model};
    const auto logits = copy_of(session.prefill(prompt));
    const std::size_t one = resident_bytes() - before;
    CHECK(one < 40 * mega);
    CHECK(one > 512 * 20 * 256);  // it was measured

    Session<Long, bf16> fork = session.fork();
    save_session(session, prompt, scratch.path("state"));
    Session<Long, bf16> restored{model};
    load_session(restored, scratch.path("state"));
    fork.rollback(1);
    restored.rollback(1);
    CHECK(test::same_bits(fork.decode(prompt.back()), logits));
    CHECK(test::same_bits(restored.decode(prompt.back()), logits));
    session.clear();
    CHECK(test::same_bits(session.prefill(prompt), logits));
    CHECK(resident_bytes() < before + 100 * mega);
  }
}

TEST_CASE("16 sequences of 32768 tokens in a batch take what 20 tokens of each need") {
  if (!measures_memory()) return;
  const auto model = test::random_model<Long>(3);
  HugePages huge;
  for (MemoryResource* const memory : {std::pmr::get_default_resource(), static_cast<MemoryResource*>(&huge)}) {
    CAPTURE(memory == &huge);
    const test::DefaultResource set(*memory);
    const std::size_t before = resident_bytes();
    SessionBatch<Long, bf16> batch{model, {.max_sequences = 16, .token_budget = 64}};
    for (std::uint64_t i = 0; i < 16; ++i) {
      batch.add({.prompt = twenty_tokens(long_context.vocab_size, i), .options = {.max_tokens = 1}});
    }
    std::size_t ended = 0;
    while (!batch.empty()) ended += batch.step().size();
    CHECK(ended == 16);
    const std::size_t taken = resident_bytes() - before;
    CHECK(taken < 100 * mega);
    CHECK(taken > std::size_t{16} * 512 * 20 * 256);
  }
}

namespace {

template <ModelConfig Config, WeightFormat F, KvElement Element>
struct Case {
  using Model = Transformer<Config, F>;
  using KV = Element;
};

/// The logits of all that a session does: prompts longer than a chunk, tokens past the window, forks, files.
template <class C, class Model>
std::vector<float> all_logits(const Model& model) {
  constexpr std::size_t vocab = Model::config.vocab_size;
  std::vector<float> all;
  const auto keep = [&](std::span<const float> logits) { all.insert(all.end(), logits.begin(), logits.end()); };
  Random random(9);
  const auto prompt = test::random_tokens(21, vocab, random);
  Session<Model, typename C::KV, 5> session{model, 2};
  keep(session.prefill(prompt));
  for (TokenId token = 1; token < 20; ++token) keep(session.decode(token));
  const auto rows = session.forward(prompt);
  for (std::size_t i = 0; i < rows.rows(); ++i) keep(rows.row(i));
  session.rollback(2);
  auto fork = session.fork();
  const test::Scratch scratch;
  save_session(session, {}, scratch.path("state"));
  Session<Model, typename C::KV, 5> restored{model, 2};
  load_session(restored, scratch.path("state"));
  keep(session.prefill(prompt));
  keep(fork.prefill(prompt));
  keep(restored.prefill(prompt));

  SessionBatch<Model, typename C::KV> batch{model, {.max_sequences = 3, .token_budget = 7}};
  for (std::size_t i = 0; i < 5; ++i) {
    BatchRequest request{.prompt = test::random_tokens(1 + 4 * i, vocab, random), .options = {.max_tokens = 9}};
    request.on_logits = [&](std::span<float> logits) { keep(logits); };
    batch.add(std::move(request));
  }
  while (!batch.empty()) batch.step();
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("what memory held before it was taken changes no bit", C, Case<test::tiny, F32, float>,
                   Case<test::tiny, Q4_0, q8>, Case<test::full, Q8_0, bf16>, Case<test::odd, BF16, q8>,
                   Case<test::odd, Q8_0, float>, Case<test::tiny, Lora<F32>, bf16>) {
  using Model = typename C::Model;
  auto model = test::random_model<Model>(4);
  if constexpr (requires { model.output.adapters; }) add_adapter(model, {.rank = 3, .seed = 1});
  const auto expected = all_logits<C>(model);
  REQUIRE(std::none_of(expected.begin(), expected.end(), [](float x) { return x != x; }));
  test::PoisonResource poison;
  const test::DefaultResource set(poison);
  CHECK(test::same_bits(all_logits<C>(model), expected));
  CHECK(poison.taken > Session<Model, typename C::KV, 5>::memory_bytes);
}
