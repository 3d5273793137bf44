// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <mistral/core/token.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/generate/continuation.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// A sequence that has a slot.
struct BatchRunning {
  SequenceId id;
  BatchRequest request;
  BatchStart start;
  Continuation text;
  std::size_t length_class = 0;  // of its prompt (prompt_class), less what it needn't compute
  TokenId next = 0;              // what goes through the model next, once the prompt has
  bool fresh = true;             // not begun: it may still take over a prefix
  bool waits = false;            // for an older sequence to compute one
  std::size_t awaited = 0;       // tokens that it wants an older sequence to stop at...
  std::size_t awaited_slot = 0;  // ...in this slot; while it is fresh

  std::size_t prompt_end() const noexcept { return start.tokens + request.prompt.size(); }
};

/// A cache of a batch: what is known of it, and who runs in it.
struct BatchSlot {
  std::int64_t position = 0;     // tokens in its cache
  std::vector<TokenId> history;  // these tokens, if they are known
  bool known = true;             // not where they are too many to keep, or where a hook may have changed the cache
  std::size_t adapter = 0;       // what they went through
  std::uint64_t used = 0;        // when it was last used or copied from
  std::unique_ptr<BatchRunning> running;  // null: idle

  std::size_t tokens() const noexcept { return static_cast<std::size_t>(position); }
  bool prefilling() const noexcept { return running && tokens() < running->prompt_end(); }

  /// The cache has taken more tokens; they are remembered up to `most`.
  void push(std::span<const TokenId> more, std::size_t most) noexcept {
    position += static_cast<std::int64_t>(more.size());
    if (!known) return;
    if (tokens() > most) return forget();
    remember([&] { history.insert(history.end(), more.begin(), more.end()); });
  }

  /// The cache holds these tokens; `remembers`: others may begin with them.
  void hold(std::span<const TokenId> tokens_held, bool remembers) noexcept {
    position = static_cast<std::int64_t>(tokens_held.size());
    known = remembers;
    if (!known) return forget();
    remember([&] { history.assign(tokens_held.begin(), tokens_held.end()); });
  }

  void forget() noexcept {
    known = false;
    std::vector<TokenId>().swap(history);
  }

 private:
  // What a cache holds is known for the sake of others. A sequence needn't end where there is no memory for that.
  template <class Action>
  void remember(const Action& action) noexcept {
    try {
      action();
    } catch (...) {
      forget();
    }
  }
};

}}}  // namespace mistral::detail
