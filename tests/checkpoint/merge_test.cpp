// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/merge.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/generate/session.hpp>

#include "../support/golden.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"
#include "../support/size_limit.hpp"

using namespace mistral;

namespace {

using Plain = Transformer<test::tiny, F32>;
using Tuned = Transformer<test::tiny, Lora<F32>>;

// An adapter whose B isn't zero, beside matrices that RoPE turns, others, and the head.
std::string random_adapter(const test::Scratch& scratch, Tuned& model) {
  add_adapter(model, {.rank = 3, .alpha = 5.0f, .seed = 4, .targets = {.wv = false, .w2 = false}});
  Random random(5);
  visit_projections(model, [&](const std::string&, auto& linear, std::size_t) {
    LoraMatrices& m = linear.adapters[0];
    if (m.rank() == 0) return;
    std::vector<float> b(m.b.rows() * m.rank());
    for (float& v : b) v = 0.2f * (2.0f * random.uniform() - 1.0f);
    detail::pack_all(m.b, b);
  });
  save_adapter(model, scratch.path("adapter"));
  return scratch.path("adapter");
}

std::vector<float> values_of(const CheckpointTensor& tensor) {
  const std::size_t rows = tensor.shape.size() == 2 ? static_cast<std::size_t>(tensor.shape[0]) : 1;
  const std::size_t cols = static_cast<std::size_t>(tensor.shape.back());
  std::vector<float> out(rows * cols);
  for (std::size_t r = 0; r < rows; ++r) tensor.read_row(r, std::span<float>(out).subspan(r * cols, cols));
  return out;
}

// What a file lost of the change that another, in F32, has of the base; by the definition.
double lost(const Checkpoint& base, const Checkpoint& exact, const Checkpoint& found,
            const detail::AdapterChange& change) {
  double off = 0.0;
  double added = 0.0;
  for (const std::string& weight : weight_names(base.config())) {
    if (!change.changes(weight)) continue;
    const auto before = values_of(base.get(weight));
    const auto wanted = values_of(exact.get(weight));
    const auto got = values_of(found.get(weight));
    for (std::size_t i = 0; i < before.size(); ++i) {
      off += std::pow(static_cast<double>(got[i]) - static_cast<double>(wanted[i]), 2);
      added += std::pow(static_cast<double>(wanted[i]) - static_cast<double>(before[i]), 2);
    }
  }
  return std::sqrt(off / added);
}

}  // namespace

TEST_CASE("a golden adapter that is merged into a golden checkpoint gives the logits of both together") {
  const auto base = test::golden("forward/gqa_w8/hf");
  const auto lora = test::golden("lora/gqa_w8");
  if (base.empty() || lora.empty()) return;
  const test::Scratch scratch;
  const MergeLoss loss =
      merge_checkpoint(Checkpoint::open(base.string()), (lora / "adapter").string(), scratch.path("merged"));
  CHECK(loss.relative == 0.0);
  const auto expected = Safetensors::open((lora / "expected.safetensors").string());
  const auto tokens = test::tensor_values<TokenId>(expected, "tokens");
  const auto model = load<Plain>(scratch.path("merged"));
  Session<Plain, float> session{model};
  const Rows<const float> logits = session.forward(tokens);
  CHECK(test::max_error(std::span<const float>(logits.data(), tokens.size() * test::tiny.vocab_size),
                        test::tensor_values<float>(expected, "logits_with_adapter")) < 1e-4f);
}

