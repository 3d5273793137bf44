// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/merge.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/checkpoint/write_gguf.hpp>
#include <mistral/train.hpp>

#include "../../examples/tool/configs.hpp"
#include "../support/counting_resource.hpp"
#include "../support/golden.hpp"
#include "../support/golden_configs.hpp"
#include "../support/models.hpp"
#include "../support/scratch.hpp"

using namespace mistral;

namespace {

using test::full_w64;
using test::kmix;
using test::long_w16;
using test::nowin_mqa;
using test::odd_w5;
using test::stories_260k;
using test::w1;

// The oracles differ among themselves by up to 3.3e-5 on these cases (measured_max_abs_differences in expected.json).
constexpr float tolerance = 1e-4f;

// Every logit, hidden state and greedy token of one case, loaded from one folder of its layouts.
template <ModelConfig C, WeightFormat F>
void check_case(const std::string& name, const std::string& layout) {
  const auto folder = test::golden("forward/" + name);
  if (folder.empty()) return;
  CAPTURE(name);
  CAPTURE(layout);
  using Model = Transformer<C, F>;
  const Model model = load<Model>((folder / layout).string());
  const Safetensors expected = Safetensors::open((folder / "expected.safetensors").string());
  const auto json = test::expected_json(folder);
  const auto tokens = test::tensor_values<TokenId>(expected, "tokens");
  const auto prefill = test::tensor_values<float>(expected, "logits_prefill");

  // Everything at once, with the residual stream after every layer.
  std::vector<std::vector<float>> hidden(C.n_layers + 1);
  Session<Model, float> session{model};
  ResidualHook keep{[&](const Residual& r) {
    for (std::size_t i = 0; i < r.x.rows(); ++i) {
      hidden[r.layer].insert(hidden[r.layer].end(), r.x.row(i).begin(), r.x.row(i).end());
    }
  }};
  const Rows<const float> all = session.forward(tokens, keep);
  CHECK(test::max_error({all.data(), all.rows() * all.cols()}, prefill) <= tolerance);
  for (std::size_t layer = 0; layer < C.n_layers; ++layer) {
    const std::string tensor = "hidden_after_layer." + std::to_string(layer);
    if (expected.find(tensor) == nullptr) continue;
    CHECK(test::max_error(hidden[layer + 1], test::tensor_values<float>(expected, tensor)) <= tolerance);
  }
  const auto log_probabilities = test::tensor_values<float>(expected, "target_logprobs");
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    CHECK(std::abs(test::log_probability(all.row(i), tokens[i + 1]) - static_cast<double>(log_probabilities[i])) <=
          static_cast<double>(tolerance));
  }

  // A prompt, then token by token.
  const auto decode = test::tensor_values<float>(expected, "logits_decode");
  const std::size_t prompt = json.at("decode_prefill_len").get<std::size_t>();
  session.clear();
  std::span<const float> logits = session.prefill(std::span(tokens).first(prompt));
  for (std::size_t i = prompt - 1;; logits = session.decode(tokens[++i])) {
    CHECK(test::max_error(logits, std::span(decode).subspan(i * C.vocab_size, C.vocab_size)) <= tolerance);
    if (i + 1 == tokens.size()) break;
  }

  // The greedy continuation.
  for (const auto& want : json.at("greedy_tokens")) {
    const TokenId token = test::argmax(logits);
    CHECK(token == want.get<TokenId>());
    logits = session.decode(token);
  }

  // In the oracle's chunks.
  const auto chunked = test::tensor_values<float>(expected, "logits_chunked");
  session.clear();
  std::size_t done = 0;
  for (const auto& chunk : json.at("chunks")) {
    const std::size_t count = chunk.get<std::size_t>();
    const Rows<const float> rows = session.forward(std::span(tokens).subspan(done, count));
    CHECK(test::max_error({rows.data(), count * C.vocab_size},
                          std::span(chunked).subspan(done * C.vocab_size, count * C.vocab_size)) <= tolerance);
    done += count;
  }
}

