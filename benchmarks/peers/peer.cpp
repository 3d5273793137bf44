// SPDX-License-Identifier: Apache-2.0
// llama.cpp or ik_llama.cpp (-DPEER_IK) for turns.py, through their C interface: loads a GGUF file, reads a turn from
// each line of standard input, and answers with its tokens a second.
//
//   peer FILE.gguf THREADS
//
// Compiled against a build of theirs, with its include/ and ggml/include/, its static libraries and -fopenmp. Both have
// their best options: weights repacked for the processor, flash attention, a cache in f16, chunks of 512, and of
// ik_llama.cpp merged projections and fused operations.

#include <llama.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

constexpr int chunk = 512;
constexpr int context_tokens = 1024;

void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "peer: %s failed\n", what);
  std::exit(1);
}

class Peer {
 public:
  Peer(const char* file, int threads) {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_backend_init();
    llama_model_params model = llama_model_default_params();
    llama_context_params context = llama_context_default_params();
    model.n_gpu_layers = 0;
#ifdef PEER_IK
    model.use_mmap = false;
    model.repack_tensors = true;
    model.use_thp = true;
    model.merge_qkv = true;
    model.flash_attn = true;
    model.n_ubatch = chunk;
    model.max_ctx_size = context_tokens;
    model.n_seq_max = 1;
    context.flash_attn = true;
    context.fused_moe_up_gate = true;
    context.fused_up_gate = true;
    context.fused_mmad = true;
    context.graph_reuse = true;
#else
    model.load_mode = LLAMA_LOAD_MODE_NONE;
    model.use_extra_bufts = true;
    context.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
#endif
    context.type_k = context.type_v = GGML_TYPE_F16;
    context.n_ctx = context_tokens;
    context.n_batch = context.n_ubatch = chunk;
    context.n_threads = context.n_threads_batch = threads;
    model_ = llama_model_load_from_file(file, model);
    check(model_ != nullptr, "loading the model");
    context_ = llama_init_from_model(model_, context);
    check(context_ != nullptr, "making a context");
    batch_ = llama_batch_init(chunk, 0, 1);
  }

  void clear() {
#ifdef PEER_IK
    llama_kv_cache_clear(context_);
#else
    llama_memory_clear(llama_get_memory(context_), true);
#endif
    position_ = 0;
  }

  // Some tokens in chunks; logits of the last of each.
  void forward(int tokens) {
    for (int done = 0; done < tokens; done += batch_.n_tokens) {
      batch_.n_tokens = std::min(chunk, tokens - done);
      for (int i = 0; i < batch_.n_tokens; ++i) {
        random_ = random_ * 1664525u + 1013904223u;
        batch_.token[i] = static_cast<llama_token>(300 + (random_ >> 8) % 31000);
        batch_.pos[i] = position_++;
        batch_.n_seq_id[i] = 1;
        batch_.seq_id[i][0] = 0;
        batch_.logits[i] = i + 1 == batch_.n_tokens;
      }
      check(llama_decode(context_, batch_) == 0, "llama_decode");
      llama_synchronize(context_);
      const float* const logits = llama_get_logits_ith(context_, batch_.n_tokens - 1);
      check(logits != nullptr && logits[0] == logits[0], "a look at the logits");
    }
  }

 private:
  llama_model* model_ = nullptr;
  llama_context* context_ = nullptr;
  llama_batch batch_{};
  int position_ = 0;
  unsigned random_ = 12345;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "peer FILE.gguf THREADS\n");
    return 2;
  }
  Peer peer(argv[1], std::atoi(argv[2]));
  peer.forward(chunk);  // not counted: touches the memory that a run takes
  char line[64], kind[16];
  int tokens = 0;
  std::printf("ready\n");
  while (std::fflush(stdout) == 0 && std::fgets(line, sizeof line, stdin) != nullptr) {
    check(std::sscanf(line, "%15s %d", kind, &tokens) == 2 && tokens > 0, "reading a turn");
    const bool prefill = std::string(kind) == "prefill";
    peer.clear();
    if (!prefill) peer.forward(1);
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < (prefill ? 1 : tokens); ++i) peer.forward(prefill ? tokens : 1);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    std::printf("%f\n", tokens / taken.count());
  }
}