TEST_CASE("merging gives one file for the layouts of Hugging Face, Mistral and GGUF, that of a merge in memory") {
  const auto folder = test::golden("forward/gqa_w8");
  if (folder.empty()) return;
  const test::Scratch scratch;
  const std::string hf = (folder / "hf").string();
  auto model = load<Tuned>(hf);
  const std::string adapter = random_adapter(scratch, model);
  merge_adapter(model);
  save_checkpoint(model, scratch.path("in_memory"));
  const std::string expected = scratch.read("in_memory/model.safetensors");
  write_gguf<F32>(Checkpoint::open(hf), scratch.path("base.gguf"));

  const std::string sources[] = {hf, (folder / "mistral").string(), scratch.path("base.gguf")};
  for (const std::string& source : sources) {
    CAPTURE(source);
    std::uint64_t left = 1;
    const ProgressHook hook{[](void* context, std::uint64_t done, std::uint64_t total) {
                              *static_cast<std::uint64_t*>(context) = total - done;
                            },
                            &left};
    const MergeLoss loss =
        merge_checkpoint(Checkpoint::open(source), adapter, scratch.path("merged"), {.progress = hook});
    CHECK(loss.relative == 0.0);
    CHECK(left == 0);
    CHECK(scratch.read("merged/model.safetensors") == expected);
    // as GGUF too, whose matrices are in another order of rows
    const GgufMerged merged = merge_gguf<F32>(Checkpoint::open(source), adapter, scratch.path("merged.gguf"));
    CHECK(merged.loss.relative == 0.0);
    save_checkpoint(load<Plain>(scratch.path("merged.gguf")), scratch.path("again"));
    CHECK(scratch.read("again/model.safetensors") == expected);
  }
  auto config = nlohmann::json::parse(scratch.read("in_memory/config.json"));
  config["max_position_embeddings"] = 512;  // the checkpoint's, where the type has 64
  CHECK(nlohmann::json::parse(scratch.read("merged/config.json")) == config);
}

TEST_CASE("merging says what rounding lost of the adapter, by its definition") {
  const auto base = test::golden("forward/gqa_w8/hf");
  if (base.empty()) return;
  const test::Scratch scratch;
  auto model = load<Tuned>(base.string());
  const std::string adapter = random_adapter(scratch, model);
  const auto source = Checkpoint::open(base.string());
  // of GGUF's layout, so that all hold their rows in one order
  const detail::AdapterChange change(adapter, source);
  write_gguf<F32>(source, scratch.path("base.gguf"));
  const auto plain = Checkpoint::open(scratch.path("base.gguf"));
  merge_gguf<F32>(source, adapter, scratch.path("exact.gguf"));
  const auto exact = Checkpoint::open(scratch.path("exact.gguf"));

  const GgufMerged merged = merge_gguf<Q8_0>(source, adapter, scratch.path("q8_0.gguf"), "a name");
  CHECK(merged.loss.relative > 1e-3);
  CHECK(merged.loss.relative ==
        doctest::Approx(lost(plain, exact, Checkpoint::open(scratch.path("q8_0.gguf")), change)));
  CHECK(merged.written.in_f16.empty());

  const MergeLoss bf16 = merge_checkpoint(source, adapter, scratch.path("bf16"), {.type = DType::bf16});
  write_gguf<F32>(Checkpoint::open(scratch.path("bf16")), scratch.path("bf16.gguf"));
  CHECK(bf16.relative > 1e-4);
  CHECK(bf16.relative == doctest::Approx(lost(plain, exact, Checkpoint::open(scratch.path("bf16.gguf")), change)));
}

TEST_CASE("an adapter of the head is merged into an output of its own where the embedding was tied to it") {
  const auto base = test::golden("forward/gqa_w8/hf");
  if (base.empty()) return;
  const test::Scratch scratch;
  std::filesystem::copy(base, scratch.path("tied"));
  auto config = nlohmann::json::parse(scratch.read("tied/config.json"));
  config["tie_word_embeddings"] = true;
  scratch.write("tied/config.json", config.dump());
  auto model = load<Tuned>(scratch.path("tied"));
  const std::string adapter = random_adapter(scratch, model);
  merge_adapter(model);
  save_checkpoint(model, scratch.path("in_memory"));
  const auto source = Checkpoint::open(scratch.path("tied"));
  merge_checkpoint(source, adapter, scratch.path("merged"));
  CHECK(scratch.read("merged/model.safetensors") == scratch.read("in_memory/model.safetensors"));
  merge_gguf<F32>(source, adapter, scratch.path("merged.gguf"));
  CHECK_FALSE(Checkpoint::open(scratch.path("merged.gguf")).config().tied_embeddings);
  save_checkpoint(load<Plain>(scratch.path("merged.gguf")), scratch.path("again"));
  CHECK(scratch.read("again/model.safetensors") == scratch.read("in_memory/model.safetensors"));
}

