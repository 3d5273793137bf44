// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <mistral/cache/kv_cache.hpp>
#include <mistral/cache/saved_entries.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/lifetime.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/stop_token.hpp>
#include <mistral/core/token.hpp>
#include <mistral/io/os/small_pages.hpp>
#include <mistral/nn/adapter_choice.hpp>
#include <mistral/nn/context.hpp>
#include <mistral/nn/transformer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// Bytes of memory that the named types (models, sessions) take together: weights, caches and workspaces, a constant
/// that a program can static_assert.
template <class... Parts>
inline constexpr std::size_t memory_bytes = (Parts::memory_bytes + ...);

/// Tokens of a prompt that go through the model together where a session isn't told: enough for the matrix kernels to
/// reach their speed, and never more than the window (section 2, "pre-fill and chunking", of the paper).
template <ModelConfig C>
inline constexpr std::size_t default_chunk = (std::min<std::size_t>)(512, C.cache_len());

/// One sequence over a model that others may share: the cache of its keys and values as elements KV, and the
/// activations of up to Chunk tokens. All memory is allocated when it is made, save what `forward` returns and what a
/// call that may be stopped (`stop_with`) overwrites; with a window it goes on for any number of tokens. Of what is
/// allocated the system gives a page when it is first written: memory_bytes is what a session takes at most, and after
/// a few tokens it takes what these need. Clearing it gives nothing back.
///
/// Logits are the same bits however a text is cut into calls and chunks, and on any number of threads; also after a
/// rollback, and in a fork.
///
/// The model, and the memory resource, must neither move nor end before the session. Sessions are independent: each may
/// run in a thread of its own, but one thread uses a session at a time, and no hook the session that it watches. Debug
/// builds assert all of this.
template <class Model, NamedElement KV = float, std::size_t Chunk = default_chunk<Model::config>>
class Session {
  static constexpr ModelConfig C = Model::config;
  static_assert(CheckedConfig<C>::value);
  static_assert(Chunk > 0, "Session: a chunk holds at least one token");
  static_assert(Chunk <= C.cache_len(), "Session: a chunk is at most as long as the window (or the context)");

 public:
  static constexpr ModelConfig config = C;  ///< the model's
  /// Of the cache's keys and values.
  using Element = KV;

  /// Bytes of the cache, without what rollback keeps.
  static constexpr std::size_t cache_bytes = KvCache<C, KV>::bytes;
  /// Bytes of activations and logits.
  static constexpr std::size_t workspace_bytes =
      Workspace<C, typename Model::Format, KV>::bytes(Chunk) + Batch<C.vocab_size>::bytes(1);
  static constexpr std::size_t memory_bytes = cache_bytes + workspace_bytes;  ///< bytes of both

  /// Bytes beyond memory_bytes of a session that can be rolled back by so many tokens at any time.
  static constexpr std::size_t rollback_bytes(std::size_t tokens) noexcept {
    return KvCache<C, KV>::rollback_bytes(tokens);
  }

  /// A temporary model would end before its session.
  explicit Session(const Model&&, std::size_t = 0, MemoryResource* = nullptr) = delete;

  /// `rollback`: tokens that can be taken back at any time. Without a window, or until it is full, all can be, and that
  /// costs nothing. `memory`: where the cache's memory is taken from. Where none is named, the standard's default
  /// resource, the cache lies in small pages, also if that resource or the system would rather use huge ones; where one
  /// is, its pages are as they come.
  explicit Session(const Model& model, std::size_t rollback = 0,
                   MemoryResource* memory = std::pmr::get_default_resource())
      : model_(&model),
        watch_(model.lifetime(), detail::asserts),
        rollback_(rollback),
        memory_(memory),
        cache_(rollback, memory),
        work_(Chunk),
        last_(1) {
    if (memory == std::pmr::get_default_resource()) detail::use_small_pages(cache_.block());
    last_.resize(1);
  }

  /// A session moves, and isn't copied by the way: that takes all the memory of another one, for which there is fork().
  ///@{
  Session(Session&&) = default;
  Session& operator=(Session&&) = default;
  Session(const Session&) = delete;             // to copy a session, call fork()
  Session& operator=(const Session&) = delete;  // to copy a session, call fork(), or assign() to take over its state
  ///@}

