// SPDX-License-Identifier: Apache-2.0
#ifndef MISTRAL_C_H
#define MISTRAL_C_H

/// \file
/// The C interface of a compiled model: of a library that `mistral compile CHECKPOINT --out model.so` makes. A program
/// in C99, C++ or any language that calls C links with that library or opens it when it runs (dlopen, ctypes). One
/// library holds one type of model; a program that uses several types opens several libraries and asks each for its own
/// functions.
///
/// - A function that can fail returns a mistral_status, MISTRAL_OK where all went well. What went wrong is then said by
///   mistral_error_message(), a line for people, which names the file or the argument. No exception leaves a function.
/// - Where a function fails, it writes to none of its results, and a session is as it was, unless it says otherwise.
/// - Handles are made by functions that end in `_load`, `_new` or `_fork`, and given back by those that end in `_free`,
///   which take a null pointer too. They may be given back in any order: a session or a batch keeps its model alive.
/// - One thread at a time uses a session. A tokenizer, and a model that no adapter is being added to, are for any
///   number of threads. One thread waits for the results of a batch, and any number submit to it.
/// - A struct that may grow begins with `size`, which the caller sets to sizeof of what it was compiled with. Later
///   versions add members at the end and take the shorter structs of earlier ones.
/// - What was added to the first version says since which it is there.
/// - Texts are UTF-8, and tokens are 0 ... vocab_size - 1.

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The version of this interface. A library of a greater version serves programs that were compiled with a smaller one.
#define MISTRAL_C_VERSION 2

/// Marks a function that a compiled model shows.
#ifdef __GNUC__
#define MISTRAL_C_API __attribute__((visibility("default")))
#else
#define MISTRAL_C_API
#endif

/// The success of a function, or its failure: one of the constants MISTRAL_OK and MISTRAL_ERROR_...
typedef int32_t mistral_status;

/// The values of a mistral_status.
enum mistral_status_values {
  MISTRAL_OK = 0,              ///< all went well
  MISTRAL_ERROR_ARGUMENT = 1,  ///< an argument that no call may have: a null handle, a struct of a wrong size
  MISTRAL_ERROR_DATA = 2,      ///< a file, a token, an option or a state of the session that doesn't fit
  MISTRAL_ERROR_ROOM = 3,      ///< a result needs more room than `capacity`; how much it needs has been written
  MISTRAL_ERROR_MEMORY = 4,    ///< the system has no more memory
  MISTRAL_ERROR_STOPPED = 5,   ///< a callback asked to stop
  MISTRAL_ERROR_INTERNAL = 6   ///< anything else
};

/// The number of an adapter that stands for none: the base alone.
#define MISTRAL_NO_ADAPTER SIZE_MAX

/// A model with its weights.
typedef struct mistral_model mistral_model;
/// One sequence that goes through a model: its cache of keys and values, and its position.
typedef struct mistral_session mistral_session;
/// A tokenizer.
typedef struct mistral_tokenizer mistral_tokenizer;
/// Sequences that go through a model together (since version 2).
typedef struct mistral_batch mistral_batch;

/// Returns the version of the interface that the library was compiled with, a MISTRAL_C_VERSION. A program that needs
/// functions or members of version N refuses a library that returns less.
MISTRAL_C_API int32_t mistral_c_version(void);

/// Returns the version of the library mistral: "0.1.0".
MISTRAL_C_API const char* mistral_version(void);

/// Returns what went wrong in the last call of this thread that failed: a line, empty before the first. It is valid
/// until the thread's next call fails.
MISTRAL_C_API const char* mistral_error_message(void);

/// The model that the library is compiled for.
typedef struct mistral_info {
  size_t size;             ///< sizeof(mistral_info)
  size_t dim;              ///< width of the residual stream
  size_t n_layers;         ///< number of blocks
  size_t head_dim;         ///< width of a head
  size_t hidden_dim;       ///< width inside the feed-forward network
  size_t n_heads;          ///< number of query heads
  size_t n_kv_heads;       ///< number of key and value heads
  size_t window_size;      ///< keys that a query sees; 0: all
  size_t context_len;      ///< tokens that a session without a window can take
  size_t vocab_size;       ///< number of tokens, and of logits
  float rope_theta;        ///< base of the rotary embedding
  float norm_eps;          ///< what RMSNorm adds to the mean square
  char weights[16];        ///< format of the matrices: "Q4_0"
  char kv[16];             ///< elements of the cache: "float", "bf16" or "q8"
  int32_t exact;           ///< 1 where activations stay floats on any machine, else 0
  int32_t adapters;        ///< 1 where the model takes adapters, else 0
  size_t weight_bytes;     ///< bytes of all weights
  size_t cache_bytes;      ///< bytes of a session's cache, at most
  size_t workspace_bytes;  ///< bytes of a session's activations and logits
} mistral_info;

