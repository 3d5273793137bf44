// SPDX-License-Identifier: Apache-2.0
// Teaches a model something with an adapter, and takes it away again:  05_finetune
//
// The base is held in 4 bits and stays as it is. What is trained are low-rank matrices in float beside its own (LoRA);
// they go into a folder of a few kilobytes that PEFT reads too.
#include <cstdio>
#include <vector>

#include <mistral/nn/weights.hpp>
#include <mistral/train.hpp>

inline constexpr mistral::ModelConfig tiny{.dim = 64,
                                           .n_layers = 3,
                                           .head_dim = 16,
                                           .hidden_dim = 160,
                                           .n_heads = 4,
                                           .n_kv_heads = 2,
                                           .window_size = 8,
                                           .context_len = 64,
                                           .vocab_size = 97};

using Model = mistral::Transformer<tiny, mistral::Lora<mistral::Q4_0>>;

void print_continuation(const char* who, const Model& model) {
  mistral::Session<Model, float> session{model};
  mistral::TokenId token = 1;
  std::printf("%s:", who);
  for (int i = 0; i < 16; ++i) {
    std::printf(" %d", static_cast<int>(token));
    const auto logits = session.decode(token);
    token = 0;
    for (std::size_t id = 1; id < logits.size(); ++id) {
      if (logits[id] > logits[static_cast<std::size_t>(token)]) token = static_cast<mistral::TokenId>(id);
    }
  }
  std::printf("\n");
}

int main() {
  Model model;  // random weights; a checkpoint's with mistral::load<Model>(path)
  mistral::randomize(model, 1);
  print_continuation("before  ", model);

  // The lesson: each token is five times the last one and three more, modulo 97.
  mistral::Example lesson{.tokens = {1}};
  while (lesson.tokens.size() < 40) lesson.tokens.push_back((lesson.tokens.back() * 5 + 3) % 97);

  mistral::add_adapter(model, {.rank = 8, .alpha = 16.0f, .seed = 42});
  mistral::Trainer trainer{model,
                           {.learning_rate = 1e-2f,
                            .max_grad_norm = 1.0f,
                            .schedule = mistral::Schedule::cosine,
                            .warmup_steps = 5,
                            .total_steps = 60}};
  for (int step = 0; step < 60; ++step) {
    const float loss = trainer.step(std::vector<mistral::Example>{lesson});
    if (step % 10 == 0) std::printf("step %2d: loss %.3f\n", step, static_cast<double>(loss));
  }
  print_continuation("adapter ", model);

  // mistral::save_adapter(model, "adapter/") writes it; mistral::merge_adapter(model) would add it to the weights.
  mistral::remove_adapter(model, 0);
  print_continuation("without ", model);
}