  /// Another session in the state of this one, over the same model. The two then go their own ways.
  Session fork() const {
    check_model();
    Session copy(*model_, rollback_, memory_);
    copy.assign(*this);
    return copy;
  }

  /// Becomes what another session over the same model is, the adapter included: a fork that allocates nothing. It can
  /// be rolled back as far as both were made for.
  void assign(const Session& other) noexcept {
    if (this == &other) return;
    const auto alone = enter();
    other.check_model();
    assert(!other.in_use_.used() && "session: another thread uses the session that is copied");
    assert(model_ == other.model_ && "session: the other session is over another model");
    cache_.assign(other.cache_);
    adapter_ = other.adapter_;
  }

  /// Takes a prompt, in chunks. Returns the logits after its last token: (vocab_size), until the next call.
  /// Throws Error if it is empty, holds an id outside the vocabulary, or goes past the context of a model without a
  /// window; the session is then as it was. If the tape throws, or there is no memory for what it is shown, the session
  /// is cleared.
  template <class Tape = NoTape>
  std::span<const float> prefill(std::span<const TokenId> prompt, Tape&& tape = {}) {
    const auto alone = enter();
    check(prompt);
    run(prompt, tape, [&](const Context& context, std::size_t done, std::size_t rows) {
      if (done + rows == prompt.size()) model_->logits(context, work_, rows - 1, last_.view());
    });
    return last_.row(0);
  }

  /// Takes one more token. Returns the logits after it: (vocab_size), until the next call. Allocates nothing.
  template <class Tape = NoTape>
  std::span<const float> decode(TokenId token, Tape&& tape = {}) {
    return prefill(std::span<const TokenId>(&token, 1), tape);
  }

  /// Takes some tokens. Returns the logits after each of them: (tokens, vocab_size), until the next call. Throws as
  /// prefill does; where there is no memory for the logits, the session is as it was.
  template <class Tape = NoTape>
  Rows<const float> forward(std::span<const TokenId> tokens, Tape&& tape = {}) {
    const auto alone = enter();
    check(tokens);
    if (all_.capacity() < tokens.size()) all_ = Batch<C.vocab_size>(tokens.size());
    all_.resize(tokens.size());
    run(tokens, tape, [&](const Context& context, std::size_t done, std::size_t rows) {
      model_->logits(context, work_, 0, all_.view().slice(done, rows));
    });
    return all_.view();
  }

  /// The adapter of the model that the next tokens go through: 0 if nothing is said, no_adapter for the base alone. For
  /// models that hold adapters (nn/lora.hpp); one that the model hasn't got counts as none.
  void use_adapter(std::size_t adapter) noexcept requires HoldsAdapters<typename Model::Format> { adapter_ = adapter; }

  /// The adapter that the next tokens go through.
  std::size_t adapter() const noexcept { return adapter_; }

  /// Has the calls from now on look at a token, before they begin and before each layer: where it asks to stop, they
  /// throw Cancelled, and the session is as it was before the call, bit by bit. Calls of up to 16 tokens, such as
  /// decode, end what they have begun. `generate` throws Cancelled while the prompt is taken, and later ends the text
  /// as StopReason::cancelled; so do a Chat and whatever else is given the session. A fork begins without a token.
  void stop_with(StopToken stop) noexcept { stop_ = stop; }

  /// Number of tokens taken so far: the position of the next one.
  std::int64_t position() const noexcept { return cache_.position(); }

  /// Returns the cache, which is all of the sequence's state. Rings that are restored one by one must end up at one
  /// position.
  KvCache<C, KV>& cache() noexcept { return cache_; }
  /// The same, to be read.
  const KvCache<C, KV>& cache() const noexcept { return cache_; }
  /// Returns the model that it runs.
  const Model& model() const noexcept {
    check_model();
    return *model_;
  }

  /// Number of tokens that can be taken back at any time, once the session has taken them.
  std::size_t max_rollback() const noexcept { return C.window_size == 0 ? C.context_len : rollback_; }

  /// Number of tokens that rollback() can take back.
  std::int64_t revertible() const noexcept { return cache_.revertible(); }

