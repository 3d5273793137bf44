// SPDX-License-Identifier: Apache-2.0
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
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/generate/batch_queue.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/generate/batch_shares.hpp>
#include <mistral/generate/batch_slot.hpp>
#include <mistral/generate/batch_slots.hpp>
#include <mistral/generate/continuation.hpp>
#include <mistral/kernels/rms_norm.hpp>
#include <mistral/parallel/parallel.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Who goes through the model when: what a SessionBatch knows of its sequences, but for the caches and the model. A
/// sequence runs in a slot, which stands for a cache. plan() says what the next forward is, done() takes its logits.
///
/// Sequences that decode come first, with a row each: none waits for another's prompt. What is left of the budget is
/// shared by the prompts (detail::share_rows): a half evenly, and a half by their age. Since a budget is no smaller
/// than the number of slots, each prompt gets on with every step, however many there are and however long they are.
///
/// Nor do long prompts keep all slots from short ones that wait: a prompt of which more is yet to be computed than a
/// step has rows leaves a slot to shorter ones, and one more for each time that it is eight times as long again. Of
/// those that may begin the oldest does.
///
/// Memory is needed to begin a sequence, and for what it says; where there is none, that sequence ends with the error.
/// All else that plan() and done() need is reserved before anything changes.
///
/// A sequence whose first tokens another slot holds copies that cache instead of computing them; an idle slot keeps its
/// content for that until it is needed. A ring that has gone round holds the content of its own position only, so it is
/// copied whole or not at all. Where an older sequence is about to compute what a new one needs, the new one waits: in
/// a slot, so that the older one knows where to stop.
class BatchScheduler {
 public:
  /// Slot `to` takes over the first `tokens` tokens of `from`, or of a cache outside of the batch where that isn't
  /// null; the same slot: it forgets what comes after them.
  struct Copy {
    std::size_t from, to;
    std::int64_t tokens;
    const AnyKvCache* outside = nullptr;
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

  /// The work of a step: first the copies in their order, then a forward of the parts, where there are any.
  struct Plan {
    std::vector<Copy> copies;
    std::vector<Part> parts;
  };

  BatchScheduler(const ModelConfig& config, const Tokenizer* tokenizer, const BatchOptions& options)
      : config_(config),
        tokenizer_(tokenizer != nullptr ? std::optional(*tokenizer) : std::nullopt),
        options_(validated(options)),
        queue_(options),
        slots_(config, options) {
    const std::size_t most = options.max_sequences;
    shares_.reserve(most);
    choosing_.reserve(most);
    plan_.copies.reserve(2 * most);  // for each the rest of what it held, and what it takes over from another
    plan_.parts.reserve(most);
  }

  /// See SessionBatch.
  SequenceId add(BatchRequest request, const BatchStart& start = {}) {
    check(request, start.tokens);
    return queue_.push(std::move(request), start);
  }

  /// The sequences that wait, and all that any thread may ask at any time.
  ///@{
  BatchQueue& queue() noexcept { return queue_; }
  const BatchQueue& queue() const noexcept { return queue_; }
  ///@}

  bool cancel(SequenceId id) { return queue_.cancel(id); }
  bool empty() const { return queue_.empty(); }
  std::size_t waiting() const { return queue_.waiting(); }
  std::size_t running() const noexcept { return slots_.running(); }

  const BatchCounters& counters() const noexcept { return counters_; }

  /// Forgets what idle slots hold.
  void forget() noexcept {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (!slots_[i].running) slots_[i].forget();
    }
  }

  /// Returns what is to be done next. The plan is valid until the next call; done() or failed() must follow where it
  /// has parts. Throws std::bad_alloc, with all as it was, where there is no memory for what may end until then.
  Plan& plan() {
    // Room for all that may end before the next plan: those that run, that can't begin, and that begin now.
    queue_.drop_cancelled(results_, 3 * slots_.size());
    plan_.copies.clear();
    plan_.parts.clear();
    drop_cancelled();
    for (const std::size_t slot : slots_.by_age()) {
      if (slots_[slot].running->fresh) start(slot);
    }
    admit();
    std::size_t left = options_.token_budget;
    shares_.clear();
    for (const std::size_t i : slots_.by_age()) {
      Running& running = *slots_[i].running;
      if (slots_[i].prefilling()) {
        if (!running.fresh) shares_.push_back({i, slots_.chunk(i, options_.token_budget).size()});
      } else {
        plan_.parts.push_back({i, std::span<const TokenId>(&running.next, 1), true, &running.request});
        --left;
      }
    }
    detail::share_rows(shares_, left);
    for (const detail::PromptShare& share : shares_) {
      const std::size_t i = share.slot;
      const std::span<const TokenId> tokens = slots_.chunk(i, share.gets);
      const bool last = slots_[i].tokens() + tokens.size() == slots_[i].running->prompt_end();
      plan_.parts.push_back({i, tokens, last, &slots_[i].running->request});
    }
    return plan_;
  }

