#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/generate/batch_queue.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/generate/batch_slot.hpp>
#include <mistral/generate/continuation.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Who goes through the model when: what a SessionBatch knows of its sequences, but for the caches and the model. A
/// sequence runs in a slot, which stands for a cache. plan() says what the next forward is, done() takes its logits.
///
/// Sequences that decode come first, with a row each: none waits for another's prompt. What is left of the budget goes
/// to prompts, the oldest first. Since a budget is no smaller than the number of slots, a prompt always gets on.
///
/// A sequence whose first tokens another slot holds copies that cache instead of computing them; an idle slot keeps its
/// content for that until it is needed. A ring that has gone round holds the content of its own position only, so it is
/// copied whole or not at all. Where an older sequence is about to compute what a new one needs, the new one waits.
class BatchScheduler {
 public:
  /// Slot `to` takes over the first `tokens` tokens of `from`, or of a cache outside of the batch where that isn't
  /// null; the same slot: it forgets what comes after them.
  struct Copy {
    std::size_t from, to;
    std::int64_t tokens;
    const void* outside = nullptr;
  };

  /// The rows of one sequence in a forward.
  struct Part {
    std::size_t slot;
    std::span<const TokenId> tokens;
    bool logits;  ///< whether done() needs those after the last of them
    const BatchRequest* request;
    std::exception_ptr error{};       ///< what its residual hook threw, for done(), which adds what others throw
    std::span<float> row{};           ///< of done(): its logits...
    std::optional<TokenId> chosen{};  ///< ...and what was chosen from them
  };

  /// What comes next: first the copies in their order, then a forward of the parts, where there are any.
  struct Plan {
    std::vector<Copy> copies;
    std::vector<Part> parts;
  };

  BatchScheduler(const ModelConfig& config, const Tokenizer* tokenizer, const BatchOptions& options)
      : config_(config), tokenizer_(tokenizer), options_(options), queue_(options) {
    options.validate();
    slots_.resize(options.max_sequences);
  }

  /// See SessionBatch.
  SequenceId add(BatchRequest request, const BatchStart& start = {}) {
    check(request, start.tokens);
    return queue_.push(std::move(request), start);
  }

