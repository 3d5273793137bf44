// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include <mistral/core/error.hpp>
#include <mistral/core/finite.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/nn/adapter_choice.hpp>
#include <mistral/nn/hooks.hpp>

/// \file
/// Logits that are no numbers. A weight that is NaN, or numbers that grow past what a float holds, make every logit
/// NaN, from which figures can be computed that look like figures.

namespace mistral { inline namespace MISTRAL_ABI {
namespace detail {

/// A tape that notes where the residual stream first holds what is no finite number.
class FiniteWatch {
 public:
  void residual(const Residual& x) {
    for (std::size_t r = 0; r < x.x.rows() && place_.empty(); ++r) {
      if (all_finite(x.x.row(r))) continue;
      place_ = x.layer == 0 ? "the token's embedding" : "layers." + std::to_string(x.layer - 1);
      place_ += ", at position " + std::to_string(x.position + static_cast<std::int64_t>(r));
    }
  }

  /// `layers.2, at position 7`; empty where there is none.
  const std::string& place() const noexcept { return place_; }

 private:
  std::string place_;
};

/// Returns the error that check_finite throws. `place`: where it began, empty where that isn't known.
inline Error not_finite(std::size_t position, float found, std::string_view place) {
  const std::string_view kind = found != found ? "NaN" : "an infinity";
  std::string text(kind);
  if (!place.empty()) text.append(" that began in ").append(place);
  return Error("logits", "position " + std::to_string(position), "finite numbers", text);
}

}  // namespace detail

/// Where the first number began that isn't finite, when a session over the same model, and through the same adapter,
/// takes `tokens` from position 0 on: `layers.2, at position 7`, by the names of weights. Empty where there is none, or
/// no memory for such a session.
template <class Model, KvElement KV, std::size_t Chunk>
std::string find_not_finite(const Session<Model, KV, Chunk>& session, std::span<const TokenId> tokens) {
  try {
    Session<Model, KV, Chunk> again(session.model());
    if constexpr (HoldsAdapters<typename Model::Format>) again.use_adapter(session.adapter());
    detail::FiniteWatch watch;
    while (!tokens.empty() && watch.place().empty()) {
      const std::size_t count = (std::min)(Chunk, tokens.size());
      const std::span<const float> logits = again.prefill(tokens.first(count), watch);
      if (watch.place().empty() && !all_finite(logits)) return "the norm before the head, or the head";
      tokens = tokens.subspan(count);
    }
    return watch.place();
  } catch (const std::bad_alloc&) {
    return {};
  }
}

/// Throws Error `[logits] position 9: expected finite numbers, got NaN that began in layers.2, at position 7` for the
/// first row that holds what is no finite number. To find the place, the tokens go through the model once more.
///   session  whose logits they are: a Session, or what there is a find_not_finite for
///   logits   (rows, vocab_size), of the last tokens of `taken`
///   taken    what the session has taken since it was cleared
template <class AnySession>
void check_finite(const AnySession& session, Rows<const float> logits, std::span<const TokenId> taken) {
  for (std::size_t r = 0; r < logits.rows(); ++r) {
    const std::span<const float> row = logits.row(r);
    if (all_finite(row)) continue;
    const std::size_t position = taken.size() - logits.rows() + r;
    throw detail::not_finite(position, largest_magnitude(row), find_not_finite(session, taken.first(position + 1)));
  }
}

/// Throws as above for the logits (vocab_size) after the last token of `taken`.
template <class AnySession>
void check_finite(const AnySession& session, std::span<const float> logits, std::span<const TokenId> taken) {
  check_finite(session, Rows<const float>(logits.data(), 1, logits.size()), taken);
}

}}  // namespace mistral
