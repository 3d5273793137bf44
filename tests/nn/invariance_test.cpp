// SPDX-License-Identifier: Apache-2.0
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <tbb/task_arena.h>

#include <mistral/format/bf16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/iq4_nl.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q4_k.hpp>
#include <mistral/format/q6_k.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/generate/session.hpp>

#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/rounds.hpp"

using namespace mistral;
using test::same_bits;

namespace {

// A model, a cache element and a chunk: what the properties below hold for.
template <ModelConfig Config, WeightFormat F, KvElement Element, std::size_t MaxChunk>
struct Case {
  static constexpr ModelConfig config = Config;
  using Model = Transformer<Config, F>;
  using KV = Element;
  static constexpr std::size_t chunk = MaxChunk;
};

// All logits of a text in one call, for a reference that the others must match bit by bit.
template <class C>
std::vector<float> logits_in_one_call(const typename C::Model& model, const std::vector<TokenId>& text) {
  Session<typename C::Model, typename C::KV, C::chunk> session(model);
  const auto all = session.forward(text);
  return {all.data(), all.data() + all.rows() * all.cols()};
}

// The whole cache of the 7B, window 4096: two rings of each of 8 heads in 32 layers, of a scale and 128 codes an entry.
static_assert(KvCache<mistral_7b_v0_1, q8>::bytes == std::size_t{2} * 32 * 8 * 4096 * (4 + 128));
static_assert(KvCache<mistral_7b_v0_1, bf16>::bytes == std::size_t{2} * 32 * 8 * 4096 * 256);

}  // namespace

#define MISTRAL_CASES                                                                                        \
  Case<test::tiny, F32, float, 8>, Case<test::tiny, BF16, bf16, 5>, Case<test::odd, F32, bf16, 37>,          \
      Case<test::odd, BF16, float, 20>, Case<test::full, F32, float, 64>, Case<test::full, BF16, bf16, 200>, \
      Case<test::alone, F32, float, 1>, Case<test::tiny, Q8_0, float, 8>, Case<test::odd, Q4_0, bf16, 20>,   \
      Case<test::tiny, F32, q8, 8>, Case<test::odd, BF16, q8, 37>, Case<test::odd, IQ4_NL, bf16, 20>,        \
      Case<test::odd, Q4_K, bf16, 20>, Case<test::odd, Q6_K, bf16, 20>

TEST_CASE_TEMPLATE("logits are the same bits for any chunking, and for prefill against decode", C, MISTRAL_CASES) {
  constexpr std::size_t vocab = C::config.vocab_size;
  Random random(11);
  const auto model = test::random_model<typename C::Model>(1);
  const auto text = test::random_tokens(120, vocab, random);
  const std::vector<float> expected = logits_in_one_call<C>(model, text);
  const auto expected_row = [&](std::size_t i) { return std::span<const float>(expected).subspan(i * vocab, vocab); };
  for (int round = 0; round < (test::sanitized ? 2 : 6); ++round) {
    Session<typename C::Model, typename C::KV, C::chunk> session(model);
    for (std::size_t done = 0; done < text.size();) {
      const std::size_t count = round == 0 ? 1 : std::min(test::uniform(random, 1, 40), text.size() - done);
      const std::span<const TokenId> piece = std::span(text).subspan(done, count);
      if (count == 1) {
        REQUIRE(same_bits(session.decode(piece[0]), expected_row(done)));
      } else if (random.next() % 2 == 0) {
        REQUIRE(same_bits(session.prefill(piece), expected_row(done + count - 1)));
      } else {
        const auto rows = session.forward(piece);
        for (std::size_t i = 0; i < count; ++i) REQUIRE(same_bits(rows.row(i), expected_row(done + i)));
      }
      done += count;
      REQUIRE(session.position() == static_cast<std::int64_t>(done));
    }
  }
}

TEST_CASE_TEMPLATE("logits are the same bits on one thread and on two", C, MISTRAL_CASES) {
  Random random(12);
  const auto model = test::random_model<typename C::Model>(2);
  const auto text = test::random_tokens(100, C::config.vocab_size, random);
  std::vector<float> one;
  {
    const parallel::ThreadLimit limit(1);
    one = logits_in_one_call<C>(model, text);
  }
  const parallel::ThreadLimit limit(2);
  for (int round = 0; round < 3; ++round) CHECK(same_bits(one, logits_in_one_call<C>(model, text)));
}

