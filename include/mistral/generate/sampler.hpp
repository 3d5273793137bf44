// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/core/random.hpp>
#include <mistral/core/token.hpp>
#include <mistral/kernels/largest.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// How the next token is chosen. The defaults take the most probable one. The order of the filters is that of Hugging
/// Face's transformers and, for those it has, of mistral-inference: repetition penalty, temperature, top-k, top-p,
/// min-p, each on what the one before it left.
struct SamplingOptions {
  /// The number that logits are divided by. 0: greedy, only the repetition penalty still counts, and then the largest
  /// logit wins.
  float temperature = 0.0f;
  /// Keep the k most probable tokens, exactly k where several tie; 0: all.
  int top_k = 0;
  /// Nucleus sampling (arXiv 1904.09751): by descending probability, drop the tokens before which more than this has
  /// added up already. The first always stays. From 0 to 1; 1: off.
  float top_p = 1.0f;
  /// Drop tokens less probable than this fraction of the most probable one's (arXiv 2407.01082). From 0, off, to 1.
  float min_p = 0.0f;
  /// Each distinct token of the history has its logit divided by this where positive, multiplied where negative (CTRL,
  /// arXiv 1909.05858, section 4.1, as Hugging Face mends it). Positive; 1: off.
  float repetition_penalty = 1.0f;
  /// How many of the last accepted tokens make the history; 0: all of them.
  int repetition_window = 0;
  /// Where the random numbers start: the same seed, options and logits give the same tokens.
  std::uint64_t seed = 0;

  /// Throws Error `[sampling] <field>: expected ..., got ...` where a field is out of its range or not a number.
  void validate() const;
};

/// A token and its probability.
struct TokenProbability {
  TokenId token = 0;         ///< its id
  double probability = 0.0;  ///< of 0 ... 1
  /// Both are equal.
  friend bool operator==(const TokenProbability&, const TokenProbability&) = default;
};

/// Chooses tokens from logits, deterministically: equal logits go by the lower id, and each choice with a temperature
/// draws one random number. A copy continues as the original does.
class Sampler {
 public:
  /// Allocates all it will need, about 24 bytes a token of the vocabulary. Throws Error where `options` don't validate.
  Sampler(const SamplingOptions& options, std::size_t vocab_size) : options_(options), vocab_size_(vocab_size) {
    options.validate();
    if (vocab_size == 0 || vocab_size > static_cast<std::size_t>((std::numeric_limits<TokenId>::max)())) {
      throw Error("sampling", "vocab_size", "1 ... 2147483647", std::to_string(vocab_size));
    }
    if (options.temperature > 0.0f) candidates_.resize(vocab_size);
    if (options.repetition_penalty != 1.0f) last_seen_.assign(vocab_size, never);
  }

  /// Returns the options that it was made with.
  const SamplingOptions& options() const noexcept { return options_; }
  /// Logits that choose() takes.
  std::size_t vocab_size() const noexcept { return vocab_size_; }

  /// The random numbers that choices are drawn by: to save, restore, or share them.
  Random& random() noexcept { return random_; }

  /// Chooses a token; `logits`: (vocab_size), may be overwritten. Allocates nothing. A logit of -inf bans its token.
  /// Throws Error, with all as it was, where a logit is NaN or +inf or where every one is -inf. Doesn't accept the
  /// token.
  TokenId sample(std::span<float> logits) {
    std::size_t best = check(logits);
    if (penalise(logits)) best = check(logits);
    if (options_.temperature == 0.0f) return static_cast<TokenId>(best);
    Choice choice = choose(logits, logits[best], candidates_);
    const double target = random_.uniform_double() * choice.total;
    double sum = 0.0;
    for (std::size_t i = 0; i + 1 < choice.kept; ++i) {
      const Candidate& candidate = choice.ranking[i];
      sum += candidate.weight;
      if (target < sum) return candidate.token;
    }
    return choice.ranking[choice.kept - 1].token;
  }

