// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/finite_logits.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// log(sum of exp(logits)): what a logit is the logarithm of a probability above.
inline double log_sum_exp(std::span<const float> logits) noexcept {
  float largest = logits[0];
  for (const float x : logits) largest = (std::max)(largest, x);
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - static_cast<double>(largest));
  return static_cast<double>(largest) + std::log(sum);
}

/// The logarithm of the probability that logits (vocab_size) give a token, in nats.
inline double log_probability(std::span<const float> logits, TokenId token) noexcept {
  return static_cast<double>(logits[static_cast<std::size_t>(token)]) - log_sum_exp(logits);
}

/// How far what some logits say is from what the reference's say (both vocab_size): their Kullback-Leibler divergence,
/// sum of p (log p - log q), in nats. At least 0, up to rounding.
inline double kl_divergence(std::span<const float> reference, std::span<const float> logits) noexcept {
  const double p_sum = log_sum_exp(reference), q_sum = log_sum_exp(logits);
  double divergence = 0.0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double p = static_cast<double>(reference[i]) - p_sum, q = static_cast<double>(logits[i]) - q_sum;
    const double probability = std::exp(p);
    if (probability > 0.0) divergence += probability * (p - q);
  }
  return divergence;
}

/// How well tokens were predicted.
struct TextScore {
  std::size_t targets = 0;      ///< tokens that were predicted
  double log_likelihood = 0.0;  ///< the sum of the logarithms of their probabilities, in nats

  /// Adds the loss of `target`, 0 <= target < vocab_size, under the logits (vocab_size) before it.
  void add(std::span<const float> logits, TokenId target) noexcept {
    log_likelihood += log_probability(logits, target);
    ++targets;
  }

  /// Mean negative log-likelihood, in nats a token.
  double loss() const noexcept { return -log_likelihood / static_cast<double>(targets); }
  /// exp(loss()): tokens that the model is as unsure among.
  double perplexity() const noexcept { return std::exp(loss()); }
};

/// Tokens of a text that go through a model in one forward. Row i of it predicts token begin + i + 1.
struct TextPiece {
  std::size_t begin;    ///< index of the first
  std::size_t count;    ///< how many
  std::size_t context;  ///< rows at its front that are there to be seen only: an earlier piece has predicted the same
  bool fresh;           ///< the sequence begins here
};

/// Cuts a text so that every token but the first is predicted once. With a window the text is one sequence, however
/// long. Without one, sequences of up to context_len tokens follow each other at a distance of `stride`: after the
/// first each predicts its last `stride` tokens, and so none from less than context_len - stride + 1 tokens.
///   tokens  of the text, at least two
///   stride  1 ... context_len; 0: half of the context
///   chunk   tokens in a piece at most
inline std::vector<TextPiece> text_pieces(std::size_t tokens, const ModelConfig& config, std::size_t stride = 0,
                                          std::size_t chunk = 512) {
  if (tokens < 2) throw Error("perplexity", "the text", "at least two tokens", std::to_string(tokens));
  if (stride > config.context_len || chunk == 0) {
    throw Error("perplexity", "stride", "at most the context's " + std::to_string(config.context_len),
                std::to_string(stride));
  }
  if (stride == 0) stride = (std::max<std::size_t>)(1, config.context_len / 2);
  const std::size_t rows = tokens - 1;  // nothing is to be predicted from the last
  const std::size_t longest = config.window_size != 0 ? rows : config.context_len;
  std::vector<TextPiece> pieces;
  for (std::size_t begin = 0, predicted = 0; predicted < rows; begin += stride) {
    const std::size_t end = begin + (std::min)(longest, rows - begin);
    for (std::size_t at = begin; at < end;) {
      const std::size_t next = at + (std::min)(chunk, end - at);
      pieces.push_back({at, next - at, std::clamp(predicted, at, next) - at, at == begin});
      at = next;
    }
    predicted = end;
  }
  return pieces;
}

/// Scores a text from its first token on, in a session that is cleared for it: each token but the first is a target.
/// Throws Error for fewer than two tokens, where logits are no finite numbers (check_finite), and what Session::forward
/// throws.
template <class Session>
TextScore score_text(Session& session, std::span<const TokenId> tokens, std::size_t stride = 0) {
  constexpr ModelConfig config = std::remove_cvref_t<decltype(session.model())>::config;
  TextScore score;
  std::size_t fresh = 0;  // where the sequence began
  for (const TextPiece& piece : text_pieces(tokens.size(), config, stride)) {
    if (piece.fresh) session.clear();
    if (piece.fresh) fresh = piece.begin;
    const Rows<const float> logits = session.forward(tokens.subspan(piece.begin, piece.count));
    check_finite(session, logits, tokens.subspan(fresh, piece.begin + piece.count - fresh));
    for (std::size_t i = piece.context; i < piece.count; ++i) score.add(logits.row(i), tokens[piece.begin + i + 1]);
  }
  return score;
}

}}  // namespace mistral
