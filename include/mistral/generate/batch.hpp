// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <chrono>
#include <cstddef>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/core/lifetime.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/generate/batch_scheduler.hpp>
#include <mistral/io/os/small_pages.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/transformer.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Many sequences over one model: their rows go through it together, so that the weights are read once for all of them.
/// Each has its own prompt, options, adapter and hooks, joins and ends when it likes, and gets the same tokens, bit by
/// bit, as `generate` would make of it alone.
///
///     SessionBatch<Model, float> batch{model, tokenizer, {.max_sequences = 16, .token_budget = 64}};
///     batch.add({.prompt = ids, .options = {.max_tokens = 100}});
///     while (!batch.empty()) {
///       for (const BatchResult& result : batch.step()) ...
///     }
///
/// All caches and activations, in elements KV, are allocated when it is made; memory_bytes() says how much they take at
/// most. The system gives their pages as they are first written, so that caches that no sequence has used, and contexts
/// that none has reached, cost nothing. A ring of a model with a window bounds its sequence for ever. BatchScheduler
/// says in which order sequences go.
///
/// One thread steps. add(), cancel(), cancel_all(), close(), empty() and waiting() may be called from any other at any
/// time, and all from the functions of a request. A thread that steps for others waits in between, which takes no
/// processor time:
///
///     while (batch.wait()) {  // until close(), and all have ended
///       for (BatchResult& result : batch.step()) ...  // result.tag says whose it is
///     }
///
/// The model, and the memory resource, must neither move nor end before the batch, which keeps a copy of the tokenizer.
/// Debug builds assert that, and that no two threads step at once. The batch must not end before other threads' calls
/// of it have returned.
template <class Model, NamedElement KV = float>
class SessionBatch {
  static constexpr ModelConfig C = Model::config;
  static_assert(CheckedConfig<C>::value);

 public:
  /// Throws Error where `options` don't validate. `memory`: where the caches' memory is taken from, as of a Session.
  SessionBatch(const Model& model, const Tokenizer& tokenizer, const BatchOptions& options = {},
               MemoryResource* memory = std::pmr::get_default_resource())
      : SessionBatch(model, &tokenizer, options, memory) {}

  /// Without a tokenizer results hold tokens and no text, and there are no stop strings.
  explicit SessionBatch(const Model& model, const BatchOptions& options = {},
                        MemoryResource* memory = std::pmr::get_default_resource())
      : SessionBatch(model, nullptr, options, memory) {}

  /// A temporary model would end before its batch.
  ///@{
  SessionBatch(const Model&&, const Tokenizer&, const BatchOptions& = {}, MemoryResource* = nullptr) = delete;
  explicit SessionBatch(const Model&&, const BatchOptions& = {}, MemoryResource* = nullptr) = delete;
  ///@}

  /// Bytes of the caches and of the activations.
  static constexpr std::size_t memory_bytes(const BatchOptions& options) noexcept {
    return options.max_sequences * (KvCache<C, KV>::bytes + Batch<C.vocab_size>::bytes(1)) +
           Workspace<C, typename Model::Format, KV>::bytes(options.token_budget);
  }

  /// A sequence joins: it begins with a step as soon as a cache is free. Throws Error, without a change, for a wrong
  /// prompt or options, where as many wait as may, and after close(). From any thread.
  SequenceId add(BatchRequest request) { return scheduler_.add(std::move(request)); }

  /// The same for a sequence that goes on from a session's cache, such as one that was restored from a file: its prompt
  /// is what comes after that. The cache is copied when the sequence begins, and must stay as it is until the sequence
  /// has ended: it must neither move nor end. It shares no prefix.
  SequenceId add(BatchRequest request, const KvCache<C, KV>& start) {
    return scheduler_.add(std::move(request), {&start, static_cast<std::size_t>(start.position())});
  }
  /// A temporary cache would end before it is copied.
  SequenceId add(BatchRequest, const KvCache<C, KV>&&) = delete;

  /// Returns the cache that a sequence left behind, for a session's cache to be assigned: all of its tokens but a last
  /// one that was only chosen. Until the next step; null where it failed or was called off.
  const KvCache<C, KV>* cache(const BatchResult& result) const noexcept {
    return result.slot ? &caches_[*result.slot] : nullptr;
  }

  /// A sequence leaves: at the end of the step that runs now, or before the next. Its result says what it had made.
  /// False where it has ended already, or left before. From any thread.
  bool cancel(SequenceId id) { return scheduler_.cancel(id); }

  /// All sequences leave that have joined so far, as by cancel(). Returns how many that are. From any thread.
  std::size_t cancel_all() { return scheduler_.queue().cancel_all(); }

  /// No more sequences join: add() throws from now on. Those that have joined go on; wait() returns false once they
  /// have ended. To end at once, call cancel_all() after it. From any thread.
  void close() { scheduler_.queue().close(); }

  /// Whether close() was called. From any thread.
  bool closed() const { return scheduler_.queue().closed(); }

  /// Blocks until step() has something to do, and returns true; false where the batch is closed and empty, and step()
  /// will never have. Takes no processor time meanwhile. For the thread that steps, outside of step().
  bool wait() const {
    assert(!stepping_.used() && "batch: a function of a request waits for its own batch");
    return scheduler_.queue().wait();
  }