  /// The tokens that sample() chooses from, by descending probability, then ascending id; the probabilities sum to 1.
  /// Greedy: one token. Throws as sample() does. Draws nothing and changes nothing.
  std::vector<TokenProbability> distribution(std::span<const float> logits) const {
    std::size_t best = check(logits);
    std::vector<float> copy(logits.begin(), logits.end());
    if (penalise(copy)) best = check(copy);
    if (options_.temperature == 0.0f) return {{static_cast<TokenId>(best), 1.0}};
    std::vector<Candidate> candidates(vocab_size_);
    Choice choice = choose(copy, copy[best], candidates);
    std::vector<TokenProbability> result(choice.kept);
    for (std::size_t i = 0; i < choice.kept; ++i) {
      const Candidate& candidate = choice.ranking[i];
      result[i] = {candidate.token, candidate.weight / choice.total};
    }
    return result;
  }

  /// Adds a token of the prompt or of the answer to the history that the repetition penalty looks at. Throws Error
  /// where the token is not of the vocabulary.
  void accept(TokenId token) {
    if (token < 0 || static_cast<std::size_t>(token) >= vocab_size_) {
      throw Error("sampling", "accepted token", "0 ... " + std::to_string(vocab_size_ - 1), std::to_string(token));
    }
    if (!last_seen_.empty()) last_seen_[static_cast<std::size_t>(token)] = accepted_;
    ++accepted_;
  }

  /// Back to the beginning: no history, and the random numbers of the seed again.
  void reset() noexcept {
    std::fill(last_seen_.begin(), last_seen_.end(), never);
    accepted_ = 0;
    random_ = Random{options_.seed};
  }

 private:
  static constexpr std::int64_t never = -1;

  struct Candidate {
    double weight = 0.0;  // probability, but for a common factor: 1 for the most probable
    float logit = 0.0f;
    TokenId token = 0;

    // The order of all choices. Logits and not weights: exp() may make two logits equal.
    friend bool operator<(const Candidate& a, const Candidate& b) noexcept {
      return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
    }
  };

  // Candidates in descending order, sorted no further than they are looked at: of 32000, a choice mostly sees a few.
  class Ranking {
   public:
    explicit Ranking(std::span<Candidate> candidates) noexcept : candidates_(candidates) {}

    const Candidate& operator[](std::size_t i) noexcept {
      assert(i < candidates_.size());
      while (i >= sorted_) sort_more();
      return candidates_[i];
    }

   private:
    void sort_more() noexcept {
      // 64, then 4 times as many: each round selects from all that is left, so there must be few rounds.
      const std::size_t end = (std::min)(std::max<std::size_t>(64, sorted_ * 4), candidates_.size());
      const auto at = [this](std::size_t i) { return candidates_.begin() + static_cast<std::ptrdiff_t>(i); };
      if (end < candidates_.size()) std::nth_element(at(sorted_), at(end), candidates_.end());
      std::sort(at(sorted_), at(end));
      sorted_ = end;
    }

    std::span<Candidate> candidates_;
    std::size_t sorted_ = 0;
  };

  // The first `kept` of a ranking, whose weights sum to `total`.
  struct Choice {
    Ranking ranking;
    std::size_t kept;
    double total;
  };

  // Where the largest logit stands; throws Error where they are none to choose from.
  std::size_t check(std::span<const float> logits) const {
    if (logits.size() != vocab_size_) {
      throw Error("sampling", "logits", std::to_string(vocab_size_) + " values", std::to_string(logits.size()));
    }
    const std::optional<std::size_t> best = kernels::largest(logits);
    if (!best) {
      const auto at = std::find_if(logits.begin(), logits.end(), [](float logit) { return !(logit < infinity); });
      throw Error("sampling", "logits", "numbers or -inf",
                  (std::isnan(*at) ? "nan for token " : "inf for token ") + std::to_string(at - logits.begin()));
    }
    if (logits[*best] == -infinity) {
      throw Error("sampling", "logits", "a token that is not banned", "-inf for every token");
    }
    return *best;
  }

