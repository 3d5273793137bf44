// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The functions of mistral/c.h over the model of a compiled library. They are inline here, so that a unit which
/// includes this header has none of them; MISTRAL_C_INTERFACE, which stands once in a library (run/compiled_model.hpp),
/// has the compiler keep all.
/// Longer than 400 lines: one function for each of the interface, which share their checks.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <mistral/core/config.hpp>
#include <mistral/core/error.hpp>
#include <mistral/core/stop_token.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/continuation.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/nn/adapter_rows.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/run/compiled_entry.hpp>
#include <mistral/simd/cpu.hpp>
#include <mistral/text/tokenizer.hpp>

#include <mistral/c.h>

/// What the library is compiled for, as the page's macro defines it.
extern "C" [[gnu::visibility("default")]] const mistral::CompiledModel mistral_compiled_model;

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// A model, and what its handle and those of its sessions share.
struct CModel {
  std::unique_ptr<AnyModel> model;
  std::atomic<std::size_t> adapters = 0;
};

/// What a function of the C interface ends with, if not with an Error.
class CFailure : public std::runtime_error {
 public:
  CFailure(mistral_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  mistral_status status() const noexcept { return status_; }

 private:
  mistral_status status_;
};

inline constexpr std::size_t c_message_bytes = 4096;

/// The last error of this thread: room that is there before memory is short.
inline char* c_message() noexcept {
  static thread_local char text[c_message_bytes] = "";
  return text;
}

/// Keeps a message, or its beginning up to a character's end.
inline mistral_status c_fail(mistral_status status, const char* message) noexcept {
  std::size_t size = std::strlen(message);
  if (size >= c_message_bytes) {
    size = c_message_bytes - 1;
    while (size > 0 && (static_cast<unsigned char>(message[size]) & 0xc0u) == 0x80u) --size;
  }
  std::memcpy(c_message(), message, size);
  c_message()[size] = '\0';
  return status;
}

/// The status of the exception that is being handled.
inline mistral_status c_status_of_exception() noexcept {
  try {
    throw;
  } catch (const CFailure& failure) {
    return c_fail(failure.status(), failure.what());
  } catch (const Cancelled& error) {
    return c_fail(MISTRAL_ERROR_STOPPED, error.what());
  } catch (const Error& error) {
    return c_fail(MISTRAL_ERROR_DATA, error.what());
  } catch (const std::bad_alloc&) {
    return c_fail(MISTRAL_ERROR_MEMORY, "[c] there is no memory left");
  } catch (const std::exception& error) {
    return c_fail(MISTRAL_ERROR_INTERNAL, error.what());
  } catch (...) {
    return c_fail(MISTRAL_ERROR_INTERNAL, "[c] an error without a message");
  }
}

/// Runs what a function of the interface does.
template <class Function>
mistral_status c_call(const Function& function) noexcept {
  try {
    function();
    return MISTRAL_OK;
  } catch (...) {
    return c_status_of_exception();
  }
}

[[noreturn]] inline void c_refuse(const char* name, const char* expected, const std::string& found) {
  throw CFailure(MISTRAL_ERROR_ARGUMENT, Error("c", name, expected, found).what());
}

/// What a pointer points to, which must not be null.
template <class T>
T& c_given(T* pointer, const char* name) {
  if (pointer == nullptr) c_refuse(name, "a pointer", "null");
  return *pointer;
}

/// `count` values, of which there may be none.
template <class T>
std::span<T> c_span(T* values, std::size_t count, const char* name) {
  if (values == nullptr && count != 0) c_refuse(name, "a pointer", "null");
  return {values, count};
}

/// Bytes of a struct in version 1, up to the end of its last member then: what a caller's must have at least.
template <class T>
inline constexpr std::size_t c_least_size = sizeof(T);

/// The `size` of a caller's struct.
template <class T>
std::size_t c_size_of(const T& theirs, const char* name) {
  constexpr std::size_t most = 65536;  // more is no size of a struct but memory that was not set
  const std::size_t size = theirs.size;
  if (size >= c_least_size<T> && size <= most) return size;
  const std::string expected = "its size, " + std::to_string(sizeof(T)) + " in this version";
  c_refuse((std::string(name) + "->size").c_str(), expected.c_str(), std::to_string(size));
}

/// Takes a caller's options over the defaults; null leaves these. What a later version added may stand there as zeros
/// only, since nothing that is asked for is left out silently.
template <class T>
T c_options(const T* theirs, T options, const char* name) {
  if (theirs == nullptr) return options;
  const std::size_t size = c_size_of(*theirs, name);
  const char* const bytes = reinterpret_cast<const char*>(theirs);
  if (size > sizeof(T) && std::any_of(bytes + sizeof(T), bytes + size, [](char byte) { return byte != 0; })) {
    c_refuse(name, "options of this library's version", "options of a later one");
  }
  std::memcpy(&options, theirs, (std::min)(size, sizeof(T)));
  return options;
}

/// Hands a struct to a caller, whose `size` stays as it is; members that this version lacks are zero.
template <class T>
void c_give(T ours, T& theirs, const char* name) {
  const std::size_t size = c_size_of(theirs, name);
  ours.size = size;
  std::memset(&theirs, 0, size);
  std::memcpy(&theirs, &ours, (std::min)(size, sizeof(T)));
}

/// Writes defaults to as much of a struct as the caller knows.
template <class T>
void c_give_defaults(T ours, T* theirs, std::size_t size, const char* name) {
  T probe{};
  probe.size = size;
  (void)c_size_of(probe, name);
  ours.size = size;
  std::memset(&c_given(theirs, name), 0, size);
  std::memcpy(theirs, &ours, (std::min)(size, sizeof(T)));
}

/// Copies values to a caller's room, and says how many they are.
template <class T>
void c_copy(std::span<const T> values, std::size_t extra, T* room, std::size_t capacity, std::size_t& count) {
  count = values.size();
  if (room == nullptr && capacity == 0) return;
  (void)c_span(room, capacity, "room for the result");
  if (capacity < values.size() + extra) {
    throw CFailure(
        MISTRAL_ERROR_ROOM,
        Error("c", "capacity", "at least " + std::to_string(values.size() + extra), std::to_string(capacity)).what());
  }
  std::copy(values.begin(), values.end(), room);
  std::fill_n(room + values.size(), extra, T{});
}

template <std::size_t N>
void c_name(char (&to)[N], std::string_view name) noexcept {
  std::memcpy(to, name.data(), (std::min)(name.size(), N - 1));
}

inline mistral_load_options c_load_defaults() noexcept {
  mistral_load_options options{};
  options.size = sizeof options;
  options.check_memory = 1;
  return options;
}

inline mistral_generate_options c_generate_defaults() noexcept {
  mistral_generate_options options{};
  options.size = sizeof options;
  options.top_p = 1.0f;
  options.repetition_penalty = 1.0f;
  options.max_tokens = GenerateOptions{}.max_tokens;
  options.stop_at_eos = 1;
  return options;
}

/// Refuses to go on where this processor lacks what the library is compiled for.
inline void c_check_processor() {
  if ((mistral_compiled_model.needs & ~simd::cpu_features()) == 0) return;
  throw Error("compiled", "compile the model again on this machine", "a model for this processor",
              "one for a processor that has more instructions");
}

/// Hands the residual stream to a callback, and stops where that asks to.
struct CResidual {
  mistral_on_residual function;
  void* user;
  void operator()(const Residual& residual) const {
    const mistral_residual rows{residual.layer,    residual.position,   residual.x.rows(),
                                residual.x.cols(), residual.x.stride(), residual.x.data()};
    if (function(user, &rows) == 0) throw CFailure(MISTRAL_ERROR_STOPPED, "[c] the callback asked to stop");
  }
};

}  // namespace detail
}}  // namespace mistral

