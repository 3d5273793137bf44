// SPDX-License-Identifier: Apache-2.0
// What is left where memory runs out: each allocation of a call is made to fail once, and what the call promised is
// held against what is there then.

#include <algorithm>
#include <cstddef>
#include <map>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/evaluate/likelihood.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/generate/batch.hpp>
#include <mistral/generate/chat.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/generate/stop.hpp>
#include <mistral/nn/adapter.hpp>

#include "../support/allocations.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"
#include "../text/model_builder.hpp"

using namespace mistral;
using test::fail_each_allocation;
using test::fails_at;
using test::Failure;
using test::same_bits;

namespace {

using Ids = std::vector<TokenId>;
using Windowed = Transformer<test::tiny, F32>;
using Unwindowed = Transformer<test::full, F32>;
using Adapted = Transformer<test::tiny, Lora<F32>>;

// Long enough that its text needs memory, and whose pieces may begin what stops a text.
Tokenizer tokenizer() {
  return Tokenizer(
      test::small_model({"\xE2\x96\x81", "\xE2\x96\x81the", "\xE2\x96\x81quick brown fox jumps over", "a", "b", "ab",
                         "lazy dogs and then some more of them", "x", "y", "z", "[INST]", "[/INST]"}),
      "small");
}

template <class Model>
Model a_model() {
  auto model = test::random_model<Model>(51);
  if constexpr (requires { model.output.adapters; }) add_adapter(model, {.rank = 2, .seed = 1});
  return model;
}

struct Made {
  Ids tokens;
  std::string text;
  friend bool operator==(const Made&, const Made&) = default;
};

// Scores take memory for each row.
struct Watching {
  void scores(const AttentionScores&) const {}
};

template <class Session>
std::vector<float> next_logits(Session& session) {
  const auto logits = session.decode(7);
  return {logits.begin(), logits.end()};
}

}  // namespace

TEST_CASE_TEMPLATE("a batch ends each sequence with its own text or an error, whichever allocation fails", Model,
                   Windowed, Unwindowed, Adapted) {
  const auto model = a_model<Model>();
  const Tokenizer words = tokenizer();
  std::vector<Ids> prompts;
  for (TokenId i = 0; i < 6; ++i) {  // some share a beginning, which goes round the ring
    Ids prompt;
    for (TokenId k = 0; k < 20 + i; ++k) prompt.push_back(k < 18 + i % 2 ? 1 + k : 30 + i + k);
    prompts.push_back(prompt);
  }
  const GenerateOptions options{.max_tokens = 5, .stop_strings = {"more than enough"}};
  const auto request = [&](const Ids& prompt) { return BatchRequest{.prompt = prompt, .options = options}; };
  std::map<Ids, Made> alone;
  for (const Ids& prompt : prompts) {
    SessionBatch<Model> batch{model, words, {.max_sequences = 1, .token_budget = 8}};
    batch.add(request(prompt));
    while (!batch.empty()) {
      for (const BatchResult& result : batch.step()) alone[prompt] = {result.made.tokens, result.made.text};
    }
    REQUIRE(alone[prompt].tokens.size() > 2);
  }

  std::size_t failed = 0, thrown = 0;
  const std::size_t allocations = fail_each_allocation([&](std::size_t n) {
    CAPTURE(n);
    SessionBatch<Model> batch{model, words, {.max_sequences = 2, .token_budget = 8}};
    std::map<SequenceId, Ids> open;
    // Results are looked at outside of what may fail, and the nth allocation is that of all calls together.
    std::size_t before = 0;
    bool met = false;
    const auto guarded = [&](const auto& call) {
      if (met) return call();
      const Failure failure = fails_at(n - before, call);
      before += test::calls;
      met = failure.met;
      thrown += failure.thrown ? 1 : 0;
    };
    const auto take = [&](const std::vector<BatchResult>& results, SequenceId cancelled) {
      for (const BatchResult& result : results) {
        REQUIRE(open.count(result.id) == 1);
        const Made made{result.made.tokens, result.made.text};
        if (result.error) {
          ++failed;
          CHECK_THROWS_AS(std::rethrow_exception(result.error), std::bad_alloc);
        } else if (result.id != cancelled || result.made.reason != StopReason::cancelled) {
          CHECK(made == alone[open[result.id]]);
        }
        open.erase(result.id);
      }
    };
    SequenceId last = 0;
    for (const Ids& prompt : prompts) {
      BatchRequest asked = request(prompt);
      SequenceId id = 0;
      guarded([&] { id = batch.add(std::move(asked)); });
      if (id != 0) open[last = id] = prompt;
    }
    int steps = 0;
    while (!batch.empty() && steps < 200) {
      if (++steps == 2) batch.cancel(last);
      std::vector<BatchResult> results;
      guarded([&] { results = batch.step(); });
      take(results, last);
    }
    CHECK(batch.empty());
    CHECK(open.empty());  // no result was lost
    // What its caches are said to hold is what they hold.
    for (const Ids& prompt : prompts) open[batch.add(request(prompt))] = prompt;
    while (!batch.empty()) take(batch.step(), 0);
    return Failure{met, false};
  });
  if (!test::counts_allocations) return;
  CHECK(allocations > 40);
  CHECK(failed > 5);
  CHECK(thrown < allocations);
}

