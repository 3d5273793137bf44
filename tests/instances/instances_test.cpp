// SPDX-License-Identifier: Apache-2.0
// One program with a preset for several processors, and two shared objects that are built for two of them.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/core/stop_token.hpp>
#include <mistral/generate/finite_logits.hpp>
#include <mistral/generate/generate.hpp>
#include <mistral/io/safetensors/safetensors.hpp>
#include <mistral/run/instances.hpp>
#include <mistral/text/tokenizer.hpp>

#include "../support/golden.hpp"
#include "../support/scratch.hpp"
#include "../text/model_builder.hpp"
#include "shared.hpp"
#include "test_instances_instances.hpp"

using namespace mistral;

namespace {

// The oracles differ among themselves by up to 3.3e-5 on these cases.
constexpr float tolerance = 1e-4f;

struct Golden {
  std::string checkpoint;
  std::vector<TokenId> tokens;
  std::vector<float> logits;  // (tokens, 97)

  Golden() {
    const auto folder = test::golden("forward/gqa_w8");
    const Safetensors expected = Safetensors::open((folder / "expected.safetensors").string());
    checkpoint = (folder / "hf").string();
    tokens = test::tensor_values<TokenId>(expected, "tokens");
    logits = test::tensor_values<float>(expected, "logits_prefill");
  }
};

bool runs(const Instance& instance) { return (instance.needs & ~simd::cpu_features()) == 0; }

}  // namespace

TEST_CASE("each instance that this processor runs gives the golden logits") {
  const Golden golden;
  CHECK(test_instances_instances().size() == 3);
  for (const Instance* instance : test_instances_instances()) {
    CAPTURE(instance->arch);
    if (!runs(*instance)) {
      MESSAGE("SKIPPED: this processor lacks what ", instance->arch, " has");
      continue;
    }
    const auto model = instance->type().load(golden.checkpoint, {});
    const auto session = model->session();
    for (std::size_t i = 0; i < golden.tokens.size(); ++i) {
      CHECK(test::max_error(session->decode(golden.tokens[i]), std::span(golden.logits).subspan(i * 97, 97)) <=
            tolerance);
    }
    session->clear();
    CHECK(test::max_error(session->prefill(golden.tokens), std::span(golden.logits).last(97)) <= tolerance);
    CHECK(session->position() == static_cast<std::int64_t>(golden.tokens.size()));
  }
}

TEST_CASE("the last instance that a processor runs is chosen, and a processor that runs none is an error") {
  const auto all = test_instances_instances();
  CHECK(&best_instance(all, "tiny", 0) == all[0]);
  CHECK(&best_instance(all, "tiny", all[1]->needs) == all[1]);
  CHECK(&best_instance(all, "tiny", ~std::uint64_t{0}) == all[2]);
  CHECK(&best_instance(all, "tiny", all[2]->needs & ~all[1]->needs) == all[0]);
  CHECK(test::error_of([&] { best_instance(all, "small"); }) ==
        "[instances] preset 'small' for this processor: expected one of " MISTRAL_TEST_INSTANCES
        ", got none that it runs");
  // What a unit is compiled for is what the processor that runs this must have.
  CHECK((simd::compiled_features() & ~simd::cpu_features()) == 0);
  CHECK(all[0]->needs == 0);
  CHECK(runs(best_instance(all, "tiny")));
}

#if defined(__x86_64__)
TEST_CASE("the instance that is chosen is the one for what the compiler's library finds in this processor") {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const auto all = test_instances_instances();
  CHECK(&best_instance(all, "tiny") == all[avx512 ? 2 : avx2 ? 1 : 0]);
}
#endif

#if defined(__aarch64__)
TEST_CASE("an emulated processor has what its manual says, and runs the instance for that") {
  using enum simd::CpuFeature;
  struct Processor {
    std::string_view name;  // as qemu calls it
    simd::CpuFeatures features;
    std::size_t instance;
  };
  const auto neoverse_n1 = simd::features_of(lse, rdm, fp16, rcpc, dotprod);
  const Processor processors[] = {{"cortex-a72", 0, 0},
                                  {"neoverse-n1", neoverse_n1, 1},
                                  {"max", neoverse_n1 | simd::features_of(fcma, sve, i8mm, bf16), 2}};
  const char* const name = std::getenv("MISTRAL_TEST_PROCESSOR");
  if (name == nullptr) {
    MESSAGE("SKIPPED: no emulator plays a processor of a known name");
    return;
  }
  const auto* const processor = std::ranges::find(processors, std::string_view(name), &Processor::name);
  REQUIRE(processor != std::end(processors));
  CHECK(simd::cpu_features() == processor->features);
  const auto all = test_instances_instances();
  CHECK(&best_instance(all, "tiny") == all[processor->instance]);
}
#endif