/// Says what the library is compiled for; nothing is loaded.
MISTRAL_C_API mistral_status mistral_get_info(mistral_info* info);

/// Options of mistral_model_load. mistral_load_options_init gives the defaults.
typedef struct mistral_load_options {
  size_t size;                     ///< sizeof(mistral_load_options)
  int32_t allow_different_window;  ///< 1: the library's window counts, whatever the checkpoint says (default 0)
  int32_t allow_longer_context;    ///< 1: the library's context counts, whatever the checkpoint says (default 0)
  int32_t check_memory;            ///< 0: try to load what doesn't fit in memory (default 1)
  int32_t refuse_not_finite;       ///< 1: refuse weights that are NaN or infinite (default 0)
  uint64_t max_memory;             ///< bytes that the model must fit in; 0: what the system has available (default 0)
  uint64_t session_bytes;          ///< bytes that must fit beside the weights, for sessions to come (default 0)
  /// Is told that `done` of `total` bytes are loaded; null: nobody is told (default). It returns 0 to stop.
  int32_t (*progress)(void* user, uint64_t done, uint64_t total);
  void* user;      ///< handed to `progress`
  size_t threads;  ///< as mistral_model_set_threads takes it, from the loading on (default 0; since version 2)
} mistral_load_options;

/// Sets all members to their defaults. `options` and `size`: a struct and its sizeof.
MISTRAL_C_API mistral_status mistral_load_options_init(mistral_load_options* options, size_t size);

/// Loads a checkpoint of the type that the library is compiled for: a folder, a .gguf or a packed file.
///   options  null for the defaults
///   model    is set to the new handle
MISTRAL_C_API mistral_status mistral_model_load(const char* path, const mistral_load_options* options,
                                                mistral_model** model);
/// Gives a model back. It ends once its last session has.
MISTRAL_C_API void mistral_model_free(mistral_model* model);

/// Loads an adapter in PEFT's layout beside the weights. No session of the model may be in a call meanwhile.
///   adapter  is set to its number, from 0
/// Fails where the library takes no adapters (mistral_info::adapters).
MISTRAL_C_API mistral_status mistral_model_load_adapter(mistral_model* model, const char* folder, size_t* adapter);

/// Limits the threads that each call of the model's sessions and batches may use, the calling one among them (since
/// version 2). Results don't depend on it. It counts for calls that begin later, and may be called at any time.
///   threads  0 for all processors
MISTRAL_C_API mistral_status mistral_model_set_threads(mistral_model* model, size_t threads);

/// Loads a tokenizer: a tokenizer.model, or that of a checkpoint's folder, a .gguf or a packed file.
MISTRAL_C_API mistral_status mistral_tokenizer_load(const char* path, mistral_tokenizer** tokenizer);
/// Gives a tokenizer back.
MISTRAL_C_API void mistral_tokenizer_free(mistral_tokenizer* tokenizer);

/// The numbers of a tokenizer.
typedef struct mistral_tokenizer_info {
  size_t size;        ///< sizeof(mistral_tokenizer_info)
  size_t vocab_size;  ///< number of ids
  int32_t bos_id;     ///< begins a text; -1 where there is none
  int32_t eos_id;     ///< ends a text; -1 where there is none
  int32_t unk_id;     ///< stands for what has no piece; -1 where there is none
  int32_t pad_id;     ///< fills rows up; -1 where there is none
  int32_t adds_bos;   ///< 1 where the model's maker puts BOS in front of a text, else 0
  int32_t adds_eos;   ///< 1 where the model's maker puts EOS behind a text, else 0
} mistral_tokenizer_info;

/// Says the numbers of a tokenizer.
MISTRAL_C_API mistral_status mistral_tokenizer_get_info(const mistral_tokenizer* tokenizer,
                                                        mistral_tokenizer_info* info);

/// Flags of mistral_tokenizer_encode.
enum mistral_encode_flags {
  MISTRAL_ENCODE_ADD_SPECIAL = 1,   ///< BOS in front and EOS behind, as the model's maker says
  MISTRAL_ENCODE_PARSE_SPECIAL = 2  ///< control pieces in the text, such as [INST], become their ids
};