  // Whether there is a penalty. It leaves numbers as numbers, and -inf as it is.
  bool penalise(std::span<float> logits) const noexcept {
    if (last_seen_.empty()) return false;
    const std::int64_t window = options_.repetition_window;
    const std::int64_t first = window == 0 ? 0 : (std::max<std::int64_t>)(0, accepted_ - window);
    constexpr float bound = (std::numeric_limits<float>::max)();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (last_seen_[i] < first || logits[i] == -infinity) continue;
      const float penalty = options_.repetition_penalty;
      const float logit = logits[i] > 0.0f ? logits[i] / penalty : logits[i] * penalty;
      logits[i] = std::clamp(logit, -bound, bound);  // an extreme penalty must not make an infinity
    }
    return true;
  }

  // Temperature and filters. Each filter keeps a beginning of the same ranking, so that only its length is looked for.
  // `room`: (vocab_size), where the candidates go; `top`: the largest logit.
  Choice choose(std::span<const float> logits, float top, std::span<Candidate> room) const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (logits[i] != -infinity) room[count++] = {0.0, logits[i], static_cast<TokenId>(i)};
    }
    const auto top_k = static_cast<std::size_t>(options_.top_k);
    if (top_k > 0 && top_k < count) {
      std::nth_element(room.begin(), room.begin() + options_.top_k, room.begin() + static_cast<std::ptrdiff_t>(count));
      std::sort(room.begin(), room.begin() + options_.top_k);  // so that the sum below has one order everywhere
      count = top_k;
    }

    // The largest logit is taken off before the division: no temperature, however small, makes the exponent overflow.
    // A token whose weight underflows to 0 can't be drawn and isn't a candidate.
    std::size_t weighed = 0;
    double total = 0.0;
    for (Candidate candidate : room.first(count)) {
      const double below = static_cast<double>(candidate.logit) - static_cast<double>(top);
      candidate.weight = std::exp(below / static_cast<double>(options_.temperature));
      if (candidate.weight == 0.0) continue;
      total += candidate.weight;
      room[weighed++] = candidate;
    }
    assert(weighed > 0);  // the largest logit's weight is 1

    Choice choice{Ranking(room.first(weighed)), weighed, total};
    if (options_.top_p >= 1.0f && options_.min_p <= 0.0f) return choice;
    const double allowed = options_.top_p < 1.0f ? static_cast<double>(options_.top_p) * total : double{infinity};
    double sum = 0.0;
    std::size_t kept = 0;
    for (; kept < weighed && sum <= allowed; ++kept) {
      const double weight = choice.ranking[kept].weight;
      if (weight < static_cast<double>(options_.min_p)) break;  // the largest weight is 1
      sum += weight;
    }
    choice.kept = kept;
    choice.total = sum;
    return choice;
  }

  static constexpr float infinity = std::numeric_limits<float>::infinity();

  SamplingOptions options_;
  std::size_t vocab_size_;
  Random random_{options_.seed};
  std::vector<Candidate> candidates_;    // scratch memory of sample()
  std::vector<std::int64_t> last_seen_;  // by token: the number of its last acceptance; empty where there is no penalty
  std::int64_t accepted_ = 0;
};

inline void SamplingOptions::validate() const {
  const auto require = [](bool holds, const char* field, const char* expected, auto found) {
    if (holds) return;
    if constexpr (std::is_floating_point_v<decltype(found)>) {
      throw Error("sampling", field, expected, number_text(found));
    } else {
      throw Error("sampling", field, expected, std::to_string(found));
    }
  };
  // Written so that a NaN, which compares false, fails.
  constexpr float finite = (std::numeric_limits<float>::max)();
  require(repetition_penalty > 0.0f && repetition_penalty <= finite, "repetition_penalty", "a positive number",
          repetition_penalty);
  require(repetition_window >= 0, "repetition_window", "a number of tokens, or 0 for all", repetition_window);
  require(temperature >= 0.0f && temperature <= finite, "temperature", "0 (greedy) or a positive number", temperature);
  require(top_k >= 0, "top_k", "a number of tokens, or 0 for all", top_k);
  require(top_p >= 0.0f && top_p <= 1.0f, "top_p", "a number from 0 to 1", top_p);
  require(min_p >= 0.0f && min_p <= 1.0f, "min_p", "a number from 0 to 1", min_p);
}

}}  // namespace mistral
