// SPDX-License-Identifier: Apache-2.0
// seeds: none
// Edits the state of a trainer and its fit: a trainer goes on from it, or an error leaves it as it was.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <mistral/train.hpp>

#include "attempt.hpp"
#include "micro.hpp"

using namespace mistral;

namespace {

using Model = Transformer<fuzz::micro, Lora<F32>>;

struct Training {
  parallel::ThreadLimit one{1};
  fuzz::Folder folder;
  Model model;
  std::vector<Example> examples{{.tokens = {1, 2, 3, 4}, .answer_begin = 1}, {.tokens = {5, 6, 7}, .answer_begin = 2}};
  FitOptions options{.batch = 1, .accumulation = 1, .eval_steps = 1};
  std::optional<Trainer<Model>> trainer;
  std::string good;

  Training() {
    randomize(model, 1);
    add_adapter(model, {.rank = 2, .seed = 2});
    trainer.emplace(model, TrainerOptions{.total_steps = 2});
    options.folder = folder.path("fit");
    fit(*trainer, examples, examples, options);
    good = folder.read("fit/last.safetensors");
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Training training;
  Trainer<Model>& trainer = *training.trainer;
  const std::string path =
      training.folder.write("fit/last.safetensors", fuzz::edited({training.good}, std::span(data, size))[0]);
  std::vector<float> before;
  for (const Parameter& p : trainer.parameters()) before.insert(before.end(), p.value.begin(), p.value.end());
  const std::uint64_t steps = trainer.steps();
  SafetensorsWriter::Metadata notes;
  if (fuzz::attempt([&] { notes = trainer.resume(path); })) {
    const mistral::detail::FitFolder fit(training.options, training.examples, training.examples);
    fuzz::attempt([&] { (void)fit.state(notes); });
    return 0;
  }
  fuzz::require(trainer.steps() == steps);
  const float* kept = before.data();
  for (const Parameter& p : trainer.parameters()) {
    fuzz::require(std::memcmp(kept, p.value.data(), p.value.size_bytes()) == 0);
    kept += p.value.size();
  }
  return 0;
}