/// Encodes a text.
///   text, text_size  bytes, without the terminating zero
///   flags            0, or flags of mistral_encode_flags
///   tokens           room for `capacity` tokens; null with a capacity of 0 to ask for the number alone
///   count            is set to the number of tokens, also where the room doesn't suffice (MISTRAL_ERROR_ROOM)
MISTRAL_C_API mistral_status mistral_tokenizer_encode(const mistral_tokenizer* tokenizer, const char* text,
                                                      size_t text_size, uint32_t flags, int32_t* tokens,
                                                      size_t capacity, size_t* count);

/// Decodes tokens. The text gets a terminating zero.
///   text       room for `capacity` bytes; null with a capacity of 0 to ask for the size alone
///   text_size  is set to the bytes of the text without the zero, also where the room doesn't suffice
///              (MISTRAL_ERROR_ROOM)
MISTRAL_C_API mistral_status mistral_tokenizer_decode(const mistral_tokenizer* tokenizer, const int32_t* tokens,
                                                      size_t count, char* text, size_t capacity, size_t* text_size);

/// Makes a session at position 0. It goes through the model's first adapter, where there is one.
///   rollback  tokens that can be taken back at any time, at most 2^24. A model without a window takes back any number.
MISTRAL_C_API mistral_status mistral_session_new(const mistral_model* model, size_t rollback,
                                                 mistral_session** session);
/// Makes another session in the state of this one.
MISTRAL_C_API mistral_status mistral_session_fork(const mistral_session* session, mistral_session** fork);
/// Gives a session back, with the results that its calls pointed to.
MISTRAL_C_API void mistral_session_free(mistral_session* session);

/// Takes a prompt.
///   logits  is set to the logits after its last token, (vocab_size), valid until the session's next call; may be null
MISTRAL_C_API mistral_status mistral_session_prefill(mistral_session* session, const int32_t* tokens, size_t count,
                                                     const float** logits);
/// Takes one more token.
///   logits  as of mistral_session_prefill
MISTRAL_C_API mistral_status mistral_session_decode(mistral_session* session, int32_t token, const float** logits);
/// Takes some tokens.
///   logits  is set to the logits after each of them, (count, vocab_size), valid until the session's next call; may be
///           null
MISTRAL_C_API mistral_status mistral_session_forward(mistral_session* session, const int32_t* tokens, size_t count,
                                                     const float** logits);

/// Rows of the residual stream: row i begins at values + i * stride and belongs to the token at position + i.
typedef struct mistral_residual {
  size_t layer;      ///< of which block the rows are the input; n_layers: the output of the last
  int64_t position;  ///< position of the first row
  size_t rows;       ///< number of tokens; a long text comes in several parts
  size_t width;      ///< values of a row: dim
  size_t stride;     ///< values from one row to the next
  float* values;     ///< the rows, until the callback returns; what is written to them goes on from there
} mistral_residual;

/// Is shown the residual stream before the first block and after each. It returns 0 to stop, and must not use the
/// session.
typedef int32_t (*mistral_on_residual)(void* user, const mistral_residual* residual);

/// Takes some tokens as mistral_session_forward does, and shows the residual stream, the model's hidden states, on the
/// way. Where the callback stops it, the result is MISTRAL_ERROR_STOPPED, and the session is cleared.
MISTRAL_C_API mistral_status mistral_session_forward_residual(mistral_session* session, const int32_t* tokens,
                                                              size_t count, mistral_on_residual on_residual, void* user,
                                                              const float** logits);

/// Has the next tokens go through an adapter of the model: its number, or MISTRAL_NO_ADAPTER.
MISTRAL_C_API mistral_status mistral_session_use_adapter(mistral_session* session, size_t adapter);

/// Says how many tokens the session has taken.
MISTRAL_C_API mistral_status mistral_session_position(const mistral_session* session, size_t* position);
/// Says how many tokens mistral_session_rollback can take back.
MISTRAL_C_API mistral_status mistral_session_revertible(const mistral_session* session, size_t* tokens);
/// Takes the last tokens back: what follows is as if they had never been there.
MISTRAL_C_API mistral_status mistral_session_rollback(mistral_session* session, size_t tokens);
/// Forgets the sequence: the next token has position 0.
MISTRAL_C_API mistral_status mistral_session_clear(mistral_session* session);

/// Writes the state of a session to a file, which appears whole or not at all.
///   tokens, count  all tokens that the session has taken, kept beside the state; or null and 0
MISTRAL_C_API mistral_status mistral_session_save(const mistral_session* session, const int32_t* tokens, size_t count,
                                                  const char* path);
