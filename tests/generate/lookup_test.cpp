// SPDX-License-Identifier: Apache-2.0
#include <mistral/generate/lookup.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/session.hpp>

#include "../../examples/tool/configs.hpp"
#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

using Tiny = Transformer<test::tiny, F32>;      // a window of 8
using Full = Transformer<test::full, F32>;      // none, and a context of 200
using Breeze = Transformer<tool::breeze, F32>;  // a window of 64

const std::string breeze_folder = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

// What LookupDraft says that it does, tried one place after the other.
std::vector<TokenId> naive_draft(const std::vector<TokenId>& text, std::size_t most) {
  std::size_t longest = 0, best = text.size();
  for (std::size_t end = 0; end < text.size(); ++end) {
    std::size_t length = 0;
    while (length < end && length < LookupDraft::max_match &&
           text[end - 1 - length] == text[text.size() - 1 - length]) {
      ++length;
    }
    if (length >= LookupDraft::min_match && length >= longest) {
      longest = length;
      best = end;
    }
  }
  const auto begin = text.begin() + static_cast<std::ptrdiff_t>(best);
  return {begin, begin + static_cast<std::ptrdiff_t>(std::min(most, text.size() - best))};
}

// A text whose parts come again, with other tokens here and there.
std::vector<TokenId> repeating_text(std::size_t length, std::size_t vocab_size, Random& random) {
  std::vector<TokenId> text = test::random_tokens(12, vocab_size, random);
  while (text.size() < length) {
    const std::size_t from = test::uniform(random, 0, text.size() - 10);
    const std::size_t count = test::uniform(random, 3, 10);
    for (std::size_t i = 0; i < count; ++i) text.push_back(text[from + i]);
    if (random.next() % 2 == 0) text.push_back(static_cast<TokenId>(random.next() % vocab_size));
  }
  text.resize(length);
  return text;
}

// Tokens that are given one by one, with drafts, against the same without: bit by bit at each, and also where drafts
// are taken back in between.
template <class Model>
void check_given_tokens(std::size_t length) {
  Random random(3);
  const auto model = test::random_model<Model>(2);
  LookupCounts all;
  for (const std::size_t most : {1u, 2u, 5u, 11u}) {
    CAPTURE(most);
    const auto text = repeating_text(length, Model::config.vocab_size, random);
    const std::size_t prompt = 15;
    Session<Model, bf16> plain{model}, session{model, most};
    plain.prefill(std::span(text).first(prompt));
    session.prefill(std::span(text).first(prompt));
    LookupDecoder lookup(session, most, std::span(text).first(prompt));
    for (std::size_t i = prompt; i < length; ++i) {
      const auto logits = lookup.next(text[i], length - i);
      REQUIRE(test::same_bits(logits, plain.decode(text[i])));
      REQUIRE(lookup.position() == plain.position());
      if (random.next() % 16 == 0) {
        lookup.settle();
        REQUIRE(session.position() == plain.position());
      }
    }
    const LookupCounts& counts = lookup.counts();
    CHECK(counts.forwards + counts.accepted == length - prompt);
    CHECK(counts.accepted <= counts.drafted);
    all.drafted += counts.drafted;
    all.accepted += counts.accepted;
  }
  CHECK(all.accepted > length / 4);       // some drafts were right,
  CHECK(all.drafted > all.accepted + 9);  // and some were not
}

}  // namespace

TEST_CASE("a draft is what followed the last place that agrees with most of the text's end") {
  Random random(1);
  std::size_t found = 0;
  for (int round = 0; round < 3000; ++round) {
    const std::size_t alphabet = test::uniform(random, 1, 6);
    const auto text = test::random_tokens(test::uniform(random, 0, 60), alphabet, random);
    LookupDraft draft{std::span(text).first(text.size() / 2)};
    for (std::size_t i = text.size() / 2; i < text.size(); ++i) draft.push(text[i]);
    const std::size_t most = random.next() % 9;
    const auto made = draft.next(most);
    const std::vector<TokenId> tokens(made.begin(), made.end());
    REQUIRE(tokens == naive_draft(text, most));
    if (!tokens.empty()) ++found;
  }
  CHECK(found > 1000);
  CHECK(LookupDraft(std::vector<TokenId>{1, 2, 3, 9, 2, 3}).next(5).size() == 3);
  CHECK(LookupDraft(std::vector<TokenId>{1, 2, 3, 9, 8, 3}).next(5).empty());
}

