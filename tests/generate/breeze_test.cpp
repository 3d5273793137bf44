// SPDX-License-Identifier: Apache-2.0
// The model that the project holds itself, in examples/own_model/breeze.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/evaluate/likelihood.hpp>
#include <mistral/evaluate/moderation.hpp>
#include <mistral/evaluate/perplexity.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/generate/batch.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/text/tokenizer.hpp>

#include "../../examples/tool/configs.hpp"
#include "../support/allocations.hpp"
#include "../support/golden.hpp"
#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/resident.hpp"
#include "../support/rounds.hpp"

using namespace mistral;

namespace {

using Model = Transformer<tool::breeze, F32>;

const std::string folder = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

std::vector<TokenId> with_bos(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<TokenId> ids = tokenizer.encode(text);
  ids.insert(ids.begin(), tokenizer.bos_id());
  return ids;
}

// How long the soak takes: tests/soak.sh has it take minutes.
double soak_seconds() {
  const char* text = std::getenv("MISTRAL_SOAK_SECONDS");
  if (text != nullptr) return std::atof(text);
  return test::sanitized ? 2.0 : 5.0;
}

struct Spoken {
  BatchRequest request;
  Generated alone;  // what `generate` makes of it
};

// Conversations of random lengths, options and endings. Some have a prompt in common that is longer than the window,
// and some go on from what another has answered.
std::vector<Spoken> conversations(const Model& model, const Tokenizer& tokenizer, std::size_t count, Random& random) {
  const std::string lines[] = {
      "And it came to pass",
      "She could not enter the house again",
      "Behold, the people of the land",
      "Emma had feelings, less of curiosity than of pride",
      "Speak unto the children of Israel, and say unto them",
      "It was not to be supposed",
  };
  std::string rules;
  while (tokenizer.encode(rules).size() < 2 * tool::breeze.window_size) rules += lines[4] + ": " + lines[2] + ". ";
  std::vector<Spoken> out;
  Session<Model, float> session{model};
  for (std::size_t i = 0; i < count; ++i) {
    Spoken spoken;
    BatchRequest& request = spoken.request;
    std::string text = random.next() % 2 == 0 ? rules : "";
    for (std::size_t line = test::uniform(random, 1, 4); line > 0; --line) {
      text += lines[test::uniform(random, 0, 5)] + (line > 1 ? ". " : "");
    }
    request.prompt = with_bos(tokenizer, text);
    if (!out.empty() && random.next() % 4 == 0) {
      const Spoken& before = out[test::uniform(random, 0, out.size() - 1)];
      request.prompt = before.request.prompt;
      request.prompt.insert(request.prompt.end(), before.alone.tokens.begin(), before.alone.tokens.end());
      for (const TokenId token : tokenizer.encode(lines[test::uniform(random, 0, 5)])) request.prompt.push_back(token);
    }
    request.options.max_tokens = test::uniform(random, 1, 120);
    if (random.next() % 2 == 0) request.options.sampling = {.temperature = 0.8f, .top_p = 0.9f, .seed = random.next()};
    if (random.next() % 3 == 0) request.options.stop_strings = {"LORD", "ing the"};
    session.clear();
    spoken.alone = generate(session, tokenizer, request.prompt, request.options);
    out.push_back(std::move(spoken));
  }
  return out;
}

}  // namespace

TEST_CASE("the model of our own predicts a text that was held out, as well as it did when it was made") {
  const std::string text =
      "Mrs. Elton was first seen at church: but though devotion might be interrupted, curiosity could not "
      "be satisfied by a bride in a pew, and it must be left for the visits in form which were then to be "
      "paid, to settle whether she were very pretty indeed, or only rather pretty, or not pretty at all. "
      "Emma had feelings, less of curiosity than of pride or propriety, to make her resolve on not being "
      "the last to pay her respects; and she made a point of Harriet's going with her, that the worst of "
      "the business might be gone through as soon as possible. She could not enter the house again, could "
      "not be in the same room to which she had with such vain artifice retreated three months ago, to "
      "lace up her boot, without recollecting. A thousand vexatious thoughts would recur. Compliments, "
      "charades, and horrible blunders; and it was not to be supposed that poor Harriet should not be "
      "recollecting too; but she behaved very well, and was only rather pale and silent.";
  const auto model = load<Model>(folder);
  const auto tokenizer = Tokenizer::load(folder + "/tokenizer.model");
  const std::vector<TokenId> ids = with_bos(tokenizer, text);
  CHECK(tokenizer.decode(ids) == text);
  CHECK(ids.size() > 3 * tool::breeze.window_size);
  Session<Model, float> session{model};
  // A guess among all pieces would cost ln 2048 = 7.6 nats; the float sums of two machines differ by 1e-5 of a logit.
  CHECK(score_text(session, ids).loss() == doctest::Approx(3.90969).epsilon(1e-4));
}