  /// Takes the logits (parts that want them, vocab_size) of the plan's forward; may overwrite them.
  void done(Rows<float> logits) {
    ++counters_.forwards;
    std::size_t row = 0;
    for (Part& part : plan_.parts) {
      slots_.push(part.slot, part.tokens);
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
  void failed(const std::exception_ptr& error) noexcept {
    for (const Part& part : plan_.parts) {
      end(part.slot, error);
      slots_[part.slot].forget();
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

  static const BatchOptions& validated(const BatchOptions& options) {
    options.validate();
    return options;
  }

  const Tokenizer* tokenizer() const noexcept { return tokenizer_ ? &*tokenizer_ : nullptr; }

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
    detail::check_prompt("batch", request.prompt.size(), options_.max_prompt_tokens);
    detail::check_prompt("batch", request.prompt.size(), request.options.max_prompt_tokens);
    Continuation(tokenizer(), request.options, config_.vocab_size);  // throws for wrong options
  }

  void drop_cancelled() {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (!slots_[i].running || !queue_.cancelled(slots_[i].running->id)) continue;
      slots_[i].running->text.cancel();
      end(i);
    }
  }

  // Those that wait take the idle slots, the oldest that may first.
  void admit() {
    // Of a queue of long prompts that begin alike it would take long to look for what each can take over.
    std::size_t looks = slots_.size();
    const auto may = [&](const BatchQueue::Waiting& waiting) {
      const std::size_t tokens = waiting.request.prompt.size();
      if (slots_.may_begin(tokens)) return true;
      return looks > 0 && looks-- > 0 && slots_.may_begin(tokens - slots_.shared(waiting));
    };
    for (std::size_t tries = 0; tries < slots_.size() && running() < slots_.size(); ++tries) {
      std::optional<BatchQueue::Waiting> next = queue_.pop(may);
      if (!next) return;
      const SequenceId id = next->id;
      const std::uint64_t tag = next->request.tag;
      std::unique_ptr<Running> begun;
      try {
        Continuation text(tokenizer(), next->request.options, config_.vocab_size);
        text.begin(next->request.options.seen, next->request.prompt);
        begun = std::make_unique<Running>(Running{id, std::move(next->request), next->start, std::move(text)});
      } catch (...) {  // memory
        results_.push_back({id, {}, std::current_exception(), {}, tag});
        continue;
      }
      place(std::move(begun));
    }
  }

  // Puts a sequence into an idle slot.
  void place(std::unique_ptr<Running> running) noexcept {
    const BatchRequest& request = running->request;
    const std::size_t best = slots_.idle_for(request, running->start);
    Slot& slot = slots_[best];
    const std::size_t kept = running->start.cache == nullptr ? slots_.usable(slot, request) : 0;
    slot.adapter = request.adapter;
    slot.used = ++clock_;
    if (running->start.cache != nullptr) {
      slot.position = static_cast<std::int64_t>(running->start.tokens);
      slot.forget();
      running->fresh = false;
      running->length_class = slots_.class_of(request.prompt.size());
      plan_.copies.push_back({best, best, slot.position, running->start.cache});
      slot.running = std::move(running);
      return;
    }
    plan_.copies.push_back({best, best, static_cast<std::int64_t>(kept)});
    slot.hold(std::span(request.prompt).first(kept), slots_.shares(request));
    slot.running = std::move(running);
    start(best);
  }

  // Lets a sequence begin with the longest prefix that a slot holds, or wait where an older one is about to hold more.
  void start(std::size_t i) noexcept {
    Slot& slot = slots_[i];
    Running& running = *slot.running;
    std::size_t now = slot.tokens(), donor = i, later = 0;
    for (std::size_t j = 0; j < slots_.size(); ++j) {
      const std::size_t held = j == i ? 0 : slots_.usable(slots_[j], running.request);
      if (held > now) {
        now = held;
        donor = j;
      }
      const std::size_t coming = j == i ? 0 : slots_.expected(slots_[j], running.id, running.request);
      if (coming > later) {
        later = coming;
        running.awaited = coming;
        running.awaited_slot = j;
      }
    }
    if (later > now && (running.waits || later >= now + options_.worth_waiting)) {
      running.waits = true;
      running.length_class = slots_.class_of(running.prompt_end() - later);
      return;
    }
    running.fresh = false;
    running.length_class = slots_.class_of(running.prompt_end() - now);
    counters_.shared_tokens += now;
    if (donor == i) return;
    plan_.copies.push_back({donor, i, static_cast<std::int64_t>(now)});
    slot.hold(std::span(running.request.prompt).first(now), slots_.shares(running.request));
    slots_[donor].used = ++clock_;
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
  void advance(const Part& part) noexcept {
    Slot& slot = slots_[part.slot];
    const BatchRequest& request = *part.request;
    const bool room = config_.window_size != 0 || slot.tokens() < config_.context_len;
    std::optional<TokenId> token;
    std::exception_ptr error;
    try {
      token = slot.running->text.go_on(
          part.chosen, room, [&](std::string_view text) { return !request.on_text || request.on_text(text); });
    } catch (...) {
      error = std::current_exception();
    }
    if (!error && token) {  // in this order: gcc lets a call that throws write to what its value is assigned to
      slot.running->next = *token;
      return;
    }
    const bool by_itself = !error;
    end(part.slot, std::move(error));
    if (by_itself) results_.back().slot = part.slot;
  }

  // The slot keeps what it holds, for others to begin with.
  void end(std::size_t i, std::exception_ptr error = {}) noexcept {
    assert(results_.size() < results_.capacity());
    Slot& slot = slots_[i];
    const std::uint64_t tag = slot.running->request.tag;
    results_.push_back({slot.running->id, slot.running->text.take(), std::move(error), {}, tag});
    slot.used = ++clock_;
    slot.running.reset();
  }

  ModelConfig config_;
  std::optional<Tokenizer> tokenizer_;
  BatchOptions options_;
  BatchQueue queue_;
  detail::BatchSlots slots_;
  std::vector<BatchResult> results_;
  Plan plan_;
  // of one plan() and done(): kept for their memory
  std::vector<detail::PromptShare> shares_;
  std::vector<Part*> choosing_;
  BatchCounters counters_;
  std::uint64_t clock_ = 0;
};

}}  // namespace mistral