struct mistral_model {
  std::shared_ptr<mistral::detail::CModel> shared;
};

struct mistral_session {
  std::shared_ptr<mistral::detail::CModel> shared;  // ends after the session
  std::unique_ptr<mistral::AnySession> session;
  mistral::Generated made{};  // what the last mistral_session_generate pointed to
};

struct mistral_tokenizer {
  mistral::Tokenizer tokenizer;
};

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

/// The session of a handle.
template <class Session>
auto& c_session(Session* session) {
  return *c_given(session, "session").session;
}

inline GenerateOptions c_generate_options(const mistral_generate_options& o, const Tokenizer& tokenizer) {
  GenerateOptions options{.sampling = {.temperature = o.temperature,
                                       .top_k = o.top_k,
                                       .top_p = o.top_p,
                                       .min_p = o.min_p,
                                       .repetition_penalty = o.repetition_penalty,
                                       .repetition_window = o.repetition_window,
                                       .seed = o.seed},
                          .max_tokens = o.max_tokens,
                          .own_text = o.own_text != 0,
                          .lookup = o.lookup};
  const auto ids = c_span(o.stop_ids, o.stop_id_count, "options->stop_ids");
  options.stop_ids.assign(ids.begin(), ids.end());
  if (o.stop_at_eos != 0) {
    options.stop_ids.insert(options.stop_ids.end(), tokenizer.eos_ids().begin(), tokenizer.eos_ids().end());
  }
  for (const char* const text : c_span(o.stop_strings, o.stop_string_count, "options->stop_strings")) {
    options.stop_strings.emplace_back(&c_given(text, "options->stop_strings"));
  }
  return options;
}

}  // namespace detail
}}  // namespace mistral

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
    shared->model = mistral_compiled_model.type().load(from, load);
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
    number = to.model->load_adapter(from);
    to.adapters = number + 1;
  });
}

