// SPDX-License-Identifier: Apache-2.0
#include <mistral/run/any_model.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/evaluate/likelihood.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/lookup.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/run/model_type.hpp>

#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

using Typed = Transformer<test::tiny, F32>;
using Tuned = Transformer<test::tiny, Lora<F32>>;

const std::vector<TokenId> prompt{1, 5, 9, 33, 60, 2, 8, 41, 17, 90, 3, 4};

const AnyModelType& tiny_type() {
  static const ModelTypeOf<Typed, float> type;
  return type;
}

// Shows a text's logits to a function.
struct Watch {
  std::function<void(std::span<float>)> function;
  void logits(std::span<float> logits) { function(logits); }
};

}  // namespace

TEST_CASE("what a type is, and the memory that it takes, is known at run time") {
  const ModelInfo& info = tiny_type().info();
  CHECK(info.config == test::tiny);
  CHECK(info.weights == "F32");
  CHECK(info.kv == "float");
  CHECK_FALSE(info.exact);
  CHECK_FALSE(info.adapters);
  CHECK_FALSE(info.trains);
  CHECK(info.weight_bytes == Typed::memory_bytes);
  CHECK(info.cache_bytes + info.workspace_bytes == Session<Typed, float>::memory_bytes);
  const ModelTypeOf<Transformer<test::tiny, Lora<Exact<BF16>>>, bf16, Purpose::training> other;
  CHECK(other.info().weights == "BF16");
  CHECK(other.info().exact);
  CHECK(other.info().adapters);
  CHECK(other.info().trains);
  CHECK(other.info().kv == "bf16");
}

TEST_CASE("a session whose type is known at run time gives the bits of one whose type is known before") {
  const auto any = tiny_type().random(3);
  const Typed model = test::random_model<Typed>(3);
  const auto session = any->session(4);
  Session<Typed, float> typed{model, 4};
  CHECK(test::same_bits(session->prefill(prompt), typed.prefill(prompt)));
  CHECK(test::same_bits(session->decode(7), typed.decode(7)));
  const std::vector<TokenId> more{4, 5, 6};
  const auto logits = session->forward(more), expected = typed.forward(more);
  for (std::size_t r = 0; r < more.size(); ++r) CHECK(test::same_bits(logits.row(r), expected.row(r)));
  CHECK(session->position() == typed.position());
  CHECK(session->max_rollback() == 4);
  session->rollback(3);
  typed.rollback(3);
  CHECK(test::same_bits(session->decode(8), typed.decode(8)));

  const auto fork = session->fork();
  CHECK(test::same_bits(fork->decode(9), session->decode(9)));
  fork->decode(1);
  fork->assign(*session);
  CHECK(fork->position() == session->position());
  CHECK(test::same_bits(fork->decode(2), session->decode(2)));
  CHECK_THROWS_AS(session->rollback(100), Error);

  const ModelTypeOf<Typed, bf16> other;
  const auto stranger_model = other.random(3);
  const auto stranger = stranger_model->session();
  CHECK_THROWS_WITH_AS(session->assign(*stranger),
                       "[session] the other session: expected one over the same model, got one of another type", Error);
}

TEST_CASE("what is written for sessions takes one whose type is known at run time") {
  const auto any = tiny_type().random(4);
  const Typed model = test::random_model<Typed>(4);
  const auto session = any->session(8);
  Session<Typed, float> typed{model, 8};

  std::vector<std::vector<TokenId>> ends{{1, 2, 3}, {4}, {5, 6}};
  ContinuationScorer<AnySession> scorer(*session);
  ContinuationScorer typed_scorer(typed);
  const auto scores = scorer.score(prompt, ends), expected = typed_scorer.score(prompt, ends);
  for (std::size_t i = 0; i < ends.size(); ++i) CHECK(scores[i].log_likelihood == expected[i].log_likelihood);
  // ends that are longer than the session can take back go through a fork
  const std::vector<std::vector<TokenId>> longer{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {7, 7}};
  CHECK(scorer.score(prompt, longer)[0].log_likelihood == typed_scorer.score(prompt, longer)[0].log_likelihood);
  CHECK(scorer.score(prompt, longer)[1].log_likelihood == typed_scorer.score(prompt, longer)[1].log_likelihood);
  session->clear();
  typed.clear();

  LookupDecoder<AnySession> lookup(*session, 4, prompt);
  LookupDecoder<Session<Typed, float>> typed_lookup(typed, 4, prompt);
  session->prefill(prompt);
  typed.prefill(prompt);
  for (const TokenId token : {1, 5, 9, 33, 60, 2, 8}) {
    CHECK(test::same_bits(lookup.next(token, 10), typed_lookup.next(token, 10)));
  }
  CHECK(lookup.counts().drafted == typed_lookup.counts().drafted);
}

