// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <mistral/core/error.hpp>
#include <mistral/core/random.hpp>
#include <mistral/generate/sampler.hpp>
#include <mistral/io/safetensors/safetensors.hpp>

#include "../support/allocations.hpp"
#include "../support/data.hpp"

using mistral::Error;
using mistral::Random;
using mistral::Sampler;
using mistral::SamplingOptions;
using mistral::TokenId;
using mistral::TokenProbability;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

TokenId sample(Sampler& sampler, std::vector<float> logits) { return sampler.sample(logits); }

std::vector<TokenId> tokens_of(const std::vector<TokenProbability>& distribution) {
  std::vector<TokenId> tokens;
  for (const TokenProbability& entry : distribution) tokens.push_back(entry.token);
  return tokens;
}

std::size_t below(Random& random, std::size_t n) { return static_cast<std::size_t>(random.next() % n); }

// What the sampler promises, the plain way: everything in long double, everything sorted, one filter after the other,
// renormalised after each. `doubtful`: a threshold is so near that rounding may decide.
struct Twin {
  std::vector<std::pair<TokenId, long double>> kept;
  bool doubtful = false;
};

Twin twin(const SamplingOptions& options, std::vector<float> logits, const std::vector<TokenId>& history) {
  Twin result;
  const std::size_t window = options.repetition_window == 0
                                 ? history.size()
                                 : std::min(history.size(), static_cast<std::size_t>(options.repetition_window));
  for (std::size_t token = 0; token < logits.size(); ++token) {
    if (std::find(history.end() - static_cast<std::ptrdiff_t>(window), history.end(), static_cast<TokenId>(token)) ==
        history.end()) {
      continue;
    }
    float& logit = logits[token];
    logit = logit > 0 ? logit / options.repetition_penalty : logit * options.repetition_penalty;
  }
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](TokenId token) { return logits[static_cast<std::size_t>(token)]; };
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return logit(a) > logit(b); });
  if (options.temperature == 0.0f) return {{{order[0], 1.0L}}, false};

  const long double top = logit(order[0]);
  for (const TokenId token : order) {
    const long double p = std::exp((static_cast<long double>(logit(token)) - top) / options.temperature);
    if (static_cast<double>(p) > 0.0) result.kept.emplace_back(token, p);
  }
  const auto renormalise = [&] {
    long double sum = 0;
    for (const auto& entry : result.kept) sum += entry.second;
    for (auto& entry : result.kept) entry.second /= sum;
  };
  renormalise();
  if (options.top_k > 0 && static_cast<std::size_t>(options.top_k) < result.kept.size()) {
    result.kept.resize(static_cast<std::size_t>(options.top_k));
    renormalise();
  }
  const auto doubt = [&](long double value, long double threshold) {  // equal ones come of equal weights: no doubt
    if (value != threshold && std::fabs(value - threshold) < 1e-12L * threshold) result.doubtful = true;
  };
  if (options.top_p < 1.0f) {
    long double before = 0;
    std::size_t count = 0;
    for (; count < result.kept.size(); ++count) {
      doubt(before, options.top_p);
      if (before > options.top_p) break;
      before += result.kept[count].second;
    }
    result.kept.resize(count);
    renormalise();
  }
  const long double least = options.min_p * result.kept[0].second;
  std::size_t count = 0;
  for (; count < result.kept.size() && result.kept[count].second >= least; ++count) {
  }
  for (const auto& entry : result.kept) {
    doubt(entry.second, least);
  }
  result.kept.resize(count);
  renormalise();
  return result;
}

SamplingOptions random_options(Random& random) {
  const auto one_of = [&](auto... values) {
    const std::common_type_t<decltype(values)...> all[] = {values...};
    return all[below(random, sizeof...(values))];
  };
  return {.temperature = one_of(0.0f, 0.2f, 0.7f, 1.0f, 1.5f, 20.0f),
          .top_k = one_of(0, 0, 1, 2, 40, 1000),
          .top_p = one_of(1.0f, 1.0f, 0.0f, 0.01f, 0.5f, 0.9f, 0.99f),
          .min_p = one_of(0.0f, 0.0f, 0.01f, 0.2f, 1.0f),
          .repetition_penalty = one_of(1.0f, 1.3f, 0.8f),
          .repetition_window = one_of(0, 1, 3, 1000000000),
          .seed = random.next()};
}

std::vector<float> random_logits(Random& random, std::size_t size) {
  const float scale = static_cast<float>(1 + below(random, 8));
  const bool ties = random.uniform() < 0.3f, bans = random.uniform() < 0.3f;
  std::vector<float> logits(size);
  for (float& logit : logits) {
    logit = scale * random.normal();
    if (ties) logit = std::round(logit);
    if (bans && random.uniform() < 0.5f) logit = -infinity;
  }
  logits[below(random, size)] = 0.5f;  // one at least isn't banned
  return logits;
}

