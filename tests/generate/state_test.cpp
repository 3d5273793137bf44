// SPDX-License-Identifier: Apache-2.0
// What a session has behind it as data: taken back, and copied.
#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/f32.hpp>
#include <mistral/generate/session.hpp>

#include "../support/allocations.hpp"
#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

using Tiny = Transformer<test::tiny, F32>;  // a window of 8
using Full = Transformer<test::full, F32>;  // none

static_assert(Session<Tiny, bf16>::rollback_bytes(6) == 2 * 3 * 2 * 6 * 16 * sizeof(bf16));
static_assert(Session<Full>::rollback_bytes(5) == 0);

template <class Model>
std::vector<float> logits_after(const Model& model, const std::vector<TokenId>& text) {
  Session<Model, bf16> session{model};
  const auto logits = session.prefill(text);
  return {logits.begin(), logits.end()};
}

// A session beside the text that it has taken, and how far a naive count says that it can be rolled back.
template <class Model>
struct Tracked {
  Session<Model, bf16> session;
  std::size_t rollback;
  std::vector<TokenId> text = {};
  std::size_t oldest = 0;  // position that it can be rolled back to, beside the window before that

  Tracked(const Model& model, std::size_t tokens) : session(model, tokens), rollback(tokens) {}

  void follow() {
    const std::size_t known = Model::config.window_size == 0 ? text.size() : Model::config.window_size + rollback;
    oldest = std::max(oldest, text.size() - std::min(text.size(), known));
  }
  std::size_t revertible() const {
    const std::size_t held = std::min(text.size(), Model::config.cache_len());
    return oldest == 0 ? text.size() : text.size() - held - oldest;
  }
};

// Tokens, rollbacks and copies in random order. Whatever came before, logits are those of a new session that takes the
// text that is left.
template <class Model>
void check_random_histories(std::size_t most) {
  Random random(21);
  const auto model = test::random_model<Model>(7);
  std::vector<Tracked<Model>> all;
  for (const std::size_t rollback : {0u, 3u, 11u}) all.emplace_back(model, rollback);
  std::size_t rollbacks = 0;
  for (int round = 0; round < 400; ++round) {
    Tracked<Model>& a = all[random.next() % all.size()];
    const std::size_t choice = random.next() % 8;
    if (choice == 0) {
      const Tracked<Model>& b = all[random.next() % all.size()];
      a.session.assign(b.session);
      a.text = b.text;
      a.oldest = b.oldest;
      a.follow();
    } else if (choice == 1) {
      a.session = a.session.fork();
    } else if (choice < 5 && a.revertible() > 0) {
      const std::size_t count = test::uniform(random, 1, a.revertible());
      rollbacks += a.text.size() > test::tiny.window_size + count ? 1 : 0;
      a.session.rollback(static_cast<std::int64_t>(count));
      a.text.resize(a.text.size() - count);
    } else if (a.text.size() < most) {
      const std::size_t count = random.next() % 2 == 0 ? 1 : test::uniform(random, 1, most - a.text.size());
      const auto piece = test::random_tokens(count, Model::config.vocab_size, random);
      a.text.insert(a.text.end(), piece.begin(), piece.end());
      a.follow();
      REQUIRE(test::same_bits(a.session.prefill(piece), logits_after(model, a.text)));
    } else {
      a.session.clear();
      a.text.clear();
      a.oldest = 0;
    }
    REQUIRE(a.session.position() == static_cast<std::int64_t>(a.text.size()));
    REQUIRE(a.session.revertible() == static_cast<std::int64_t>(a.revertible()));
  }
  CHECK(rollbacks > 20);
}

}  // namespace

TEST_CASE("after any rollbacks and forks logits are those of a run that never had what was taken back") {
  check_random_histories<Tiny>(60);
  check_random_histories<Full>(60);
}

TEST_CASE("a rollback of more than can be taken back is an error, and leaves the session as it was") {
  const auto model = test::random_model<Tiny>(8);
  Session<Tiny, bf16> session{model, 3};
  Random random(22);
  auto text = test::random_tokens(20, 97, random);
  session.prefill(text);
  CHECK(test::error_of([&] { session.rollback(4); }) ==
        "[session] rollback at position 20: expected 0 ... 3 tokens, got 4");
  CHECK(test::error_of([&] { session.rollback(-1); }) ==
        "[session] rollback at position 20: expected 0 ... 3 tokens, got -1");
  session.rollback(0);
  text.push_back(5);
  CHECK(test::same_bits(session.decode(5), logits_after(model, text)));
}

TEST_CASE("a copy into a session that is there, and a rollback, allocate nothing") {
  const auto model = test::random_model<Tiny>(9);
  Session<Tiny, bf16> one{model, 4}, other{model, 4};
  one.prefill(std::vector<TokenId>(30, 1));
  CHECK(test::allocations_in([&] {
          other.assign(one);
          other.rollback(4);
        }) == 0);
  CHECK(other.position() == 26);
  CHECK(one.position() == 30);
}

TEST_CASE("a rollback of more tokens than can be counted in bytes is refused as memory is that isn't there") {
  using Model = Transformer<test::tiny, F32>;
  const Model model = test::random_model<Model>(1);
  for (const int shift : {56, 60, 63}) {
    CHECK_THROWS_AS((Session<Model, float>(model, std::size_t{1} << shift)), std::bad_alloc);
  }
}
