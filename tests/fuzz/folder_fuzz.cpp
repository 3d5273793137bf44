// SPDX-License-Identifier: Apache-2.0
// seeds: none
// Edits whole checkpoints: a folder of Hugging Face's layout, a GGUF and a packed file. What loads decodes a token, and
// an error is one line.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/checkpoint/write_gguf.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/parallel/parallel.hpp>
#include <mistral/text/tokenizer.hpp>

#include "attempt.hpp"
#include "micro.hpp"

using namespace mistral;

namespace {

using Model = Transformer<fuzz::micro, F32>;

struct Checkpoints {
  parallel::ThreadLimit one{1};
  fuzz::Folder folder;
  std::vector<std::string> hugging_face;  // config.json, model.safetensors
  std::string gguf, packed;

  Checkpoints() {
    Model model;
    randomize(model, 1);
    save_checkpoint(model, folder.path("model"));
    hugging_face = {folder.read("model/config.json"), folder.read("model/model.safetensors")};
    write_gguf<F32>(Checkpoint::open(folder.path("model")), folder.path("file.gguf"));
    gguf = folder.read("file.gguf");
    save_packed(model, folder.path("file.mistral"));
    packed = folder.read("file.mistral");
  }
};

template <class M>
void load_and_run(const std::string& path) {
  fuzz::attempt([&] {
    const auto model = load<M>(path);
    Session<M> session{model};
    fuzz::require(session.decode(3).size() == fuzz::micro.vocab_size);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Checkpoints checkpoints;
  if (size == 0) return 0;
  const auto edits = std::span(data, size).subspan(1);
  const fuzz::Folder& folder = checkpoints.folder;
  std::string path = folder.path("model");
  if (data[0] % 3 == 0) {
    const auto files = fuzz::edited(checkpoints.hugging_face, edits);
    folder.write("model/config.json", files[0]);
    folder.write("model/model.safetensors", files[1]);
  } else {
    const bool is_gguf = data[0] % 3 == 1;
    path = folder.write(is_gguf ? "file.gguf" : "file.mistral",
                        fuzz::edited({is_gguf ? checkpoints.gguf : checkpoints.packed}, edits)[0]);
  }
  fuzz::attempt([&] {
    const Checkpoint checkpoint = Checkpoint::open(path);
    for (const std::string& weight : weight_names(checkpoint.config())) (void)checkpoint.get_readable(weight);
  });
  load_and_run<Model>(path);
  load_and_run<Transformer<fuzz::micro, Q8_0>>(path);
  fuzz::attempt([&] { (void)Tokenizer::load(path); });
  return 0;
}