TEST_CASE("the residual stream is shown, and may be written to") {
  const auto model = tiny_type().random(5);
  const auto session = model->session();
  std::vector<std::size_t> layers;
  session->forward(prompt, [&](const Residual& residual) {
    layers.push_back(residual.layer);
    CHECK(residual.x.cols() == 64);
  });
  CHECK(layers.size() >= 4);  // before the first layer, and after each of three
  const auto changed = model->session(), plain = model->session();
  const auto logits = changed->forward(prompt, [](const Residual& residual) {
    for (std::size_t r = 0; r < residual.x.rows(); ++r) residual.x.row(r)[0] += 1.0f;
  });
  CHECK_FALSE(test::same_bits(logits.row(0), plain->forward(prompt).row(0)));
}

TEST_CASE("a batch, rows and a packed file are those of the typed model") {
  const auto model = tiny_type().random(6);
  const auto batch = model->batch({.max_sequences = 2, .token_budget = 8});
  const SequenceId id = batch->add({.prompt = prompt, .options = {.max_tokens = 5}});
  std::vector<BatchResult> results;
  while (!batch->empty()) {
    for (BatchResult& result : batch->step()) results.push_back(std::move(result));
  }
  REQUIRE(results.size() == 1);
  CHECK(results[0].id == id);
  CHECK(results[0].made.tokens.size() == 5);

  const auto rows = model->rows(2);
  const auto logits = rows->forward(std::vector<TokenId>{1, 2});
  const auto session = model->session();
  CHECK(test::same_bits(logits.row(1), session->decode(2)));

  const test::Scratch scratch;
  const std::string path = scratch.path("m.mistral");
  model->save_packed(path, {}, {});
  const auto again = tiny_type().load(path, {});
  CHECK(test::same_bits(again->session()->prefill(prompt), model->session()->prefill(prompt)));
}

TEST_CASE("adapters are added, chosen and trained where the type holds them, and refused where it doesn't") {
  const auto plain = tiny_type().random(7);
  CHECK_THROWS_WITH_AS(plain->add_adapter({}),
                       "[adapter] the model: expected one that holds adapters, got one that holds none", Error);
  CHECK_THROWS_WITH_AS(plain->trainer({}),
                       "[trainer] the model: expected one that is compiled for training, got one that is not", Error);
  CHECK_THROWS_AS(plain->save_checkpoint("x", {}), Error);

  const ModelTypeOf<Tuned, float, Purpose::training> type;
  const auto model = type.random(7);
  CHECK(model->add_adapter({.rank = 4, .seed = 1}) == 0);
  const auto before = plain->session()->prefill(prompt)[0];
  CHECK(model->session()->prefill(prompt)[0] == before);  // a fresh adapter adds nothing
  const auto trainer = model->trainer({.learning_rate = 1e-2f});
  const std::vector<Example> examples{{.tokens = prompt, .answer_begin = 4}};
  const float first = trainer->step(examples);
  float last = first;
  for (int i = 0; i < 5; ++i) last = trainer->step(examples);
  CHECK(last < first);
  CHECK(model->session()->prefill(prompt)[0] != before);
  model->use_adapter(no_adapter);
  CHECK(model->session()->prefill(prompt)[0] == before);
  const test::Scratch scratch;
  model->save_adapter(scratch.path("adapter"), {});
  CHECK(model->load_adapter(scratch.path("adapter")) == 1);
}