inline mistral_status mistral_tokenizer_load(const char* path, mistral_tokenizer** tokenizer) {
  using namespace mistral::detail;
  return c_call([&] {
    const std::string from = &c_given(path, "path");
    mistral_tokenizer*& result = c_given(tokenizer, "tokenizer");
    result = std::make_unique<mistral_tokenizer>(mistral_tokenizer{mistral::Tokenizer::load(from)}).release();
  });
}

inline void mistral_tokenizer_free(mistral_tokenizer* tokenizer) { delete tokenizer; }

inline mistral_status mistral_tokenizer_get_info(const mistral_tokenizer* tokenizer, mistral_tokenizer_info* info) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral::Tokenizer& from = c_given(tokenizer, "tokenizer").tokenizer;
    mistral_tokenizer_info to{};
    to.vocab_size = from.vocab_size();
    to.bos_id = from.bos_id();
    to.eos_id = from.eos_id();
    to.unk_id = from.unk_id();
    to.pad_id = from.pad_id();
    to.adds_bos = from.adds_bos() ? 1 : 0;
    to.adds_eos = from.adds_eos() ? 1 : 0;
    c_give(to, c_given(info, "info"), "info");
  });
}

inline mistral_status mistral_tokenizer_encode(const mistral_tokenizer* tokenizer, const char* text, size_t text_size,
                                               uint32_t flags, int32_t* tokens, size_t capacity, size_t* count) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral::Tokenizer& from = c_given(tokenizer, "tokenizer").tokenizer;
    const auto bytes = c_span(text, text_size, "text");
    std::size_t& number = c_given(count, "count");
    if ((flags & ~std::uint32_t{MISTRAL_ENCODE_ADD_SPECIAL | MISTRAL_ENCODE_PARSE_SPECIAL}) != 0) {
      c_refuse("flags", "flags of mistral_encode_flags", std::to_string(flags));
    }
    const std::vector<mistral::TokenId> ids =
        from.encode(std::string_view(bytes.data(), bytes.size()),
                    mistral::EncodeOptions{.add_special = (flags & MISTRAL_ENCODE_ADD_SPECIAL) != 0,
                                           .parse_special = (flags & MISTRAL_ENCODE_PARSE_SPECIAL) != 0});
    c_copy<mistral::TokenId>(ids, 0, tokens, capacity, number);
  });
}

inline mistral_status mistral_tokenizer_decode(const mistral_tokenizer* tokenizer, const int32_t* tokens, size_t count,
                                               char* text, size_t capacity, size_t* text_size) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral::Tokenizer& from = c_given(tokenizer, "tokenizer").tokenizer;
    const auto ids = c_span(tokens, count, "tokens");
    std::size_t& size = c_given(text_size, "text_size");
    const std::string made = from.decode(ids);
    c_copy<char>(std::span<const char>(made), 1, text, capacity, size);
  });
}

inline mistral_status mistral_session_new(const mistral_model* model, size_t rollback, mistral_session** session) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral_model& from = c_given(model, "model");
    mistral_session*& result = c_given(session, "session");
    constexpr std::size_t most = std::size_t{1}
                                 << 24;  // as of a window: no cache of so many overflows a count of bytes
    if (rollback > most) {
      throw mistral::Error("session", "rollback", "at most " + std::to_string(most) + " tokens",
                           std::to_string(rollback));
    }
    auto made = std::make_unique<mistral_session>(mistral_session{from.shared, from.shared->model->session(rollback)});
    result = made.release();
  });
}

