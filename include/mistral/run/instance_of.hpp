// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What stands behind run/instances.hpp in a translation unit that is compiled for one processor. For the units
/// that mistral_add_instances makes; a program includes run/instances.hpp.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <mistral/checkpoint/load.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/run/instances.hpp>
#include <mistral/text/tokenizer.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

namespace detail {

template <class M, KvElement KV>
class InstanceSession final : public instances::Session {
 public:
  InstanceSession(const M& model, const Tokenizer* tokenizer, std::size_t rollback)
      : session_(model, rollback), tokenizer_(tokenizer) {}

  std::span<const float> prefill(std::span<const std::int32_t> prompt) override { return session_.prefill(prompt); }
  std::span<const float> decode(std::int32_t token) override { return session_.decode(token); }
  std::string generate(std::span<const std::int32_t> prompt, const instances::Options& options,
                       const std::function<bool(std::string_view)>& on_text) override {
    if (tokenizer_ == nullptr) throw Error("instances", "generate", "a model loaded with a tokenizer", "one without");
    GenerateOptions how;
    how.max_tokens = options.max_tokens;
    how.sampling.temperature = options.temperature;
    how.sampling.top_k = options.top_k;
    how.sampling.top_p = options.top_p;
    how.sampling.min_p = options.min_p;
    how.sampling.repetition_penalty = options.repetition_penalty;
    how.sampling.seed = options.seed;
    how.stop_ids = options.stop_ids;
    how.stop_strings = options.stop_strings;
    return mistral::generate(session_, *tokenizer_, prompt, how, on_text).text;
  }
  std::int64_t position() const noexcept override { return session_.position(); }
  void rollback(std::int64_t tokens) override { session_.rollback(tokens); }
  void clear() noexcept override { session_.clear(); }

 private:
  mistral::Session<M, KV> session_;
  const Tokenizer* tokenizer_;
};

template <class M, KvElement KV>
class InstanceModel final : public instances::Model {
 public:
  InstanceModel(M&& model, std::optional<Tokenizer> tokenizer)
      : model_(std::move(model)), tokenizer_(std::move(tokenizer)) {}

  static std::unique_ptr<instances::Model> load(const std::string& checkpoint, const std::string& tokenizer) {
    std::optional<Tokenizer> words;
    if (!tokenizer.empty()) words = Tokenizer::load(tokenizer);
    return std::make_unique<InstanceModel>(mistral::load<M>(checkpoint), std::move(words));
  }
  static std::unique_ptr<instances::Model> random(std::uint64_t seed) {
    M model;
    randomize(model, seed);
    return std::make_unique<InstanceModel>(std::move(model), std::nullopt);
  }

  std::unique_ptr<instances::Session> session(std::size_t rollback) const override {
    return std::make_unique<InstanceSession<M, KV>>(model_, tokenizer_ ? &*tokenizer_ : nullptr, rollback);
  }

 private:
  M model_;
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace detail

/// The instance of this unit's instruction set: a constant, so that nothing of the unit runs before it is chosen.
template <class Model, KvElement KV>
constexpr instances::Instance instance_of(const char* preset, const char* arch) noexcept {
  using Of = detail::InstanceModel<Model, KV>;
  return {preset, arch, simd::compiled_features(), &Of::load, &Of::random};
}

}}  // namespace mistral
