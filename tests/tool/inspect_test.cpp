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
  CHECK(hf["preset"] == "tiny");
  CHECK(hf["memory_bytes"]["cache"] == 2 * 3 * 2 * 16 * 8 * 4);
  CHECK(hf["memory_bytes"]["weights"] >= hf["tensors"]["bytes"]);

  const json mistral = inspect(golden("forward/gqa_w8/mistral").string());
  CHECK(mistral["layout"] == "mistral");
  CHECK(mistral["config"]["context_len"].is_null());
  CHECK(mistral["tensors"] == hf["tensors"]);
  CHECK(mistral["preset"] == "tiny");
}

TEST_CASE("of several presets, the one that has the checkpoint's own element type fits, else the first") {
  if (mistral::test::tool_path() == nullptr) return;
  const auto check = [](const char* name, const char* dtype, const char* preset) {
    const auto folder = golden(std::string("forward/") + name);
    if (folder.empty()) return;
    for (const char* const layout : {"hf", "mistral"}) {
      if (!std::filesystem::exists(folder / layout)) continue;
      const json made = inspect((folder / layout).string());
      CHECK(made["tensors"]["dtypes"] == json{{dtype, 30}});
      CHECK(made["preset"] == preset);
    }
  };
  check("gqa_w8", "F32", "tiny");
  check("gqa_w8_bf16", "BF16", "tiny-bf16");
  check("gqa_w8_f16", "F16", "tiny");
}

TEST_CASE("inspect looks at the tokenizer") {
  const std::string model = mistral::test::stories();
  if (mistral::test::tool_path() == nullptr || model.empty()) return;
  const json tokenizer = inspect(model)["tokenizer"];
  CHECK(tokenizer == json{{"vocab_size", 512}, {"bos_id", 1}, {"eos_id", 2}, {"fits", true}});
}

TEST_CASE("inspect says why no preset fits, which is no error") {
  if (mistral::test::tool_path() == nullptr || golden("forward/w1/hf").empty()) return;
  const std::string folder = golden("forward/w1/hf").string();
  const json made = inspect(folder);
  CHECK(made["preset"].is_null());
  CHECK(made["why"].get<std::string>().starts_with("no preset fits: "));
  const Run run = run_tool({"inspect", "--model", folder});
  CHECK(run.exit_code == 0);
  CHECK(run.out.find("\npreset        no preset fits: ") != std::string::npos);
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
  CHECK(run.out.find(
            "\npreset        tiny: weights in F32, cache in float\nkept          F32 as it is\nmemory        ") !=
        std::string::npos);
}

TEST_CASE("presets lists what the tool is compiled for") {
  if (mistral::test::tool_path() == nullptr) return;
  const Run run = run_tool({"presets", "--json"});
  CHECK(run.exit_code == 0);
  const json presets = json::parse(run.out)["presets"];
  bool tiny = false;
  for (const json& preset : presets) {
    CHECK(run_tool({"presets"}).out.find(preset["name"].get<std::string>() + ": ") != std::string::npos);
    const json& memory = preset["memory_bytes"];
    CHECK(memory["total"] ==
          memory["weights"].get<long>() + memory["cache"].get<long>() + memory["workspace"].get<long>());
    if (preset["name"] == "tiny") {
      tiny = true;
      CHECK(preset["config"]["hidden_dim"] == 160);
      CHECK(preset["weights"] == "F32");
    }
  }
  CHECK(tiny);
}
