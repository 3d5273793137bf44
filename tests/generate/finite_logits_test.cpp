// SPDX-License-Identifier: Apache-2.0
#include <mistral/generate/finite_logits.hpp>

#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/evaluate/evaluate.hpp>
#include <mistral/evaluate/likelihood.hpp>
#include <mistral/evaluate/perplexity.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/nn/adapter.hpp>

#include "../support/models.hpp"
#include "../support/scratch.hpp"
#include "../text/model_builder.hpp"

using namespace mistral;
using test::error_of;

namespace {

using Tiny = Transformer<test::tiny, F32>;  // a window of 8
using Full = Transformer<test::full, F32>;  // none

// Makes the first weight of row 0 of a matrix, or the first of a norm, what it is told.
struct Spoil {
  std::string name;
  float value;
  bool found = false;

  void operator()(const std::string& weight, Panels<F32>& matrix, std::size_t) {
    if (weight == name) put(matrix.own_bytes());
  }
  void operator()(const std::string& weight, Buffer<float>& norm) {
    if (weight == name) put(std::as_writable_bytes(norm.span()));
  }
  void put(std::span<std::byte> bytes) {
    std::memcpy(bytes.data(), &value, sizeof value);
    found = true;
  }
};

template <class Model>
Model spoilt(const std::string& name, float value) {
  auto model = test::random_model<Model>(3);
  Spoil spoil{name, value};
  visit_weights(model, spoil);
  REQUIRE(spoil.found);
  return model;
}

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

const std::vector<TokenId> text{5, 9, 1, 33, 2, 17, 40, 8, 3, 21, 64, 7};

}  // namespace

TEST_CASE("logits that are no numbers end the scoring of a text, with the layer where they began") {
  for (const float value : {not_a_number, std::numeric_limits<float>::infinity()}) {
    CAPTURE(value);
    for (const auto& one : {std::pair<std::string, std::string>{"layers.1.feed_forward.w2.weight", "layers.1"},
                            {"layers.0.attention.wo.weight", "layers.0"},
                            {"layers.2.attention_norm.weight", "layers.2"}}) {
      const auto& [weight, place] = one;
      CAPTURE(one.first);
      const auto model = spoilt<Tiny>(weight, value);
      Session session{model};
      const std::string error = error_of([&] { score_text(session, text); });
      CHECK(error.starts_with("[logits] position 0: expected finite numbers, got "));
      CHECK(error.ends_with(" that began in " + place + ", at position 0"));
    }
  }
}

TEST_CASE("what begins in an embedding or in the head is said to begin there") {
  {
    const auto model = spoilt<Tiny>("tok_embeddings.weight", not_a_number);  // of token 0
    Session session{model};
    CHECK(error_of([&] {
            score_text(session, std::vector<TokenId>{4, 5, 6, 0, 7});
          }) ==
          "[logits] position 3: expected finite numbers, got NaN that began in the token's embedding, at position 3");
  }
  for (const char* const weight : {"norm.weight", "output.weight"}) {
    const auto model = spoilt<Tiny>(weight, not_a_number);
    Session session{model};
    CHECK(error_of([&] { score_text(session, text); }) ==
          "[logits] position 0: expected finite numbers, got NaN that began in the norm before the head, or the head");
  }
}

TEST_CASE("the position counts from the sequence's beginning in texts that are scored by a stride") {
  const auto model = spoilt<Full>("tok_embeddings.weight", not_a_number);
  Session session{model};
  std::vector<TokenId> tokens(450, 5);
  tokens[300] = 0;  // the sequences begin at 0, 100, 200, ...: the third is the first that takes it
  CHECK(error_of([&] { score_text(session, tokens, 100); }) ==
        "[logits] position 100: expected finite numbers, got NaN that began in the token's embedding, at position 100");
}

TEST_CASE("ends behind prompts are not scored by logits that are no numbers") {
  const auto model = spoilt<Tiny>("tok_embeddings.weight", not_a_number);
  Session<Tiny> session{model, 8};
  ContinuationScorer scorer(session);
  const std::vector<std::vector<TokenId>> ends{{3, 4}, {5, 0, 6}};
  const std::vector<TokenId> prompt{1, 2, 9};
  CHECK(error_of([&] { scorer.score(prompt, ends); }) ==
        "[logits] position 4: expected finite numbers, got NaN that began in the token's embedding, at position 4");
  CHECK(error_of([&] {
          scorer.score(std::vector<TokenId>{1, 0}, ends);
        }) ==
        "[logits] position 1: expected finite numbers, got NaN that began in the token's embedding, at position 1");
  const std::vector<std::vector<TokenId>> good{{3, 4}};
  const double before = scorer.score(prompt, good)[0].log_likelihood;  // as if nothing had been
  Session<Tiny> fresh{model, 8};
  CHECK(before == score_continuations(fresh, prompt, good)[0].log_likelihood);
}

TEST_CASE("an adapter's numbers are looked for with the adapter") {
  using Tuned = Transformer<test::tiny, Lora<F32>>;
  Tuned model;
  randomize(model, 3);
  add_adapter(model, {.rank = 2});
  for (std::byte& byte : model.layers[1].feed_forward.w1.adapters[0].b.own_bytes()) byte = std::byte{0xff};  // NaN
  Session session{model};
  CHECK(error_of([&] { score_text(session, text); }) ==
        "[logits] position 0: expected finite numbers, got NaN that began in layers.1, at position 0");
  session.use_adapter(no_adapter);
  CHECK(score_text(session, text).targets == text.size() - 1);
}

TEST_CASE("a text that is generated names the layer too, and what hooks did stays the sampler's to say") {
  const Tokenizer tokenizer =
      Tokenizer::from_bytes(test::bytes_of(test::serialize(test::small_model({"a", "b"}))), "test");
  const auto model = spoilt<Tiny>("layers.2.attention.wv.weight", not_a_number);
  Session session{model};
  const std::vector<TokenId> prompt{1, 2};
  CHECK(error_of([&] { generate(session, tokenizer, prompt); }) ==
        "[logits] position 1: expected finite numbers, got NaN that began in layers.2, at position 0");

  const auto good = test::random_model<Tiny>(3);
  Session other{good};
  struct Ban {
    void logits(std::span<float> x) { x[0] = not_a_number; }
  };
  CHECK(error_of([&] {
          generate(
              other, tokenizer, prompt, {}, [](std::string_view) {}, Ban{});
        }).starts_with("[sampling] logits: "));
}