TEST_CASE("two sessions over one model, each in a thread of its own, get the bits that they get alone") {
  using Model = Transformer<test::tiny, F32>;
  const auto model = test::random_model<Model>(14);
  Random random(15);
  std::vector<std::vector<TokenId>> texts;
  std::vector<std::vector<float>> expected;
  for (std::size_t i = 0; i < 2; ++i) {
    texts.push_back(test::random_tokens(60, 97, random));
    expected.push_back(logits_in_one_call<Case<test::tiny, F32, float, 8>>(model, texts[i]));
  }
  std::vector<std::vector<float>> got(2);
  const auto run = [&](std::size_t i) {
    Session<Model, float, 8> session(model);
    for (const TokenId token : texts[i]) {
      const auto logits = session.decode(token);
      got[i].insert(got[i].end(), logits.begin(), logits.end());
    }
  };
  std::thread other(run, 1);
  run(0);
  other.join();
  for (std::size_t i = 0; i < 2; ++i) CHECK(same_bits(got[i], expected[i]));
}

#if !defined(__SANITIZE_THREAD__)  // where something else stands in for TBB
TEST_CASE("work is done by the threads of the caller's arena, and by no others") {
  for (const int most : {1, 2}) {
    tbb::task_arena arena(most);
    std::mutex mutex;
    std::set<std::thread::id> threads;
    bool inside = true;
    arena.execute([&] {
      parallel::for_ranges(2000, 1, [&](std::size_t, std::size_t) {
        const std::lock_guard lock(mutex);
        threads.insert(std::this_thread::get_id());
        inside = inside && tbb::this_task_arena::max_concurrency() == most;
      });
    });
    CHECK(threads.size() >= 1);
    CHECK(threads.size() <= static_cast<std::size_t>(most));
    CHECK(inside);
  }
}
#endif

TEST_CASE_TEMPLATE("rows of several sequences in one forward get the bits that they get alone", C, MISTRAL_CASES) {
  constexpr ModelConfig config = C::config;
  using KV = typename C::KV;
  Random random(13);
  const auto model = test::random_model<typename C::Model>(3);
  constexpr std::size_t sequences = 5;
  std::vector<std::vector<TokenId>> texts;
  std::vector<std::vector<float>> expected;
  for (std::size_t s = 0; s < sequences; ++s) {
    texts.push_back(test::random_tokens(test::uniform(random, 1, 90), config.vocab_size, random));
    expected.push_back(logits_in_one_call<C>(model, texts[s]));
  }
  std::vector<KvCache<config, KV>> caches(sequences);
  constexpr std::size_t capacity = 64;
  Workspace<config, typename C::Model::Format, KV> work(capacity);
  Batch<config.vocab_size> logits(capacity);
  std::vector<std::size_t> done(sequences, 0);
  for (bool more = true; more;) {
    // Every step takes some tokens of some sequences: one of this, a chunk of that.
    std::vector<TokenId> tokens;
    std::vector<Sequence<config, KV>> rows;
    std::vector<std::size_t> who;
    for (std::size_t s = 0; s < sequences; ++s) {
      const std::size_t most = std::min({texts[s].size() - done[s], C::chunk, capacity - tokens.size()});
      if (most == 0 || random.next() % 4 == 0) continue;
      const std::size_t count = random.next() % 2 == 0 ? 1 : test::uniform(random, 1, most);
      tokens.insert(tokens.end(), texts[s].begin() + static_cast<std::ptrdiff_t>(done[s]),
                    texts[s].begin() + static_cast<std::ptrdiff_t>(done[s] + count));
      rows.push_back({&caches[s], count});
      who.push_back(s);
    }
    if (!rows.empty()) {
      const auto context = model.forward(tokens, std::span<const Sequence<config, KV>>(rows), work);
      logits.resize(tokens.size());
      model.logits(context, work, 0, logits.view());
      std::size_t row = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        for (std::size_t t = 0; t < rows[i].rows; ++t, ++row, ++done[who[i]]) {
          const auto want =
              std::span<const float>(expected[who[i]]).subspan(done[who[i]] * config.vocab_size, config.vocab_size);
          REQUIRE(same_bits(logits.row(row), want));
        }
      }
    }
    more = false;
    for (std::size_t s = 0; s < sequences; ++s) more |= done[s] < texts[s].size();
  }
}

TEST_CASE_TEMPLATE("a window makes far tokens matter no more, and near ones matter", C,
                   Case<test::tiny, F32, float, 8>) {
  // Information moves at most window - 1 positions a layer: 3 layers of 7 for the tiny model (figure 1 of the paper).
  Random random(14);
  const auto model = test::random_model<typename C::Model>(4);
  auto text = test::random_tokens(60, C::config.vocab_size, random);
  const auto before = logits_in_one_call<C>(model, text);
  text[10] = (text[10] + 1) % static_cast<TokenId>(C::config.vocab_size);
  const auto after = logits_in_one_call<C>(model, text);
  constexpr std::size_t reach = C::config.n_layers * (C::config.window_size - 1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    CAPTURE(i);
    const std::size_t vocab = C::config.vocab_size;
    const bool same =
        same_bits(std::span(before).subspan(i * vocab, vocab), std::span(after).subspan(i * vocab, vocab));
    CHECK(same == (i < 10 || i > 10 + reach));
  }
}
