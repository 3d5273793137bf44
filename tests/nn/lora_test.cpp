// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>
#include <tbb/task_arena.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/format/f16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/nn/adapter.hpp>

#include "../support/allocations.hpp"
#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::same_bits;

namespace {

template <ModelConfig Config, WeightFormat Format>
struct Case {
  static constexpr ModelConfig config = Config;
  using F = Format;
  using Tuned = Transformer<Config, Lora<Format>>;
};

// Gives every B of an adapter random numbers, so that it changes something.
template <class Model>
void stir(Model& model, std::size_t adapter, std::uint64_t seed) {
  Random random(seed);
  visit_projections(model, [&](const std::string&, auto& linear, std::size_t) {
    Panels<F32>& b = linear.adapters[adapter].b;
    std::vector<float> values(b.rows() * b.cols());
    for (float& v : values) v = 0.1f * random.normal();
    detail::pack_all(b, values);
  });
}

template <class Model, std::size_t Chunk = 8>
std::vector<float> logits_of(const Model& model, const std::vector<TokenId>& text) {
  Session<Model, float, Chunk> session(model);
  const auto all = session.forward(text);
  return {all.data(), all.data() + all.rows() * all.cols()};
}

}  // namespace

#define MISTRAL_CASES \
  Case<test::tiny, F32>, Case<test::odd, BF16>, Case<test::full, Q8_0>, Case<test::tiny, Q4_0>, Case<test::odd, Q4_0>

TEST_CASE_TEMPLATE("without an adapter, or with one whose B is zero, logits have the bits of the base", C,
                   MISTRAL_CASES) {
  Random random(1);
  const auto base = test::random_model<Transformer<C::config, typename C::F>>(1);
  auto tuned = test::random_model<typename C::Tuned>(1);
  const auto text = test::random_tokens(30, C::config.vocab_size, random);
  const auto expected = logits_of(base, text);
  CHECK(same_bits(logits_of(tuned, text), expected));
  add_adapter(tuned, {.rank = 5, .seed = 2});
  CHECK(same_bits(logits_of(tuned, text), expected));
  stir(tuned, 0, 3);
  CHECK(!same_bits(logits_of(tuned, text), expected));
  remove_adapter(tuned, 0);
  CHECK(same_bits(logits_of(tuned, text), expected));
}

TEST_CASE_TEMPLATE("a tuned model's logits are the same bits for any chunks, and on any number of threads", C,
                   MISTRAL_CASES) {
  constexpr std::size_t vocab = C::config.vocab_size;
  Random random(2);
  auto model = test::random_model<typename C::Tuned>(2);
  add_adapter(model, {.rank = 17, .dropout = 0.5f, .seed = 3});  // nothing is dropped outside of training
  stir(model, 0, 4);
  const auto text = test::random_tokens(60, vocab, random);
  std::vector<float> expected;
  {
    const parallel::ThreadLimit limit(1);
    expected = logits_of(model, text);
  }
  const parallel::ThreadLimit limit(2);
  for (int round = 0; round < 4; ++round) {
    Session<typename C::Tuned, float, 8> session(model);
    for (std::size_t done = 0; done < text.size();) {
      const std::size_t count = round == 0 ? 1 : std::min(test::uniform(random, 1, 30), text.size() - done);
      const auto rows = session.forward(std::span(text).subspan(done, count));
      REQUIRE(same_bits({rows.data(), count * vocab}, std::span(expected).subspan(done * vocab, count * vocab)));
      done += count;
    }
  }
}

TEST_CASE_TEMPLATE("an adapter is what it stands for: merged into the weights it gives the same logits", C,
                   Case<test::tiny, F32>, Case<test::odd, F32>) {
  Random random(3);
  auto model = test::random_model<typename C::Tuned>(3);
  const LoraTargets some{.wq = true, .wk = false, .wv = true, .wo = false, .w1 = true, .w2 = true, .w3 = false};
  add_adapter(model, {.rank = 7, .alpha = 3.0f, .seed = 5, .rslora = true, .targets = some});
  stir(model, 0, 6);
  const auto text = test::random_tokens(30, C::config.vocab_size, random);
  const auto attached = logits_of(model, text);
  const MergeLoss loss = merge_adapter(model);
  CHECK(loss.relative == 0.0);  // F32 holds any float
  CHECK(adapter_count(model) == 0);
  const auto merged = logits_of(model, text);
  float error = 0.0f;
  for (std::size_t i = 0; i < merged.size(); ++i) error = std::max(error, std::abs(merged[i] - attached[i]));
  CHECK(error > 0.0f);
  CHECK(error < 2e-4f);  // logits of size 5 after a few hundred float operations in a row, in another order
}

