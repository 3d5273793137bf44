// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/format/bf16.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/nn/adapter.hpp>

#include "../support/data.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"
#include "../support/size_limit.hpp"

using namespace mistral;

namespace {

// All weights of a model as bytes, one after the other.
struct Bytes {
  std::vector<std::byte> all;
  template <WeightFormat F>
  void operator()(const std::string&, const Panels<F>& matrix, std::size_t) {
    all.insert(all.end(), matrix.bytes().begin(), matrix.bytes().end());
  }
  void operator()(const std::string&, const Buffer<float>& norm) {
    const auto bytes = std::as_bytes(norm.span());
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
};

template <class Model>
std::vector<std::byte> bytes_of(const Model& model) {
  Bytes bytes;
  visit_weights(model, bytes);
  return bytes.all;
}

}  // namespace

TEST_CASE("a golden checkpoint that is loaded and saved holds the same tensors under the same names") {
  const auto golden = test::golden("forward/gqa_w8/hf");
  if (golden.empty()) return;
  const test::Scratch scratch;
  const std::string folder = scratch.path("saved");
  using Model = Transformer<test::tiny, F32>;
  save_checkpoint(load<Model>(golden.string()), folder);
  const auto expected = Safetensors::open((golden / "model.safetensors").string());
  const auto saved = Safetensors::open(folder + "/model.safetensors");
  CHECK(saved.tensors().size() == expected.tensors().size());
  for (const SafetensorsTensor& tensor : expected.tensors()) {
    CAPTURE(tensor.name);
    const SafetensorsTensor* const found = saved.find(tensor.name);
    REQUIRE(found != nullptr);
    CHECK(found->dtype == DType::f32);
    CHECK(found->shape == tensor.shape);
    REQUIRE(found->data.size() == tensor.data.size());
    CHECK(std::memcmp(found->data.data(), tensor.data.data(), tensor.data.size()) == 0);
  }
  CHECK(bytes_of(load<Model>(folder)) == bytes_of(load<Model>(golden.string())));
}

TEST_CASE("a model in bf16, odd in all its sizes, is loaded with the bits it was saved with") {
  using Model = Transformer<test::odd, BF16>;
  const test::Scratch scratch;
  auto model = test::random_model<Model>(1);
  model.layers[1].ffn_norm.weight.data()[3] = 1.0f + 0x1p-20f;  // which no bf16 holds
  std::uint64_t told = 0;
  const ProgressHook hook{[](void* context, std::uint64_t done, std::uint64_t total) {
                            CHECK(done <= total);
                            *static_cast<std::uint64_t*>(context) = total - done;
                          },
                          &told};
  told = 1;
  save_checkpoint(model, scratch.path("saved"), {.type = DType::bf16, .progress = hook});
  CHECK(told == 0);
  CHECK(bytes_of(load<Model>(scratch.path("saved"))) == bytes_of(model));
  const auto file = Safetensors::open(scratch.path("saved/model.safetensors"));
  CHECK(file.get("lm_head.weight").dtype == DType::bf16);
  CHECK(file.get("model.norm.weight").dtype == DType::f32);
}

TEST_CASE("a model that can't be saved is an error, and leaves nothing") {
  using Model = Transformer<test::alone, Lora<F32>>;
  const test::Scratch scratch;
  auto model = test::random_model<Model>(2);
  const auto error = [&](const std::string& folder, const SaveCheckpointOptions& options = {}) {
    return test::error_of([&] { save_checkpoint(model, folder, options); });
  };
  CHECK(error(scratch.path("a"), {.type = DType::f16}) ==
        "[checkpoint] the type of a model to be saved: expected F32 or BF16, got F16");
  CHECK(error(scratch.path("no/folder")) ==
        "[checkpoint] " + scratch.path("no/folder") + ": cannot create: No such file or directory");
  add_adapter(model, {.rank = 2});
  CHECK(error(scratch.path("a")) ==
        "[checkpoint] a model to be saved: expected no adapters beside its weights (merge_adapter), got 1");
  CHECK(!std::filesystem::exists(scratch.path("a")));
  remove_adapter(model, 0);
  // the folder is made, and goes again; one that was there keeps what it has
  scratch.write("b/model.safetensors", "old");
  for (const char* const name : {"a", "b"}) {
    const test::SizeLimit disk(1000);
    CHECK(error(scratch.path(name)) ==
          "[safetensors] " + scratch.path(name) + "/model.safetensors: cannot write: File too large");
  }
  CHECK(!std::filesystem::exists(scratch.path("a")));
  CHECK(scratch.read("b/model.safetensors") == "old");
  CHECK(error(scratch.path("a")) == "no error");
}
