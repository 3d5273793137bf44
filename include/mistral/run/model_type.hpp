// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The implementation of run/any_model.hpp for one type of model: nothing but the hand-over from run-time to
/// compile-time types.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/cache/random_cache.hpp>
#include <mistral/checkpoint/adapter_folder.hpp>
#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/generate/batch.hpp>
#include <mistral/generate/finite_logits.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/nn/lora.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/train/trainer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

/// The purpose that a type of model is compiled for.
enum class Purpose {
  inference,
  training,  ///< of its adapters, or of all parameters where it holds none; and inference
};

namespace detail {

template <class F>
inline constexpr bool is_exact = false;
template <class F>
inline constexpr bool is_exact<Exact<F>> = true;
template <class F>
inline constexpr bool is_exact<Lora<F>> = is_exact<F>;

/// The format that the kernels multiply by: of Lora<F>, F.
template <class F>
struct MatrixFormatOf {
  using type = F;
};
template <class F>
struct MatrixFormatOf<Lora<F>> {
  using type = F;
};
template <class F>
using MatrixFormat = typename MatrixFormatOf<F>::type;

template <class Model, KvElement KV>
class SessionOf final : public AnySession {
  struct ResidualHook {
    const std::function<void(const Residual&)>& function;
    void residual(const Residual& residual) { function(residual); }
  };

 public:
  SessionOf(const Model& model, std::size_t rollback) : session_(model, rollback) {}
  explicit SessionOf(Session<Model, KV>&& session) : session_(std::move(session)) {}

  const ModelConfig& config() const noexcept override { return config_; }
  std::span<const float> prefill(std::span<const TokenId> prompt) override { return session_.prefill(prompt); }
  std::span<const float> decode(TokenId token) override { return session_.decode(token); }
  Rows<const float> forward(std::span<const TokenId> tokens) override { return session_.forward(tokens); }
  Rows<const float> forward(std::span<const TokenId> tokens,
                            const std::function<void(const Residual&)>& residual) override {
    return session_.forward(tokens, ResidualHook{residual});
  }
  void restore(const SessionFile& file) override { file.restore(session_); }
  void save(std::span<const TokenId> tokens, const std::string& path) const override {
    save_session(session_, tokens, path);
  }
  void assign(const AnySession& other) override {
    const auto* const same = dynamic_cast<const SessionOf*>(&other);
    if (same == nullptr) throw Error("session", "the other session", "one over the same model", "one of another type");
    session_.assign(same->session_);
  }
  using AnySession::assign;
  std::unique_ptr<AnySession> fork() const override { return std::make_unique<SessionOf>(session_.fork()); }
  std::string find_not_finite(std::span<const TokenId> tokens) const override {
    return mistral::find_not_finite(session_, tokens);
  }
  void stop_with(StopToken stop) noexcept override { session_.stop_with(stop); }
  void use_adapter([[maybe_unused]] std::size_t adapter) noexcept override {
    if constexpr (is_lora<typename Model::Format>) session_.use_adapter(adapter);
  }
  std::int64_t position() const noexcept override { return session_.position(); }
  std::int64_t wraps() const noexcept override { return session_.cache().wraps(); }
  void clear() noexcept override { session_.clear(); }
  std::int64_t revertible() const noexcept override { return session_.revertible(); }
  std::size_t max_rollback() const noexcept override { return session_.max_rollback(); }
  void rollback(std::int64_t tokens) override { session_.rollback(tokens); }
  void randomize_cache(std::int64_t position) override { randomize(session_.cache(), position, 1); }

