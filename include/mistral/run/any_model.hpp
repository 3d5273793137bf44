// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The run-time interface over a compiled model: what a program uses that learns a model's type when it runs. A type is
/// compiled behind it by run/model_type.hpp, and opened from a shared library by run/compiled_model.hpp.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <mistral/checkpoint/adapter_folder.hpp>
#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/progress.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/nn/hooks.hpp>
#include <mistral/run/any_trainer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// A description of a compiled type of model, with the memory that it takes, in bytes.
struct ModelInfo {
  ModelConfig config;           ///< its shape
  std::string_view weights;     ///< the format of its matrices: "Q4_0"
  bool exact;                   ///< whether activations stay floats, on any machine: Exact<Q4_0>
  std::string_view kv;          ///< the elements of its cache: "float", "bf16" or "q8"
  bool adapters;                ///< whether it holds adapters beside its matrices: Lora<Q4_0>
  bool trains;                  ///< whether it is compiled for training: of its adapters, or of all parameters
  std::size_t weight_bytes;     ///< all weights
  std::size_t read_bytes;       ///< what each token reads of the weights: all but the embedding
  bool multiplies_integers;     ///< whether products are of integers rather than floats
  bool multiplies_pairs;        ///< whether products are of pairs of bfloat16 rather than floats
  std::size_t cache_bytes;      ///< a session's cache, at most
  std::size_t workspace_bytes;  ///< a session's activations and logits
};

/// A Session whose type is known at run time only. What is written for any session takes it as well: generate, Chat,
/// ContinuationScorer, LookupDecoder, check_finite. A tape may watch the logits there, and no layer: what watches the
/// residual stream is given to forward() itself.
class AnySession {
 public:
  virtual ~AnySession() = default;

  /// The shape of what it runs.
  virtual const ModelConfig& config() const noexcept = 0;

  /// Takes a prompt. Returns the logits after its last token: (vocab_size), until the next call.
  virtual std::span<const float> prefill(std::span<const TokenId> prompt) = 0;
  /// Takes one more token. Returns the logits after it: (vocab_size), until the next call.
  virtual std::span<const float> decode(TokenId token) = 0;
  /// Takes some tokens. Returns the logits after each of them: (tokens, vocab_size), until the next call.
  virtual Rows<const float> forward(std::span<const TokenId> tokens) = 0;

  /// Takes some tokens, and hands `residual` the residual stream before the first layer and after each.
  virtual Rows<const float> forward(std::span<const TokenId> tokens,
                                    const std::function<void(const Residual&)>& residual) = 0;

  /// Takes tokens as above, with a tape that no layer calls.
  ///@{
  template <class Tape>
  std::span<const float> prefill(std::span<const TokenId> prompt, Tape&&) {
    static_assert(!watches_forward<std::remove_reference_t<Tape>>, "AnySession: no tape watches its layers");
    return prefill(prompt);
  }
  template <class Tape>
  std::span<const float> decode(TokenId token, Tape&&) {
    static_assert(!watches_forward<std::remove_reference_t<Tape>>, "AnySession: no tape watches its layers");
    return decode(token);
  }
  template <class Tape>
  requires(!std::is_convertible_v<Tape, std::function<void(const Residual&)>>) Rows<const float> forward(
      std::span<const TokenId> tokens, Tape&&) {
    static_assert(!watches_forward<std::remove_reference_t<Tape>>, "AnySession: no tape watches its layers");
    return forward(tokens);
  }
  ///@}

  /// Puts the session into the state that a file holds (SessionFile::restore).
  virtual void restore(const SessionFile& file) = 0;
  /// Writes what the session has behind it to a file (save_session).
  virtual void save(std::span<const TokenId> tokens, const std::string& path) const = 0;
  /// Returns another session in the state of this one.
  virtual std::unique_ptr<AnySession> fork() const = 0;
  /// Becomes what another session over the same model is.
  virtual void assign(const AnySession& other) = 0;
  /// Becomes what a fork is.
  void assign(const std::unique_ptr<AnySession>& other) { assign(*other); }

  /// Says where the first number began that isn't finite (find_not_finite).
  virtual std::string find_not_finite(std::span<const TokenId> tokens) const = 0;

  /// Has the calls from now on look at a token that asks them to stop (Session::stop_with).
  virtual void stop_with(StopToken stop) noexcept = 0;
  /// Has the next tokens go through an adapter of the model (Session::use_adapter); of a model that holds none, nothing
  /// changes.
  virtual void use_adapter(std::size_t adapter) noexcept = 0;

  /// Number of tokens taken so far.
  virtual std::int64_t position() const noexcept = 0;
  /// How often the rings have gone round.
  virtual std::int64_t wraps() const noexcept = 0;
  /// Forgets the sequence.
  virtual void clear() noexcept = 0;
  /// Number of tokens that rollback() can take back.
  virtual std::int64_t revertible() const noexcept = 0;
  /// Number of tokens that can be taken back at any time, once the session has taken them.
  virtual std::size_t max_rollback() const noexcept = 0;
  /// Takes the last tokens back.
  virtual void rollback(std::int64_t tokens) = 0;