TEST_CASE("tokens that go through a session with drafts have the bits of tokens that go one by one") {
  check_given_tokens<Tiny>(180);
  check_given_tokens<Full>(200);  // to the end of its context
}

TEST_CASE("a session that cannot be rolled back by a draft is refused") {
  const auto model = test::random_model<Tiny>(2);
  Session<Tiny, bf16> session{model, 3};
  CHECK(test::error_of([&] { LookupDecoder(session, 4, {}); }) ==
        "[lookup] a draft: expected at most as many tokens as the session can be rolled back by, 3, got 4");
}

TEST_CASE("a token that is wrong, or a tape that throws, leaves a session that works") {
  const auto model = test::random_model<Tiny>(2);
  Session<Tiny, bf16> session{model, 5};
  const std::vector<TokenId> text{1, 2, 3, 4, 5, 1, 2};
  session.prefill(text);
  {
    LookupDecoder lookup(session, 5, text);
    lookup.next(3, 9);  // and 4 5 1 with it
    CHECK(session.position() == 11);
    CHECK(lookup.position() == 8);
    CHECK_THROWS_AS(lookup.next(97, 9), Error);
    CHECK(session.position() == 8);
  }
  CHECK(session.position() == 8);
  {
    LookupDecoder lookup(session, 5, std::vector<TokenId>{1, 2, 3, 4, 5, 1, 2, 3});
    ResidualHook enough{[](const Residual&) { throw Error("test", "enough"); }};
    CHECK_THROWS_AS(lookup.next(4, 9, enough), Error);
    CHECK(session.position() == 0);
  }
  session.decode(1);
  CHECK(session.position() == 1);
}

TEST_CASE(
    "generate gives the same tokens with drafts as without: greedy, and for a seed; most drafts of a loop are right") {
  const auto model = load<Breeze>(breeze_folder);
  const auto tokenizer = Tokenizer::load(breeze_folder + "/tokenizer.model");
  std::vector<TokenId> prompt = tokenizer.encode("And it came to pass");
  prompt.insert(prompt.begin(), tokenizer.bos_id());
  const TokenId the = tokenizer.encode("the").back();
  const std::vector<std::pair<std::string, GenerateOptions>> cases{
      {"greedy", {.max_tokens = 220}},
      {"penalty", {.sampling = {.repetition_penalty = 1.1f, .repetition_window = 40}, .max_tokens = 100}},
      {"drawn", {.sampling = {.temperature = 0.7f, .seed = 5}, .max_tokens = 150}},
      {"cut", {.sampling = {.temperature = 1.0f, .top_k = 20, .top_p = 0.8f, .seed = 6}, .max_tokens = 150}},
      {"id", {.sampling = {.temperature = 0.3f, .seed = 7}, .max_tokens = 150, .stop_ids = {the}}},
      {"string", {.max_tokens = 220, .stop_strings = {"he land of Egypt. And the LORD said unto him, Behold, I wi"}}},
      {"one", {.max_tokens = 1}},
      {"none", {.max_tokens = 0}},
  };
  for (const auto& one : cases) {
    const std::string& name = one.first;  // no structured binding: CAPTURE makes a lambda
    const GenerateOptions& options = one.second;
    CAPTURE(name);
    Session<Breeze, float> plain{model};
    const Generated expected = generate(plain, tokenizer, prompt, options);
    CHECK(expected.lookup.drafted == 0);
    const auto after = plain.decode(3);
    for (const std::size_t most : {1u, 11u, 40u}) {
      CAPTURE(most);
      Session<Breeze, float> session{model, most};
      GenerateOptions with = options;
      with.lookup = most;
      std::string shown;
      const Generated made = generate(session, tokenizer, prompt, with, [&](std::string_view text) { shown += text; });
      CHECK(made.tokens == expected.tokens);
      CHECK(made.text == expected.text);
      CHECK(shown == expected.text);
      CHECK(made.reason == expected.reason);
      CHECK(session.position() + 1 == plain.position());
      CHECK(test::same_bits(session.decode(3), after));
      CHECK(made.lookup.forwards + made.lookup.accepted == expected.lookup.forwards);
      if (name == "greedy" && most == 11) {
        CHECK(made.lookup.accepted > 100);
        CHECK(made.lookup.accepted * 10 > made.lookup.drafted * 7);
      }
    }
  }
}