// Every logit of a GGUF file's golden tokens, in one pass and token by token.
template <ModelConfig C>
void check_gguf(const std::string& name) {
  const auto path = test::golden("gguf/" + name + ".gguf");
  if (path.empty()) return;
  CAPTURE(name);
  using Model = Transformer<C, F32>;
  const Model model = load<Model>(path.string());
  const Safetensors expected = Safetensors::open((path.parent_path() / (name + ".expected.safetensors")).string());
  const auto tokens = test::tensor_values<TokenId>(expected, "tokens");
  const auto want = test::tensor_values<float>(expected, "logits_prefill_f32_from_dequantized");
  Session<Model, float> session{model};
  const Rows<const float> all = session.forward(tokens);
  CHECK(test::max_error({all.data(), all.rows() * all.cols()}, want) <= tolerance);
  session.clear();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    CHECK(test::max_error(session.decode(tokens[i]), std::span(want).subspan(i * C.vocab_size, C.vocab_size)) <=
          tolerance);
  }
}

}  // namespace

TEST_CASE("golden logits, hidden states and greedy tokens: GQA with a window of 8, in both layouts") {
  for (const char* layout : {"hf", "mistral"}) check_case<test::tiny, F32>("gqa_w8", layout);
}

TEST_CASE("golden logits, hidden states and greedy tokens: BF16 weights") {
  for (const char* layout : {"hf", "mistral"}) check_case<test::tiny, Exact<BF16>>("gqa_w8_bf16", layout);
  check_case<test::tiny, F32>("gqa_w8_bf16", "hf");
  for (const char* layout : {"hf", "mistral"}) check_case<odd_w5, Exact<BF16>>("odd_w5_bf16", layout);
}

TEST_CASE("golden logits, hidden states and greedy tokens: F16 weights, as they are and as floats") {
  check_case<test::tiny, F16>("gqa_w8_f16", "hf");
  check_case<test::tiny, F32>("gqa_w8_f16", "hf");
}

TEST_CASE("golden logits, hidden states and greedy tokens: odd sizes and a window of 5") {
  check_case<odd_w5, F32>("odd_w5", "hf");
}

TEST_CASE("golden logits, hidden states and greedy tokens: a window past the sequence") {
  check_case<full_w64, F32>("full_w64", "hf");
}

TEST_CASE("golden logits, hidden states and greedy tokens: no window, one key head") {
  for (const char* layout : {"hf", "mistral"}) check_case<nowin_mqa, F32>("nowin_mqa", layout);
}

TEST_CASE("golden logits and greedy tokens: a window of 16 that wraps 14 times") {
  check_case<long_w16, F32>("long_w16", "hf");
}

TEST_CASE("golden logits, hidden states and greedy tokens: a window of one key, in one file and in shards") {
  for (const char* layout : {"hf", "hf_sharded"}) check_case<w1, F32>("w1", layout);
}

TEST_CASE("golden logits of GGUF files: F32 with a window, every type of block, and a trained model in 8 and 4 bits") {
  check_gguf<test::tiny>("gqa_w8_f32");
  check_gguf<kmix>("kmix");
  check_gguf<stories_260k>("stories260k_q8_0");
  check_gguf<stories_260k>("stories260k_q4_0");
}

TEST_CASE("a GGUF file and a folder of the same weights make the same model, bit by bit, in memory of any kind") {
  const auto folder = test::golden("forward/gqa_w8");
  const auto gguf = test::golden("gguf/gqa_w8_f32.gguf");
  if (folder.empty() || gguf.empty()) return;
  using Model = Transformer<test::tiny, F32>;
  const Model of_folder = load<Model>((folder / "hf").string());
  test::CountingResource memory;
  const Model of_gguf = load<Model>(gguf.string(), {.memory = &memory});
  CHECK(memory.held == Model::memory_bytes);
  const std::vector<TokenId> tokens{1, 5, 96, 0, 33, 7, 7, 20, 51, 2};
  Session<Model, float> a{of_folder};
  Session<Model, float> b{of_gguf};
  const Rows<const float> x = a.forward(tokens);
  const Rows<const float> y = b.forward(tokens);
  CHECK(test::same_bits({x.data(), x.rows() * x.cols()}, {y.data(), y.rows() * y.cols()}));
}

