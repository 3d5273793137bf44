// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/f32.hpp>
#include <mistral/generate/session.hpp>

#include "../support/allocations.hpp"
#include "../support/counting_resource.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

using Tiny = Transformer<test::tiny, F32>;
using Full = Transformer<test::full, F32>;

// The constants hold what the objects take: 7B in BF16 doesn't fit 14 GB with its cache, and does fit 16.
using Mistral = Transformer<mistral_7b_v0_1, F32>;
static_assert(Tiny::memory_bytes >= 4 * test::tiny.parameter_count());
static_assert(memory_bytes<Tiny, Session<Tiny>> == Tiny::memory_bytes + Session<Tiny>::memory_bytes);
static_assert(Session<Tiny>::cache_bytes == 2 * 3 * 2 * 8 * 16 * sizeof(float));
static_assert(Session<Mistral, bf16>::cache_bytes == 512u << 20);
static_assert(mistral_7b_v0_1.parameter_count() == 7'241'732'096);
static_assert(llama_2_7b.parameter_count() == 6'738'415'616);
static_assert(llama_2_13b.parameter_count() == 13'015'864'320);
static_assert(code_llama_7b.parameter_count() == 6'738'546'688);

}  // namespace

TEST_CASE("with a window a session goes on for ever and allocates nothing") {
  const auto model = test::random_model<Tiny>(1);
  Session<Tiny, bf16> session{model};
  TokenId token = 1;
  const auto step = [&] { token = static_cast<TokenId>((token * 31 + 7) % 97); };
  for (int i = 0; i < 100; ++i, step()) session.decode(token);  // the scheduler allocates at its first work
  CHECK(test::allocations_in([&] {
          for (int i = 0; i < 20000; ++i, step()) session.decode(token);
        }) == 0);
  CHECK(session.position() == 20100);
  CHECK(session.cache().wraps() == 20100 / 8);
}

TEST_CASE("the caller's memory resource is asked for every byte of weights and cache, and changes no bit") {
  test::CountingResource weights, cache, all;
  const std::vector<TokenId> text{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const auto reference = test::random_model<Tiny>(6);
  Session<Tiny> expected{reference, 3};
  const auto logits = expected.prefill(text);
  {
    Tiny model{&weights};
    randomize(model, 6);
    CHECK(weights.taken == Tiny::memory_bytes);
    Session<Tiny> session{model, 3, &cache};
    constexpr std::size_t bytes = Session<Tiny>::cache_bytes + Session<Tiny>::rollback_bytes(3);
    CHECK(cache.taken == bytes);
    CHECK(test::same_bits(session.prefill(text), logits));
    Session<Tiny> fork = session.fork();
    CHECK(cache.taken == 2 * bytes);
    CHECK(weights.taken == Tiny::memory_bytes);  // none since
    // What is moved takes its memory, and where it came from, along.
    const Tiny moved = std::move(model);
    CHECK(moved.output.weight.memory() == &weights);
    CHECK(weights.held == Tiny::memory_bytes);
  }
  CHECK(weights.held == 0);
  CHECK(cache.held == 0);
  CHECK(weights.aligned);
  CHECK(cache.aligned);

  // Where none is named, it is the standard's default, which a program may set; activations are taken there as well.
  MemoryResource* const before = std::pmr::set_default_resource(&all);
  { const Session<Tiny> session{reference}; }
  std::pmr::set_default_resource(before);
  CHECK(all.taken >= Session<Tiny>::memory_bytes);
  CHECK(all.held == 0);
}

TEST_CASE("wrong tokens are an error that says where, and leave the session as it was") {
  const auto model = test::random_model<Tiny>(2);
  Session<Tiny> session{model};
  const std::vector<TokenId> text{1, 2, 3, 4};
  const auto expected = session.prefill(text);
  const std::vector<float> want(expected.begin(), expected.end());
  session.clear();
  session.prefill(std::span(text).first(3));
  CHECK(test::error_of([&] { session.prefill({}); }) == "[session] tokens: expected at least one, got none");
  CHECK(test::error_of([&] {
          session.prefill(std::vector<TokenId>{5, 97});
        }) == "[session] token 1: expected an id of 0 ... 96, got 97");
  CHECK(test::error_of([&] { session.decode(-1); }) == "[session] token 0: expected an id of 0 ... 96, got -1");
  CHECK(test::error_of([&] { session.forward({}); }) == "[session] tokens: expected at least one, got none");
  CHECK(session.position() == 3);
  CHECK(test::same_bits(session.decode(4), want));
}

TEST_CASE("without a window a session ends with its context, and says so before it computes") {
  const auto model = test::random_model<Full>(3);
  Session<Full> session{model};
  const std::vector<TokenId> text(199, 5);
  session.prefill(text);
  CHECK(test::error_of([&] {
          session.prefill(std::vector<TokenId>{1, 2});
        }) ==
        "[session] full attention (window_size = 0) at position 199: expected at most 200 tokens (context_len) in all, "
        "got 201");
  session.decode(6);
  CHECK(test::error_of([&] { session.decode(1); }) ==
        "[session] full attention (window_size = 0) at position 200: expected at most 200 tokens (context_len) in all, "
        "got 201");
  session.clear();
  CHECK(session.position() == 0);
  session.prefill(text);
}

TEST_CASE_TEMPLATE("a prefill that is stopped anywhere leaves the session as it was", S, Session<Tiny, float, 3>,
                   Session<Tiny, q8>, Session<Full, bf16, 20>) {
  using Model = std::remove_cvref_t<decltype(std::declval<S>().model())>;
  // asks to stop as the stream enters a layer of the chunk at a position
  struct Stop {
    std::size_t layer;
    std::int64_t position;
    std::atomic<bool>& flag;
    void residual(const Residual& x) const {
      if (x.layer == layer && x.position >= position) flag = true;
    }
  };
  const auto model = test::random_model<Model>(11);
  Random random(12);
  const auto text = test::random_tokens(90, 67, random);
  std::size_t stopped = 0;
  for (const std::size_t before : {0u, 3u, 8u, 9u, 29u}) {
    for (const std::size_t rollback : {0u, 5u}) {
      for (const std::size_t count : {17u, 40u}) {
        for (std::size_t layer = 0; layer < 3; ++layer) {
          for (const std::int64_t chunk : {0, 1, 8}) {
            CAPTURE(before);
            CAPTURE(rollback);
            CAPTURE(count);
            CAPTURE(layer);
            CAPTURE(chunk);
            S session{model, rollback}, other{model, rollback};
            if (before > 0) session.prefill(std::span(text).first(before));
            if (before > 0) other.prefill(std::span(text).first(before));
            std::atomic<bool> flag = false;
            session.stop_with(flag);
            const auto prompt = std::span(text).subspan(50, count);
            const Stop stop{layer, static_cast<std::int64_t>(before) + 3 * chunk, flag};
            try {
              count == 17 ? static_cast<void>(session.prefill(prompt, stop))
                          : static_cast<void>(session.forward(prompt, stop));
              CHECK(session.position() == static_cast<std::int64_t>(before + count));  // it was the last layer's end
              continue;
            } catch (const Cancelled& error) {
              CHECK(std::string(error.what()) == "[session] cancelled on request");
              ++stopped;
            }
            flag = false;
            CHECK(session.position() == other.position());
            CHECK(session.revertible() == other.revertible());
            const auto taken_back = std::min<std::int64_t>(session.revertible(), 2);
            session.rollback(taken_back);
            other.rollback(taken_back);
            const auto rest = std::span(text).subspan(before, 20);
            CHECK(test::same_bits(session.prefill(rest), other.prefill(rest)));
            CHECK(session.revertible() == other.revertible());
          }
        }
      }
    }
  }
  CHECK(stopped >= 50);
}

TEST_CASE("a session that is to stop takes nothing, and a token that is not asked for costs nothing") {
  const auto model = test::random_model<Tiny>(13);
  Session<Tiny> session{model}, other{model};
  const std::vector<TokenId> text{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  other.prefill(text);
  session.prefill(text);
  std::atomic<bool> flag = true;
  session.stop_with(flag);
  CHECK_THROWS_AS(session.decode(5), Cancelled);
  CHECK_THROWS_AS(session.prefill(text), Cancelled);
  CHECK_THROWS_AS(session.forward(text), Error);  // a Cancelled is one
  flag = false;
  CHECK(test::allocations_in([&] { session.decode(5); }) == 0);
  other.decode(5);
  flag = true;
  Session<Tiny> fork = session.fork();
  CHECK(test::same_bits(fork.decode(6), other.decode(6)));
  session.stop_with({});
  CHECK(test::same_bits(session.decode(6), fork.decode(7)) == false);
  CHECK(session.position() == 13);
}

TEST_CASE("a session that is stopped from another thread ends soon, as it was") {
  const auto model = test::random_model<Full>(14);
  Session<Full> session{model}, other{model};
  const std::vector<TokenId> text(150, 5);
  std::atomic<bool> flag = false;
  session.stop_with(flag);
  std::thread asks([&] { flag = true; });
  try {
    for (;; session.clear()) session.prefill(text);
  } catch (const Cancelled&) {
  }
  asks.join();
  session.stop_with({});
  session.clear();
  CHECK(test::same_bits(session.prefill(text), other.prefill(text)));
}

TEST_CASE("a hook that throws leaves a cleared session that works") {
  const auto model = test::random_model<Tiny>(4);
  Session<Tiny> session{model};
  const std::vector<TokenId> text{1, 2, 3};
  const auto logits = session.prefill(text);
  const std::vector<float> want(logits.begin(), logits.end());
  session.clear();
  CHECK_THROWS_AS(session.prefill(text, ResidualHook{[](const Residual& r) {
                                    if (r.layer == 2) throw Error("test", "enough");
                                  }}),
                  Error);
  CHECK(session.position() == 0);
  CHECK(test::same_bits(session.prefill(text), want));
}

TEST_CASE("a session whose cache is restored from another's goes on with the same bits") {
  const auto model = test::random_model<Tiny>(5);
  for (const std::size_t length : {3u, 8u, 21u}) {  // before the window is full, then, and after the rings have wrapped
    CAPTURE(length);
    Session<Tiny, bf16> one{model}, other{model};
    Random random(length);
    one.prefill(test::random_tokens(length, 97, random));
    other.prefill(test::random_tokens(5, 97, random));
    for (std::size_t i = 0; i < test::tiny.n_layers; ++i) {
      const auto copy = [](const auto& from, auto& to) {
        for (std::size_t head = 0; head < from.size(); ++head) {
          const auto [older, newer] = from[head].spans();
          auto entries = std::vector(older.begin(), older.end());
          entries.insert(entries.end(), newer.begin(), newer.end());
          to[head].restore(from[head].position(), entries);
        }
      };
      copy(one.cache().layer(i).keys, other.cache().layer(i).keys);
      copy(one.cache().layer(i).values, other.cache().layer(i).values);
    }
    CHECK(other.position() == static_cast<std::int64_t>(length));
    const auto next = test::random_tokens(20, 97, random);
    const auto want = one.prefill(next);
    CHECK(test::same_bits(other.prefill(next), want));
  }
}
