// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <mistral/cache/random_cache.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/evaluate/likelihood.hpp>
#include <mistral/format/nf4.hpp>
#include <mistral/generate/batch.hpp>
#include <mistral/model.hpp>
#include <mistral/nn/weights.hpp>

#include "any_model.hpp"
#include "configs.hpp"

/// \file
/// What is compiled for each preset: nothing but the hand-over from run-time to compile-time types.

namespace mistral::tool {

template <class Session>
class LookupOf final : public AnyLookup {
 public:
  LookupOf(Session& session, std::size_t most, std::span<const TokenId> text) : decoder_(session, most, text) {}
  std::span<const float> next(TokenId token, std::size_t choices) override { return decoder_.next(token, choices); }
  LookupCounts counts() const noexcept override { return decoder_.counts(); }

 private:
  LookupDecoder<Session> decoder_;
};

template <class Model, KvElement KV>
class SessionOf final : public AnySession {
  struct LogitsHook {
    const std::function<void()>& function;
    void logits(std::span<float>) { function(); }
  };

 public:
  SessionOf(const Model& model, std::size_t rollback) : session_(model, rollback) {}

  std::span<const float> prefill(std::span<const TokenId> prompt) override { return session_.prefill(prompt); }
  std::span<const float> decode(TokenId token) override { return session_.decode(token); }
  Rows<const float> forward(std::span<const TokenId> tokens) override { return session_.forward(tokens); }
  Generated generate(const Tokenizer& tokenizer, std::span<const TokenId> prompt, const GenerateOptions& options,
                     const std::function<bool(std::string_view)>& on_text,
                     const std::function<void()>& on_logits) override {
    return mistral::generate(session_, tokenizer, prompt, options, on_text, LogitsHook{on_logits});
  }
  Scorer scorer() override {
    return [scorer = std::make_shared<ContinuationScorer<Session<Model, KV>>>(session_)](
               std::span<const TokenId> prompt, std::span<const std::vector<TokenId>> ends) {
      return scorer->score(prompt, ends);
    };
  }
  std::unique_ptr<AnyLookup> lookup(std::size_t most, std::span<const TokenId> text) override {
    return std::make_unique<LookupOf<Session<Model, KV>>>(session_, most, text);
  }
  void restore(const SessionFile& file) override { file.restore(session_); }
  void save(std::span<const TokenId> tokens, const std::string& path) const override {
    save_session(session_, tokens, path);
  }
  std::string find_not_finite(std::span<const TokenId> tokens) const override {
    return mistral::find_not_finite(session_, tokens);
  }
  std::int64_t position() const noexcept override { return session_.position(); }
  std::int64_t wraps() const noexcept override { return session_.cache().wraps(); }
  void clear() noexcept override { session_.clear(); }
  std::int64_t revertible() const noexcept override { return session_.revertible(); }
  void rollback(std::int64_t tokens) override { session_.rollback(tokens); }
  void randomize_cache(std::int64_t position) override { randomize(session_.cache(), position, 1); }

  /// For models that hold adapters.
  void use_adapter(std::size_t adapter) noexcept { session_.use_adapter(adapter); }

 private:
  Session<Model, KV> session_;
};

template <class Model, KvElement KV>
class BatchOf final : public AnyBatch {
 public:
  BatchOf(const Model& model, std::size_t sequences)
      : model_(model), caches_(sequences), work_(sequences), logits_(sequences) {
    for (auto& cache : caches_) sequences_.push_back({&cache, 1});
    logits_.resize(sequences);
  }
  Rows<const float> forward(std::span<const TokenId> tokens) override {
    model_.forward(tokens, std::span<const Sequence<Model::config, KV>>(sequences_), work_);
    model_.logits(work_, 0, logits_.view());
    return logits_.view();
  }
  void randomize_caches(std::int64_t position) override {
    for (auto& cache : caches_) randomize(cache, position, 1);
  }

 private:
  const Model& model_;
  std::vector<KvCache<Model::config, KV>> caches_;
  std::vector<Sequence<Model::config, KV>> sequences_;
  Workspace<Model::config, typename Model::Format, KV> work_;
  Batch<Model::config.vocab_size> logits_;
};

template <class Model, KvElement KV>
class SessionBatchOf final : public AnySessionBatch {
 public:
  SessionBatchOf(const Model& model, const BatchOptions& options) : batch_(model, options) {}
  SequenceId add(BatchRequest request) override { return batch_.add(std::move(request)); }
  std::vector<BatchResult> step() override { return batch_.step(); }
  bool empty() const override { return batch_.empty(); }

 private:
  SessionBatch<Model, KV> batch_;
};

/// Interface: AnyModel, or what stands below it.
template <class Interface, class Model, KvElement KV>
class ModelOf : public Interface {
 public:
  explicit ModelOf(Model&& model) : model_(std::move(model)) {}
  std::unique_ptr<AnySession> session(std::size_t rollback) const override {
    return std::make_unique<SessionOf<Model, KV>>(model_, rollback);
  }
  std::unique_ptr<AnyBatch> batch(std::size_t sequences) const override {
    return std::make_unique<BatchOf<Model, KV>>(model_, sequences);
  }
  std::unique_ptr<AnySessionBatch> session_batch(const BatchOptions& options) const override {
    return std::make_unique<SessionBatchOf<Model, KV>>(model_, options);
  }
  void save_packed(const std::string& path, std::span<const std::byte> tokenizer,
                   ProgressHook progress) const override {
    mistral::save_packed(model_, path, tokenizer, progress);
  }

 protected:
  Model model_;
};

template <class Model>
Model random_model(std::uint64_t seed) {
  Model model;
  randomize(model, seed);
  return model;
}

template <class Model, KvElement KV>
class PresetModel final : public AnyPreset {
  using Session = mistral::Session<Model, KV>;
  using AnyOf = ModelOf<AnyModel, Model, KV>;

 public:
  PresetModel(std::string_view name, std::string_view weights, std::string_view kv, std::string_view comment,
              const AnyTraining* training)
      : info_{name,
              weights,
              kv,
              comment,
              Model::config,
              Model::memory_bytes,
              Model::memory_bytes - decltype(Model::tok_embeddings)::bytes,
              IntegerFormat<typename Model::Format>,
              PairFormat<typename Model::Format>,
              Session::cache_bytes,
              Session::workspace_bytes},
        training_(training) {}

  const PresetInfo& info() const noexcept override { return info_; }
  const AnyTraining* training() const noexcept override { return training_; }

  std::unique_ptr<AnyModel> load(const std::string& folder, const LoadOptions& options) const override {
    return std::make_unique<AnyOf>(mistral::load<Model>(folder, options));
  }

  std::unique_ptr<AnyModel> random(std::uint64_t seed) const override {
    return std::make_unique<AnyOf>(random_model<Model>(seed));
  }

 private:
  PresetInfo info_;
  const AnyTraining* training_;
};

}  // namespace mistral::tool
