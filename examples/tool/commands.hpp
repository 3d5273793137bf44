// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <mistral/core/token.hpp>
#include <mistral/generate/generation_settings.hpp>
#include <mistral/generate/sampler.hpp>

namespace mistral::tool {

/// A command line that cannot be right whatever the files hold: exit code 2, where wrong data (Error) gives 1.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A text from the command line, from a file, or from standard input where the file is "-" or neither is given.
struct TextArguments {
  std::optional<std::string> text;
  std::string file;
};

/// A checkpoint and how it is to be run.
struct ModelArguments {
  std::string folder;                  // or a .gguf or packed file
  std::string weights;                 // the format that they are held in; empty: the checkpoint's own
  std::string kv;                      // the elements of the cache; empty: float for F32, else bf16
  std::optional<std::size_t> window;   // none: the checkpoint's own; 0: full attention
  std::optional<std::size_t> context;  // none: the checkpoint's own
  bool exact = false;                  // nothing is rounded but the weights: activations and cache are floats
  std::string compiled;                // a compiled model to run it by; empty: the one in the cache folder
  std::string tokenizer;               // empty: the checkpoint's own
  std::vector<std::string> adapters;   // PEFT folders; the model goes through one of them
  std::string use_adapter;             // which, as chosen_adapter takes it; empty: the first
  std::size_t threads = 0;             // 0: as many as there are processors
  bool check_memory = true;
  bool refuse_not_finite = false;  // NaN and infinite weights, for a command that writes them
};

struct GenerateArguments {
  ModelArguments model;
  TextArguments prompt;
  std::string chat_file;      // a request to answer; empty: the prompt
  std::string chat_template;  // see chat_format; empty: the model's
  std::size_t max_tokens = 256;
  SamplingOptions sampling{.temperature = 0.7f};
  std::optional<std::uint64_t> seed;           // none: a random one
  std::optional<GenerationSettings> settings;  // the model's own, where they count
  std::vector<std::string> stop;
  std::vector<TokenId> stop_ids;  // besides those of the tokenizer
  bool ignore_eos = false;
  bool no_bos = false;
  bool parse_special = false;  // control pieces in the prompt become control tokens
  std::string state;           // a file that the session is taken from, where it is there, and saved to; empty: none
  std::size_t lookup = 0;      // tokens that are drafted at most
  bool json = false;
  bool verbose = false;
};
void run_generate(const GenerateArguments& arguments);

struct ChatArguments {
  ModelArguments model;
  std::string chat_template;  // see chat_format; empty: the model's
  std::string system;
  bool guardrail = false;
  std::string load;            // a conversation to go on from; empty: none
  bool context_shift = false;  // without a window, leave out the oldest turns where the context is full
  std::size_t max_tokens = 512;
  SamplingOptions sampling{.temperature = 0.7f};
  std::optional<std::uint64_t> seed;           // none: a random one
  std::optional<GenerationSettings> settings;  // the model's own, where they count
  std::vector<TokenId> stop_ids;               // besides those of the tokenizer
  bool json = false;
  bool verbose = false;
};
void run_chat(const ChatArguments& arguments);

struct TokenizeArguments {
  std::string tokenizer;  // empty: tokenizer.json or tokenizer.model in `folder`
  std::string folder;
  TextArguments text;
  std::string chat_file;      // empty: a text, or ids, instead of conversations
  std::string chat_template;  // see chat_format; empty: the model's
  bool decode = false;
  bool skip_special = false;
  bool bos = false;
  bool add_special = false;
  bool parse_special = false;
  bool pieces = false;
  bool json = false;
};
void run_tokenize(const TokenizeArguments& arguments);

struct RenderArguments {
  std::string template_file;
  std::string context;  // a JSON object a line; - for standard input
};
void run_render(const RenderArguments& arguments);

struct LogitsArguments {
  ModelArguments model;
  std::optional<std::string> tokens;
  std::string tokens_file;
  TextArguments prompt;
  std::string out;  // - for standard output
  bool no_bos = false;
  bool parse_special = false;
  bool json = false;
};
void run_logits(const LogitsArguments& arguments);

struct PerplexityArguments {
  ModelArguments model;
  TextArguments text;
  std::size_t stride = 0;  // 0: half of the context
  std::string against;     // formats, with commas between them, or all; empty: none
  bool no_bos = false;
  bool parse_special = false;
  bool json = false;
};
void run_perplexity(const PerplexityArguments& arguments);

struct EvaluateArguments {
  ModelArguments model;
  std::string task;
  std::string results;  // of programs; empty: a task
  std::vector<std::size_t> pass_at{1};
  std::size_t shots = 0;
  std::string chat_template;  // see chat_format; empty: plain texts
  std::size_t samples = 0;    // of an answer; 0: the most probable one
  std::size_t max_tokens = 256;
  SamplingOptions sampling{.temperature = 0.7f};
  std::optional<std::uint64_t> seed;  // none: 0
  std::vector<TokenId> stop_ids;      // of answers, besides those of the tokenizer
  std::size_t stride = 0;             // 0: half of the context
  bool json = false;
};
void run_evaluate(const EvaluateArguments& arguments);

struct ModerateArguments {
  ModelArguments model;
  std::string chat_template;  // see chat_format; empty: the model's
  std::optional<std::string> prompt;
  std::string answer;  // empty: the prompt is judged
  std::string file;    // of texts; empty: the one given
  std::optional<double> threshold;
  bool json = false;
};
void run_moderate(const ModerateArguments& arguments);

struct InspectArguments {
  std::string folder;
  std::string tokenizer;  // empty: tokenizer.model in `folder`, where there is one
  bool verify = false;    // hold a packed file's data against their checksums
  std::string config;     // the name of a ModelConfig to print instead; empty: none
  bool json = false;
};
void run_inspect(const InspectArguments& arguments);

/// Tokens of a draft at most where the command line doesn't say: with the token before them, a tile of rows.
inline constexpr std::size_t lookup_tokens = 11;

struct BenchArguments {
  std::string config;                 // a name, or a checkpoint
  std::string weights;                // empty: BF16, or the checkpoint's own
  std::string kv;                     // empty: bf16
  std::optional<std::size_t> window;  // none: the config's own
  std::size_t prompt_tokens = 512;
  std::size_t generate_tokens = 64;
  std::vector<std::size_t> depths{0};  // tokens in the cache before the first that is timed
  std::size_t sequences = 0;           // that go through the model together, a row of each; 0: not timed
  bool scheduler = false;              // time a SessionBatch of as many too
  bool finetune = false;               // time steps of training instead, with adapters of `rank`
  std::size_t rank = 32;
  std::size_t lookup = 0;  // time an editing answer with drafts of so many tokens at most, and without; 0: no
  std::size_t repeats = 5;
  std::size_t threads = 0;  // 0: as many as there are processors
  bool json = false;
};
void run_bench(const BenchArguments& arguments);

struct QuantizeArguments {
  std::string folder;     // or a .gguf file
  std::string weights;    // the format, as the command line says it
  std::string out;        // - for standard output
  bool packed = false;    // rather than GGUF
  std::string tokenizer;  // empty: the checkpoint's own, where it has one
  bool without_tokenizer = false;
  std::size_t threads = 0;
  bool json = false;
};
void run_quantize(const QuantizeArguments& arguments);

struct FinetuneArguments {
  ModelArguments model;
  std::string data;                     // a JSON object a line, or an array of them
  std::string validation;               // the same; empty: a share of `data`
  float validation_share = 0.1f;        // of the examples
  std::string out;                      // a folder
  std::string chat_template;            // see chat_format; empty: the model's
  std::optional<std::size_t> sequence;  // tokens; none: 512, or the context where that is shorter
  bool train_on_prompt = false;
  bool parse_special = false;  // control pieces in the data become control tokens
  bool skip_bad = false;
  bool full = false;  // train all weights, rather than an adapter
  std::size_t rank = 32;
  float alpha = 16.0f;
  float dropout = 0.1f;
  bool rslora = false;
  std::vector<std::string> targets;  // none: all
  std::uint64_t epochs = 3;
  std::uint64_t max_steps = 0;  // 0: as many as the epochs have
  std::size_t batch = 4;
  std::size_t accumulation = 4;
  float clip = 0.3f;
  float learning_rate = 2e-4f;
  std::string schedule = "cosine";
  std::string optimizer = "adamw";
  float warmup = 0.03f;  // of the steps
  float weight_decay = 0.01f;
  std::uint64_t eval_every = 0;  // steps; 0: an epoch's
  std::uint64_t save_every = 0;  // steps; 0: with each evaluation
  std::uint64_t patience = 0;    // evaluations; 0: none ends it early
  float min_delta = 0.0f;        // nats
  float max_loss_rise = 1.0f;    // nats
  std::uint64_t seed = 42;
  bool keep_activations = false;
  bool resume = false;
  std::size_t samples = 3;  // prompts that are answered before and after
  std::size_t sample_tokens = 128;
  bool json = false;
};
void run_finetune(const FinetuneArguments& arguments);

struct MergeArguments {
  std::string folder;  // or a .gguf file
  std::string adapter;
  std::string out;
  std::string weights;    // empty: the checkpoint's own, where the output can have it
  std::string tokenizer;  // empty: the checkpoint's own, where it has one
  bool without_tokenizer = false;
  std::size_t threads = 0;
  bool json = false;
};
void run_merge(const MergeArguments& arguments);

struct CompileArguments {
  ModelArguments model;
  std::string config;  // a name instead of a checkpoint
  bool train = false;
  std::string out;  // empty: the cache folder
  bool print = false;
  bool list = false;
  bool clear = false;
  bool json = false;
};
void run_compile(const CompileArguments& arguments);

}  // namespace mistral::tool