namespace {

// Sets a flag once it has been told of progress so often.
struct StopAfter {
  std::size_t calls;
  std::atomic<bool> flag = false;
  std::size_t called = 0;

  ProgressHook hook() {
    return {[](void* context, std::uint64_t, std::uint64_t) {
              auto& self = *static_cast<StopAfter*>(context);
              if (++self.called == self.calls) self.flag = true;
            },
            this, flag};
  }
};

using Breeze = Transformer<tool::breeze, Q8_0>;
const std::string breeze = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

}  // namespace

TEST_CASE("a load that is stopped anywhere ends as cancelled, and leaves no memory of it") {
  StopAfter all{1000};
  {
    const auto model = load<Breeze>(breeze, {.progress = all.hook(), .stop = all.flag});
    CHECK(all.called > 20);
  }
  const std::size_t calls = all.called;
  for (std::size_t stop = 0; stop < calls; stop += 3) {
    CAPTURE(stop);
    test::CountingResource memory;
    StopAfter after{stop};
    after.flag = stop == 0;
    // its own token, or the one of whom it tells
    LoadOptions options{.progress = {after.hook().function, &after}, .stop = after.flag, .memory = &memory};
    if (stop % 2 == 1) options = {.progress = after.hook(), .memory = &memory};
    try {
      load<Breeze>(breeze, options);
      FAIL("it was loaded");
    } catch (const Cancelled& error) {
      CHECK(std::string(error.what()).find("cancelled on request") != std::string::npos);
    }
    CHECK(after.called == stop);
    CHECK(memory.held == 0);
  }
  // a flag that is taken back says nothing of a tensor that was left half packed
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> flag = false, done = false;
    std::thread flickers([&] {
      while (!done) flag = !flag;
    });
    std::optional<Breeze> model;
    try {
      model.emplace(load<Breeze>(breeze, {.stop = flag}));
    } catch (const Cancelled&) {
    }
    done = true;
    flickers.join();
    if (!model) continue;
    static const auto whole = load<Breeze>(breeze);
    CHECK(std::ranges::equal(model->output.weight.bytes(), whole.output.weight.bytes()));
  }
}

TEST_CASE("whatever writes a model can be stopped, and leaves no file") {
  const test::Scratch scratch;
  const auto model = load<Breeze>(breeze);
  const Checkpoint source = Checkpoint::open(breeze);
  Transformer<tool::breeze, Lora<F32>> tuned;
  add_adapter(tuned, {.rank = 2});
  save_adapter(tuned, scratch.path("adapter"));
  const auto check = [&](const char* what, const auto& write) {
    CAPTURE(what);
    const std::string to = scratch.path(what);
    for (const std::size_t calls : {1u, 7u}) {
      StopAfter after{calls};
      CHECK_THROWS_AS(write(to, after.hook()), Cancelled);
      CHECK(after.called == calls);
      std::size_t files = 0;
      if (std::filesystem::is_directory(to)) {
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(to)) ++files;
      }
      CHECK(files == 0);
      CHECK_FALSE(std::filesystem::is_regular_file(to));
    }
    StopAfter never{100000};
    write(to, never.hook());
    CHECK(std::filesystem::exists(to));
    for (const auto& entry : std::filesystem::directory_iterator(scratch.path(""))) {
      CHECK(entry.path().string().find(".tmp-") == std::string::npos);
    }
  };
  check("packed", [&](const std::string& to, const ProgressHook& hook) { save_packed(model, to, {}, hook); });
  check("saved",
        [&](const std::string& to, const ProgressHook& hook) { save_checkpoint(model, to, {.progress = hook}); });
  check("gguf", [&](const std::string& to, const ProgressHook& hook) { write_gguf<Q4_0>(source, to, "", {}, hook); });
  check("merged", [&](const std::string& to, const ProgressHook& hook) {
    merge_checkpoint(source, scratch.path("adapter"), to, {.progress = hook});
  });
  check("merged_gguf", [&](const std::string& to, const ProgressHook& hook) {
    merge_gguf<Q8_0>(source, scratch.path("adapter"), to, "", {}, hook);
  });
}
