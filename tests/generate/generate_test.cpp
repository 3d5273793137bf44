// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/model.hpp>

#include "../support/golden.hpp"
#include "../support/golden_configs.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"
#include "../text/model_builder.hpp"

using namespace mistral;

namespace {

constexpr ModelConfig stories = test::stories_260k;

// The same weights through a window of 24 tokens.
constexpr ModelConfig windowed() {
  ModelConfig config = stories;
  config.window_size = 24;
  return config;
}
constexpr ModelConfig stories_w24 = windowed();

constexpr double tolerance = 1e-4;

struct Story {
  Tokenizer tokenizer;
  nlohmann::json json;
  Safetensors expected;
};

Story open_story(const std::filesystem::path& folder) {
  return {Tokenizer::load((folder / "hf" / "tokenizer.model").string()), test::expected_json(folder),
          Safetensors::open((folder / "expected.safetensors").string())};
}

std::vector<TokenId> with_bos(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<TokenId> ids{tokenizer.bos_id()};
  if (text.empty()) return ids;
  for (const TokenId id : tokenizer.encode(text)) ids.push_back(id);
  return ids;
}

}  // namespace

TEST_CASE("a trained model tells the five golden stories, token for token") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  const Story story = open_story(folder);
  using Model = Transformer<stories, F32>;
  const Model model = load<Model>((folder / "hf").string());
  Session<Model> session{model};
  for (std::size_t p = 0; p < story.json.at("prompts").size(); ++p) {
    const auto& want = story.json.at("prompts")[p];
    CAPTURE(p);
    const auto prompt = with_bos(story.tokenizer, want.at("prompt").get<std::string>());
    REQUIRE(prompt == want.at("prompt_ids").get<std::vector<TokenId>>());
    session.clear();
    std::string streamed;
    const Generated made = generate(session, story.tokenizer, prompt, {.max_tokens = 160},
                                    [&](std::string_view text) { streamed += text; });
    CHECK(made.tokens == want.at("greedy_ids").get<std::vector<TokenId>>());
    CHECK(made.text == streamed);
    CHECK(want.at("prompt").get<std::string>() + made.text == want.at("text").get<std::string>());

    // The oracle's log-probabilities of every token, and its logits of the first 24 positions.
    const std::string prefix = "p" + std::to_string(p) + ".";
    const auto tokens = test::tensor_values<TokenId>(story.expected, prefix + "tokens");
    const auto log_probabilities = test::tensor_values<float>(story.expected, prefix + "target_logprobs_run_c");
    const auto first = test::tensor_values<float>(story.expected, prefix + "logits_run_c_first24");
    session.clear();
    const auto logits = session.forward(std::span(tokens).first(tokens.size() - 1));
    for (std::size_t i = 0; i < logits.rows(); ++i) {
      CHECK(std::abs(test::log_probability(logits.row(i), tokens[i + 1]) - static_cast<double>(log_probabilities[i])) <=
            tolerance);
    }
    CHECK(test::max_error({logits.data(), first.size()}, first) <= static_cast<float>(tolerance));
  }
}

TEST_CASE("the same weights through a window of 24 tell the stories of that window") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  const Story story = open_story(folder);
  using Model = Transformer<stories_w24, F32>;
  CHECK(test::error_of([&] { load<Model>((folder / "hf").string()); }) ==
        "[checkpoint] " + (folder / "hf" / "config.json").string() +
            ": window_size: expected 24, got 0 (allow_different_window loads it all the same)");
  const Model model = load<Model>((folder / "hf").string(), {.allow_different_window = true});
  Session<Model> session{model};
  for (std::size_t p = 0; p < story.json.at("prompts").size(); ++p) {
    const auto& want = story.json.at("prompts")[p];
    CAPTURE(p);
    session.clear();
    const auto prompt = want.at("prompt_ids").get<std::vector<TokenId>>();
    const Generated made = generate(session, story.tokenizer, prompt, {.max_tokens = 160});
    CHECK(made.tokens == want.at("window24_greedy_ids").get<std::vector<TokenId>>());
    CHECK(session.cache().wraps() >= 6);

    const std::string prefix = "p" + std::to_string(p) + ".";
    const auto tokens = test::tensor_values<TokenId>(story.expected, prefix + "tokens");
    const auto last = test::tensor_values<float>(story.expected, prefix + "logits_window24_last24");
    session.clear();
    const auto logits = session.forward(tokens);
    CHECK(test::max_error({logits.row(tokens.size() - 24).data(), last.size()}, last) <= static_cast<float>(tolerance));
  }
}

