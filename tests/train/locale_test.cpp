// SPDX-License-Identifier: Apache-2.0
// Numbers in files are those of the C locale, whatever the host's is: every writer and every reader, under a locale
// with a decimal comma.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/merge.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/checkpoint/write_gguf.hpp>
#include <mistral/core/number_text.hpp>
#include <mistral/evaluate/task.hpp>
#include <mistral/generate/session_file.hpp>
#include <mistral/io/npy.hpp>
#include <mistral/train.hpp>

#include "../support/german_locale.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

// Numbers whose texts have a point, and digits enough for groups of thousands.
constexpr ModelConfig fractional() {
  ModelConfig config = test::tiny;
  config.rope_theta = 12345.678f;
  config.norm_eps = 1.5e-5f;
  config.context_len = 123456;
  return config;
}
constexpr ModelConfig config = fractional();

using Base = Transformer<config, F32>;
using Tuned = Transformer<config, Lora<F32>>;

const std::vector<TokenId> text{5, 9, 1, 33, 2, 17, 40, 8, 3, 21};

TrainerOptions trainer_options() {
  return {.learning_rate = 1.1e-3f,
          .beta1 = 0.87f,
          .beta2 = 0.993f,
          .epsilon = 1.3e-8f,
          .weight_decay = 0.013f,
          .max_grad_norm = 1.7f,
          .seed = 1234567};
}

FitOptions fit_options(const std::string& folder) {
  return {.epochs = 1, .batch = 1, .eval_steps = 1, .seed = 4, .folder = folder};
}

void write_all(const test::Scratch& scratch) {
  const auto base = test::random_model<Base>(3);
  save_checkpoint(base, scratch.path("hf"));
  save_packed(base, scratch.path("packed"));
  const Checkpoint checkpoint = Checkpoint::open(scratch.path("hf"));
  write_gguf<F32>(checkpoint, scratch.path("gguf"));

  Tuned model;
  randomize(model, 3);
  add_adapter(model, {.rank = 2, .alpha = 16.1f, .dropout = 0.07f, .seed = 5});
  Trainer trainer{model, trainer_options()};
  const std::vector<Example> examples{{.tokens = text, .answer_begin = 2}, {.tokens = text, .answer_begin = 5}};
  fit(trainer, examples, examples, fit_options(scratch.path("fit")));
  trainer.save(scratch.path("trainer"));
  save_adapter(model, scratch.path("adapter"));
  merge_checkpoint(checkpoint, scratch.path("adapter"), scratch.path("merged"));

  Session<Tuned> session{model};
  session.prefill(text);
  save_session(session, text, scratch.path("session"));
  NpyWriter npy(scratch.path("npy"), 2, 3, "npy");
  for (int row = 0; row < 2; ++row) npy.write(std::vector<float>{0.5f, 1.25f, -3.0f});
  npy.commit();
  scratch.write("data.jsonl", R"({"text": "a", "weight": 0.5})"
                              "\n");
  scratch.write("tasks.jsonl", R"({"prompt": "a", "choices": ["b", "c"], "answer": 1, "score": 1234.5})"
                               "\n");
}

void read_all(const test::Scratch& scratch) {
  for (const char* const name : {"hf", "packed", "gguf", "merged"}) {
    CAPTURE(name);
    load<Base>(scratch.path(name));  // holds theta and eps against the type's
  }
  Tuned model;
  randomize(model, 3);
  load_adapter(model, scratch.path("adapter"));
  const LoraMatrices& m = model.layers[0].attention.wq.adapters[0];
  CHECK(m.alpha == 16.1f);
  CHECK(m.dropout == 0.07f);
  CHECK(m.scale == 16.1f / 2.0f);

  Session<Tuned> session{model};
  CHECK(load_session(session, scratch.path("session")) == text);
  CHECK(read_npy(scratch.path("npy")).cols == 3);
  CHECK(read_task(scratch.path("tasks.jsonl")).items.size() == 1);

  Tuned resumed;
  randomize(resumed, 3);
  add_adapter(resumed, {.rank = 2, .alpha = 16.1f, .dropout = 0.07f, .seed = 5});
  Trainer trainer{resumed, trainer_options()};
  trainer.resume(scratch.path("trainer"));
  CHECK(trainer.steps() > 0);
  const std::vector<Example> examples{{.tokens = text, .answer_begin = 2}, {.tokens = text, .answer_begin = 5}};
  FitOptions options = fit_options(scratch.path("fit"));
  options.resume = true;
  CHECK(fit(trainer, examples, examples, options).first_step > 0);
}

// The bytes of all files below a folder, by their names.
std::map<std::string, std::string> files_in(const test::Scratch& scratch) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(scratch.path(""))) {
    if (!entry.is_regular_file()) continue;
    const std::string name = std::filesystem::relative(entry.path(), scratch.path("")).string();
    out[name] = scratch.read(name);
  }
  return out;
}

}  // namespace

TEST_CASE("every file is the same bytes under a locale with a decimal comma, and is read there") {
  const test::Scratch plain, german;
  write_all(plain);
  {
    const test::GermanLocale locale;
    if (!locale) return;
    char number[8];
    std::snprintf(number, sizeof number, "%.1f", 0.5);
    REQUIRE(std::string(number) == "0,5");
    std::ostringstream thousands;
    thousands << 1234;
    REQUIRE(thousands.str() == "1.234");
    CHECK(number_text(0.5f) == "0.5");
    write_all(german);
    read_all(plain);
    read_all(german);
  }
  const auto expected = files_in(plain), found = files_in(german);
  CHECK(expected.size() >= 12);
  REQUIRE(found.size() == expected.size());
  for (const auto& file : expected) {
    const std::string& name = file.first;
    CAPTURE(name);
    REQUIRE(found.contains(name));
    CHECK(found.at(name) == file.second);
  }
}

TEST_CASE("the numbers of an adapter are read back to the bit") {
  Random random(9);
  for (int i = 0; i < 50; ++i) {
    const test::Scratch scratch;
    const float alpha = 64.0f * random.uniform(), dropout = 0.999f * random.uniform();
    CAPTURE(alpha);
    CAPTURE(dropout);
    Tuned model;
    add_adapter(model, {.rank = 1, .alpha = alpha, .dropout = dropout});
    save_adapter(model, scratch.path("adapter"));
    load_adapter(model, scratch.path("adapter"));
    const LoraMatrices& m = model.layers[0].attention.wq.adapters[1];
    CHECK(m.alpha == alpha);
    CHECK(m.dropout == dropout);
    CHECK(m.scale == model.layers[0].attention.wq.adapters[0].scale);
  }
}