TEST_CASE("a merge into a narrow format says what it lost") {
  auto model = test::random_model<Transformer<test::tiny, Lora<Q4_0>>>(4);
  add_adapter(model, {.rank = 4, .seed = 1});
  stir(model, 0, 2);
  const MergeLoss coarse = merge_adapter(model);
  CHECK(coarse.relative > 0.05);
  auto wide = test::random_model<Transformer<test::tiny, Lora<BF16>>>(4);
  add_adapter(wide, {.rank = 4, .seed = 1});
  stir(wide, 0, 2);
  const MergeLoss fine = merge_adapter(wide);
  CHECK(fine.relative < coarse.relative);
  CHECK(fine.relative > 0.0);
}

TEST_CASE("a merge that a format doesn't hold is an error, and leaves the model as it was") {
  using Narrow = Transformer<test::tiny, Lora<F16>>;
  Narrow model;
  randomize(model, 3);
  add_adapter(model, {.rank = 2, .alpha = 1e6f});
  std::vector<float> ones(model.layers[1].attention.wo.weight.rows() * 2, 1.0f);
  detail::pack_all(model.layers[1].attention.wo.adapters[0].b, ones);
  const std::vector<TokenId> tokens{1, 2, 3};
  Session session{model};
  session.use_adapter(no_adapter);
  const auto before = session.prefill(tokens);
  const std::vector<float> logits(before.begin(), before.end());
  const std::string error = test::error_of([&] { merge_adapter(model); });
  CHECK(error.starts_with("[adapter] layers.1.attention.wo with the adapter: expected weights that F16 holds, got "));
  CHECK(adapter_count(model) == 1);
  session.clear();
  CHECK(test::same_bits(session.prefill(tokens), logits));
}

TEST_CASE("a session's file is taken in by one that goes through the same adapter, and by no other") {
  auto model = test::random_model<Transformer<test::tiny, Lora<F32>>>(6);
  using Session = mistral::Session<decltype(model), float, 8>;
  const test::Scratch scratch;
  const std::string path = scratch.path("state");
  const std::vector<TokenId> text{1, 2, 3, 4, 5};
  for (const std::uint64_t seed : {1u, 2u}) {
    add_adapter(model, {.rank = 3, .seed = seed});
    stir(model, static_cast<std::size_t>(seed - 1), seed);
  }
  Session session(model);
  session.use_adapter(1);
  session.prefill(text);
  save_session(session, text, path);
  Session same(model), other(model), none(model);
  same.use_adapter(1);
  none.use_adapter(no_adapter);
  CHECK(load_session(same, path) == text);
  CHECK(same_bits(same.decode(7), session.decode(7)));
  const auto error_of = [&](Session& wrong) { return test::error_of([&] { load_session(wrong, path); }); };
  const std::string prefix = "[state] " + path + ": field 'adapter': expected '";
  CHECK(error_of(other).starts_with(prefix));
  CHECK(error_of(other).find("' (the session's adapter is another: load those that it was saved with), got '") !=
        std::string::npos);
  CHECK(error_of(none).starts_with(prefix + "none' ("));

  // one number of it is another, or it stands beside another matrix, or one of the base's weights is another
  LoraMatrices& last = model.output.adapters[1];
  std::byte& byte = last.a.own_bytes()[last.a.own_bytes().size() / 2];
  byte ^= std::byte{1};
  CHECK(error_of(same).starts_with(prefix));
  byte ^= std::byte{1};
  CHECK(error_of(same) == "no error");
  std::swap(model.layers[0].attention.wk.adapters[1], model.layers[1].attention.wk.adapters[1]);
  CHECK(error_of(same).starts_with(prefix));
  std::swap(model.layers[0].attention.wk.adapters[1], model.layers[1].attention.wk.adapters[1]);
  CHECK(error_of(same) == "no error");
  merge_adapter(model, 0);
  same.use_adapter(0);  // the other one has moved up
  CHECK(error_of(same).starts_with("[state] " + path + ": field 'model': expected '"));
}