std::size_t random_vocab_size(Random& random, int round) {
  if (round % 100 == 0) return 32000;
  return 1 + below(random, random.uniform() < 0.5f ? 20 : 1000);
}

}  // namespace

TEST_CASE("temperature and top-p give the distributions of mistral-inference") {
  const std::filesystem::path json = mistral::test::golden("misc/sampling.json");
  const std::filesystem::path tensors = mistral::test::golden("misc/sampling.safetensors");
  if (json.empty() || tensors.empty()) return;
  const mistral::Safetensors file = mistral::Safetensors::open(tensors.string());
  const std::size_t rows = file.get("logits").shape.at(0), size = file.get("logits").shape.at(1);
  const auto row_of = [&](const std::string& name, std::size_t row) {
    const mistral::SafetensorsTensor& tensor = file.get(name);
    std::vector<float> values(size);
    REQUIRE(tensor.dtype == mistral::DType::f32);
    REQUIRE(tensor.shape == std::vector<std::uint64_t>{rows, size});
    std::memcpy(values.data(), tensor.data.data() + row * size * sizeof(float), size * sizeof(float));
    return values;
  };
  const auto cases = nlohmann::json::parse(std::ifstream(json)).at("cases");
  REQUIRE(cases.size() == 6);
  for (const auto& entry : cases) {
    const SamplingOptions options{.temperature = entry.at("temperature").get<float>(),
                                  .top_p = entry.at("top_p").get<float>()};
    const std::string name = "case" + std::to_string(entry.at("case").get<int>()) + ".probs";
    Sampler sampler{options, size};
    for (std::size_t row = 0; row < rows; ++row) {
      CAPTURE(name);
      CAPTURE(row);
      const std::vector<float> logits = row_of("logits", row), expected = row_of(name, row);
      const std::vector<TokenProbability> distribution = sampler.distribution(logits);
      const auto kept = entry.at("kept").at(row).get<std::size_t>();

      // The reference works in float. With e = 2^-24 and a = max |logit| / temperature, an exponent carries 2 a e from
      // two divisions and 2 a e from the subtraction; so does the sum below it; the sums and the running sum of `size`
      // terms carry 2 size e, and exp and the last divisions some more.
      float largest = 0.0f;
      for (const float logit : logits) largest = std::max(largest, std::fabs(logit));
      const double n = static_cast<double>(size);
      const double bound = (8.0 * static_cast<double>(largest / options.temperature) + 2.0 * n + 16.0) * 0x1p-24;

      if (logits.front() == logits.back()) {  // all equal: which of them stay depends on the sort
        REQUIRE(distribution.size() == kept);
        for (std::size_t i = 0; i < kept; ++i) {
          CHECK(distribution[i].token == static_cast<TokenId>(i));
          CHECK(std::fabs(distribution[i].probability * static_cast<double>(kept) - 1.0) <= n * 0x1p-53);
        }
        continue;
      }
      if (options.top_p < 1.0f) CHECK(distribution.size() == kept);
      std::size_t found = 0;
      double dropped = 0.0;
      for (const TokenProbability& token : distribution) {
        const auto p = static_cast<double>(expected[static_cast<std::size_t>(token.token)]);
        if (p == 0.0) {  // at top_p = 1 a float's running sum may pass 1 and drop the last tokens; ours are all there
          dropped += token.probability;
          continue;
        }
        ++found;
        CHECK(std::fabs(token.probability - p) <= bound * p);
      }
      CHECK(found == kept);
      CHECK(dropped <= (options.top_p < 1.0f ? 0.0 : n * 0x1p-24));
    }
  }
}

TEST_CASE("the filters keep what a full sort in long double keeps, with its probabilities") {
  Random random{5};
  int doubtful = 0;
  for (int round = 0; round < 3000; ++round) {
    const SamplingOptions options = random_options(random);
    const std::vector<float> logits = random_logits(random, random_vocab_size(random, round));
    Sampler sampler{options, logits.size()};
    std::vector<TokenId> history(below(random, 12));
    for (TokenId& token : history) {
      token = static_cast<TokenId>(below(random, logits.size()));
      sampler.accept(token);
    }
    const Twin expected = twin(options, logits, history);
    if (expected.doubtful) {
      ++doubtful;
      continue;
    }
    CAPTURE(round);
    const std::vector<TokenProbability> distribution = sampler.distribution(logits);
    REQUIRE(distribution.size() == expected.kept.size());
    // exp() is within an ulp; its argument carries one rounding of at most 745 / 2^53; sums of n weights n / 2^53.
    const double bound = (1500.0 + 2.0 * static_cast<double>(logits.size())) * 0x1p-53;
    for (std::size_t i = 0; i < distribution.size(); ++i) {
      const auto p = static_cast<double>(expected.kept[i].second);
      REQUIRE(distribution[i].token == expected.kept[i].first);
      REQUIRE(std::fabs(distribution[i].probability - p) <= bound * p + std::numeric_limits<double>::denorm_min());
    }
  }
  CHECK(doubtful < 30);
}