TEST_CASE("the model of our own goes on past its window in the same words, and its logits are those of one forward") {
  const auto model = load<Model>(folder);
  const auto tokenizer = Tokenizer::load(folder + "/tokenizer.model");
  std::vector<TokenId> ids = with_bos(tokenizer, "And it came to pass");
  const std::size_t prompt = ids.size();
  Session<Model, float> session{model};
  std::vector<std::vector<float>> decoded;
  float margin = 1e9f;
  auto logits = session.prefill(ids);
  while (ids.size() < prompt + 200) {
    std::vector<float> sorted(logits.begin(), logits.end());
    decoded.push_back(sorted);
    std::nth_element(sorted.begin(), sorted.begin() + 1, sorted.end(), std::greater<>());
    margin = std::min(margin, *std::max_element(sorted.begin(), sorted.begin() + 2) - sorted[1]);
    ids.push_back(test::argmax(logits));
    logits = session.decode(ids.back());
  }
  CHECK(session.cache().wraps() == 3);
  CHECK(tokenizer.decode(ids) ==
        "And it came to pass, and said unto him, Say unto the LORD, I will not go up to the LORD, and will I "
        "go out of the LORD. And the LORD said unto Moses, Speak unto the LORD, saying, I will not be a man, "
        "and I will make thee a man to the LORD. And the LORD said unto Moses, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And the LORD said unto him, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And the LORD said unto him, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And the LORD said unto him, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And the LORD said unto him, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And");
  // No choice hangs on how a machine rounds its sums: the logits of two implementations are 3e-5 apart at most.
  CHECK(margin > 1e-4f);

  Session<Model, float> other{model};
  const auto all = other.forward(ids);
  std::size_t different = 0;
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    if (!test::same_bits(all.row(prompt - 1 + i), decoded[i])) ++different;
  }
  CHECK(different == 0);
}

TEST_CASE("texts that are judged one after the other get the bits that each gets by itself, and share what is asked") {
  const auto model = load<Model>(folder);
  const auto tokenizer = Tokenizer::load(folder + "/tokenizer.model");
  Session<Model, float> session{model, 100}, fresh{model};
  ContinuationScorer scorer(session);
  std::size_t asked = 0;
  for (const ModeratedText& text :
       {ModeratedText{"How do I pick a lock?"}, ModeratedText{"How is the weather?"}, ModeratedText{""},
        ModeratedText{"Speak unto the children", "She could not."}, ModeratedText{"Speak", "She could not."},
        ModeratedText{"How is the weather in the land where the people dwell, and is the way to it a long one?"}}) {
    const auto judged = moderate(text, tokenizer, ChatTemplate::v1, [&](auto prompt, auto ends) {
      asked += prompt.size();
      return scorer.score(prompt, ends);
    });
    const auto alone = moderate(text, tokenizer, ChatTemplate::v1,
                                [&](auto prompt, auto ends) { return score_continuations(fresh, prompt, ends); });
    CHECK(judged.log_likelihoods == alone.log_likelihoods);
    CHECK(judged.probabilities == alone.probabilities);
  }
  CHECK(scorer.shared_tokens() > asked / 3);  // of six questions the first of each of two kinds is computed whole
}

TEST_CASE("a soak of 64 conversations: constant memory, nothing is lost, and each text is the one that it is alone") {
  const auto model = load<Model>(folder);
  const auto tokenizer = Tokenizer::load(folder + "/tokenizer.model");
  Random random(51);
  constexpr std::size_t count = 64;
  const std::vector<Spoken> all = conversations(model, tokenizer, count, random);
  SessionBatch<Model, float> batch(model, tokenizer, {.max_sequences = 8, .token_budget = 32});

  struct Live {
    std::size_t which = 0;
    std::string streamed;
    bool cancelled = false;
  };
  std::map<SequenceId, Live> live;
  std::vector<bool> is_live(count, false);
  std::size_t joined = 0, ended = 0, whole = 0, mixed_up = 0, resident = 0;
  const auto step = [&] {
    for (const BatchResult& result : batch.step()) {
      const auto found = live.find(result.id);
      REQUIRE(found != live.end());
      const Live& one = found->second;
      const Generated& alone = all[one.which].alone;
      const bool called_off = one.cancelled && result.made.reason == StopReason::cancelled;
      const bool same = called_off
                            ? std::equal(result.made.tokens.begin(), result.made.tokens.end(), alone.tokens.begin()) &&
                                  alone.text.starts_with(result.made.text)
                            : result.made.tokens == alone.tokens && result.made.text == alone.text &&
                                  result.made.reason == alone.reason;
      mixed_up += !result.error && same && one.streamed == result.made.text ? 0 : 1;
      whole += called_off ? 0 : 1;
      ++ended;
      is_live[one.which] = false;
      live.erase(found);
    }
  };
  const auto begin = std::chrono::steady_clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  const double seconds = soak_seconds();
  while (passed() < seconds || whole < count) {
    const std::size_t which = test::uniform(random, 0, count - 1);
    if (!is_live[which] && random.next() % 2 == 0) {
      BatchRequest request = all[which].request;
      // It is told its number only when it has joined, and before the next step.
      request.on_text = [&live, id = joined + 1](std::string_view text) {
        live.at(id).streamed += text;
        return true;
      };
      const SequenceId id = batch.add(std::move(request));
      REQUIRE(id == ++joined);
      live[id].which = which;
      is_live[which] = true;
    }
    if (!live.empty() && random.next() % 40 == 0) {
      auto one = std::next(live.begin(), static_cast<std::ptrdiff_t>(test::uniform(random, 0, live.size() - 1)));
      one->second.cancelled = batch.cancel(one->first) || one->second.cancelled;
    }
    step();
    if (resident == 0 && whole >= count && passed() > 0.2 * seconds) resident = test::resident_bytes();
  }
  if (test::counts_allocations) CHECK(test::resident_bytes() <= resident + (std::size_t{1} << 20));
  while (!batch.empty()) step();
  CHECK(mixed_up == 0);
  CHECK(ended == joined);
  CHECK(live.empty());
  CHECK(ended > whole);
  CHECK(batch.counters().shared_tokens > 0);
  MESSAGE(joined, " sequences joined, ", whole, " ended by themselves; ", batch.counters().rows, " rows, ",
          batch.counters().shared_tokens, " tokens shared");
}