/// Puts a session into the state that a file holds. It goes on to the same bits. Fails where the file was made with
/// other weights, or another adapter than the session goes through.
MISTRAL_C_API mistral_status mistral_session_restore(mistral_session* session, const char* path);
/// Reads the tokens of a file that mistral_session_save wrote; results are as of mistral_tokenizer_encode.
MISTRAL_C_API mistral_status mistral_session_file_tokens(const char* path, int32_t* tokens, size_t capacity,
                                                         size_t* count);

/// When and how a text goes on. mistral_generate_options_init gives the defaults, which choose the most probable token.
typedef struct mistral_generate_options {
  size_t size;                      ///< sizeof(mistral_generate_options)
  float temperature;                ///< what logits are divided by; 0: the most probable token (default 0)
  float top_p;                      ///< nucleus sampling; 1: off (default 1)
  float min_p;                      ///< least probability, of the greatest one's; 0: off (default 0)
  float repetition_penalty;         ///< what the logits of tokens in the history are divided by; 1: off (default 1)
  int32_t top_k;                    ///< how many tokens are kept; 0: all (default 0)
  int32_t repetition_window;        ///< tokens that make the history; 0: all (default 0)
  uint64_t seed;                    ///< where the random numbers start (default 0)
  size_t max_tokens;                ///< tokens to generate at most (default 256)
  size_t lookup;                    ///< tokens drafted from the text at most; a session with a window needs as many to
                                    ///< roll back (default 0)
  int32_t stop_at_eos;              ///< 0: the tokenizer's ends of a text don't end it (default 1)
  int32_t own_text;                 ///< 1: the text begins without the space before a word, as an answer (default 0)
  const int32_t* stop_ids;          ///< more tokens that end the text and aren't in it (default null)
  size_t stop_id_count;             ///< number of stop_ids (default 0)
  const char* const* stop_strings;  ///< texts that end the text and aren't in it (default null)
  size_t stop_string_count;         ///< number of stop_strings (default 0)
} mistral_generate_options;

/// Sets all members to their defaults. `options` and `size`: a struct and its sizeof.
MISTRAL_C_API mistral_status mistral_generate_options_init(mistral_generate_options* options, size_t size);

/// Is handed each piece of text once it is final: `text` ends with a zero, which `text_size` doesn't count, and is
/// valid until the callback returns. It returns 0 to end the text, and must not use the session.
typedef int32_t (*mistral_on_text)(void* user, const char* text, size_t text_size);

/// Why a text ended: the values of mistral_generated::reason.
enum mistral_stop_reason {
  MISTRAL_STOP_MAX_TOKENS = 0,  ///< as many tokens as were asked for
  MISTRAL_STOP_ID = 1,          ///< a token that ends a text
  MISTRAL_STOP_STRING = 2,      ///< one of stop_strings
  MISTRAL_STOP_CONTEXT = 3,     ///< a model without a window has come to the end of its context
  MISTRAL_STOP_CALLBACK = 4     ///< the callback ended it, or mistral_batch_cancel did
};

/// The text that continues a prompt.
typedef struct mistral_generated {
  size_t size;            ///< sizeof(mistral_generated)
  const char* text;       ///< the text, which ends with a zero, valid until the session's next call
  size_t text_size;       ///< bytes of the text without the zero
  const int32_t* tokens;  ///< the tokens chosen, without one that stopped, valid until the session's next call
  size_t token_count;     ///< number of tokens
  int32_t reason;         ///< why the text ended: a mistral_stop_reason
  int32_t reserved;       ///< 0
} mistral_generated;

/// Continues a prompt token by token. The last token chosen has not gone through the session: it belongs at the head of
/// whatever is to follow.
///   prompt, count  tokens that the session hasn't seen
///   options        null for the defaults
///   on_text, user  who is told of the text on the way; null: nobody
///   generated      is set to the result, its `size` set by the caller; may be null
/// Where it fails after the prompt, the session has taken as many tokens as its position says.
MISTRAL_C_API mistral_status mistral_session_generate(mistral_session* session, const mistral_tokenizer* tokenizer,
                                                      const int32_t* prompt, size_t count,
                                                      const mistral_generate_options* options, mistral_on_text on_text,
                                                      void* user, mistral_generated* generated);

