// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/evaluate/perplexity.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/iq4_nl.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/generate/session.hpp>

#include "../support/golden.hpp"
#include "../support/golden_configs.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

constexpr ModelConfig stories = test::stories_260k;
constexpr ModelConfig stories_w24 = [] {
  ModelConfig config = stories;
  config.window_size = 24;
  return config;
}();

// Where each of the pieces puts a token's prediction.
std::vector<std::size_t> predictions(const std::vector<TextPiece>& pieces) {
  std::vector<std::size_t> out;
  for (const TextPiece& piece : pieces) {
    for (std::size_t i = piece.context; i < piece.count; ++i) out.push_back(piece.begin + i + 1);
  }
  return out;
}

}  // namespace

TEST_CASE("log-probabilities are those of the softmax in double, for any size of the logits") {
  const std::vector<float> logits{1.0f, 3.0f, -2.0f, 0.5f};
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    CHECK(std::abs(log_probability(logits, static_cast<TokenId>(i)) -
                   std::log(std::exp(static_cast<double>(logits[i])) / sum)) < 1e-15);
  }
  const std::vector<float> huge{3e38f, -3e38f};
  CHECK(log_probability(huge, 0) == 0.0);
  CHECK(log_probability(huge, 1) == -2.0 * static_cast<double>(3e38f));
  CHECK(std::isnan(log_probability(std::vector<float>{0.0f, NAN}, 0)));
}

TEST_CASE("the divergence of logits from themselves is 0, also moved by a constant, and else that of the formula") {
  const std::vector<float> p{0.0f, 1.0f, 2.0f}, moved{5.0f, 6.0f, 7.0f}, q{2.0f, 1.0f, 0.0f};
  CHECK(kl_divergence(p, p) == 0.0);
  CHECK(std::abs(kl_divergence(p, moved)) < 1e-15);
  // log p - log q is -2, 0, 2, and p is 1 : e : e^2
  const double e = std::exp(1.0);
  CHECK(std::abs(kl_divergence(p, q) - 2.0 * (e * e - 1.0) / (1.0 + e + e * e)) < 1e-15);
  // a token that the reference can't choose adds nothing
  CHECK(std::abs(kl_divergence(std::vector<float>{0.0f, -INFINITY}, std::vector<float>{0.0f, 0.0f}) - std::log(2.0)) <
        1e-15);
}

TEST_CASE("the pieces of a text predict every token but the first, once, in order") {
  for (const std::size_t window : {0u, 3u}) {
    for (const std::size_t context : {1u, 2u, 7u, 64u}) {
      for (const std::size_t tokens : {2u, 3u, 7u, 8u, 9u, 15u, 64u, 65u, 300u}) {
        for (std::size_t stride = 0; stride <= context; stride += 1 + context / 5) {
          for (const std::size_t chunk : {1u, 4u, 512u}) {
            ModelConfig config = stories;
            config.window_size = window;
            config.context_len = context;
            CAPTURE(window);
            CAPTURE(context);
            CAPTURE(tokens);
            CAPTURE(stride);
            CAPTURE(chunk);
            const auto pieces = text_pieces(tokens, config, stride, chunk);
            std::vector<std::size_t> all(tokens - 1);
            for (std::size_t i = 0; i < all.size(); ++i) all[i] = i + 1;
            REQUIRE(predictions(pieces) == all);
            std::size_t begin = 0, end = 0, sequences = 0;
            for (const TextPiece& piece : pieces) {
              REQUIRE(piece.count >= 1);
              REQUIRE(piece.count <= chunk);
              if (piece.fresh) {
                begin = piece.begin;
                ++sequences;
              } else {
                REQUIRE(piece.begin == end);  // a sequence goes on where it was
              }
              end = piece.begin + piece.count;
              REQUIRE(end < tokens);
              if (window == 0) REQUIRE(end - begin <= context);
              // what is predicted from the second sequence on sees context_len - stride + 1 tokens at least
              if (sequences > 1 && stride != 0 && piece.context < piece.count) {
                REQUIRE(piece.begin + piece.context + 1 - begin >= context - stride + 1);
              }
            }
            if (window != 0) REQUIRE(sequences == 1);
          }
        }
      }
    }
  }
  CHECK(test::error_of([] { text_pieces(1, stories); }) ==
        "[perplexity] the text: expected at least two tokens, got 1");
  CHECK(test::error_of([] { text_pieces(9, stories, 513); }) ==
        "[perplexity] stride: expected at most the context's 512, got 513");
}