inline mistral_status mistral_session_fork(const mistral_session* session, mistral_session** fork) {
  using namespace mistral::detail;
  return c_call([&] {
    const mistral_session& from = c_given(session, "session");
    mistral_session*& result = c_given(fork, "fork");
    result = std::make_unique<mistral_session>(mistral_session{from.shared, from.session->fork()}).release();
  });
}

inline void mistral_session_free(mistral_session* session) { delete session; }

inline mistral_status mistral_session_prefill(mistral_session* session, const int32_t* tokens, size_t count,
                                              const float** logits) {
  using namespace mistral::detail;
  return c_call([&] {
    const auto made = c_session(session).prefill(c_span(tokens, count, "tokens"));
    if (logits != nullptr) *logits = made.data();
  });
}

inline mistral_status mistral_session_decode(mistral_session* session, int32_t token, const float** logits) {
  return mistral_session_prefill(session, &token, 1, logits);
}

inline mistral_status mistral_session_forward(mistral_session* session, const int32_t* tokens, size_t count,
                                              const float** logits) {
  using namespace mistral::detail;
  return c_call([&] {
    const auto made = c_session(session).forward(c_span(tokens, count, "tokens"));
    if (logits != nullptr) *logits = made.data();
  });
}

inline mistral_status mistral_session_forward_residual(mistral_session* session, const int32_t* tokens, size_t count,
                                                       mistral_on_residual on_residual, void* user,
                                                       const float** logits) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral::AnySession& on = c_session(session);
    if (on_residual == nullptr) c_refuse("on_residual", "a function", "null");
    const auto made = on.forward(c_span(tokens, count, "tokens"), CResidual{on_residual, user});
    if (logits != nullptr) *logits = made.data();
  });
}

inline mistral_status mistral_session_use_adapter(mistral_session* session, size_t adapter) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral::AnySession& on = c_session(session);
    const std::size_t adapters = session->shared->adapters;
    if (adapter != mistral::no_adapter && adapter >= adapters) {
      throw mistral::Error("adapter", "number", "one of the model's " + std::to_string(adapters),
                           std::to_string(adapter));
    }
    on.use_adapter(adapter);
  });
}

inline mistral_status mistral_session_position(const mistral_session* session, size_t* position) {
  using namespace mistral::detail;
  return c_call([&] { c_given(position, "position") = static_cast<std::size_t>(c_session(session).position()); });
}

inline mistral_status mistral_session_revertible(const mistral_session* session, size_t* tokens) {
  using namespace mistral::detail;
  return c_call([&] { c_given(tokens, "tokens") = static_cast<std::size_t>(c_session(session).revertible()); });
}

inline mistral_status mistral_session_rollback(mistral_session* session, size_t tokens) {
  using namespace mistral::detail;
  return c_call([&] {
    constexpr auto most = static_cast<std::size_t>((std::numeric_limits<std::int64_t>::max)());
    c_session(session).rollback(static_cast<std::int64_t>((std::min)(tokens, most)));
  });
}

inline mistral_status mistral_session_clear(mistral_session* session) {
  using namespace mistral::detail;
  return c_call([&] { c_session(session).clear(); });
}

inline mistral_status mistral_session_save(const mistral_session* session, const int32_t* tokens, size_t count,
                                           const char* path) {
  using namespace mistral::detail;
  return c_call([&] { c_session(session).save(c_span(tokens, count, "tokens"), std::string(&c_given(path, "path"))); });
}

inline mistral_status mistral_session_restore(mistral_session* session, const char* path) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral::AnySession& on = c_session(session);
    on.restore(mistral::SessionFile::open(&c_given(path, "path")));
  });
}

inline mistral_status mistral_session_file_tokens(const char* path, int32_t* tokens, size_t capacity, size_t* count) {
  using namespace mistral::detail;
  return c_call([&] {
    const auto file = mistral::SessionFile::open(&c_given(path, "path"));
    c_copy<mistral::TokenId>(file.tokens(), 0, tokens, capacity, c_given(count, "count"));
  });
}