/// How many sequences a batch runs and keeps (since version 2). mistral_batch_options_init gives the defaults.
typedef struct mistral_batch_options {
  size_t size;                ///< sizeof(mistral_batch_options)
  size_t max_sequences;       ///< sequences that run at once, each with a cache, at most 2^16 (default 16)
  size_t token_budget;        ///< tokens of one forward, max_sequences ... 2^20 (default 64)
  size_t max_waiting;         ///< sequences that wait for a cache, at most (default 1024)
  size_t max_waiting_tokens;  ///< tokens of the prompts of those that wait, at most (default 2^20)
  size_t max_prompt_tokens;   ///< tokens of one prompt, at most; 0: any number (default 0)
  size_t worth_waiting;    ///< tokens to save for which a sequence waits until another has computed them (default 16)
  int32_t share_prefixes;  ///< 0: compute anew what another sequence has computed of the same first tokens (default 1)
  int32_t reserved;        ///< 0
} mistral_batch_options;

/// Sets all members to their defaults. `options` and `size`: a struct and its sizeof. Since version 2.
MISTRAL_C_API mistral_status mistral_batch_options_init(mistral_batch_options* options, size_t size);

/// Makes a batch without sequences (since version 2). Each sequence gets the tokens, bit by bit, that
/// mistral_session_generate would give it alone.
///   tokenizer  null where tokens suffice: results then have no text, only stop_ids end it, and there are no
///              stop_strings. It may be given back before the batch.
///   options    null for the defaults
MISTRAL_C_API mistral_status mistral_batch_new(const mistral_model* model, const mistral_tokenizer* tokenizer,
                                               const mistral_batch_options* options, mistral_batch** batch);
/// Gives a batch back, with its sequences and results (since version 2). No call of it may be running.
MISTRAL_C_API void mistral_batch_free(mistral_batch* batch);

/// A text that is to be continued beside others (since version 2). Members that are zero have their defaults.
typedef struct mistral_batch_request {
  size_t size;                              ///< sizeof(mistral_batch_request)
  const int32_t* prompt;                    ///< tokens, at least one
  size_t prompt_size;                       ///< number of tokens
  const mistral_generate_options* options;  ///< null for the defaults; `lookup` counts for nothing
  size_t adapter;                           ///< number of the adapter, or MISTRAL_NO_ADAPTER; 0: the first, if any
  uint64_t tag;                             ///< the caller's own, which the result brings back
  mistral_on_text on_text;  ///< is told of the text on the way; null: nobody. It is called in the thread
                            ///< that waits, and may submit and cancel
  void* user;               ///< handed to on_text
} mistral_batch_request;

/// Has a sequence join, from any thread (since version 2). The request is copied, but for what `user` points to.
///   id  is set to what names the sequence; may be null
MISTRAL_C_API mistral_status mistral_batch_submit(mistral_batch* batch, const mistral_batch_request* request,
                                                  uint64_t* id);

/// Has a sequence leave, from any thread (since version 2). Its result says what it has made.
///   cancelled  is set to 1, or to 0 where it has ended already; may be null
MISTRAL_C_API mistral_status mistral_batch_cancel(mistral_batch* batch, uint64_t id, int32_t* cancelled);

/// Has no more sequences join, from any thread (since version 2). Those that have joined go on.
MISTRAL_C_API mistral_status mistral_batch_close(mistral_batch* batch);

/// How a sequence of a batch ended (since version 2).
typedef struct mistral_batch_result {
  size_t size;            ///< sizeof(mistral_batch_result)
  uint64_t id;            ///< the sequence
  uint64_t tag;           ///< the request's
  const char* text;       ///< the text, which ends with a zero, valid until the next mistral_batch_wait
  size_t text_size;       ///< bytes of the text without the zero
  const int32_t* tokens;  ///< the tokens chosen, without one that stopped, valid until the next mistral_batch_wait
  size_t token_count;     ///< number of tokens
  int32_t reason;         ///< why the text ended: a mistral_stop_reason
  mistral_status status;  ///< MISTRAL_OK, or why the sequence failed; what it had made until then is there all the same
  const char* message;    ///< what went wrong; empty where nothing did; valid until the next mistral_batch_wait
} mistral_batch_result;

/// Flags of mistral_batch_wait (since version 2).
enum mistral_wait_flags {
  MISTRAL_WAIT_UNTIL_CLOSED = 1  ///< wait for more requests too, until mistral_batch_close
};

/// Runs all sequences together until one has ended (since version 2). One thread at a time calls it, and no callback.
///   flags   0, or flags of mistral_wait_flags
///   result  is set to how it ended, its `size` set by the caller
///   ended   is set to 1; to 0 where no sequence is left, and with MISTRAL_WAIT_UNTIL_CLOSED the batch is closed
/// Where memory is short, it may be called again.
MISTRAL_C_API mistral_status mistral_batch_wait(mistral_batch* batch, uint32_t flags, mistral_batch_result* result,
                                                int32_t* ended);

#ifdef __cplusplus
}
#endif

#endif
