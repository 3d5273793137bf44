// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The functions of mistral/c.h that run a sequence: mistral_session_...

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include <mistral/core/error.hpp>
#include <mistral/core/token.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/nn/hooks.hpp>
#include <mistral/run/any_model.hpp>
#include <mistral/run/c/call.hpp>
#include <mistral/run/c/handles.hpp>
#include <mistral/run/c/structs.hpp>

#include <mistral/c.h>

namespace mistral { inline namespace MISTRAL_ABI { namespace detail {

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

/// Returns the session of a handle.
template <class Session>
auto& c_session(Session* session) {
  return *c_given(session, "session").session;
}

}}}  // namespace mistral::detail

extern "C" {

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
    mistral::AnySession& on = c_session(session);
    const auto ids = c_span(tokens, count, "tokens");
    const float* made = nullptr;
    session->threads.run(*session->shared, [&] { made = on.prefill(ids).data(); });
    if (logits != nullptr) *logits = made;
  });
}

inline mistral_status mistral_session_decode(mistral_session* session, int32_t token, const float** logits) {
  return mistral_session_prefill(session, &token, 1, logits);
}

inline mistral_status mistral_session_forward(mistral_session* session, const int32_t* tokens, size_t count,
                                              const float** logits) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral::AnySession& on = c_session(session);
    const auto ids = c_span(tokens, count, "tokens");
    const float* made = nullptr;
    session->threads.run(*session->shared, [&] { made = on.forward(ids).data(); });
    if (logits != nullptr) *logits = made;
  });
}

inline mistral_status mistral_session_forward_residual(mistral_session* session, const int32_t* tokens, size_t count,
                                                       mistral_on_residual on_residual, void* user,
                                                       const float** logits) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral::AnySession& on = c_session(session);
    if (on_residual == nullptr) c_refuse("on_residual", "a function", "null");
    const auto ids = c_span(tokens, count, "tokens");
    const float* made = nullptr;
    session->threads.run(*session->shared, [&] { made = on.forward(ids, CResidual{on_residual, user}).data(); });
    if (logits != nullptr) *logits = made;
  });
}

inline mistral_status mistral_session_use_adapter(mistral_session* session, size_t adapter) {
  using namespace mistral::detail;
  return c_call([&] {
    mistral::AnySession& on = c_session(session);
    c_check_adapter(*session->shared, adapter);
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

}  // extern "C"