  bool cancel(SequenceId id) { return queue_.cancel(id); }
  bool empty() const { return queue_.empty(); }
  std::size_t waiting() const { return queue_.waiting(); }
  std::size_t running() const noexcept {
    return static_cast<std::size_t>(
        std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.running != nullptr; }));
  }

  const BatchCounters& counters() const noexcept { return counters_; }

  /// Forgets what idle slots hold.
  void forget() noexcept {
    for (Slot& slot : slots_) {
      if (!slot.running) slot.known = false;
    }
  }

  /// What is to be done next. The plan is valid until the next call; done() or failed() must follow where it has parts.
  Plan& plan() {
    plan_.copies.clear();
    plan_.parts.clear();
    drop_cancelled();
    for (const std::size_t slot : by_age()) {
      if (slots_[slot].running->fresh) start(slot);
    }
    admit();
    const std::vector<std::size_t> order = by_age();
    std::size_t left = options_.token_budget;
    for (const std::size_t i : order) {
      Running& running = *slots_[i].running;
      if (slots_[i].prefilling()) continue;
      plan_.parts.push_back({i, std::span<const TokenId>(&running.next, 1), true, &running.request});
      --left;
    }
    for (const std::size_t i : order) {
      if (left == 0) break;
      if (!slots_[i].prefilling() || slots_[i].running->fresh) continue;
      const std::span<const TokenId> tokens = chunk(i, left);
      const bool last = slots_[i].tokens() + tokens.size() == slots_[i].running->prompt_end();
      plan_.parts.push_back({i, tokens, last, &slots_[i].running->request});
      left -= tokens.size();
    }
    return plan_;
  }

  /// Takes the logits (parts that want them, vocab_size) of the plan's forward; may overwrite them.
  void done(Rows<float> logits) {
    ++counters_.forwards;
    std::size_t row = 0;
    for (Part& part : plan_.parts) {
      slots_[part.slot].push(part.tokens, std::max(max_history(), part.request->prompt.size()));
      counters_.rows += part.tokens.size();
      if (part.logits) part.row = logits.row(row++);
    }
    choose();
    for (const Part& part : plan_.parts) {
      if (part.error) {
        end(part.slot, part.error);
      } else if (queue_.cancelled(slots_[part.slot].running->id)) {
        slots_[part.slot].running->text.cancel();
        end(part.slot);
      } else if (part.logits) {
        advance(part);
      }
    }
  }

  /// The forward itself failed: its sequences end, and their caches are worth nothing.
  void failed(const std::exception_ptr& error) {
    for (const Part& part : plan_.parts) {
      end(part.slot, error);
      slots_[part.slot].known = false;
    }
  }

  /// The sequences that have ended since it was last called.
  std::vector<BatchResult> take_results() {
    queue_.ended(results_);
    return std::exchange(results_, {});
  }

 private:
  using Running = detail::BatchRunning;
  using Slot = detail::BatchSlot;

  void check(const BatchRequest& request, std::size_t before) const {
    if (request.prompt.empty()) throw Error("batch", "prompt", "at least one token", "none");
    for (std::size_t i = 0; i < request.prompt.size(); ++i) {
      const TokenId token = request.prompt[i];
      if (token < 0 || static_cast<std::size_t>(token) >= config_.vocab_size) {
        throw Error("batch", "token " + std::to_string(i), "an id of 0 ... " + std::to_string(config_.vocab_size - 1),
                    std::to_string(token));
      }
    }
    if (config_.window_size == 0 && before + request.prompt.size() > config_.context_len) {
      throw Error("batch", "prompt", "at most " + std::to_string(config_.context_len) + " tokens (context_len)",
                  std::to_string(before + request.prompt.size()));
    }
    Continuation(tokenizer_, request.options, config_.vocab_size);  // throws for wrong options
  }

  // Histories are kept further than a window, so that a long conversation can go on in its cache, but not for ever.
  std::size_t max_history() const noexcept { return std::max<std::size_t>(config_.cache_len(), 32768); }

  bool shares(const BatchRequest& request) const noexcept { return options_.share_prefixes && !request.on_residual; }

  void drop_cancelled() {
    for (Slot& slot : slots_) {
      if (!slot.running || !queue_.cancelled(slot.running->id)) continue;
      slot.running->text.cancel();
      end(static_cast<std::size_t>(&slot - slots_.data()));
    }
    for (const SequenceId id : queue_.drop_cancelled()) {
      results_.push_back({id, {{}, {}, StopReason::cancelled}, {}, {}});
    }
  }

  std::vector<std::size_t> by_age() const {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].running) order.push_back(i);
    }
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return slots_[a].running->id < slots_[b].running->id; });
    return order;
  }

  // Those that wait take the idle slots, in their order.
  void admit() {
    while (running() < slots_.size()) {
      std::optional<BatchQueue::Waiting> next = queue_.pop();
      if (!next) return;
      const SequenceId id = next->id;
      try {
        Continuation text(tokenizer_, next->request.options, config_.vocab_size);
        text.begin(next->request.options.seen, next->request.prompt);
        place(std::make_unique<Running>(Running{id, std::move(next->request), next->start, std::move(text)}));
      } catch (...) {  // memory
        results_.push_back({id, {}, std::current_exception(), {}});
      }
    }
  }

  // Puts a sequence into an idle slot: the one whose whole content it goes on from, or the one that was last used
  // longest ago.
  void place(std::unique_ptr<Running> running) {
    const BatchRequest& request = running->request;
    std::size_t best = slots_.size(), continued = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].running) continue;
      const std::size_t held = running->start.cache == nullptr ? usable(slots_[i], request) : 0;
      if (held > continued && held == slots_[i].tokens()) {
        best = i;
        continued = held;
      } else if (continued == 0 && (best == slots_.size() || slots_[i].used < slots_[best].used)) {
        best = i;
      }
    }
    Slot& slot = slots_[best];
    const std::size_t kept = running->start.cache == nullptr ? usable(slot, request) : 0;
    slot.adapter = request.adapter;
    slot.used = ++clock_;
    if (running->start.cache != nullptr) {
      slot.position = static_cast<std::int64_t>(running->start.tokens);
      slot.known = running->fresh = false;
      plan_.copies.push_back({best, best, slot.position, running->start.cache});
      slot.running = std::move(running);
      return;
    }
    plan_.copies.push_back({best, best, static_cast<std::int64_t>(kept)});
    slot.hold(std::span(request.prompt).first(kept));
    slot.known = shares(request);
    slot.running = std::move(running);
    start(best);
  }

  // Tokens of a request's prompt that a slot's cache could begin it with. The last one isn't: its logits are needed.
  std::size_t usable(const Slot& slot, const BatchRequest& request) const noexcept {
    if (!slot.known || !shares(request) || slot.adapter != request.adapter) return 0;
    const std::size_t same = common(slot.history, request.prompt);
    return slot.tokens() <= config_.cache_len() || same == slot.tokens() ? same : 0;
  }

  static std::size_t common(std::span<const TokenId> held, std::span<const TokenId> prompt) noexcept {
    const std::size_t most = std::min(held.size(), prompt.size() - 1);
    const auto end = held.begin() + static_cast<std::ptrdiff_t>(most);
    return static_cast<std::size_t>(std::mismatch(held.begin(), end, prompt.begin()).first - held.begin());
  }

  // Lets a sequence begin with the longest prefix that a slot holds, or wait where an older one is about to hold more.
  void start(std::size_t i) {
    Slot& slot = slots_[i];
    Running& running = *slot.running;
    std::size_t now = slot.tokens(), donor = i, later = 0;
    for (std::size_t j = 0; j < slots_.size(); ++j) {
      const std::size_t held = j == i ? 0 : usable(slots_[j], running.request);
      if (held > now) {
        now = held;
        donor = j;
      }
      const std::size_t coming = j == i ? 0 : expected(slots_[j], running);
      if (coming > later) {
        later = coming;
        running.awaited = coming;
        running.awaited_slot = j;
      }
    }
    if (later > now && (running.waits || later >= now + options_.worth_waiting)) {
      running.waits = true;
      return;
    }
    running.fresh = false;
    counters_.shared_tokens += now;
    if (donor == i) return;
    plan_.copies.push_back({donor, i, static_cast<std::int64_t>(now)});
    slot.hold(std::span(running.request.prompt).first(now));
    slots_[donor].used = ++clock_;
  }

  // Tokens that an older sequence's slot will hold for `running`, if it stops there.
  std::size_t expected(const Slot& slot, const Running& running) const noexcept {
    if (!slot.prefilling() || slot.running->id > running.id || !slot.known || !shares(running.request) ||
        slot.adapter != running.request.adapter) {
      return 0;
    }
    const std::size_t same = common(slot.running->request.prompt, running.request.prompt);
    return same > slot.tokens() ? same : 0;
  }

  // The next tokens of a prompt: of at most `most` rows, and no longer than a ring.
  std::span<const TokenId> chunk(std::size_t i, std::size_t most) const noexcept {
    const std::size_t before = slots_[i].running->start.tokens;
    const std::span<const TokenId> prompt = slots_[i].running->request.prompt;
    const std::size_t begin = slots_[i].tokens() - before;
    std::size_t end = begin + std::min({most, prompt.size() - begin, config_.cache_len()});
    // Once the ring has gone round, what others wait for is there at that position only.
    for (const Slot& other : slots_) {
      if (!other.running || !other.running->fresh || other.running->awaited_slot != i) continue;
      const std::size_t stop = other.running->awaited;
      if (end > config_.cache_len() && stop > begin) end = std::min(end, stop);
    }
    return prompt.subspan(begin, end - begin);
  }

  // The sequences whose tokens have all gone through the model choose their next ones. A choice looks at a whole
  // vocabulary: they are shared among threads, and the requests' own functions are not.
  void choose() {
    choosing_.clear();
    for (Part& part : plan_.parts) {
      const Running& running = *slots_[part.slot].running;
      if (!part.logits || part.error || queue_.cancelled(running.id)) continue;
      try {
        if (part.request->on_logits && running.text.choosing()) part.request->on_logits(part.row);
        choosing_.push_back(&part);
      } catch (...) {
        part.error = std::current_exception();
      }
    }
    const std::size_t grain = kernels::rows_per_task(config_.vocab_size);
    parallel::for_ranges(choosing_.size(), grain, [&](std::size_t begin, std::size_t end) {
      for (Part* part : std::span(choosing_).subspan(begin, end - begin)) {
        try {
          part->chosen = slots_[part->slot].running->text.choose(part->row);
        } catch (...) {
          part->error = std::current_exception();
        }
      }
    });
  }

  // A sequence goes on with what it has chosen.
  void advance(const Part& part) {
    Slot& slot = slots_[part.slot];
    const BatchRequest& request = *part.request;
    const bool room = config_.window_size != 0 || slot.tokens() < config_.context_len;
    try {
      const auto token = slot.running->text.go_on(
          part.chosen, room, [&](std::string_view text) { return !request.on_text || request.on_text(text); });
      if (token) {
        slot.running->next = *token;
      } else {
        end(part.slot);
        results_.back().slot = part.slot;
      }
    } catch (...) {
      end(part.slot, std::current_exception());
    }
  }

  // The slot keeps what it holds, for others to begin with.
  void end(std::size_t i, std::exception_ptr error = {}) {
    Slot& slot = slots_[i];
    results_.push_back({slot.running->id, slot.running->text.take(), std::move(error), {}});
    slot.used = ++clock_;
    slot.running.reset();
  }

  ModelConfig config_;
  const Tokenizer* tokenizer_;
  BatchOptions options_;
  BatchQueue queue_;
  std::vector<Slot> slots_;
  std::vector<BatchResult> results_;
  Plan plan_;
  std::vector<Part*> choosing_;  // of one done(): kept for its memory
  BatchCounters counters_;
  std::uint64_t clock_ = 0;
};

}  // namespace mistral::inline MISTRAL_ABI