TEST_CASE("a batch that has no memory to say who ended throws, and goes on when it is asked again") {
  if (!test::counts_allocations) return;
  const auto model = a_model<Windowed>();
  SessionBatch<Windowed> batch{model, {.max_sequences = 2, .token_budget = 8}};
  const SequenceId one = batch.add({.prompt = {1, 2, 3}, .options = {.max_tokens = 2}});
  const SequenceId two = batch.add({.prompt = {4, 5}, .options = {.max_tokens = 2}});
  batch.cancel(two);
  for (int i = 0; i < 3; ++i) {
    CHECK(fails_at(1, [&] { batch.step(); }).thrown);
    CHECK(batch.waiting() == 2);
  }
  std::vector<SequenceId> ended;
  while (!batch.empty()) {
    for (const BatchResult& result : batch.step()) ended.push_back(result.id);
  }
  CHECK(ended == std::vector<SequenceId>{two, one});
}

TEST_CASE_TEMPLATE("a session whose call has no memory is as it was, or cleared where it was being watched", Model,
                   Windowed, Unwindowed) {
  const auto model = a_model<Model>();
  const Ids text{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, more{12, 13, 14};
  Session<Model> reference{model, 4};
  reference.prefill(text);
  const Session<Model> before = reference.fork();
  const std::vector<float> as_it_was = next_logits(reference);
  std::size_t cleared = 0;
  const auto check = [&](Session<Model>& session) {
    if (session.position() == 0) {
      ++cleared;
      session.prefill(text);
    }
    REQUIRE(session.position() == static_cast<std::int64_t>(text.size()));
    CHECK(same_bits(next_logits(session), as_it_was));
  };

  const auto each = [&](const auto& act) {
    return fail_each_allocation([&](std::size_t n) {
      CAPTURE(n);
      Session<Model> session = before.fork();
      const Failure failure = fails_at(n, [&] { act(session); });
      if (failure.thrown) check(session);
      return failure;
    });
  };
  const std::size_t forward = each([&](Session<Model>& session) { session.forward(more); });
  CHECK(cleared == 0);
  each([&](Session<Model>& session) { Session<Model> copy = session.fork(); });
  each([&](Session<Model>& session) { test::error_of([&] { session.rollback(100); }); });
  each([&](Session<Model>& session) { test::error_of([&] { session.prefill(Ids{1, -1}); }); });
  CHECK(cleared == 0);
  const std::size_t watched = each([&](Session<Model>& session) { session.prefill(more, Watching{}); });
  if (!test::counts_allocations) return;
  CHECK(forward > 0);
  CHECK(watched > 0);
  CHECK(cleared == watched);
}

TEST_CASE("a session that a file is loaded into is as it was where there is no memory, its tokens' included") {
  const auto model = a_model<Windowed>();
  const test::Scratch scratch;
  const Ids other{20, 21, 22, 23, 24}, text{1, 2, 3};
  Session<Windowed> saved{model};
  saved.prefill(other);
  save_session(saved, other, scratch.path("state"));
  Session<Windowed> reference{model};
  reference.prefill(text);
  const std::vector<float> as_it_was = next_logits(reference), as_saved = next_logits(saved);
  const std::size_t allocations = fail_each_allocation([&](std::size_t n) {
    CAPTURE(n);
    Session<Windowed> session{model};
    session.prefill(text);
    const Failure failure = fails_at(n, [&] { load_session(session, scratch.path("state")); });
    CHECK(session.position() == static_cast<std::int64_t>(failure.thrown ? text.size() : other.size()));
    CHECK(same_bits(next_logits(session), failure.thrown ? as_it_was : as_saved));
    return failure;
  });
  CHECK((allocations > 20 || !test::counts_allocations));
}

TEST_CASE("generate without memory leaves a session that has taken what its position says, drafts or none") {
  const auto model = a_model<Windowed>();
  const Tokenizer words = tokenizer();
  const Ids prompt{1, 4, 5, 6, 4, 5, 6, 4, 5};
  for (const std::size_t lookup : {0u, 3u}) {
    CAPTURE(lookup);
    const GenerateOptions options{.max_tokens = 12, .stop_strings = {"not to be found"}, .lookup = lookup};
    Session<Windowed> reference{model, 4};
    const Generated expected = generate(reference, words, prompt, options);
    Ids all = prompt;
    all.insert(all.end(), expected.tokens.begin(), expected.tokens.end());
    std::size_t part_way = 0;
    const std::size_t allocations = fail_each_allocation([&](std::size_t n) {
      CAPTURE(n);
      Session<Windowed> session{model, 4};
      const Failure failure = fails_at(n, [&] { generate(session, words, prompt, options); });
      const auto taken = static_cast<std::size_t>(session.position());
      REQUIRE(taken < all.size());
      if (taken == 0) return failure;
      part_way += failure.thrown ? 1 : 0;
      Session<Windowed> alone{model, 4};
      alone.prefill(std::span(all).first(taken));
      CHECK(same_bits(next_logits(session), next_logits(alone)));
      return failure;
    });
    if (!test::counts_allocations) continue;
    CHECK(allocations > 5);
    CHECK(part_way > 0);
  }
}

TEST_CASE("generate refuses a prompt that is longer than was allowed, and wrong ids seen, before it computes") {
  const auto model = a_model<Windowed>();
  const Tokenizer words = tokenizer();
  Session<Windowed> session{model};
  const Ids prompt{1, 4, 5, 6}, wrong{4, 97};
  const auto error = [&](const GenerateOptions& options) {
    return test::error_of([&] { generate(session, words, prompt, options); });
  };
  CHECK(error({.max_prompt_tokens = 3}) == "[generate] prompt: expected at most 3 tokens (max_prompt_tokens), got 4");
  CHECK(error({.seen = wrong}) == "[sampling] accepted token: expected 0 ... 96, got 97");
  CHECK(session.position() == 0);
  CHECK(error({.max_tokens = 1, .max_prompt_tokens = 4}) == "no error");
  CHECK(session.position() == 4);
}

TEST_CASE("a conversation without memory for its next step is the one that it was") {
  const auto model = a_model<Windowed>();
  const Tokenizer words = tokenizer();
  const std::string long_text(200, 'a');
  const std::vector<Message> said{{"system", "be brief, and " + long_text}, {"user", "x"}, {"assistant", "y"}};
  const auto fresh = [&] {
    Chat chat{words, ChatTemplate::v1};
    chat.set_messages(said);
    return chat;
  };
  const GenerateOptions options{.max_tokens = 6};
  const auto ask = [&](Chat& chat, Session<Windowed>& session) {
    return chat.answer(session, "and " + long_text, options, [](std::string_view) {});
  };
  Session<Windowed> reference{model};
  Chat expected = fresh();
  const Generated answer = ask(expected, reference);
  const auto each = [&](const auto& act) {
    return fail_each_allocation([&](std::size_t n) {
      CAPTURE(n);
      Chat chat = fresh();
      Session<Windowed> session{model};
      const Failure failure = fails_at(n, [&] { act(chat, session); });
      if (!failure.thrown) return failure;
      CHECK(chat.messages() == said);
      CHECK(ask(chat, session).tokens == answer.tokens);
      CHECK(chat.messages() == expected.messages());
      return failure;
    });
  };
  const std::size_t system = each([&](Chat& chat, Session<Windowed>&) { chat.set_system(long_text + long_text); });
  const std::size_t messages = each([&](Chat& chat, Session<Windowed>&) { chat.set_messages({{"user", long_text}}); });
  const std::size_t answers = each([&](Chat& chat, Session<Windowed>& session) { ask(chat, session); });
  if (!test::counts_allocations) return;
  CHECK(system > 0);
  CHECK(messages > 2);
  CHECK(answers > 20);
}

TEST_CASE("a stream of text goes on where a piece that there was no memory for is given again") {
  const Tokenizer words = tokenizer();
  const Ids ids{5, 9, 4, 6, 7, 5, 9, 3, 8, 5};
  const std::string pieces[] = {"in the beginning was the wo", "rd and the st", "op was near, st", "ill it didn't co",
                                "me"};
  const auto stream = [&](const auto& call) {
    std::string out;
    StreamDecoder decoder{words};
    for (const TokenId id : ids) call([&] { return decoder.feed(id); }, out);
    call([&] { return decoder.flush(); }, out);
    StopStrings stop({"stop was nearer", "never to be seen in this text of all texts"});
    for (const std::string& piece : pieces) call([&] { return stop.push(piece); }, out);
    return out + stop.flush();
  };
  const std::string expected = stream([](const auto& part, std::string& out) { out += part(); });
  CHECK(expected.ends_with("in the beginning was the word and the stop was near, still it didn't come"));
  const std::size_t allocations = fail_each_allocation([&](std::size_t n) {
    CAPTURE(n);
    std::size_t before = 0;
    bool met = false;
    const std::string streamed = stream([&](const auto& part, std::string& out) {
      std::string piece;
      if (!met) {
        const Failure failure = fails_at(n - before, [&] { piece = part(); });
        before += test::calls;
        met = failure.met;
        if (!failure.thrown) {
          out += piece;
          return;
        }
      }
      out += part();
    });
    CHECK(streamed == expected);
    return Failure{met, false};
  });
  CHECK((allocations > 5 || !test::counts_allocations));
}

TEST_CASE("a scorer of ends that had no memory for one scores the next ones right") {
  const auto model = a_model<Unwindowed>();
  const Ids prompt{1, 2, 3, 4, 5}, other{1, 2, 3, 9};
  const std::vector<Ids> ends{{6, 7, 8}, {9}, {10, 11}};
  Session<Unwindowed> session{model};
  const auto expected = score_continuations(session, other, ends);
  const std::size_t allocations = fail_each_allocation([&](std::size_t n) {
    CAPTURE(n);
    Session<Unwindowed> own{model};
    ContinuationScorer<Session<Unwindowed>> scorer(own);
    scorer.score(other, std::span(ends).first(1));
    const Failure failure = fails_at(n, [&] { scorer.score(prompt, ends); });
    const auto scores = scorer.score(other, ends);
    for (std::size_t i = 0; i < ends.size(); ++i) CHECK(scores[i].log_likelihood == expected[i].log_likelihood);
    return failure;
  });
  CHECK((allocations > 1 || !test::counts_allocations));
}