TEST_CASE_TEMPLATE("each sequence of a forward may go through an adapter of its own", C, MISTRAL_CASES) {
  constexpr ModelConfig config = C::config;
  using Tuned = typename C::Tuned;
  Random random(5);
  auto model = test::random_model<Tuned>(5);
  constexpr std::size_t length = 20;
  std::vector<std::vector<TokenId>> texts;
  std::vector<std::vector<float>> expected;
  for (int i = 0; i < 4; ++i) texts.push_back(test::random_tokens(length, config.vocab_size, random));
  // Alone: adapter 0, none, adapter 1, adapter 0.
  add_adapter(model, {.rank = 3, .seed = 1});
  stir(model, 0, 1);
  expected.push_back(logits_of(model, texts[0]));
  remove_adapter(model, 0);
  expected.push_back(logits_of(model, texts[1]));
  add_adapter(model, {.rank = 9, .seed = 2, .targets = {.wk = false, .output = false}});
  stir(model, 0, 2);
  expected.push_back(logits_of(model, texts[2]));
  remove_adapter(model, 0);
  add_adapter(model, {.rank = 3, .seed = 1});
  stir(model, 0, 1);
  expected.push_back(logits_of(model, texts[3]));
  add_adapter(model, {.rank = 9, .seed = 2, .targets = {.wk = false, .output = false}});
  stir(model, 1, 2);

  for (std::size_t i = 0; i < 4; ++i) {  // a session has one for all its tokens, and so has a fork of it
    Session<Tuned, float, 8> session(model);
    session.use_adapter(i == 1 ? no_adapter : i == 2 ? 1 : 0);
    session.prefill(std::span(texts[i]).first(5));
    Session<Tuned, float, 8> fork = session.fork();
    session.clear();
    const auto rows = session.forward(texts[i]);
    CHECK(same_bits({rows.data(), rows.rows() * rows.cols()}, expected[i]));
    const auto last = std::span<const float>(expected[i]).last(config.vocab_size);
    CHECK(same_bits(fork.prefill(std::span(texts[i]).subspan(5)), last));
  }

  const std::size_t choice[] = {0, no_adapter, 1, 0};
  Workspace<config, typename Tuned::Format, float> work(4 * length);
  std::vector<KvCache<config, float>> caches(4);
  std::vector<Sequence<config, float>> sequences;
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < 4; ++i) {
    sequences.push_back({&caches[i], length, choice[i]});
    tokens.insert(tokens.end(), texts[i].begin(), texts[i].end());
  }
  const auto context = model.forward(tokens, std::span<const Sequence<config, float>>(sequences), work);
  const auto row_of_all = [&](std::size_t row) {
    return std::span<const float>(expected[row / length]).subspan(row % length * config.vocab_size, config.vocab_size);
  };
  Batch<config.vocab_size> logits(1);
  logits.resize(1);
  for (std::size_t row = 0; row < 4 * length; ++row) {
    CAPTURE(row);
    model.logits(context, work, row, logits.view());
    CHECK(same_bits(logits.row(0), row_of_all(row)));
  }
  // Some rows, in any order, are those of their own adapters.
  std::vector<std::size_t> some(17);
  for (std::size_t& row : some) row = test::uniform(random, 0, 4 * length - 1);
  Batch<config.vocab_size> logits_of_some(some.size());
  logits_of_some.resize(some.size());
  model.logits(context, work, std::span<const std::size_t>(some), logits_of_some.view());
  for (std::size_t i = 0; i < some.size(); ++i) {
    CAPTURE(some[i]);
    CHECK(same_bits(logits_of_some.row(i), row_of_all(some[i])));
  }
}

TEST_CASE("wrong options of an adapter are an error, and leave the model without it") {
  auto model = test::random_model<Transformer<test::tiny, Lora<F32>>>(6);
  const auto error = [&](const AdapterOptions& options) {
    return test::error_of([&] { add_adapter(model, options); });
  };
  CHECK(error({.rank = 0}) == "[adapter] rank: expected 1 ... 512, got 0");
  CHECK(error({.rank = 513}) == "[adapter] rank: expected 1 ... 512, got 513");
  CHECK(error({.dropout = 1.0f}) == "[adapter] dropout: expected 0 ... 1, less than 1, got 1");
  CHECK(error({.alpha = std::numeric_limits<float>::quiet_NaN()}) ==
        "[adapter] alpha: expected a finite number, got nan");
  CHECK(error({.targets = {false, false, false, false, false, false, false, false}}) ==
        "[adapter] targets: expected at least one, got none");
  CHECK(adapter_count(model) == 0);
  CHECK(test::error_of([&] { remove_adapter(model, 0); }) == "[adapter] number: expected less than 0, got 0");
  CHECK(test::error_of([&] { merge_adapter(model); }) == "[adapter] number: expected less than 0, got 0");
}

