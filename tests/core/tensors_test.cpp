// SPDX-License-Identifier: Apache-2.0
#include <mistral/core/tensors.hpp>

#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/core/config.hpp>

using namespace mistral;

namespace {

constexpr ModelConfig config{.dim = 12,
                             .n_layers = 3,
                             .head_dim = 6,
                             .hidden_dim = 20,
                             .n_heads = 4,
                             .n_kv_heads = 2,
                             .window_size = 8,
                             .context_len = 64,
                             .vocab_size = 97};

constexpr TensorNaming namings[] = {TensorNaming::mistral, TensorNaming::hugging_face, TensorNaming::gguf};

}  // namespace

TEST_CASE("a tensor is found by its name in every layout, and no other name is a tensor's") {
  for (const TensorNaming naming : namings) {
    const std::string prefix(layer_prefix(naming));
    for (const TensorRow& row : tensor_table) {
      const std::string name = (row.in_layer ? prefix + "31." : "") + std::string(row.name(naming));
      CAPTURE(name);
      const TensorName found = find_tensor(naming, name);
      REQUIRE(found.row != nullptr);
      CHECK(found.row->role == row.role);
      CHECK(found.layer == (row.in_layer ? "31" : ""));
      CHECK(find_tensor(naming, name + "s").row == nullptr);
      CHECK(find_tensor(naming, "x" + name).row == nullptr);
      // in a layer where it has none, and in none where it is one of a layer's
      CHECK(find_tensor(naming, row.in_layer ? std::string(row.name(naming)) : prefix + "0." + name).row == nullptr);
    }
    for (const std::string& name : {prefix, prefix + "0", prefix + ".", std::string(), std::string("weight")}) {
      CHECK(find_tensor(naming, name).row == nullptr);
    }
  }
}

TEST_CASE("the names of a model's tensors are all different, and stand in the order of a forward") {
  const std::vector<std::string> names = tensor_names(config.n_layers);
  CHECK(names.size() == 3 + 9 * config.n_layers);
  CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
  CHECK(names.front() == "tok_embeddings.weight");
  CHECK(names[1] == "layers.0.attention_norm.weight");
  CHECK(names[9] == "layers.0.feed_forward.w3.weight");
  CHECK(names[10] == "layers.1.attention_norm.weight");
  CHECK(names[names.size() - 2] == "norm.weight");
  CHECK(names.back() == "output.weight");
  CHECK(tensor_names(0) == std::vector<std::string>{"tok_embeddings.weight", "norm.weight", "output.weight"});
}

TEST_CASE("a tensor's shape and the heads that its rows are permuted by come from the config") {
  const auto shape = [](TensorRole role) {
    return std::pair(extent_of(row_of(role).rows, config), extent_of(row_of(role).cols, config));
  };
  using Shape = std::pair<std::uint64_t, std::uint64_t>;
  CHECK(shape(TensorRole::tok_embeddings) == Shape(97, 12));
  CHECK(shape(TensorRole::attention_norm) == Shape(1, 12));
  CHECK(shape(TensorRole::wq) == Shape(24, 12));
  CHECK(shape(TensorRole::wk) == Shape(12, 12));
  CHECK(shape(TensorRole::wo) == Shape(12, 24));
  CHECK(shape(TensorRole::w1) == Shape(20, 12));
  CHECK(shape(TensorRole::w2) == Shape(12, 20));
  CHECK(shape(TensorRole::output) == Shape(97, 12));
  for (const TensorRow& row : tensor_table) {
    const std::size_t heads = row.role == TensorRole::wq ? 4 : row.role == TensorRole::wk ? 2 : 0;
    CHECK(turned_heads(row, config) == heads);
  }
}

TEST_CASE("an adapter's targets are told by the last part of a matrix's name, and no norm or embedding is one") {
  CHECK(LoraTargets{}.any());
  LoraTargets none{false, false, false, false, false, false, false, false};
  CHECK(!none.any());
  for (const LoraTarget& target : lora_targets) {
    LoraTargets one = none;
    one.*target.chosen = true;
    CHECK(one.any());
    for (const TensorRow& row : tensor_table) {
      const std::string module = "layers.7." + std::string(module_of(row.mistral));
      CAPTURE(module);
      CHECK(one.holds(module) == (row.role == target.role));
      CHECK(LoraTargets{}.holds(module) == row.adapter);
    }
  }
}