 private:
  static constexpr ModelConfig config_ = Model::config;
  Session<Model, KV> session_;
};

template <class Model, KvElement KV>
class RowsOf final : public AnyRows {
 public:
  RowsOf(const Model& model, std::size_t sequences)
      : model_(model), caches_(sequences), work_(sequences), logits_(sequences) {
    for (auto& cache : caches_) sequences_.push_back({&cache, 1});
    logits_.resize(sequences);
  }
  Rows<const float> forward(std::span<const TokenId> tokens) override {
    const auto context = model_.forward(tokens, std::span<const Sequence<Model::config, KV>>(sequences_), work_);
    model_.logits(context, work_, 0, logits_.view());
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
class BatchOf final : public AnyBatch {
 public:
  BatchOf(const Model& model, const BatchOptions& options) : batch_(model, options) {}
  BatchOf(const Model& model, const Tokenizer& tokenizer, const BatchOptions& options)
      : batch_(model, tokenizer, options) {}
  SequenceId add(BatchRequest request) override { return batch_.add(std::move(request)); }
  bool cancel(SequenceId id) override { return batch_.cancel(id); }
  std::size_t cancel_all() override { return batch_.cancel_all(); }
  void close() override { batch_.close(); }
  bool wait() const override { return batch_.wait(); }
  std::vector<BatchResult> step() override { return batch_.step(); }
  bool empty() const override { return batch_.empty(); }
  std::size_t waiting() const override { return batch_.waiting(); }

 private:
  SessionBatch<Model, KV> batch_;
};

template <class Model>
class TrainerOf final : public AnyTrainer {
 public:
  TrainerOf(Model& model, const TrainerOptions& options) : trainer_(model, options) {}

  float step(std::span<const Example> batch) override { return trainer_.step(batch); }
  void accumulate(std::span<const Example> batch) override { trainer_.accumulate(batch); }
  float update() override { return trainer_.update(); }
  double evaluate(std::span<const Example> examples) override { return trainer_.evaluate(examples); }
  void save(const std::string& path, const SafetensorsWriter::Metadata& notes) const override {
    trainer_.save(path, notes);
  }
  SafetensorsWriter::Metadata resume(const std::string& path) override { return trainer_.resume(path); }

  std::uint64_t steps() const noexcept override { return trainer_.steps(); }
  float learning_rate() const noexcept override { return trainer_.learning_rate(); }
  double gradient_norm() const noexcept override { return trainer_.gradient_norm(); }
  std::size_t accumulated_targets() const noexcept override { return trainer_.accumulated_targets(); }
  const TrainerOptions& options() const noexcept override { return trainer_.options(); }
  std::span<const Parameter> parameters() const noexcept override { return trainer_.parameters(); }

 private:
  Trainer<Model> trainer_;
};

/// Throws Error for what a model isn't compiled for.
[[noreturn]] inline void throw_no_adapters() {
  throw Error("adapter", "the model", "one that holds adapters", "one that holds none");
}

template <class Model, KvElement KV, Purpose P>
class ModelOf final : public AnyModel {
  static constexpr bool holds_adapters = is_lora<typename Model::Format>;

 public:
  explicit ModelOf(Model&& model) : model_(std::move(model)) {}

  std::unique_ptr<AnySession> session(std::size_t rollback) const override {
    auto session = std::make_unique<SessionOf<Model, KV>>(model_, rollback);
    session->use_adapter(adapter_);
    return session;
  }
  std::unique_ptr<AnyRows> rows(std::size_t sequences) const override {
    return std::make_unique<RowsOf<Model, KV>>(model_, sequences);
  }
  std::unique_ptr<AnyBatch> batch(const BatchOptions& options, const Tokenizer* tokenizer) const override {
    if (tokenizer == nullptr) return std::make_unique<BatchOf<Model, KV>>(model_, options);
    return std::make_unique<BatchOf<Model, KV>>(model_, *tokenizer, options);
  }
  void save_packed(const std::string& path, std::span<const std::byte> tokenizer,
                   ProgressHook progress) const override {
    mistral::save_packed(model_, path, tokenizer, progress);
  }
  std::size_t add_adapter([[maybe_unused]] const AdapterOptions& options) override {
    if constexpr (holds_adapters) return mistral::add_adapter(model_, options);
    throw_no_adapters();
  }
  std::size_t load_adapter([[maybe_unused]] const std::string& folder) override {
    if constexpr (holds_adapters) return mistral::load_adapter(model_, folder);
    throw_no_adapters();
  }
  std::optional<bool> trained_beside([[maybe_unused]] const std::string& folder) const override {
    if constexpr (holds_adapters) return mistral::trained_beside(model_, folder);
    throw_no_adapters();
  }
  void use_adapter(std::size_t adapter) noexcept override { adapter_ = adapter; }
  void save_adapter([[maybe_unused]] const std::string& folder,
                    [[maybe_unused]] const SaveAdapterOptions& options) const override {
    if constexpr (holds_adapters) return mistral::save_adapter(model_, folder, options);
    throw_no_adapters();
  }
  void save_checkpoint([[maybe_unused]] const std::string& folder,
                       [[maybe_unused]] const SaveCheckpointOptions& options) const override {
    if constexpr (!holds_adapters && P == Purpose::training) {
      return mistral::save_checkpoint(model_, folder, options);
    }
    throw Error("checkpoint", "a model to be saved", "one whose parameters are all trained", "another");
  }
  std::unique_ptr<AnyTrainer> trainer([[maybe_unused]] const TrainerOptions& options) override {
    if constexpr (P == Purpose::training) return std::make_unique<TrainerOf<Model>>(model_, options);
    throw Error("trainer", "the model", "one that is compiled for training", "one that is not");
  }

 private:
  Model model_;
  std::size_t adapter_ = 0;  // of new sessions
};

}  // namespace detail

/// The type Model, a Transformer, with a cache of elements KV, behind the run-time interface.
template <class Model, KvElement KV, Purpose P = Purpose::inference>
class ModelTypeOf final : public AnyModelType {
  using Format = typename Model::Format;
  using Of = detail::ModelOf<Model, KV, P>;

 public:
  constexpr ModelTypeOf() = default;
  constexpr ~ModelTypeOf() override = default;  // said here, for gcc 12 to have it where it makes a constant

  const ModelInfo& info() const noexcept override { return info_; }

  std::unique_ptr<AnyModel> load(const std::string& checkpoint, const LoadOptions& options) const override {
    return std::make_unique<Of>(mistral::load<Model>(checkpoint, options));
  }

  std::unique_ptr<AnyModel> random(std::uint64_t seed) const override {
    Model model;
    randomize(model, seed);
    return std::make_unique<Of>(std::move(model));
  }

 private:
  ModelInfo info_{.config = Model::config,
                  .weights = Format::name,
                  .exact = detail::is_exact<Format>,
                  .kv = kv_name<KV>(),
                  .adapters = is_lora<Format>,
                  .trains = P == Purpose::training,
                  .weight_bytes = Model::memory_bytes,
                  .read_bytes = Model::memory_bytes - decltype(Model::tok_embeddings)::bytes,
                  .multiplies_integers = IntegerFormat<Format>,
                  .multiplies_pairs = PairFormat<Format>,
                  .cache_bytes = Session<Model, KV>::cache_bytes,
                  .workspace_bytes = Session<Model, KV>::workspace_bytes};
};

/// The type behind the interface: a constant, so that a library or an object that holds it runs nothing before it is
/// asked for it, and has no variable.
template <class Model, KvElement KV, Purpose P>
inline constexpr ModelTypeOf<Model, KV, P> model_type{};

}}  // namespace mistral
