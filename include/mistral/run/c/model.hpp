// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The functions of mistral/c.h that load models: mistral_get_info, mistral_load_..., mistral_model_...

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <mistral/checkpoint/load.hpp>
#include <mistral/core/abi.hpp>
#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/stop_token.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/run/c/call.hpp>
#include <mistral/run/c/handles.hpp>
#include <mistral/run/c/structs.hpp>
#include <mistral/run/compiled_entry.hpp>
#include <mistral/simd/cpu.hpp>

#include <mistral/c.h>

/// The model that the library is compiled for, as the page's macro defines it.
extern "C" [[gnu::visibility("default")]] const mistral::CompiledModel mistral_compiled_model;

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

inline mistral_load_options c_load_defaults() noexcept {
  mistral_load_options options{};
  options.size = sizeof options;
  options.check_memory = 1;
  return options;
}

/// Refuses to go on where this processor lacks what the library is compiled for.
inline void c_check_processor() {
  if ((mistral_compiled_model.needs & ~simd::cpu_features()) == 0) return;
  throw Error("compiled", "compile the model again on this machine", "a model for this processor",
              "one for a processor that has more instructions");
}

}}}  // namespace mistral::detail

extern "C" {

inline int32_t mistral_c_version() { return MISTRAL_C_VERSION; }
inline const char* mistral_version() { return MISTRAL_VERSION_TEXT; }
inline const char* mistral_error_message() { return mistral::detail::c_message(); }

inline mistral_status mistral_get_info(mistral_info* info) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral_info& theirs = c_given(info, "info");
    const mistral::ModelInfo& from = mistral_compiled_model.type().info();
    const mistral::ModelConfig& c = from.config;
    mistral_info to{};
    to.dim = c.dim;
    to.n_layers = c.n_layers;
    to.head_dim = c.head_dim;
    to.hidden_dim = c.hidden_dim;
    to.n_heads = c.n_heads;
    to.n_kv_heads = c.n_kv_heads;
    to.window_size = c.window_size;
    to.context_len = c.context_len;
    to.vocab_size = c.vocab_size;
    to.rope_theta = c.rope_theta;
    to.norm_eps = c.norm_eps;
    c_name(to.weights, from.weights);
    c_name(to.kv, from.kv);
    to.exact = from.exact ? 1 : 0;
    to.adapters = from.adapters ? 1 : 0;
    to.weight_bytes = from.weight_bytes;
    to.cache_bytes = from.cache_bytes;
    to.workspace_bytes = from.workspace_bytes;
    c_give(to, theirs, "info");
  });
}

inline mistral_status mistral_load_options_init(mistral_load_options* options, size_t size) {
  using namespace mistral::detail;
  return c_call([&] { c_give_defaults(c_load_defaults(), options, size, "options"); });
}

inline mistral_status mistral_model_load(const char* path, const mistral_load_options* options, mistral_model** model) {
  using namespace mistral::detail;
  return c_call([&] {
    const std::string from = &c_given(path, "path");
    mistral_model*& result = c_given(model, "model");
    const mistral_load_options o = c_options(options, c_load_defaults(), "options");
    c_check_processor();
    struct Progress {
      const mistral_load_options& options;
      std::atomic<bool> stop = false;
    } progress{o};
    mistral::LoadOptions load;
    load.allow_different_window = o.allow_different_window != 0;
    load.allow_longer_context = o.allow_longer_context != 0;
    load.check_memory = o.check_memory != 0;
    load.max_memory = o.max_memory;
    load.session_bytes = o.session_bytes;
    load.refuse_not_finite = o.refuse_not_finite != 0;
    if (o.progress != nullptr) {
      load.stop = mistral::StopToken(progress.stop);
      load.progress.context = &progress;
      load.progress.function = [](void* context, std::uint64_t done, std::uint64_t total) {
        auto& to = *static_cast<Progress*>(context);
        if (to.options.progress(to.options.user, done, total) == 0) to.stop = true;
      };
    }
    auto shared = std::make_shared<CModel>();
    shared->threads = o.threads;
    CThreads threads;
    threads.run(*shared, [&] { shared->model = mistral_compiled_model.type().load(from, load); });
    result = std::make_unique<mistral_model>(mistral_model{std::move(shared)}).release();
  });
}

inline void mistral_model_free(mistral_model* model) { delete model; }

inline mistral_status mistral_model_load_adapter(mistral_model* model, const char* folder, size_t* adapter) {
  using namespace mistral::detail;
  return c_call([&] {
    CModel& to = *c_given(model, "model").shared;
    const std::string from = &c_given(folder, "folder");
    std::size_t& number = c_given(adapter, "adapter");
    CThreads threads;
    threads.run(to, [&] { number = to.model->load_adapter(from); });
    to.adapters = number + 1;
  });
}

inline mistral_status mistral_model_set_threads(mistral_model* model, size_t threads) {
  using namespace mistral::detail;
  return c_call([&] { c_given(model, "model").shared->threads = threads; });
}

}  // extern "C"
