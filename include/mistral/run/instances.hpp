// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A model whose instruction set is chosen when the program runs. A program holds one instance of each preset for each
/// of several processors (mistral_add_instances in CMake makes their translation units), asks `best_instance` for the
/// one that this processor runs best, and meets it through the interface here.
///
/// The interface is the same in all units, so it stands in a namespace that spells the version alone. It is made of
/// types of the standard library, and nothing in it computes. Error belongs to the unit that throws it: whoever calls
/// an instance catches std::runtime_error.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mistral/core/error.hpp>
#include <mistral/simd/cpu.hpp>

/// A model behind virtual functions, the same for every instruction set.
namespace mistral { namespace instances { inline namespace MISTRAL_VERSION_NAME {

/// How a text is continued: see SamplingOptions and GenerateOptions for what the fields mean.
struct Options {
  std::size_t max_tokens = 256;             ///< tokens at most
  float temperature = 0.0f;                 ///< 0: greedy
  int top_k = 0;                            ///< of so many likeliest tokens; 0: of all
  float top_p = 1.0f;                       ///< of the likeliest tokens that reach this probability together; 1: of all
  float min_p = 0.0f;                       ///< of tokens with at least this share of the likeliest one's probability
  float repetition_penalty = 1.0f;          ///< 1: none
  std::uint64_t seed = 0;                   ///< of what is drawn
  std::vector<std::int32_t> stop_ids{};     ///< ids that end the text
  std::vector<std::string> stop_strings{};  ///< texts that end the text
};

/// A mistral::Session.
class Session {
 public:
  virtual ~Session() = default;
  /// (vocab_size) logits after the last token of the prompt, until the next call. Throws Error as Session::prefill
  /// does.
  virtual std::span<const float> prefill(std::span<const std::int32_t> prompt) = 0;
  /// (vocab_size) logits after one more token, until the next call.
  virtual std::span<const float> decode(std::int32_t token) = 0;

  /// The text that follows a prompt, which `on_text` is handed piece by piece; it returns false to end it. Throws where
  /// the model was loaded without a tokenizer.
  virtual std::string generate(std::span<const std::int32_t> prompt, const Options& options,
                               const std::function<bool(std::string_view)>& on_text) = 0;

  /// Number of tokens taken so far.
  virtual std::int64_t position() const noexcept = 0;
  /// Takes the last tokens back. Throws where they are more than the session was made for.
  virtual void rollback(std::int64_t tokens) = 0;
  /// Forgets the sequence.
  virtual void clear() noexcept = 0;
};

/// A mistral::Transformer. It must not end before its sessions.
class Model {
 public:
  virtual ~Model() = default;

  /// One that can take `rollback` tokens back at any time.
  virtual std::unique_ptr<Session> session(std::size_t rollback = 0) const = 0;
};

/// A preset as it is compiled for one processor: data that any processor can look at.
struct Instance {
  const char* preset;   ///< its name
  const char* arch;     ///< as -march names it
  std::uint64_t needs;  ///< simd::CpuFeatures that a processor must have to run it

  /// mistral::load of a checkpoint. `tokenizer`: the path of one for generate(), or empty.
  std::unique_ptr<Model> (*load)(const std::string& checkpoint, const std::string& tokenizer);
  /// A model of random weights.
  std::unique_ptr<Model> (*random)(std::uint64_t seed);
};

}}}  // namespace mistral::instances

namespace mistral { inline namespace MISTRAL_ABI {

/// Of the instances of a preset that a processor with these features runs, the last: they stand from the plainest to
/// the richest. Throws Error where there is none.
inline const instances::Instance& best_instance(std::span<const instances::Instance* const> all,
                                                std::string_view preset,
                                                simd::CpuFeatures present = simd::cpu_features()) {
  const instances::Instance* best = nullptr;
  std::string known;
  for (const instances::Instance* instance : all) {
    known.append(known.empty() ? "" : ", ").append(instance->preset).append(" for ").append(instance->arch);
    if (instance->preset == preset && (instance->needs & present) == instance->needs) best = instance;
  }
  if (best == nullptr) {
    throw Error("instances", "preset '" + std::string(preset) + "' for this processor",
                "one of " + (known.empty() ? std::string("none") : known), "none that it runs");
  }
  return *best;
}

}}  // namespace mistral