TEST_CASE("dropout keeps what it says, scaled so that the mean stays, and draws the same again") {
  Random random(7);
  const test::Matrix x(40, 101, random);
  test::Matrix ones(40, 101);
  std::fill(ones.values.begin(), ones.values.end(), 1.0f);
  std::vector<std::uint64_t> keys(40);
  for (std::uint64_t& key : keys) key = random.next();
  test::Matrix y(40, 101);
  test::Matrix mask(40, 101);
  kernels::dropout(x.view(), keys, 5, 0.25f, y.view());
  kernels::dropout(ones.view(), keys, 5, 0.25f, mask.view());
  std::size_t kept = 0;
  for (std::size_t i = 0; i < y.values.size(); ++i) {
    CHECK(y.values[i] == x.values[i] * mask.values[i]);
    CHECK((mask.values[i] == 0.0f || mask.values[i] == 4.0f / 3.0f));
    kept += mask.values[i] != 0.0f ? 1 : 0;
  }
  // 4040 draws of probability 3/4: a standard deviation of 27.5; five of them.
  CHECK(std::abs(static_cast<double>(kept) - 3030.0) < 138.0);
  test::Matrix other(40, 101);
  kernels::dropout(ones.view(), keys, 6, 0.25f, other.view());
  CHECK(other.values != mask.values);
  keys[0] ^= 1;
  kernels::dropout(ones.view(), keys, 5, 0.25f, other.view());
  CHECK(!same_bits(other.view().row(0), mask.view().row(0)));
  CHECK(same_bits(other.view().row(1), mask.view().row(1)));
}

TEST_CASE_TEMPLATE("adapters are added, merged and taken away for all matrices or for none, whichever allocation fails",
                   C, Case<test::tiny, F32>, Case<test::odd, Q4_0>) {
  using Tuned = typename C::Tuned;
  const std::vector<TokenId> text{1, 2, 3, 4, 5};
  const test::Scratch scratch;
  {
    const auto base = test::random_model<Transformer<C::config, typename C::F>>(5);
    save_packed(base, scratch.path("packed"), {});
  }
  for (const bool in_file : {false, true}) {
    CAPTURE(in_file);
    const auto fresh = [&] {
      Tuned model = in_file ? load<Tuned>(scratch.path("packed")) : test::random_model<Tuned>(5);
      for (const std::uint64_t seed : {1u, 2u}) stir(model, add_adapter(model, {.rank = 3, .seed = seed}), seed);
      return model;
    };
    const auto check = [&](const auto& act, std::size_t count) {
      Tuned done = fresh();
      const auto before = logits_of(done, text);
      act(done);
      const auto after = logits_of(done, text);
      const std::size_t allocations = test::fail_each_allocation([&](std::size_t n) {
        CAPTURE(n);
        Tuned model = fresh();
        const test::Failure failure = test::fails_at(n, [&] { act(model); });
        visit_projections(model, [&](const std::string& name, const auto& linear, std::size_t) {
          CAPTURE(name);
          CHECK(linear.adapters.size() == (failure.thrown ? 2 : count));
        });
        CHECK(same_bits(logits_of(model, text), failure.thrown ? before : after));
        return failure;
      });
      CHECK((allocations > 10 || !test::counts_allocations));
    };
    check([](Tuned& model) { add_adapter(model, {.rank = 2}); }, 3);
    check([](Tuned& model) { remove_adapter(model, 0); }, 1);
    check([](Tuned& model) { merge_adapter(model, 0); }, 1);
    check([](Tuned& model) { merge_adapter(model, 1); }, 1);
  }
}

TEST_CASE("a merge is the same bits on any number of threads, for weights in memory and in a file") {
  using Tuned = Transformer<test::odd, Lora<Q4_0>>;
  const test::Scratch scratch;
  save_packed(test::random_model<Transformer<test::odd, Q4_0>>(6), scratch.path("packed"), {});
  const std::vector<TokenId> text{1, 2, 3, 4, 5};
  std::vector<float> expected;
  double loss = 0.0;
  for (const std::size_t threads : {1u, 2u, 3u}) {
    for (const bool in_file : {false, true}) {
      tbb::task_arena arena(static_cast<int>(threads));
      arena.execute([&] {
        Tuned model = in_file ? load<Tuned>(scratch.path("packed")) : test::random_model<Tuned>(6);
        stir(model, add_adapter(model, {.rank = 5, .seed = 1}), 1);
        const MergeLoss lost = merge_adapter(model);
        const auto logits = logits_of(model, text);
        if (expected.empty()) {
          expected = logits;
          loss = lost.relative;
        }
        CHECK(lost.relative == loss);
        CHECK(same_bits(logits, expected));
      });
    }
  }
  CHECK(loss > 0.0);
}
