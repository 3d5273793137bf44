// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The functions of mistral/c.h over the model of a compiled library. They are inline, so that a unit which includes
/// this header has none of them; MISTRAL_C_INTERFACE, which stands once in a library (run/compiled_model.hpp), has the
/// compiler keep all. None of them depends on the type of the model.

#include <mistral/core/abi.hpp>
#include <mistral/run/c/batch.hpp>
#include <mistral/run/c/generate.hpp>
#include <mistral/run/c/model.hpp>
#include <mistral/run/c/session.hpp>
#include <mistral/run/c/tokenizer.hpp>

#include <mistral/c.h>

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
                                                                MISTRAL_C_KEPT(model_set_threads),        \
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
                                                                MISTRAL_C_KEPT(session_generate),         \
                                                                MISTRAL_C_KEPT(batch_options_init),       \
                                                                MISTRAL_C_KEPT(batch_new),                \
                                                                MISTRAL_C_KEPT(batch_free),               \
                                                                MISTRAL_C_KEPT(batch_submit),             \
                                                                MISTRAL_C_KEPT(batch_cancel),             \
                                                                MISTRAL_C_KEPT(batch_close),              \
                                                                MISTRAL_C_KEPT(batch_wait)};