inline mistral_status mistral_generate_options_init(mistral_generate_options* options, size_t size) {
  using namespace mistral::detail;
  return c_call([&] { c_give_defaults(c_generate_defaults(), options, size, "options"); });
}

inline mistral_status mistral_session_generate(mistral_session* session, const mistral_tokenizer* tokenizer,
                                               const int32_t* prompt, size_t count,
                                               const mistral_generate_options* options, mistral_on_text on_text,
                                               void* user, mistral_generated* generated) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral::AnySession& on = c_session(session);
    const mistral::Tokenizer& with = c_given(tokenizer, "tokenizer").tokenizer;
    const auto ids = c_span(prompt, count, "prompt");
    const mistral::GenerateOptions o = c_generate_options(c_options(options, c_generate_defaults(), "options"), with);
    if (generated != nullptr) (void)c_size_of(*generated, "generated");
    const auto show = [&](std::string_view text) -> bool {
      return on_text == nullptr || on_text(user, std::string(text).c_str(), text.size()) != 0;
    };
    session->made = mistral::generate(on, with, ids, o, show);
    if (generated == nullptr) return;
    mistral_generated to{};
    to.text = session->made.text.c_str();
    to.text_size = session->made.text.size();
    to.tokens = session->made.tokens.data();
    to.token_count = session->made.tokens.size();
    to.reason = static_cast<std::int32_t>(session->made.reason);
    c_give(to, *generated, "generated");
  });
}

}  // extern "C"

static_assert(MISTRAL_STOP_MAX_TOKENS == static_cast<int>(mistral::StopReason::max_tokens) &&
              MISTRAL_STOP_ID == static_cast<int>(mistral::StopReason::stop_id) &&
              MISTRAL_STOP_STRING == static_cast<int>(mistral::StopReason::stop_string) &&
              MISTRAL_STOP_CONTEXT == static_cast<int>(mistral::StopReason::context) &&
              MISTRAL_STOP_CALLBACK == static_cast<int>(mistral::StopReason::cancelled));

#define MISTRAL_C_KEPT(NAME) reinterpret_cast<void (*)()>(&mistral_##NAME)

/// Has the compiler keep all functions of the interface, which a library then shows.
#define MISTRAL_C_INTERFACE                                                                               \
  [[gnu::used]] static void (*const mistral_c_interface[])() = {MISTRAL_C_KEPT(c_version),                \
                                                                MISTRAL_C_KEPT(version),                  \
                                                                MISTRAL_C_KEPT(error_message),            \
                                                                MISTRAL_C_KEPT(get_info),                 \
                                                                MISTRAL_C_KEPT(load_options_init),        \
                                                                MISTRAL_C_KEPT(model_load),               \
                                                                MISTRAL_C_KEPT(model_free),               \
                                                                MISTRAL_C_KEPT(model_load_adapter),       \
                                                                MISTRAL_C_KEPT(tokenizer_load),           \
                                                                MISTRAL_C_KEPT(tokenizer_free),           \
                                                                MISTRAL_C_KEPT(tokenizer_get_info),       \
                                                                MISTRAL_C_KEPT(tokenizer_encode),         \
                                                                MISTRAL_C_KEPT(tokenizer_decode),         \
                                                                MISTRAL_C_KEPT(session_new),              \
                                                                MISTRAL_C_KEPT(session_fork),             \
                                                                MISTRAL_C_KEPT(session_free),             \
                                                                MISTRAL_C_KEPT(session_prefill),          \
                                                                MISTRAL_C_KEPT(session_decode),           \
                                                                MISTRAL_C_KEPT(session_forward),          \
                                                                MISTRAL_C_KEPT(session_forward_residual), \
                                                                MISTRAL_C_KEPT(session_use_adapter),      \
                                                                MISTRAL_C_KEPT(session_position),         \
                                                                MISTRAL_C_KEPT(session_revertible),       \
                                                                MISTRAL_C_KEPT(session_rollback),         \
                                                                MISTRAL_C_KEPT(session_clear),            \
                                                                MISTRAL_C_KEPT(session_save),             \
                                                                MISTRAL_C_KEPT(session_restore),          \
                                                                MISTRAL_C_KEPT(session_file_tokens),      \
                                                                MISTRAL_C_KEPT(generate_options_init),    \
                                                                MISTRAL_C_KEPT(session_generate)};