TEST_CASE("a sample with drafts has the sampler's distribution, by a chi-squared test of two tokens in a row") {
  // A text whose end was there before, and what followed it then is among the four tokens that are drawn from: so
  // drafts are sometimes right.
  const auto model = test::random_model<Tiny>(4);
  Random random(9);
  constexpr std::size_t kept = 4;
  const auto options = [](std::uint64_t seed) {
    return SamplingOptions{.temperature = 1.0f, .top_k = kept, .seed = seed};
  };
  const Sampler exact(options(0), 97);
  Session<Tiny, bf16> session{model, 3}, copy{model, 3};
  std::vector<TokenId> text;
  std::vector<TokenProbability> first;
  for (bool found = false; !found;) {
    text = test::random_tokens(10, 97, random);
    text.insert(text.end(), {text[2], text[3]});  // the last goes through the decoder
    session.clear();
    first = exact.distribution(session.prefill(text));
    found = std::any_of(first.begin(), first.end(), [&](const auto& p) { return p.token == text[4]; });
  }
  REQUIRE(first.size() == kept);
  std::vector<std::vector<TokenProbability>> second;
  for (const TokenProbability& p : first) {
    copy.assign(session);
    second.push_back(exact.distribution(copy.decode(p.token)));
  }
  session.rollback(1);

  constexpr std::size_t samples = 10000;
  std::vector<std::size_t> counts(kept * kept, 0);
  std::size_t outside = 0, accepted = 0, refused = 0;
  for (std::size_t i = 0; i < samples; ++i) {
    copy.assign(session);
    Sampler sampler(options(i), 97);
    LookupDecoder lookup(copy, 3, std::span(text).first(text.size() - 1));
    const auto draw = [&](TokenId token) {
      const auto logits = lookup.next(token, 9);
      std::vector<float> choosable(logits.begin(), logits.end());
      return sampler.sample(choosable);
    };
    const TokenId one = draw(text.back());
    const TokenId two = draw(one);
    (lookup.counts().accepted > 0 ? accepted : refused) += 1;
    const auto at = [](const std::vector<TokenProbability>& all, TokenId token) {
      return static_cast<std::size_t>(
          std::find_if(all.begin(), all.end(), [&](const auto& p) { return p.token == token; }) - all.begin());
    };
    const std::size_t row = at(first, one);
    const std::size_t column = row < kept ? at(second[row], two) : kept;
    if (column < kept) {
      ++counts[row * kept + column];
    } else {
      ++outside;
    }
  }
  CHECK(outside == 0);
  CHECK(accepted > samples / 20);
  CHECK(refused > samples / 20);
  double chi_squared = 0.0;
  for (std::size_t row = 0; row < kept; ++row) {
    for (std::size_t column = 0; column < kept; ++column) {
      const double expected = static_cast<double>(samples) * first[row].probability * second[row][column].probability;
      REQUIRE(expected > 5.0);
      const double off = static_cast<double>(counts[row * kept + column]) - expected;
      chi_squared += off * off / expected;
    }
  }
  CHECK(chi_squared < 37.7);  // what one in a thousand exceeds, of 15 degrees of freedom
}
