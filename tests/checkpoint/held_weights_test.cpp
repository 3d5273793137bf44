// SPDX-License-Identifier: Apache-2.0
#include <mistral/checkpoint/held_weights.hpp>

#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/merge.hpp>
#include <mistral/checkpoint/save.hpp>
#include <mistral/checkpoint/write_gguf.hpp>
#include <mistral/format/formats.hpp>
#include <mistral/model.hpp>

#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::error_of;

namespace {

// With rows of whole blocks of every format.
constexpr ModelConfig wide{.dim = 256,
                           .n_layers = 1,
                           .head_dim = 64,
                           .hidden_dim = 256,
                           .n_heads = 4,
                           .n_kv_heads = 2,
                           .window_size = 8,
                           .context_len = 64,
                           .vocab_size = 97};

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

// A folder of random weights, one of which, of w3's row 18, is `value`; w3 is up_proj there.
struct Folder {
  test::Scratch scratch;
  std::string path = scratch.path("model");

  explicit Folder(float value) {
    auto model = test::random_model<Transformer<wide, F32>>(11);
    auto& w3 = model.layers[0].feed_forward.w3.weight;
    float weight;
    w3.unpack_row(18, row);
    std::memcpy(&weight, w3.own_bytes().data() + offset(), sizeof weight);
    REQUIRE(weight == row[5]);
    std::memcpy(w3.own_bytes().data() + offset(), &value, sizeof value);
    save_checkpoint(model, path);
  }

  // of row 18, input 5: the third row of the second panel
  static constexpr std::size_t offset() { return ((wide.dim + 5) * panel_rows + 2) * sizeof(float); }

  std::vector<float> row = std::vector<float>(wide.dim);

  std::string named(const std::string& expected, const std::string& found) const {
    return "[safetensors] " + path + "/model.safetensors: tensor 'model.layers.0.mlp.up_proj.weight': expected " +
           expected + ", got " + found + " in row 18";
  }
};

template <class F>
std::string gguf_error(const Folder& folder) {
  const std::string path = folder.scratch.path("out.gguf");
  std::filesystem::remove(path);
  const std::string error = error_of([&] { write_gguf<F>(Checkpoint::open(folder.path), path); });
  CHECK(std::filesystem::exists(path) == (error == "no error"));
  return error;
}

template <class F>
std::string load_error(const Folder& folder, bool refuse = false) {
  return error_of([&] { load<Transformer<wide, F>>(folder.path, {.refuse_not_finite = refuse}); });
}

template <class Check>
void for_each_file_format(const Check& check) {
  for_each_format([&]<class F>(std::type_identity<F>) {
    if constexpr (GgufFormat<F>) check(F{});
  });
}

}  // namespace

TEST_CASE("a NaN or an infinite weight is in no GGUF file, whatever its format, and the error names the tensor") {
  const Folder nan(not_a_number), infinite(-infinity);
  for_each_file_format([&]<class F>(F) {
    CAPTURE(F::name);
    CHECK(gguf_error<F>(nan) == nan.named("finite weights", "NaN"));
    CHECK(gguf_error<F>(infinite) == infinite.named("finite weights", "an infinity"));
  });
}

TEST_CASE("a weight that a format's scale can't hold is in no file of that format") {
  const Folder folder(1.3e9f);
  for_each_file_format([&]<class F>(F) {
    CAPTURE(F::name);
    const bool holds = std::is_same_v<F, F32> || std::is_same_v<F, BF16>;
    const std::string expected =
        holds ? "no error" : folder.named("weights that " + std::string(F::name) + " holds", "1.3e+09");
    CHECK(gguf_error<F>(folder) == expected);
    CHECK(load_error<F>(folder) == expected);
  });
  CHECK(load_error<NF4>(folder) == "no error");  // whose scales are floats
}

TEST_CASE("a large weight that a format does hold stays") {
  const Folder folder(70000.0f);  // above the largest half
  for_each_file_format([&]<class F>(F) {
    CAPTURE(F::name);
    if (std::is_same_v<F, F16>) {
      CHECK(gguf_error<F>(folder) == folder.named("weights that F16 holds", "70000"));
      return;
    }
    REQUIRE(gguf_error<F>(folder) == "no error");
    const auto model = load<Transformer<wide, F>>(folder.path);
    std::vector<float> row(wide.dim);
    model.layers[0].feed_forward.w3.weight.unpack_row(18, row);
    CHECK(row[5] == doctest::Approx(70000.0).epsilon(0.1));
    CHECK(all_finite(row));
  });
}

TEST_CASE("loading keeps a NaN in formats that hold it, unless told not to, and refuses it in the others") {
  const Folder folder(not_a_number);
  const std::string error = folder.named("finite weights", "NaN");
  CHECK(load_error<F32>(folder) == "no error");
  CHECK(load_error<BF16>(folder) == "no error");
  CHECK(load_error<F32>(folder, true) == error);
  CHECK(load_error<BF16>(folder, true) == error);
  CHECK(load_error<Q8_0>(folder) == error);
  CHECK(load_error<Q4_0>(folder) == error);
  CHECK(load_error<IQ4_NL>(folder) == error);
  CHECK(load_error<NF4>(folder) == error);
}

TEST_CASE("blocks that are copied are looked at too") {
  const test::Scratch scratch;
  const Folder folder(0.0f);
  const std::string path = scratch.path("q8.gguf");
  write_gguf<Q8_0>(Checkpoint::open(folder.path), path);
  std::string bytes = scratch.read("q8.gguf");
  const Gguf file = Gguf::open(path);
  const GgufTensor& tensor = file.get("blk.0.ffn_up.weight");
  const std::string_view data(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  const std::size_t place = std::string_view(bytes).find(data);
  REQUIRE(place != std::string::npos);
  // a block's scale comes first: that of row 3
  const std::size_t row_bytes = data.size() / 256;
  bytes[place + 3 * row_bytes] = '\0';
  bytes[place + 3 * row_bytes + 1] = '\x7e';  // NaN as a half
  const std::string bad = scratch.write("bad.gguf", bytes);
  const std::string error =
      "[gguf] " + bad + ": tensor 'blk.0.ffn_up.weight': expected finite weights, got NaN in row 3";
  CHECK(error_of([&] { write_gguf<Q8_0>(Checkpoint::open(bad), scratch.path("out.gguf")); }) == error);
  CHECK(error_of([&] { write_gguf<F32>(Checkpoint::open(bad), scratch.path("out.gguf")); }) == error);
  CHECK(error_of([&] { load<Transformer<wide, Q8_0>>(bad, {.refuse_not_finite = true}); }) == error);
}

TEST_CASE("a merge writes no folder and no file with weights that are no numbers") {
  const Folder folder(not_a_number);
  auto tuned = load<Transformer<wide, Lora<F32>>>(Folder(0.0f).path);
  add_adapter(tuned, {.rank = 2});
  save_adapter(tuned, folder.scratch.path("adapter"));
  const Checkpoint checkpoint = Checkpoint::open(folder.path);
  const std::string error = folder.named("finite weights", "NaN");
  for (const DType type : {DType::f32, DType::bf16}) {
    CHECK(error_of([&] {
            merge_checkpoint(checkpoint, folder.scratch.path("adapter"), folder.scratch.path("merged"), {.type = type});
          }) == error);
    CHECK_FALSE(std::filesystem::exists(folder.scratch.path("merged/model.safetensors")));
  }
  CHECK(error_of([&] {
          merge_gguf<Q8_0>(checkpoint, folder.scratch.path("adapter"), folder.scratch.path("out.gguf"));
        }) == error);
}
