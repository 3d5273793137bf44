// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/checkpoint/load.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/progress.hpp>
#include <mistral/core/rows.hpp>
#include <mistral/core/token.hpp>
#include <mistral/evaluate/perplexity.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/session_file.hpp>

namespace mistral::tool {

/// What a preset is, and the memory that it takes.
struct PresetInfo {
  std::string_view name;
  std::string_view weights;  // as the list says it: "BF16"
  std::string_view kv;
  std::string_view comment;
  ModelConfig config;
  std::size_t weight_bytes;
  std::size_t read_bytes;    // of the weights, what each token reads: all but the embedding
  bool multiplies_integers;  // rather than floats
  bool multiplies_pairs;     // of bfloat16, rather than floats
  std::size_t cache_bytes;
  std::size_t workspace_bytes;
};

/// A LookupDecoder whose type is known at run time only.
class AnyLookup {
 public:
  virtual ~AnyLookup() = default;
  virtual std::span<const float> next(TokenId token, std::size_t choices) = 0;
  virtual LookupCounts counts() const noexcept = 0;
};

/// ContinuationScorer::score: of a prompt, and its ends.
using Scorer = std::function<std::vector<TextScore>(std::span<const TokenId>, std::span<const std::vector<TokenId>>)>;

/// Tokens that a session with a window must be able to take back to score ends: as many as tell a prompt with its end
/// from the next, mostly.
inline constexpr std::size_t scoring_rollback = 512;

/// A Session whose type is known at run time only.
class AnySession {
 public:
  virtual ~AnySession() = default;

  virtual std::span<const float> prefill(std::span<const TokenId> prompt) = 0;
  virtual std::span<const float> decode(TokenId token) = 0;
  virtual Rows<const float> forward(std::span<const TokenId> tokens) = 0;

  /// mistral::generate; on_logits is called before each choice of a token.
  virtual Generated generate(const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                             const GenerateOptions& options, const std::function<bool(std::string_view)>& on_text,
                             const std::function<void()>& on_logits) = 0;

  /// What scores the ends of prompts, one prompt after the other (mistral::ContinuationScorer). Must not outlive the
  /// session.
  virtual Scorer scorer() = 0;

  /// Tokens that are to be given one by one, with drafts of `most` tokens. Must not outlive the session.
  virtual std::unique_ptr<AnyLookup> lookup(std::size_t most, std::span<const TokenId> text) = 0;

  /// SessionFile::restore, save_session.
  virtual void restore(const SessionFile& file) = 0;
  virtual void save(std::span<const TokenId> tokens, const std::string& path) const = 0;

  /// mistral::find_not_finite.
  virtual std::string find_not_finite(std::span<const TokenId> tokens) const = 0;

  virtual std::int64_t position() const noexcept = 0;
  virtual std::int64_t wraps() const noexcept = 0;
  virtual void clear() noexcept = 0;
  virtual std::int64_t revertible() const noexcept = 0;
  virtual void rollback(std::int64_t tokens) = 0;

  /// As after `position` tokens, with random keys and values (cache/random_cache.hpp).
  virtual void randomize_cache(std::int64_t position) = 0;
};

/// For check_finite.
inline std::string find_not_finite(const AnySession& session, std::span<const TokenId> tokens) {
  return session.find_not_finite(tokens);
}

/// Some sequences that go through a model together, a token of each in one forward.
class AnyBatch {
 public:
  virtual ~AnyBatch() = default;

  /// The next token of each sequence. Returns the logits after them: (sequences, vocab_size), until the next call.
  virtual Rows<const float> forward(std::span<const TokenId> tokens) = 0;

  virtual void randomize_caches(std::int64_t position) = 0;
};

/// A SessionBatch whose type is known at run time only.
class AnySessionBatch {
 public:
  virtual ~AnySessionBatch() = default;

  virtual SequenceId add(BatchRequest request) = 0;
  virtual std::vector<BatchResult> step() = 0;
  virtual bool empty() const = 0;
};

/// A Transformer whose type is known at run time only. It must outlive its sessions.
class AnyModel {
 public:
  virtual ~AnyModel() = default;

  /// One that can take `rollback` tokens back at any time.
  virtual std::unique_ptr<AnySession> session(std::size_t rollback = 0) const = 0;
  virtual std::unique_ptr<AnyBatch> batch(std::size_t sequences) const = 0;
  virtual std::unique_ptr<AnySessionBatch> session_batch(const BatchOptions& options) const = 0;

  /// mistral::save_packed.
  virtual void save_packed(const std::string& path, std::span<const std::byte> tokenizer,
                           ProgressHook progress) const = 0;
};

class AnyTraining;  // any_trainer.hpp

/// A config and a format that the tool is compiled for.
class AnyPreset {
 public:
  virtual ~AnyPreset() = default;
  virtual const PresetInfo& info() const noexcept = 0;
  virtual std::unique_ptr<AnyModel> load(const std::string& folder, const LoadOptions& options) const = 0;

  /// A model of random weights, for benchmarks.
  virtual std::unique_ptr<AnyModel> random(std::uint64_t seed) const = 0;

  /// How it is trained; null where it isn't compiled for that.
  virtual const AnyTraining* training() const noexcept = 0;
};

}  // namespace mistral::tool