  /// Waits as wait() does, but no longer than `most`. Returns false, too, where nothing came until then: closed() tells
  /// the two apart. For the thread that steps, outside of step().
  template <class Rep, class Period>
  bool wait_for(const std::chrono::duration<Rep, Period>& most) const {
    assert(!stepping_.used() && "batch: a function of a request waits for its own batch");
    return scheduler_.queue().wait_until(std::chrono::steady_clock::now() + most);
  }

  /// One forward: a token of each sequence that decodes, and as many of prompts as the budget allows. Returns the
  /// sequences that have ended since the last step. Where there is no memory for one of them, it ends with that error
  /// in its result; where there is none for results, step() itself throws std::bad_alloc: all is then as it was, and it
  /// may be called again.
  std::vector<BatchResult> step() {
    const detail::InUse::Scope use(stepping_, detail::asserts);
    assert(use.alone() && "batch: two threads step it at once, or a function of a request steps its own batch");
    assert(!watch_.moved() && "batch: its model was moved: it must neither move nor end before its batches");
    assert(!watch_.ended() && "batch: its model has ended: it must neither move nor end before its batches");
    BatchScheduler::Plan& plan = scheduler_.plan();
    for (const BatchScheduler::Copy& copy : plan.copies) {
      KvCache<C, KV>& cache = caches_[copy.to];
      if (copy.outside != nullptr) {
        cache.assign(*static_cast<const KvCache<C, KV>*>(copy.outside));
      } else if (copy.from != copy.to) {
        cache.assign(caches_[copy.from]);
      }
      copy.tokens == 0 ? cache.clear() : cache.rollback(cache.position() - copy.tokens);
    }
    if (!plan.parts.empty()) {
      try {
        forward(plan.parts);
      } catch (...) {
        scheduler_.failed(std::current_exception());
        return scheduler_.take_results();
      }
      scheduler_.done(logits_.view());
    }
    return scheduler_.take_results();
  }

  /// Whether there is nothing to do: no sequence waits or runs, and no result is left to take. From any thread.
  bool empty() const { return scheduler_.empty(); }

  /// Sequences that wait for a cache. From any thread.
  std::size_t waiting() const { return scheduler_.waiting(); }

  /// Sequences that have a cache. For the thread that steps.
  std::size_t running() const noexcept { return scheduler_.running(); }

  /// Returns counts of the work so far. For the thread that steps.
  const BatchCounters& counters() const noexcept { return scheduler_.counters(); }

  /// Forgets the prefixes that ended sequences have left in their caches, such as after an adapter has changed. For the
  /// thread that steps.
  void forget() noexcept { scheduler_.forget(); }

 private:
  // Each sequence's own hook; one that throws is not called again, and its sequence ends after the forward.
  struct Hooks {
    std::span<BatchScheduler::Part> parts;

    void residual(const Residual& residual) noexcept {
      BatchScheduler::Part& part = parts[residual.sequence];
      if (!part.request->on_residual || part.error) return;
      try {
        part.request->on_residual({residual.layer, 0, residual.position, residual.x});
      } catch (...) {
        part.error = std::current_exception();
      }
    }
  };

  SessionBatch(const Model& model, const Tokenizer* tokenizer, const BatchOptions& options, MemoryResource* memory)
      : model_(&model),
        watch_(model.lifetime(), detail::asserts),
        scheduler_(C, tokenizer, options),
        work_(options.token_budget),
        logits_(options.max_sequences) {
    tokens_.reserve(options.token_budget);
    sequences_.reserve(options.max_sequences);
    rows_.reserve(options.max_sequences);
    caches_.reserve(options.max_sequences);
    const bool small_pages = memory == std::pmr::get_default_resource();
    while (caches_.size() < options.max_sequences) {
      caches_.emplace_back(std::size_t{0}, memory);
      if (small_pages) detail::use_small_pages(caches_.back().block());
    }
  }

  void forward(std::span<BatchScheduler::Part> parts) {
    tokens_.clear();
    sequences_.clear();
    rows_.clear();
    for (const BatchScheduler::Part& part : parts) {
      tokens_.insert(tokens_.end(), part.tokens.begin(), part.tokens.end());
      sequences_.push_back({&caches_[part.slot], part.tokens.size(), part.request->adapter});
      if (part.logits) rows_.push_back(tokens_.size() - 1);
    }
    const ForwardContext<C, KV> context =
        model_->forward(tokens_, std::span<const Sequence<C, KV>>(sequences_), work_, Hooks{parts});
    logits_.resize(rows_.size());
    if (!rows_.empty()) model_->logits(context, work_, std::span<const std::size_t>(rows_), logits_.view());
  }

  const Model* model_;
  detail::LifeWatch watch_;  // of the model
  detail::InUse stepping_;
  BatchScheduler scheduler_;
  std::vector<KvCache<C, KV>> caches_;  // of each slot
  Workspace<C, typename Model::Format, KV> work_;
  Batch<C.vocab_size> logits_;  // (sequences that choose, vocab_size)

  // of the forward: kept for their memory
  std::vector<TokenId> tokens_;
  std::vector<Sequence<C, KV>> sequences_;
  std::vector<std::size_t> rows_;  // that choose
};

/// A batch over a model: `SessionBatch batch{model, tokenizer}`, or without a tokenizer.
///@{
template <class Model>
SessionBatch(const Model&, const Tokenizer&, const BatchOptions& = {}, MemoryResource* = nullptr)
    -> SessionBatch<Model>;
template <class Model>
SessionBatch(const Model&, const BatchOptions& = {}, MemoryResource* = nullptr) -> SessionBatch<Model>;
///@}

}}  // namespace mistral