TEST_CASE("BF16 weights of the trained model give the golden logits and tokens of BF16 weights") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  const Story story = open_story(folder);
  using Model = Transformer<stories, Exact<BF16>>;  // the golden activations are floats: so are these on any machine
  const Model model = load<Model>((folder / "hf_bf16").string());
  Session<Model> session{model};
  for (std::size_t p = 0; p < story.json.at("prompts").size(); ++p) {
    const auto& want = story.json.at("prompts")[p];
    CAPTURE(p);
    session.clear();
    const auto prompt = want.at("prompt_ids").get<std::vector<TokenId>>();
    const Generated made = generate(session, story.tokenizer, prompt, {.max_tokens = 160});
    CHECK(made.tokens == want.at("bf16_weights_greedy_ids").get<std::vector<TokenId>>());
    const std::string prefix = "p" + std::to_string(p) + ".";
    const auto tokens = test::tensor_values<TokenId>(story.expected, prefix + "tokens");
    const auto first = test::tensor_values<float>(story.expected, prefix + "logits_bf16_weights_first24");
    session.clear();
    const auto logits = session.forward(std::span(tokens).first(24));
    CHECK(test::max_error({logits.data(), first.size()}, first) <= static_cast<float>(tolerance));
  }
}

TEST_CASE("a text ends by a stop id, a stop string, the listener's word, or the end of the context") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  const Story story = open_story(folder);
  using Model = Transformer<stories, F32>;
  const Model model = load<Model>((folder / "hf").string());
  Session<Model> session{model};
  const std::vector<TokenId> prompt{1};
  const auto tell = [&](GenerateOptions options) {
    session.clear();
    return generate(session, story.tokenizer, prompt, options);
  };
  const Generated whole = tell({.max_tokens = 40});
  CHECK(whole.reason == StopReason::max_tokens);
  REQUIRE(whole.text.starts_with("Once upon a time, there was a little girl named Lily."));

  const Generated by_string = tell({.max_tokens = 40, .stop_strings = {"girl named", "never said"}});
  CHECK(by_string.reason == StopReason::stop_string);
  CHECK(by_string.text == "Once upon a time, there was a little ");

  const Generated by_id = tell({.max_tokens = 40, .stop_ids = {whole.tokens[5]}});
  CHECK(by_id.reason == StopReason::stop_id);
  CHECK(by_id.tokens == std::vector<TokenId>(whole.tokens.begin(), whole.tokens.begin() + 5));

  session.clear();
  int pieces = 0;
  const Generated cancelled =
      generate(session, story.tokenizer, prompt, {.max_tokens = 40}, [&](std::string_view) { return ++pieces < 3; });
  CHECK(cancelled.reason == StopReason::cancelled);
  CHECK(pieces == 3);

  const Generated long_one = tell({.max_tokens = 100000});
  CHECK(long_one.reason == StopReason::context);
  CHECK(session.position() == 512);
  CHECK(long_one.tokens.size() == 512);
  CHECK(test::error_of([&] { session.decode(5); }) ==
        "[session] full attention (window_size = 0) at position 512: expected at most 512 tokens (context_len) in all, "
        "got 513");
}

