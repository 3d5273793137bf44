// SPDX-License-Identifier: Apache-2.0
// A context of 200,000 tokens through a window of 64: what a token costs doesn't depend on what went before.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <utility>

#include <doctest/doctest.h>

#include <mistral/format/f32.hpp>
#include <mistral/generate/session.hpp>

#include "../support/allocations.hpp"
#include "../support/models.hpp"
#include "../support/resident.hpp"

using namespace mistral;

namespace {

constexpr ModelConfig narrow{.dim = 32,
                             .n_layers = 2,
                             .head_dim = 8,
                             .hidden_dim = 64,
                             .n_heads = 4,
                             .n_kv_heads = 2,
                             .window_size = 64,
                             .context_len = 128,
                             .vocab_size = 50};
using Model = Transformer<narrow, F32>;

using test::resident_bytes;

/// Decodes `count` tokens after `token`, each the most probable one moved on by its number: what that costs.
double processor_seconds(Session<Model, bf16>& session, TokenId& token, std::size_t count) {
  const std::clock_t begin = std::clock();
  for (std::size_t i = 0; i < count; ++i) {
    const auto logits = session.decode(token);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    token = static_cast<TokenId>((static_cast<std::size_t>(best) + i) % narrow.vocab_size);
  }
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

}  // namespace

TEST_CASE("200,000 tokens through a window of 64 take constant memory, and constant time for each token") {
  if (!test::counts_allocations) {
    std::fprintf(stderr, "SKIPPED: memory and time aren't measured: sanitizers take some of their own\n");
    return;
  }
  constexpr std::size_t tokens = 200'000, rounds = 25, block = 400;
  const auto model = test::random_model<Model>(1);
  Session<Model, bf16> far{model}, near{model};
  TokenId far_token = 1, near_token = 1;
  for (auto [session, token] : {std::pair{&far, &far_token}, std::pair{&near, &near_token}}) {
    processor_seconds(*session, *token, block);  // fills the window, and meets the memory for the first time
  }
  const std::size_t resident = resident_bytes(), allocations = test::allocations;
  processor_seconds(far, far_token, tokens - (rounds + 1) * block);
  // The last 10,000 tokens in turns with those of a session that has just filled its window: others may use the
  // machine, and its speed changes within a second, but hardly between two neighbours, and not always to the same side.
  std::array<double, rounds> ratios{};
  for (double& ratio : ratios) {
    const double early = processor_seconds(near, near_token, block);
    ratio = processor_seconds(far, far_token, block) / early;
  }
  const std::size_t allocations_after = test::allocations;
  CHECK(far.position() == static_cast<std::int64_t>(tokens));
  CHECK(far.cache().wraps() == static_cast<std::int64_t>(tokens / 64));
  CHECK(std::isfinite(far.decode(far_token)[0]));

  CHECK(allocations_after == allocations);
  CHECK(resident_bytes() <= resident + (std::size_t{256} << 10));  // not 2 bytes a token
  // With all keys in sight the far ones would take some forty times as long as the near ones, at 200,000 against 5,000.
  std::sort(ratios.begin(), ratios.end());
  const double median = ratios[rounds / 2];
  CAPTURE(median);
  CHECK(median <= 2.0);
}