  /// Takes the last `tokens` tokens back: what follows is as if they had never been there. Throws Error where they are
  /// more than revertible(); the session is then as it was.
  void rollback(std::int64_t tokens) {
    const auto alone = enter();
    if (tokens < 0 || tokens > revertible()) {
      throw Error("session", "rollback at position " + std::to_string(position()),
                  "0 ... " + std::to_string(revertible()) + " tokens", std::to_string(tokens));
    }
    cache_.rollback(tokens);
  }

  /// Forgets the sequence: the next token has position 0.
  void clear() noexcept {
    const auto alone = enter();
    cache_.clear();
  }

 private:
  using Context = ForwardContext<C, KV>;

  // What changes the sequence begins with this.
  detail::InUse::Scope enter() noexcept {
    detail::InUse::Scope use(in_use_, detail::asserts);
    assert(use.alone() && "session: two threads use it at once, or a hook uses the session that it watches");
    assert(position() >= 0);  // says so where the session was moved from
    check_model();
    return use;
  }

  void check_model() const noexcept {
    assert(!watch_.moved() && "session: its model was moved: it must neither move nor end before its sessions");
    assert(!watch_.ended() && "session: its model has ended: it must neither move nor end before its sessions");
  }

  void check(std::span<const TokenId> tokens) const {
    if (tokens.empty()) throw Error("session", "tokens", "at least one", "none");
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0 || static_cast<std::size_t>(tokens[i]) >= C.vocab_size) {
        throw Error("session", "token " + std::to_string(i), "an id of 0 ... " + std::to_string(C.vocab_size - 1),
                    std::to_string(tokens[i]));
      }
    }
    if (C.window_size == 0 && tokens.size() > C.context_len - static_cast<std::size_t>(position())) {
      throw Error("session", "full attention (window_size = 0) at position " + std::to_string(position()),
                  "at most " + std::to_string(C.context_len) + " tokens (context_len) in all",
                  std::to_string(static_cast<std::size_t>(position()) + tokens.size()));
    }
  }

  template <class Tape, class AfterChunk>
  void run(std::span<const TokenId> tokens, Tape& tape, const AfterChunk& after_chunk) {
    static_assert(CheckedTape<Tape>::value);
    if constexpr (!std::is_same_v<Tape, NoTape> && !watches_forward<Tape>) {
      NoTape none;  // no forward is compiled for a tape that it doesn't call
      return run(tokens, none, after_chunk);
    }
    stop_.check("session");
    // A forward of few tokens takes no longer than that of one, and has nothing to keep.
    const StopToken stop = tokens.size() > uninterrupted ? stop_ : StopToken();
    std::optional<SavedEntries<C, KV>> before;
    if (stop.can_stop()) before.emplace(cache_, tokens.size(), memory_);
    try {
      for (std::size_t done = 0; done < tokens.size(); done += Chunk) {
        const std::size_t rows = (std::min)(Chunk, tokens.size() - done);
        const Sequence<C, KV> sequence{&cache_, rows, adapter_};
        const Context context = model_->forward(tokens.subspan(done, rows),
                                                std::span<const Sequence<C, KV>>(&sequence, 1), work_, tape, stop);
        after_chunk(context, done, rows);
      }
    } catch (const Cancelled&) {
      before ? before->put_back(cache_) : cache_.clear();
      throw;
    } catch (...) {  // a tape threw between two layers: some rings have met the chunk and some have not
      cache_.clear();
      throw;
    }
  }

  static constexpr std::size_t uninterrupted = 16;  // tokens of a call that is ended once it has begun

  const Model* model_;
  detail::LifeWatch watch_;  // of the model
  detail::InUse in_use_;
  std::size_t rollback_;
  MemoryResource* memory_;
  std::size_t adapter_ = 0;
  StopToken stop_;
  KvCache<C, KV> cache_;
  Workspace<C, typename Model::Format, KV> work_;
  Batch<C.vocab_size> last_;  // (1, vocab_size)
  Batch<C.vocab_size> all_;   // (tokens, vocab_size) of the last forward
};

/// A session over a model: `Session session{model}`.
template <class Model>
Session(const Model&, std::size_t = 0, MemoryResource* = nullptr) -> Session<Model>;

}}  // namespace mistral
