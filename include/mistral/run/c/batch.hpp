// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The functions of mistral/c.h that run many sequences together: mistral_batch_...

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include <mistral/core/abi.hpp>
#include <mistral/core/error.hpp>
#include <mistral/generate/batch_request.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/run/c/call.hpp>
#include <mistral/run/c/generate.hpp>
#include <mistral/run/c/handles.hpp>
#include <mistral/run/c/structs.hpp>

#include <mistral/c.h>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

inline mistral_batch_options c_batch_defaults() noexcept {
  const BatchOptions from;
  mistral_batch_options options{};
  options.size = sizeof options;
  options.max_sequences = from.max_sequences;
  options.token_budget = from.token_budget;
  options.max_waiting = from.max_waiting;
  options.max_waiting_tokens = from.max_waiting_tokens;
  options.max_prompt_tokens = from.max_prompt_tokens;
  options.worth_waiting = from.worth_waiting;
  options.share_prefixes = from.share_prefixes ? 1 : 0;
  return options;
}

/// Returns a caller's options as the library has them. Throws Error for numbers that no memory suffices for, whose
/// bytes could not be counted.
inline BatchOptions c_batch_options(const mistral_batch_options& o) {
  const auto at_most = [](const char* field, std::size_t found, std::size_t most) {
    if (found > most) throw Error("batch", field, "at most " + std::to_string(most), std::to_string(found));
  };
  at_most("max_sequences", o.max_sequences, std::size_t{1} << 16);
  at_most("token_budget", o.token_budget, std::size_t{1} << 20);
  return {.max_sequences = o.max_sequences,
          .token_budget = o.token_budget,
          .max_waiting = o.max_waiting,
          .max_waiting_tokens = o.max_waiting_tokens,
          .max_prompt_tokens = o.max_prompt_tokens,
          .share_prefixes = o.share_prefixes != 0,
          .worth_waiting = o.worth_waiting};
}

/// While it lives, a thread waits for a batch. Refuses a second one, and a callback of the first.
class CWaits {
 public:
  explicit CWaits(mistral_batch& batch) : waits_(batch.waits) {
    if (waits_.exchange(true)) c_refuse("batch", "one call of mistral_batch_wait at a time", "another that runs");
  }
  CWaits(const CWaits&) = delete;
  CWaits& operator=(const CWaits&) = delete;
  ~CWaits() { waits_ = false; }

 private:
  std::atomic<bool>& waits_;
};

/// Runs forwards until a sequence has ended. Returns it, or null where there is nothing to do.
inline const BatchResult* c_next_result(mistral_batch& on, bool until_closed) {
  while (on.next == on.results.size()) {
    if (until_closed ? !on.batch->wait() : on.batch->empty()) return nullptr;
    on.threads.run(*on.shared, [&] { on.results = on.batch->step(); });
    on.next = 0;
  }
  return &on.results[on.next];
}

}}}  // namespace mistral::detail

extern "C" {

inline mistral_status mistral_batch_options_init(mistral_batch_options* options, size_t size) {
  using namespace mistral::detail;
  return c_call([&] { c_give_defaults(c_batch_defaults(), options, size, "options"); });
}

inline mistral_status mistral_batch_new(const mistral_model* model, const mistral_tokenizer* tokenizer,
                                        const mistral_batch_options* options, mistral_batch** batch) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral_model& from = c_given(model, "model");
    mistral_batch*& result = c_given(batch, "batch");
    const mistral::BatchOptions o = c_batch_options(c_options(options, c_batch_defaults(), "options"));
    auto made = std::make_unique<mistral_batch>();
    made->shared = from.shared;
    if (tokenizer != nullptr) made->tokenizer = tokenizer->tokenizer;
    made->batch = from.shared->model->batch(o, made->tokenizer ? &*made->tokenizer : nullptr);
    result = made.release();
  });
}

inline void mistral_batch_free(mistral_batch* batch) { delete batch; }

inline mistral_status mistral_batch_submit(mistral_batch* batch, const mistral_batch_request* request, uint64_t* id) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral_batch& to = c_given(batch, "batch");
    const mistral_batch_request r = c_options(&c_given(request, "request"), mistral_batch_request{}, "request");
    const auto prompt = c_span(r.prompt, r.prompt_size, "request->prompt");
    if (r.adapter != 0) c_check_adapter(*to.shared, r.adapter);
    mistral::BatchRequest made;
    made.prompt.assign(prompt.begin(), prompt.end());
    made.options = c_generate_options(c_options(r.options, c_generate_defaults(), "request->options"),
                                      to.tokenizer ? &*to.tokenizer : nullptr);
    made.adapter = r.adapter;
    made.tag = r.tag;
    if (r.on_text != nullptr) made.on_text = c_show(r.on_text, r.user);
    const mistral::SequenceId joined = to.batch->add(std::move(made));
    if (id != nullptr) *id = joined;
  });
}

inline mistral_status mistral_batch_cancel(mistral_batch* batch, uint64_t id, int32_t* cancelled) {
  using namespace mistral::detail;
  return c_call([&] {
    const bool left = c_given(batch, "batch").batch->cancel(id);
    if (cancelled != nullptr) *cancelled = left ? 1 : 0;
  });
}

inline mistral_status mistral_batch_close(mistral_batch* batch) {
  using namespace mistral::detail;
  return c_call([&] { c_given(batch, "batch").batch->close(); });
}

inline mistral_status mistral_batch_wait(mistral_batch* batch, uint32_t flags, mistral_batch_result* result,
                                         int32_t* ended) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral_batch& on = c_given(batch, "batch");
    (void)c_size_of(c_given(result, "result"), "result");
    std::int32_t& told = c_given(ended, "ended");
    if ((flags & ~std::uint32_t{MISTRAL_WAIT_UNTIL_CLOSED}) != 0) {
      c_refuse("flags", "flags of mistral_wait_flags", std::to_string(flags));
    }
    const CWaits alone(on);
    const mistral::BatchResult* const next = c_next_result(on, (flags & MISTRAL_WAIT_UNTIL_CLOSED) != 0);
    if (next == nullptr) {
      told = 0;
      return;
    }
    mistral_batch_result to{};
    to.status = MISTRAL_OK;
    on.message.clear();
    if (next->error) {
      try {
        std::rethrow_exception(next->error);
      } catch (...) {
        to.status = c_take_exception([&](mistral_status status, const char* message) {
          on.message = message;
          return status;
        });
      }
    }
    to.id = next->id;
    to.tag = next->tag;
    to.message = on.message.c_str();
    to.text = next->made.text.c_str();
    to.text_size = next->made.text.size();
    to.tokens = next->made.tokens.data();
    to.token_count = next->made.tokens.size();
    to.reason = static_cast<std::int32_t>(next->made.reason);
    c_give(to, *result, "result");
    told = 1;
    ++on.next;
  });
}

}  // extern "C"