TEST_CASE("a seed gives the same text on one thread and on two, and another seed another text") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  const Story story = open_story(folder);
  using Model = Transformer<stories, F32>;
  const Model model = load<Model>((folder / "hf").string());
  const auto tell = [&](std::size_t threads, std::uint64_t seed) {
    const parallel::ThreadLimit limit(threads);
    Session<Model> session{model};
    const std::vector<TokenId> prompt{1};
    GenerateOptions options;
    options.sampling = {.temperature = 0.9f, .top_p = 0.95f, .seed = seed};
    return generate(session, story.tokenizer, prompt, options).tokens;
  };
  const auto one = tell(1, 7);
  CHECK(one == tell(2, 7));
  CHECK(one != tell(1, 8));
}

TEST_CASE("a tape's logits hook constrains what is chosen, and a residual hook reads and writes the stream") {
  const auto folder = test::golden("stories260k");
  if (folder.empty()) return;
  const Story story = open_story(folder);
  using Model = Transformer<stories, F32>;
  const Model model = load<Model>((folder / "hf").string());
  Session<Model> session{model};
  const std::vector<TokenId> prompt{1};

  struct OnlyEven {
    void logits(std::span<float> all) {
      for (std::size_t i = 1; i < all.size(); i += 2) all[i] = -INFINITY;
    }
  };
  const Generated even = generate(
      session, story.tokenizer, prompt, {.max_tokens = 30}, [](std::string_view) {}, OnlyEven{});
  CHECK(even.tokens.size() == 30);
  for (const TokenId token : even.tokens) CHECK(token % 2 == 0);

  // A hook that writes back what it reads changes no bit; one that zeroes the stream before the last norm leaves zeros.
  session.clear();
  const auto plain = session.prefill(prompt);
  const std::vector<float> before(plain.begin(), plain.end());
  session.clear();
  std::size_t calls = 0;
  const auto watched = session.prefill(prompt, ResidualHook{[&](const Residual& r) {
                                         ++calls;
                                         CHECK(r.x.cols() == stories.dim);
                                       }});
  CHECK(calls == stories.n_layers + 1);
  CHECK(test::same_bits(watched, before));
  session.clear();
  const auto zeroed = session.prefill(prompt, ResidualHook{[](const Residual& r) {
                                        if (r.layer == stories.n_layers)
                                          std::fill(r.x.row(0).begin(), r.x.row(0).end(), 0.0f);
                                      }});
  for (const float x : zeroed) CHECK(x == 0.0f);
}

TEST_CASE("an id that only pads the vocabulary past the tokenizer's pieces is never chosen, unless it ends the text") {
  SentencePieceModel pieces = test::small_model({"a", "b", "c"});  // ids 3, 4, 5
  detail::pad_pieces(pieces, 8);                                   // 6 and 7 as a GGUF file has them
  const Tokenizer tokenizer(pieces, "t");
  CHECK(tokenizer.used_size() == 6);
  constexpr std::size_t vocab_size = 10;  // 8 and 9 are the model's alone
  const auto chosen = [&](std::size_t best, GenerateOptions options) {
    Continuation text(&tokenizer, options, vocab_size);
    std::vector<float> logits(vocab_size, 0.0f);
    logits[4] = 1.0f;
    logits[best] = 5.0f;
    return *text.choose(logits);
  };
  for (std::size_t best = 6; best < vocab_size; ++best) {
    CAPTURE(best);
    CHECK(chosen(best, {}) == 4);
    CHECK(chosen(best, {.sampling = {.temperature = 1e-3f}}) == 4);
    CHECK(chosen(best, {.stop_ids = {static_cast<TokenId>(best)}}) == static_cast<TokenId>(best));
  }
  CHECK(chosen(5, {}) == 5);
  Continuation without(nullptr, {}, vocab_size);  // nothing is known of pieces
  std::vector<float> logits(vocab_size, 0.0f);
  logits[9] = 1.0f;
  CHECK(*without.choose(logits) == 9);
}