TEST_CASE("sampling, which sorts no more than it looks at, draws what a walk down the whole distribution draws") {
  Random random{6};
  for (int round = 0; round < 2000; ++round) {
    const SamplingOptions options = random_options(random);
    const std::vector<float> logits = random_logits(random, random_vocab_size(random, round));
    Sampler sampler{options, logits.size()};
    for (int i = 0; i < 5; ++i) sampler.accept(static_cast<TokenId>(below(random, logits.size())));
    const std::vector<TokenProbability> distribution = sampler.distribution(logits);
    const double target = options.temperature == 0.0f ? 0.0 : Random{sampler.random()}.uniform_double();
    TokenId expected = distribution.back().token;
    double sum = 0.0;
    for (const TokenProbability& entry : distribution) {
      sum += entry.probability;
      if (target < sum) {
        expected = entry.token;
        break;
      }
    }
    CAPTURE(round);
    REQUIRE(sample(sampler, logits) == expected);
  }
}

TEST_CASE("tokens turn up as often as their distribution says") {
  // Pearson's statistic of a right sampler is chi-squared with d = cells - 1 degrees of freedom, and such a variable
  // exceeds d + 2 sqrt(20 d) + 40 with a probability of at most exp(-20) = 2e-9 (Laurent and Massart, 2000, lemma 1).
  Random random{7};
  std::vector<float> logits(200);
  for (float& logit : logits) logit = 2.0f * random.normal();
  constexpr int draws = 200000;
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 1.0f, .seed = 1}, SamplingOptions{.temperature = 0.7f, .top_p = 0.9f, .seed = 2},
        SamplingOptions{.temperature = 1.5f, .top_k = 100, .min_p = 0.01f, .seed = 3}}) {
    Sampler sampler{options, logits.size()};
    std::vector<int> counts(logits.size());
    for (int i = 0; i < draws; ++i) ++counts[static_cast<std::size_t>(sample(sampler, logits))];
    double statistic = 0.0, rest = 0.0;
    int cells = 0, rest_count = 0, seen = 0;
    const auto add = [&](double expected, int count) {
      statistic += (count - expected) * (count - expected) / expected;
      ++cells;
    };
    for (const TokenProbability& entry : sampler.distribution(logits)) {
      const double expected = entry.probability * draws;
      const int count = counts[static_cast<std::size_t>(entry.token)];
      seen += count;
      if (expected >= 20.0) {
        add(expected, count);
      } else {  // too rare for the statistic's limit: one cell for all of these
        rest += expected;
        rest_count += count;
      }
    }
    CHECK(seen == draws);  // and no token outside the distribution
    if (rest >= 20.0) add(rest, rest_count);
    CHECK(cells > 20);
    const double d = cells - 1;
    CHECK(statistic <= d + 2.0 * std::sqrt(20.0 * d) + 40.0);
  }
}

TEST_CASE("greedy takes the largest logit, of equal ones the lower id, and draws no random number") {
  Sampler sampler{{}, 5};
  CHECK(sample(sampler, {0.0f, 3.0f, -1.0f, 3.0f, 2.0f}) == 1);
  CHECK(sample(sampler, {-infinity, -infinity, -5.0f, -infinity, -infinity}) == 2);
  CHECK(sample(sampler, {-0.0f, 0.0f, -1.0f, -1.0f, 0.0f}) == 0);
  const std::vector<float> logits{1.0f, 4.0f, 4.0f, 0.0f, 0.0f};
  CHECK(sampler.distribution(logits) == std::vector<TokenProbability>{{1, 1.0}});
  CHECK(sampler.random() == Random{0});

  Sampler one{{.temperature = 1.0f, .top_k = 1}, 5};  // exactly one, where Hugging Face keeps both that tie
  CHECK(tokens_of(one.distribution(logits)) == std::vector<TokenId>{1});
  Sampler nucleus{{.temperature = 1.0f, .top_p = 0.0f}, 5};
  CHECK(tokens_of(nucleus.distribution(logits)) == std::vector<TokenId>{1});
  Sampler all{{.temperature = 1.0f, .top_k = 99}, 5};
  CHECK(tokens_of(all.distribution(logits)) == std::vector<TokenId>{1, 2, 0, 3, 4});
}