TEST_CASE("an instance's errors are the program's own, whatever it is compiled for") {
  for (const Instance* instance : test_instances_instances()) {
    if (!runs(*instance)) continue;
    CAPTURE(instance->arch);
    const auto model = instance->type().random(1);
    const auto session = model->session(4);
    CHECK(test::error_of([&] { session->decode(97); }) == "[session] token 0: expected an id of 0 ... 96, got 97");
    CHECK_THROWS_AS(instance->type().load("/nowhere", {}), Error);
    CHECK_THROWS_AS(model->load_adapter("/nowhere"), Error);
    CHECK_THROWS_AS(model->trainer({}), Error);
    const std::vector<TokenId> text{1, 2, 3, 4, 5};
    const auto after = session->prefill(text);
    const std::vector<float> want(after.begin(), after.end());
    const std::atomic<bool> enough = true;
    session->stop_with(enough);
    CHECK_THROWS_AS(session->decode(5), Cancelled);
    session->stop_with({});
    session->rollback(1);
    CHECK(test::max_error(session->decode(5), want) == 0.0f);
    // and the other way round: what the program throws in an instance's forward
    const auto refuse = [](const Residual&) { throw Error("test", "a hook"); };
    CHECK(test::error_of([&] { session->forward(text, refuse); }) == "[test] a hook");
  }
}

TEST_CASE("an instance gives all that a model gives whose type is known") {
  const test::Scratch scratch;
  const Tokenizer tokenizer(test::small_model({"a", "b", "c", "d", "ab", "bc"}), "small");
  for (const Instance* instance : test_instances_instances()) {
    if (!runs(*instance)) continue;
    CAPTURE(instance->arch);
    const AnyModelType& type = instance->type();
    CHECK(type.info().config.vocab_size == 97);
    CHECK(type.info().weights == "F32");
    CHECK(type.info().kv == "float");
    const auto model = type.random(1);
    const auto session = model->session();
    const std::vector<TokenId> prompt{1, 2, 3, 4, 5};

    GenerateOptions options;
    options.max_tokens = 6;
    const Generated alone = generate(*session, tokenizer, prompt, options);
    CHECK(alone.tokens.size() == 6);
    const auto batch = model->batch({}, &tokenizer);
    std::string told;
    batch->add({.prompt = prompt, .options = options, .tag = 7, .on_text = [&](std::string_view text) {
                  told += text;
                  return true;
                }});
    std::vector<BatchResult> results;
    while (!batch->empty()) {
      for (BatchResult& result : batch->step()) results.push_back(std::move(result));
    }
    REQUIRE(results.size() == 1);
    CHECK(results[0].tag == 7);
    CHECK(results[0].made.tokens == alone.tokens);
    CHECK(results[0].made.text == alone.text);
    CHECK(told == alone.text);

    const std::string path = scratch.path("session"), packed = scratch.path("packed");
    session->save({}, path);
    const auto other = model->session();
    other->restore(SessionFile::open(path));
    const auto fork = session->fork();
    const auto assigned = model->session();
    assigned->assign(*fork);
    const auto after = session->decode(9);
    CHECK(test::max_error(other->decode(9), after) == 0.0f);
    CHECK(test::max_error(fork->decode(9), after) == 0.0f);
    CHECK(test::max_error(assigned->decode(9), after) == 0.0f);
    CHECK_NOTHROW(check_finite(*session, after, prompt));

    std::size_t layers = 0;
    session->forward(prompt, [&](const Residual&) { ++layers; });
    CHECK(layers == type.info().config.n_layers + 1);

    // a file that one instance writes is another's too
    model->save_packed(packed, {}, {});
    const auto loaded = test_instances_instances()[0]->type().load(packed, {});
    CHECK(test::max_error(loaded->session()->prefill(prompt), model->session()->prefill(prompt)) <= tolerance);
  }
}

TEST_CASE("two shared objects built for two processors give the golden logits in one program") {
  const Golden golden;
  struct Shared {
    const Instance* instance;  // what it is built for
    decltype(&logits_second) logits_of;
  };
  for (const Shared& shared :
       {Shared{test_instances_instances()[1], logits_second}, Shared{test_instances_instances()[2], logits_third}}) {
    if (!runs(*shared.instance)) {
      MESSAGE("SKIPPED: this processor lacks what the shared object for ", shared.instance->arch, " has");
      continue;
    }
    std::vector<float> logits(97);
    const std::string arch =
        shared.logits_of(golden.checkpoint.c_str(), golden.tokens.data(), golden.tokens.size(), logits.data());
    CHECK(arch == shared.instance->arch);
    CHECK(test::max_error(logits, std::span(golden.logits).last(97)) <= tolerance);
  }
}

TEST_CASE("what a plain build leaves unused is named, and nothing where all is used") {
  using enum simd::CpuFeature;
  const auto avx2_only = simd::features_of(avx, avx2, fma);
  const auto all = avx2_only | simd::features_of(avx512f, avx512bw, avx512dq, avx512vl, avx512vnni, avx512bf16);
  CHECK(simd::unused_instructions(0, 0).empty());
  CHECK(simd::unused_instructions(0, avx2_only) == "AVX2");
  CHECK(simd::unused_instructions(0, all) == "AVX2, AVX-512, VNNI, BF16");
  CHECK(simd::unused_instructions(avx2_only, all) == "AVX-512, VNNI, BF16");
  CHECK(simd::unused_instructions(all, all).empty());
  const auto arm = simd::features_of(lse, dotprod, i8mm, bf16);
  CHECK(simd::unused_instructions(0, arm) == "dotprod, i8mm, bf16");
  CHECK(simd::unused_instructions(simd::features_of(lse, dotprod), arm) == "i8mm, bf16");
}