  /// Fills the cache as after `position` tokens with random keys and values (cache/random_cache.hpp), for benchmarks.
  virtual void randomize_cache(std::int64_t position) = 0;
};

/// Says where the first number began that isn't finite, for check_finite.
inline std::string find_not_finite(const AnySession& session, std::span<const TokenId> tokens) {
  return session.find_not_finite(tokens);
}

/// Sequences that go through a model together, a token of each in one forward: for benchmarks, without a scheduler.
class AnyRows {
 public:
  virtual ~AnyRows() = default;

  /// Takes the next token of each sequence. Returns the logits after them: (sequences, vocab_size), until the next
  /// call.
  virtual Rows<const float> forward(std::span<const TokenId> tokens) = 0;

  /// Fills all caches as AnySession::randomize_cache does.
  virtual void randomize_caches(std::int64_t position) = 0;
};

/// A SessionBatch whose type is known at run time only. Each member does what the member of SessionBatch of that name
/// does.
class AnyBatch {
 public:
  virtual ~AnyBatch() = default;

  /// A sequence joins.
  virtual SequenceId add(BatchRequest request) = 0;
  /// A sequence leaves.
  virtual bool cancel(SequenceId id) = 0;
  /// All sequences leave.
  virtual std::size_t cancel_all() = 0;
  /// No more sequences join.
  virtual void close() = 0;
  /// Blocks until step() has something to do; returns false where it never will.
  virtual bool wait() const = 0;
  /// Runs one forward. Returns the sequences that have ended since the last step.
  virtual std::vector<BatchResult> step() = 0;
  /// Whether there is nothing to do.
  virtual bool empty() const = 0;
  /// Sequences that wait for a cache.
  virtual std::size_t waiting() const = 0;
};

/// A Transformer whose type is known at run time only. It must end after its sessions, batches and trainers; while a
/// call of a trainer runs, nobody else may use it. A member that the model isn't compiled for throws Error: of adapters
/// where ModelInfo::adapters is false, trainer() where ModelInfo::trains is.
class AnyModel {
 public:
  virtual ~AnyModel() = default;

  /// Returns a session that can take `rollback` tokens back at any time. It goes through the adapter that use_adapter()
  /// chose last, else through the first, where there is one.
  virtual std::unique_ptr<AnySession> session(std::size_t rollback = 0) const = 0;
  /// Returns some sequences that go through the model together.
  virtual std::unique_ptr<AnyRows> rows(std::size_t sequences) const = 0;
  /// Returns a batch with a scheduler; without a tokenizer its results hold tokens and no text.
  virtual std::unique_ptr<AnyBatch> batch(const BatchOptions& options, const Tokenizer* tokenizer = nullptr) const = 0;

  /// Writes the model as it is in memory (mistral::save_packed).
  virtual void save_packed(const std::string& path, std::span<const std::byte> tokenizer,
                           ProgressHook progress) const = 0;

  /// Adds a fresh adapter. Returns its number.
  virtual std::size_t add_adapter(const AdapterOptions& options) = 0;
  /// Adds the adapter of a PEFT folder. Returns its number.
  virtual std::size_t load_adapter(const std::string& folder) = 0;
  /// Whether the adapter of a folder was trained beside these weights; none where nobody can tell.
  virtual std::optional<bool> trained_beside(const std::string& folder) const = 0;
  /// Chooses the adapter of new sessions; no_adapter for the base alone.
  virtual void use_adapter(std::size_t adapter) noexcept = 0;
  /// Writes the first adapter to a PEFT folder.
  virtual void save_adapter(const std::string& folder, const SaveAdapterOptions& options) const = 0;

  /// Writes the weights as a checkpoint (mistral::save_checkpoint), of a model without adapters.
  virtual void save_checkpoint(const std::string& folder, const SaveCheckpointOptions& options) const = 0;

  /// Returns a trainer of options.adapter, or of all parameters where the model holds no adapters.
  virtual std::unique_ptr<AnyTrainer> trainer(const TrainerOptions& options) = 0;
};

/// A type of model that was compiled behind this interface.
class AnyModelType {
 public:
  virtual ~AnyModelType() = default;
  /// Returns the description of the type.
  virtual const ModelInfo& info() const noexcept = 0;
  /// Loads a checkpoint (mistral::load).
  virtual std::unique_ptr<AnyModel> load(const std::string& checkpoint, const LoadOptions& options) const = 0;
  /// Makes a model of random weights: for benchmarks, and for training from nothing.
  virtual std::unique_ptr<AnyModel> random(std::uint64_t seed) const = 0;
};

}}  // namespace mistral
