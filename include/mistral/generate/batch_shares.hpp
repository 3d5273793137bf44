// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>

#include <mistral/core/abi.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// A prompt's share of a step's rows: how many it could take, and how many it gets.
struct PromptShare {
  std::size_t slot;
  std::size_t wants;
  std::size_t gets = 0;
};

/// Shares a step's rows, at least as many as there are prompts, among prompts that stand by their age, the oldest
/// first. A half is shared evenly, where what one doesn't want goes to the others; the other half goes to the oldest
/// that want it. So each gets a row at least, and at least half of an even share, whatever others there are, and a
/// stream of new ones takes no more than half of what the oldest would get alone.
inline void share_rows(std::span<PromptShare> prompts, std::size_t rows) noexcept {
  std::size_t even = (std::min)(rows, (std::max)(rows - rows / 2, prompts.size()));
  std::size_t rest = rows - even;
  const auto give = [](PromptShare& prompt, std::size_t most, std::size_t& from) {
    const std::size_t more = (std::min)({most, prompt.wants - prompt.gets, from});
    prompt.gets += more;
    from -= more;
  };
  while (even > 0) {
    const auto hungry = static_cast<std::size_t>(
        std::count_if(prompts.begin(), prompts.end(), [](const PromptShare& p) { return p.gets < p.wants; }));
    if (hungry == 0) break;
    const std::size_t each = (std::max<std::size_t>)(1, even / hungry);
    for (PromptShare& prompt : prompts) give(prompt, each, even);
  }
  rest += even;
  for (PromptShare& prompt : prompts) give(prompt, rest, rest);
}

/// How much longer than others a prompt must be to leave them a slot.
inline constexpr std::size_t longer_class = 8;

/// The class of a prompt by its length: 0 where a step's rows are enough for it, and one more for each time that it is
/// longer_class times as long.
inline std::size_t prompt_class(std::size_t tokens, std::size_t rows) noexcept {
  std::size_t number = 0;
  for (std::size_t most = rows; tokens > most; most *= longer_class) {
    ++number;
    if (most > (std::numeric_limits<std::size_t>::max)() / longer_class) break;
  }
  return number;
}

}}}  // namespace mistral::detail
