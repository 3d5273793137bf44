// SPDX-License-Identifier: Apache-2.0
// seeds: none
// Edits a good folder of an adapter: a model takes one adapter more, or an error leaves it as it was.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <mistral/checkpoint/adapter_folder.hpp>
#include <mistral/nn/adapter.hpp>
#include <mistral/nn/weights.hpp>
#include <mistral/parallel/parallel.hpp>

#include "attempt.hpp"
#include "micro.hpp"

using namespace mistral;

namespace {

using Model = Transformer<fuzz::micro, Lora<F32>>;

struct Adapter {
  parallel::ThreadLimit one{1};
  fuzz::Folder folder;
  Model model;
  std::vector<std::string> good;

  Adapter() {
    randomize(model, 1);
    add_adapter(model, {.rank = 2, .alpha = 3.0f, .seed = 2});
    save_adapter(model, folder.path("good"));
    for (const char* const name : {"good/adapter_config.json", "good/adapter_model.safetensors"}) {
      good.push_back(folder.read(name));
    }
  }
};

// every matrix has as many adapters as the others, of one rank, or of none
void check(const Model& model, std::size_t adapters) {
  std::size_t rank = 0;
  visit_projections(model, [&](const std::string&, const auto& linear, std::size_t) {
    fuzz::require(linear.adapters.size() == adapters);
    for (std::size_t i = 1; i < adapters; ++i) {
      const LoraMatrices& m = linear.adapters[i];
      fuzz::require(m.rank() == m.b.cols() && m.rank() <= max_lora_rank && std::isfinite(m.scale));
      fuzz::require(m.rank() == 0 || rank == 0 || m.rank() == rank);
      rank = std::max(rank, m.rank());
    }
  });
  fuzz::require(adapters == 1 || rank > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Adapter adapter;
  const auto files = fuzz::edited(adapter.good, std::span(data, size));
  adapter.folder.write("good/adapter_config.json", files[0]);
  adapter.folder.write("good/adapter_model.safetensors", files[1]);
  const bool loaded = fuzz::attempt([&] { load_adapter(adapter.model, adapter.folder.path("good")); });
  check(adapter.model, loaded ? 2 : 1);
  if (loaded) remove_adapter(adapter.model, 1);
  return 0;
}