TEST_CASE("the repetition penalty divides positive logits and multiplies negative ones, once a token") {
  Sampler sampler{{.repetition_penalty = 2.0f}, 4};
  for (const TokenId token : {1, 1, 1, 2, 0}) sampler.accept(token);
  std::vector<float> logits{-1.0f, 4.0f, 0.0f, 1.9f};
  CHECK(sampler.sample(logits) == 1);
  CHECK(logits == std::vector<float>{-2.0f, 2.0f, 0.0f, 1.9f});
  logits = {-1.0f, 3.0f, 0.0f, 1.9f};
  CHECK(sampler.sample(logits) == 3);
  sampler.reset();
  CHECK(sample(sampler, {-1.0f, 3.0f, 0.0f, 1.9f}) == 1);
}

TEST_CASE("the repetition window forgets the tokens before it, and remembers those that came again") {
  Sampler sampler{{.repetition_penalty = 2.0f, .repetition_window = 2}, 3};
  const auto penalised = [&] {
    std::vector<float> logits{8.0f, 8.0f, 8.0f};
    sampler.sample(logits);
    return logits;
  };
  sampler.accept(0);
  CHECK(penalised() == std::vector<float>{4.0f, 8.0f, 8.0f});
  sampler.accept(1);
  CHECK(penalised() == std::vector<float>{4.0f, 4.0f, 8.0f});
  sampler.accept(0);
  CHECK(penalised() == std::vector<float>{4.0f, 4.0f, 8.0f});
  sampler.accept(2);
  CHECK(penalised() == std::vector<float>{4.0f, 8.0f, 4.0f});
}

TEST_CASE("min-p drops what is less probable than its fraction of the most probable") {
  // Probabilities 0.5, 0.3, 0.15, 0.05: the largest times 0.2 is 0.1.
  std::vector<float> logits;
  for (const double p : {0.05, 0.5, 0.15, 0.3}) logits.push_back(static_cast<float>(std::log(p)));
  Sampler sampler{{.temperature = 1.0f, .min_p = 0.2f}, 4};
  const std::vector<TokenProbability> distribution = sampler.distribution(logits);
  REQUIRE(tokens_of(distribution) == std::vector<TokenId>{1, 3, 2});
  const double expected[] = {0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(std::fabs(distribution[i].probability - expected[i]) <= 2e-7);  // logits below 4: rounded by 2^-23 at most
  }
  Sampler ties{{.temperature = 1.0f, .min_p = 1.0f}, 3};
  CHECK(tokens_of(ties.distribution(std::vector<float>{1.0f, 0.9f, 1.0f})) == std::vector<TokenId>{0, 2});
}

TEST_CASE("the same seed gives the same tokens, after a reset and from a copy too, and another seed gives others") {
  Random random{8};
  std::vector<float> logits(500);
  for (float& logit : logits) logit = random.normal();
  const auto draw = [&](Sampler& sampler) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < 50; ++i) {
      tokens.push_back(sample(sampler, logits));
      sampler.accept(tokens.back());
    }
    return tokens;
  };
  SamplingOptions options{.temperature = 1.0f, .top_p = 0.95f, .repetition_penalty = 1.2f, .seed = 99};
  Sampler a{options, logits.size()}, b{options, logits.size()};
  const std::vector<TokenId> tokens = draw(a);
  CHECK(draw(b) == tokens);
  Sampler copy{a};
  CHECK(draw(copy) == draw(a));
  a.reset();
  CHECK(draw(a) == tokens);
  options.seed = 100;
  Sampler other{options, logits.size()};
  CHECK(draw(other) != tokens);
}

TEST_CASE("extreme logits, temperatures and penalties leave a distribution") {
  constexpr float huge = std::numeric_limits<float>::max(), tiny = std::numeric_limits<float>::denorm_min();
  const std::vector<float> logits{huge, -huge, 0.0f, tiny, -infinity, huge};
  for (const float temperature : {tiny, 1.0f, huge}) {
    for (const float penalty : {tiny, 1.0f, huge}) {
      for (const float top_p : {0.5f, 1.0f}) {
        Sampler sampler{{.temperature = temperature, .top_p = top_p, .repetition_penalty = penalty}, logits.size()};
        for (TokenId token = 0; token < 6; ++token) sampler.accept(token);
        double sum = 0.0;
        for (const TokenProbability& entry : sampler.distribution(logits)) {
          CHECK(entry.probability > 0.0);
          CHECK(entry.token != 4);
          sum += entry.probability;
        }
        CHECK(std::fabs(sum - 1.0) <= 1e-15);
        CHECK(sample(sampler, logits) != 4);
      }
    }
  }
}

