// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/batch_queue.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/generate/batch_shares.hpp>
#include <mistral/generate/batch_slot.hpp>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The slots of a batch: who runs in them, what a sequence can take over from another's, and who may take one.
class BatchSlots {
 public:
  using Slot = BatchSlot;

  BatchSlots(const ModelConfig& config, const BatchOptions& options)
      : cache_len_(config.cache_len()),
        rows_(options.token_budget),
        share_prefixes_(options.share_prefixes),
        slots_(options.max_sequences) {
    order_.reserve(slots_.size());
  }

  std::size_t size() const noexcept { return slots_.size(); }
  Slot& operator[](std::size_t i) noexcept { return slots_[i]; }
  const Slot& operator[](std::size_t i) const noexcept { return slots_[i]; }

  /// Slots in which a sequence runs.
  std::size_t running() const noexcept {
    return static_cast<std::size_t>(
        std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.running != nullptr; }));
  }

  /// These slots, the oldest sequence first; until the next call.
  std::span<const std::size_t> by_age() noexcept {
    order_.clear();
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].running) order_.push_back(i);
    }
    std::sort(order_.begin(), order_.end(),
              [&](std::size_t a, std::size_t b) { return slots_[a].running->id < slots_[b].running->id; });
    return order_;
  }

  /// Whether a sequence's prefix may be taken from another's cache, and its own cache be taken from.
  bool shares(const BatchRequest& request) const noexcept { return share_prefixes_ && !request.on_residual; }

  /// The class of a prompt of which so many tokens are to be computed; see prompt_class.
  std::size_t class_of(std::size_t tokens) const noexcept { return prompt_class(tokens, rows_); }

  /// Whether a prompt may take a slot of which so many tokens are to be computed: long ones leave slots to shorter
  /// ones, until they have gone through.
  bool may_begin(std::size_t tokens) const noexcept {
    const std::size_t length_class = class_of(tokens);
    const auto as_long = static_cast<std::size_t>(std::count_if(slots_.begin(), slots_.end(), [&](const Slot& slot) {
      return slot.running && (length_class == 0 || slot.prefilling()) && slot.running->length_class >= length_class;
    }));
    return as_long + (std::min)(length_class, slots_.size() - 1) < slots_.size();
  }

  /// Tokens that a sequence needn't compute, since a slot holds them or an older sequence is about to.
  std::size_t shared(const BatchQueue::Waiting& waiting) const noexcept {
    std::size_t most = 0;
    if (waiting.start.cache != nullptr) return most;
    for (const Slot& slot : slots_) {
      most = (std::max)({most, usable(slot, waiting.request), expected(slot, waiting.id, waiting.request)});
    }
    return most;
  }

  /// The idle slot for a sequence: the one whose whole content it goes on from, or the one that was last used longest
  /// ago. There must be one.
  std::size_t idle_for(const BatchRequest& request, const BatchStart& start) const noexcept {
    std::size_t best = slots_.size(), continued = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].running) continue;
      const std::size_t held = start.cache == nullptr ? usable(slots_[i], request) : 0;
      if (held > continued && held == slots_[i].tokens()) {
        best = i;
        continued = held;
      } else if (continued == 0 && (best == slots_.size() || slots_[i].used < slots_[best].used)) {
        best = i;
      }
    }
    return best;
  }

  /// Tokens of a request's prompt that a slot's cache could begin it with. The last one isn't: its logits are needed.
  std::size_t usable(const Slot& slot, const BatchRequest& request) const noexcept {
    if (!slot.known || !shares(request) || slot.adapter != request.adapter) return 0;
    const std::size_t same = common(slot.history, request.prompt);
    return slot.tokens() <= cache_len_ || same == slot.tokens() ? same : 0;
  }

  /// Tokens that an older sequence's slot will hold for a younger one, if it stops there.
  std::size_t expected(const Slot& slot, SequenceId id, const BatchRequest& request) const noexcept {
    if (!slot.prefilling() || slot.running->id >= id || !slot.known || !shares(request) ||
        slot.adapter != request.adapter) {
      return 0;
    }
    const std::size_t same = common(slot.running->request.prompt, request.prompt);
    return same > slot.tokens() ? same : 0;
  }

  /// The next tokens of a prompt: of at most `most` rows, and no longer than a ring.
  std::span<const TokenId> chunk(std::size_t i, std::size_t most) const noexcept {
    const std::size_t before = slots_[i].running->start.tokens;
    const std::span<const TokenId> prompt = slots_[i].running->request.prompt;
    const std::size_t begin = slots_[i].tokens() - before;
    std::size_t end = begin + (std::min)({most, prompt.size() - begin, cache_len_});
    // Once the ring has gone round, what others wait for is there at that position only.
    for (const Slot& other : slots_) {
      if (!other.running || !other.running->fresh || other.running->awaited_slot != i) continue;
      const std::size_t stop = other.running->awaited;
      if (end > cache_len_ && stop > begin) end = (std::min)(end, stop);
    }
    return prompt.subspan(begin, end - begin);
  }

  /// A slot's cache takes more tokens of a sequence. They are remembered further than a window, so that a long
  /// conversation can go on in its cache, but not for ever.
  void push(std::size_t i, std::span<const TokenId> tokens) noexcept {
    constexpr std::size_t enough = 32768;
    slots_[i].push(tokens, (std::max)({cache_len_, enough, slots_[i].running->request.prompt.size()}));
  }

 private:
  static std::size_t common(std::span<const TokenId> held, std::span<const TokenId> prompt) noexcept {
    const std::size_t most = (std::min)(held.size(), prompt.size() - 1);
    const auto end = held.begin() + static_cast<std::ptrdiff_t>(most);
    return static_cast<std::size_t>(std::mismatch(held.begin(), end, prompt.begin()).first - held.begin());
  }

  std::size_t cache_len_;
  std::size_t rows_;  // of a step
  bool share_prefixes_;
  std::vector<Slot> slots_;
  std::vector<std::size_t> order_;  // kept for its memory
};

}}}  // namespace mistral::detail