TEST_CASE("what can't be merged is an error that says why, and leaves nothing") {
  const auto base = test::golden("forward/gqa_w8/hf");
  const auto other = test::golden("forward/w1/hf");
  if (base.empty() || other.empty()) return;
  const test::Scratch scratch;
  auto model = load<Tuned>(base.string());
  const std::string adapter = random_adapter(scratch, model);
  const auto source = Checkpoint::open(base.string());
  const std::string out = scratch.path("out");
  const auto error = [&](const Checkpoint& from, const std::string& with, const std::string& to,
                         const SaveCheckpointOptions& options = {}) {
    return test::error_of([&] { merge_checkpoint(from, with, to, options); });
  };
  CHECK(error(Checkpoint::open(other.string()), adapter, out)
            .starts_with("[adapter] " + adapter + "/adapter_model.safetensors: tensor '"));
  CHECK(error(source, scratch.path("none"), out) == "[adapter] " + scratch.path("none") +
                                                        ": expected a folder with adapter_config.json and "
                                                        "adapter_model.safetensors (PEFT), got nothing at that path");
  CHECK(error(source, adapter, out, {.type = DType::f16}) ==
        "[checkpoint] the type of a model to be saved: expected F32 or BF16, got F16");
  save_packed(load<Plain>(base.string()), scratch.path("packed"));
  CHECK(error(Checkpoint::open(scratch.path("packed")), adapter, out) ==
        "[packed] " + scratch.path("packed") +
            ": expected a checkpoint to merge, got a packed file, which is made from one");
  CHECK_FALSE(std::filesystem::exists(out));
  CHECK(error(source, adapter, scratch.path("no/folder")) ==
        "[checkpoint] " + scratch.path("no/folder") + ": cannot create: No such file or directory");
  {
    const test::SizeLimit limit(100'000);
    CHECK(error(source, adapter, out) == "[safetensors] " + out + "/model.safetensors: cannot write: File too large");
    CHECK(test::error_of([&] { merge_gguf<F32>(source, adapter, scratch.path("out.gguf")); }) ==
          "[gguf] " + scratch.path("out.gguf") + ": cannot write: File too large");
  }
  CHECK_FALSE(std::filesystem::exists(out));
  CHECK_FALSE(std::filesystem::exists(scratch.path("out.gguf")));
}

TEST_CASE("an OLoRA adapter that is merged gives the logits of the model that has it loaded") {
  const auto base = test::golden("forward/gqa_w8/hf");
  if (base.empty()) return;
  const test::Scratch scratch;
  auto made = test::random_model<Tuned>(3);
  random_adapter(scratch, made);
  auto config = nlohmann::json::parse(scratch.read("adapter/adapter_config.json"));
  config["init_lora_weights"] = "olora";
  scratch.write("adapter/adapter_config.json", config.dump());
  const Checkpoint checkpoint = Checkpoint::open(base.string());
  CHECK(trained_beside(checkpoint, scratch.path("adapter")) == false);
  merge_checkpoint(checkpoint, scratch.path("adapter"), scratch.path("merged"));
  merge_gguf<F32>(checkpoint, scratch.path("adapter"), scratch.path("merged.gguf"));
  auto tuned = load<Tuned>(base.string());
  load_adapter(tuned, scratch.path("adapter"));
  const std::vector<TokenId> tokens{1, 5, 9, 42, 17};
  const auto logits = [&](const auto& model) {
    using Model = std::remove_cvref_t<decltype(model)>;
    Session<Model, float> session{model};
    const Rows<const float> all = session.forward(tokens);
    return std::vector<float>(all.data(), all.data() + all.rows() * all.cols());
  };
  const std::vector<float> expected = logits(tuned);
  const auto before = load<Plain>(base.string());
  for (const std::string name : {"merged", "merged.gguf"}) {
    const auto merged = load<Plain>(scratch.path(name));
    CHECK(test::max_error(logits(merged), expected) < 1e-3);
  }
  CHECK(test::max_error(logits(before), expected) > 1e-2);
  tuned.layers[0].attention.wq.adapters.clear();  // the sums don't look at adapters
  save_adapter(made, scratch.path("again"));
  CHECK(trained_beside(made, scratch.path("again")) == true);
}

TEST_CASE("the sums of a base are the same of a checkpoint and of the model that is loaded from it") {
  const auto base = test::golden("forward/gqa_w8/hf");
  if (base.empty()) return;
  const test::Scratch scratch;
  auto tuned = load<Tuned>(base.string());
  add_adapter(tuned, {.rank = 1});
  save_adapter(tuned, scratch.path("a"));
  CHECK(trained_beside(Checkpoint::open(base.string()), scratch.path("a")) == true);
}