TEST_CASE("options out of range are errors that name the field") {
  const auto message = [](const SamplingOptions& options) -> std::string {
    try {
      options.validate();
    } catch (const Error& error) {
      try {
        Sampler{options, 10};
      } catch (const Error& same) {
        CHECK(std::string(same.what()) == error.what());
        return error.what();
      }
    }
    return "no error";
  };
  CHECK(message({}) == "no error");
  CHECK(message({.temperature = -1.0f}) == "[sampling] temperature: expected 0 (greedy) or a positive number, got -1");
  CHECK(message({.temperature = not_a_number}) ==
        "[sampling] temperature: expected 0 (greedy) or a positive number, got nan");
  CHECK(message({.temperature = -not_a_number}) ==
        "[sampling] temperature: expected 0 (greedy) or a positive number, got nan");
  CHECK(message({.temperature = infinity}) ==
        "[sampling] temperature: expected 0 (greedy) or a positive number, got inf");
  CHECK(message({.top_k = -1}) == "[sampling] top_k: expected a number of tokens, or 0 for all, got -1");
  for (const float p : {-0.1f, 1.5f, not_a_number, infinity, -infinity}) {
    CHECK(message({.top_p = p}).starts_with("[sampling] top_p: expected a number from 0 to 1, got "));
    CHECK(message({.min_p = p}).starts_with("[sampling] min_p: expected a number from 0 to 1, got "));
  }
  for (const float penalty : {0.0f, -1.0f, not_a_number, infinity}) {
    CHECK(message({.repetition_penalty = penalty})
              .starts_with("[sampling] repetition_penalty: expected a positive number, got "));
  }
  CHECK(message({.repetition_window = -1}) ==
        "[sampling] repetition_window: expected a number of tokens, or 0 for all, got -1");
  CHECK_THROWS_WITH_AS(Sampler({}, 0), "[sampling] vocab_size: expected 1 ... 2147483647, got 0", Error);
  CHECK_THROWS_WITH_AS(Sampler({}, std::size_t{1} << 31),
                       "[sampling] vocab_size: expected 1 ... 2147483647, got 2147483648", Error);
}

TEST_CASE("logits that are no logits and tokens that are no tokens are errors, and change nothing") {
  for (const float temperature : {0.0f, 1.0f}) {
    Sampler sampler{{.temperature = temperature, .repetition_penalty = 2.0f}, 3};
    sampler.accept(0);
    const auto check = [&](std::vector<float> logits, const char* message) {
      CHECK_THROWS_WITH_AS((void)sampler.distribution(logits), message, Error);
      CHECK_THROWS_WITH_AS((void)sampler.sample(logits), message, Error);
      if (!logits.empty()) CHECK(logits[0] == 8.0f);
    };
    check({8.0f, not_a_number, 0.0f}, "[sampling] logits: expected numbers or -inf, got nan for token 1");
    check({8.0f, 0.0f, infinity}, "[sampling] logits: expected numbers or -inf, got inf for token 2");
    check({8.0f, 0.0f}, "[sampling] logits: expected 3 values, got 2");
    check({}, "[sampling] logits: expected 3 values, got 0");
    std::vector<float> banned(3, -infinity);
    CHECK_THROWS_WITH_AS((void)sampler.sample(banned),
                         "[sampling] logits: expected a token that is not banned, got -inf for every token", Error);
    CHECK_THROWS_WITH_AS(sampler.accept(-1), "[sampling] accepted token: expected 0 ... 2, got -1", Error);
    CHECK_THROWS_WITH_AS(sampler.accept(3), "[sampling] accepted token: expected 0 ... 2, got 3", Error);
    CHECK(sampler.random() == Random{0});
  }
}

TEST_CASE("choosing and accepting a token allocates nothing, in a copy neither") {
  Random random{9};
  std::vector<float> logits(32000), scratch(32000);
  for (float& logit : logits) logit = 3.0f * random.normal();
  for (int round = 0; round < 40; ++round) {
    Sampler original{random_options(random), logits.size()};
    Sampler sampler{original};
    CHECK(mistral::test::allocations_in([&] {
            for (int i = 0; i < 3; ++i) {
              std::copy(logits.begin(), logits.end(), scratch.begin());
              sampler.accept(sampler.sample(scratch));
            }
          }) == 0);
  }
}
