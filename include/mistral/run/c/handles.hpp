// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The objects that the handles of mistral/c.h stand for.

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <mistral/core/abi.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/generate/continuation.hpp>
#include <mistral/nn/adapter_choice.hpp>
#include <mistral/parallel/thread_share.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/run/c/call.hpp>
#include <mistral/text/tokenizer.hpp>

#include <mistral/c.h>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// A model, and what its handle and those of its sessions and batches share.
struct CModel {
  std::unique_ptr<AnyModel> model;
  std::atomic<std::size_t> adapters = 0;
  std::atomic<std::size_t> threads = 0;  // of each call, at most; 0: all
};

/// The threads of a handle's calls, of which one runs at a time.
class CThreads {
 public:
  /// Runs a call on as many threads as its model says now.
  template <class Function>
  void run(const CModel& model, const Function& function) {
    const std::size_t threads = model.threads;
    if (threads == 0) return function();
    if (!share_ || share_->threads() != threads) share_.emplace(threads);
    share_->run(function);
  }

 private:
  std::optional<parallel::ThreadShare> share_;
};

/// Throws Error for the number of an adapter that a model hasn't got.
inline void c_check_adapter(const CModel& model, std::size_t adapter) {
  const std::size_t adapters = model.adapters;
  if (adapter == no_adapter || adapter < adapters) return;
  throw Error("adapter", "number", "one of the model's " + std::to_string(adapters), std::to_string(adapter));
}

}}}  // namespace mistral::detail

struct mistral_model {
  std::shared_ptr<mistral::detail::CModel> shared;
};

struct mistral_session {
  std::shared_ptr<mistral::detail::CModel> shared;  // ends after the session
  std::unique_ptr<mistral::AnySession> session;
  mistral::Generated made{};  // what the last mistral_session_generate pointed to
  mistral::detail::CThreads threads{};
};

struct mistral_tokenizer {
  mistral::Tokenizer tokenizer;
};

struct mistral_batch {
  std::shared_ptr<mistral::detail::CModel> shared;  // ends after the batch
  std::optional<mistral::Tokenizer> tokenizer;
  std::unique_ptr<mistral::AnyBatch> batch;
  std::atomic<bool> waits = false;  // whether a thread does
  std::vector<mistral::BatchResult> results{};
  std::size_t next = 0;  // of the results, that hasn't been handed out
  std::string message{};
  mistral::detail::CThreads threads{};
};