TEST_CASE("a text's loss is the golden one") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  const auto expected = test::expected_json(folder);
  const auto model = load<Transformer<stories, F32>>((folder / "hf").string());
  Session session{model};
  const auto tokens = expected["nll_ids"].get<std::vector<TokenId>>();
  const TextScore score = score_text(session, tokens);
  CHECK(score.targets == tokens.size() - 1);
  CHECK(std::abs(score.loss() - expected["nll_mean"].get<double>()) < 1e-4);
  CHECK(std::abs(score.perplexity() - expected["perplexity"].get<double>()) < 2e-4);  // 1.76 times the loss's error

  // five texts, each token by itself: the tolerance is that of logits
  const Safetensors golden = Safetensors::open((folder / "expected.safetensors").string());
  for (int p = 0; p < 5; ++p) {
    const std::string name = "p" + std::to_string(p) + ".";
    const auto text = test::tensor_values<TokenId>(golden, name + "tokens");
    const auto want = test::tensor_values<double>(golden, name + "target_logprobs_run_c");
    REQUIRE(want.size() == text.size() - 1);
    double sum = 0.0;
    for (const double x : want) sum -= x;
    CHECK(std::abs(score_text(session, text).loss() - sum / static_cast<double>(want.size())) < 1e-4);
  }
}

TEST_CASE("through a window too, over a text that is one sequence for all its pieces") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  const auto model = load<Transformer<stories_w24, F32>>((folder / "hf").string(), {.allow_different_window = true});
  Session session{model};
  const Safetensors golden = Safetensors::open((folder / "expected.safetensors").string());
  for (int p = 0; p < 5; ++p) {
    const std::string name = "p" + std::to_string(p) + ".";
    const auto text = test::tensor_values<TokenId>(golden, name + "tokens");
    const auto logits = test::tensor_values<float>(golden, name + "logits_window24_last24");
    const std::size_t first = text.size() - 24;  // whose logits are the first of these
    double want = 0.0;
    for (std::size_t i = 0; i < 23; ++i) {
      want -= test::log_probability(std::span(logits).subspan(512 * i, 512), text[first + i + 1]);
    }
    // what the first tokens add is taken away again
    const TextScore all = score_text(session, text);
    const TextScore head = score_text(session, std::span(text).first(first + 1));
    CHECK(all.targets - head.targets == 23);
    CHECK(std::abs((head.log_likelihood - all.log_likelihood - want) / 23.0) < 1e-4);
  }
  // a text of many windows and chunks, against each token by itself
  Random random(3);
  const auto text = test::random_tokens(1500, 512, random);
  TextScore single;
  session.clear();
  for (std::size_t i = 0; i + 1 < text.size(); ++i) single.add(session.decode(text[i]), text[i + 1]);
  CHECK(score_text(session, text).log_likelihood == single.log_likelihood);
}

TEST_CASE("without a window, a text past the context is scored in sequences that overlap") {
  const auto model = test::random_model<Transformer<test::full, F32>>(1);
  Session session{model};
  Random random(1);
  const auto text = test::random_tokens(450, test::full.vocab_size, random);
  TextScore single;  // a stride of 1: each token sees as many as fit
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    const std::size_t begin = i + 1 < 200 ? 0 : i + 1 - 200;
    session.clear();
    single.add(session.prefill(std::span(text).subspan(begin, i + 1 - begin)), text[i + 1]);
  }
  CHECK(score_text(session, text, 1).log_likelihood == single.log_likelihood);
  CHECK(score_text(session, text).targets == 449);
}

TEST_CASE("at the same bits a weight, the codebook of IQ4_NL loses less than the even steps of Q4_0") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  CHECK(Transformer<stories, IQ4_NL>::memory_bytes == Transformer<stories, Q4_0>::memory_bytes);
  const auto exact = load<Transformer<stories, F32>>((folder / "hf").string());
  Session session{exact};
  const Safetensors golden = Safetensors::open((folder / "expected.safetensors").string());
  const auto divergence_of = [&](const auto& model) {
    Session quantised{model};
    double divergence = 0.0;
    std::size_t targets = 0;
    for (int p = 0; p < 5; ++p) {
      const auto text = test::tensor_values<TokenId>(golden, "p" + std::to_string(p) + ".tokens");
      session.clear();
      quantised.clear();
      const auto wanted = session.forward(text), logits = quantised.forward(text);
      for (std::size_t i = 0; i < text.size(); ++i) divergence += kl_divergence(wanted.row(i), logits.row(i));
      targets += text.size();
    }
    return divergence / static_cast<double>(targets);
  };
  const double q4_0 = divergence_of(load<Transformer<stories, Q4_0>>((folder / "hf").string()));
  const double iq4_nl = divergence_of(load<Transformer<stories, IQ4_NL>>((folder / "hf").string()));
  CAPTURE(q4_0);
  CAPTURE(iq4_nl);
  CHECK(iq4_nl > 0.0);
  CHECK(iq4_nl < q4_0);
}
