// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tool.hpp"

using mistral::test::golden;
using mistral::test::Run;
using mistral::test::run_tool;
using mistral::test::Scratch;
using nlohmann::json;

namespace {

json inspect(const std::string& folder) {
  const Run run = run_tool({"inspect", "--model", folder, "--json"});
  CHECK(run.exit_code == 0);
  CHECK(run.err == "");
  return json::parse(run.out);
}

}  // namespace

TEST_CASE("inspect says what a checkpoint is, in each layout and element type") {
  if (mistral::test::tool_path() == nullptr || golden("forward/gqa_w8").empty()) return;
  const json hf = inspect(golden("forward/gqa_w8/hf").string());
  CHECK(hf["layout"] == "hugging_face");
  CHECK(hf["config"]["dim"] == 64);
  CHECK(hf["config"]["window_size"] == 8);
  CHECK(hf["config"]["context_len"] == 512);
  CHECK(hf["config"]["rope_theta"] == 10000);
  CHECK(hf["config"]["norm_eps"] == 1e-5);
  CHECK(hf["tensors"]["count"] == 30);
  CHECK(hf["tensors"]["dtypes"] == json{{"F32", 30}});
  CHECK(hf["tensors"]["bytes"] == 4 * hf["tensors"]["parameters"].get<int>());
  CHECK(hf["tokenizer"].is_null());
  CHECK(hf["weights"] == "F32");
  CHECK(hf["memory_bytes"]["cache"] == 2 * 3 * 2 * 16 * 8 * 4);
  CHECK(hf["memory_bytes"]["weights"] >= hf["tensors"]["bytes"]);

  const json mistral = inspect(golden("forward/gqa_w8/mistral").string());
  CHECK(mistral["layout"] == "mistral");
  CHECK(mistral["config"]["context_len"].is_null());
  CHECK(mistral["tensors"] == hf["tensors"]);
  CHECK(mistral["weights"] == "F32");
}

TEST_CASE("a checkpoint runs in its own format") {
  if (mistral::test::tool_path() == nullptr) return;
  const auto check = [](const char* name, const char* dtype) {
    const auto folder = golden(std::string("forward/") + name);
    if (folder.empty()) return;
    for (const char* const layout : {"hf", "mistral"}) {
      if (!std::filesystem::exists(folder / layout)) continue;
      const json made = inspect((folder / layout).string());
      CHECK(made["tensors"]["dtypes"] == json{{dtype, 30}});
      CHECK(made["weights"] == dtype);
      CHECK(made["formats"] == json{{dtype, 23}});
      CHECK(made["reencoded_tensors"] == 0);
    }
  };
  check("gqa_w8", "F32");
  check("gqa_w8_bf16", "BF16");
  check("gqa_w8_f16", "F16");
}

TEST_CASE("inspect looks at the tokenizer") {
  const std::string model = mistral::test::stories();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  const json tokenizer = inspect(model)["tokenizer"];
  CHECK(tokenizer == json{{"vocab_size", 512}, {"bos_id", 1}, {"eos_id", 2}, {"fits", true}});
}

TEST_CASE("inspect prints a config that compiles") {
  const std::string model = mistral::test::tiny_model();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  const Run run = run_tool({"inspect", "--model", model, "--config", "my_model"});
  CHECK(run.exit_code == 0);
  CHECK(run.out ==
        "inline constexpr mistral::ModelConfig my_model{\n    .dim = 64,\n    .n_layers = 3,\n    .head_dim = 16,\n"
        "    .hidden_dim = 160,\n    .n_heads = 4,\n    .n_kv_heads = 2,\n    .window_size = 8,\n"
        "    .context_len = 512,\n    .vocab_size = 97,\n    .rope_theta = 10000.0f,\n    .norm_eps = 1e-05f};\n");
  CHECK(run_tool({"inspect", "--model", model, "--config", "a b"}).err ==
        "mistral: error: --config: expected an identifier of C++, got 'a b' (see: mistral inspect --help)\n");
}

TEST_CASE("inspect reads like this") {
  const std::string model = mistral::test::tiny_model();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  const Run run = run_tool({"inspect", "--model", model});
  CHECK(run.exit_code == 0);
  CHECK(
      run.out.starts_with("layout        Hugging Face\n"
                          "config        dim 64, n_layers 3, head_dim 16, hidden_dim 160, n_heads 4, n_kv_heads 2, "
                          "window_size 8, context_len 512, vocab_size 97, rope_theta 10000, norm_eps 1e-05\n"
                          "tensors       30 (F32 x 30), "));
  CHECK(run.out.find("\nruns          with weights in F32, cache in float\nmemory        ") != std::string::npos);
}
